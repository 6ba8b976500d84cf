//! What `wire` found, for people and for programs.

use super::{Contender, LB, Mode, Sample, XDP_TX};
use crate::{
    record::{Better, Field, REFERENCE, Record, Row},
    stats::percentile,
};

/// What part of the packets of an empty `XDP_TX` the balancer must send on at least, in the driver, of frames of
/// 64 bytes.
pub const GOAL: f64 = 0.85;
/// The figure that is a rate as a part of the empty program's.
pub const OF_XDP_TX: &str = "of-xdp-tx";
/// See [`GOAL`].
const HELD_TO: usize = 64;

type OfSample = fn(&Sample) -> f64;

/// Where contenders were measured together.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Queues, each with a CPU.
    pub queues: usize,
    /// Length of frames.
    pub frame_bytes: usize,
    /// How many flows they were of.
    pub flows: u32,
    /// What sent them.
    pub generator: &'static str,
}

/// One contender's rounds in one place.
#[derive(Clone, Debug)]
pub struct Outcome {
    place: Place,
    program: String,
    mode: Mode,
    samples: Vec<Sample>,
    /// Packets per second of the empty program, round by round.
    reference: Option<Vec<f64>>,
}

impl Outcome {
    /// Those of all contenders of a place. Each is compared with the `XDP_TX` that is attached where it is, and the kernel's
    /// stack with that in the driver.
    pub fn all(place: Place, contenders: &[Contender], samples: &[Vec<Sample>]) -> Vec<Self> {
        let names: Vec<(&str, Mode)> = contenders.iter().map(|one| (one.name.as_str(), one.mode)).collect();
        outcomes(place, &names, samples)
    }

    fn series(&self, of: OfSample) -> Vec<f64> {
        self.samples.iter().map(of).collect()
    }

    /// The empty program's rates, unless this is that program.
    fn compared_with(&self) -> Option<&Vec<f64>> {
        self.reference.as_ref().filter(|_| self.program != XDP_TX)
    }

    /// Of a queue's time, what falls to a packet all the way, in ns: whatever its CPU did meanwhile, if only wait.
    fn per_packet(&self) -> Vec<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a few queues")]
        let queues = self.place.queues as f64;
        self.samples.iter().map(|sample| queues * 1e3 / sample.mpps()).collect()
    }

    /// Its rate as a part of the empty program's, round by round.
    fn ratios(&self) -> Option<Vec<f64>> {
        let reference = self.compared_with()?;
        Some(self.samples.iter().zip(reference).map(|(sample, reference)| sample.mpps() / reference).collect())
    }

    fn what(&self, figure: &str) -> [(&'static str, Field); 7] {
        [
            ("figure", figure.into()),
            ("queues", self.place.queues.into()),
            ("frame_bytes", self.place.frame_bytes.into()),
            ("flows", self.place.flows.into()),
            ("generator", self.place.generator.into()),
            ("program", self.program.as_str().into()),
            ("mode", self.mode.name().into()),
        ]
    }

    /// Its rows: packets per second with what was counted beside, and the part of what the empty program sends on.
    pub fn rows(&self) -> Vec<Row> {
        let mut rate = Row::new(self.what("rate"), "Mpps", Better::More, self.series(Sample::mpps));
        let series: [(&str, OfSample); 7] = [
            ("offered", Sample::offered_mpps),
            ("lost", Sample::lost),
            ("softirq", |sample| sample.shares.softirq),
            ("system", |sample| sample.shares.system),
            ("steal", |sample| sample.shares.steal),
            ("idle", |sample| sample.shares.idle),
            ("quiet", |sample| f64::from(u8::from(sample.quiet))),
        ];
        for (name, of) in series {
            rate = rate.with(name, self.series(of)).told(name, median(&self.series(of)));
        }
        rate = rate.told("ns_per_packet", median(&self.per_packet()));
        if let Some(reference) = self.compared_with() {
            rate = rate.with(REFERENCE, reference.clone());
        }
        let ratio = self.ratios().map(|ratios| {
            let held = self.program == LB && self.mode == Mode::Native && self.place.frame_bytes == HELD_TO;
            Row::new(self.what(OF_XDP_TX), "×", Better::More, ratios).limited(held.then_some(GOAL))
        });
        [Some(rate), ratio].into_iter().flatten().collect()
    }

    /// A line of the table.
    pub fn line(&self) -> String {
        let rates = self.series(Sample::mpps);
        let ratio = self.ratios();
        let missed = self.rows().iter().any(|row| !row.is_kept());
        format!(
            "{:>8} {:>6} {:<12} {:<8} | {:>7.3} {:>13} {:>6.2} {:>9.1} | {:>6} {:>11} | {:>7.0} {:>6.0} {:>6.0} | {:>5}{}",
            self.place.queues,
            self.place.frame_bytes,
            self.program,
            self.mode.name(),
            median(&rates),
            spread(&rates, 3),
            median(&self.series(Sample::lost)),
            median(&self.per_packet()),
            ratio.as_ref().map_or_else(|| "-".to_owned(), |ratios| format!("{:.3}", median(ratios))),
            ratio.as_ref().map_or_else(|| "-".to_owned(), |ratios| spread(ratios, 2)),
            median(&self.series(|sample| sample.shares.softirq)),
            median(&self.series(|sample| sample.shares.system)),
            median(&self.series(|sample| sample.shares.steal)),
            format!("{}/{}", self.samples.iter().filter(|sample| sample.quiet).count(), self.samples.len()),
            if missed { format!("  BELOW {GOAL}") } else { String::new() },
        )
    }
}

fn outcomes(place: Place, contenders: &[(&str, Mode)], samples: &[Vec<Sample>]) -> Vec<Outcome> {
    let reference = |mode: Mode| {
        let mode = if mode == Mode::Stack { Mode::Native } else { mode };
        let index = contenders.iter().position(|one| *one == (XDP_TX, mode))?;
        Some(samples.get(index)?.iter().map(Sample::mpps).collect())
    };
    let outcome = |((program, mode), samples): (&(&str, Mode), &Vec<Sample>)| Outcome {
        place,
        program: (*program).to_owned(),
        mode: *mode,
        samples: samples.clone(),
        reference: reference(*mode),
    };
    contenders.iter().zip(samples).map(outcome).collect()
}

/// What the table stands under.
pub fn heading(record: &Record) -> String {
    let method = |name: &str| record.about.method.get(name).map(ToString::to_string).unwrap_or_default();
    format!(
        "# {}\n\
         # {} rounds of {} s, {} flows; medians and spread; `of tx`: part of what an empty XDP_TX of the same round sends on\n\
         {:<8} {:>6} {:<12} {:<8} | {:>7} {:>13} {:>6} {:>9} | {:>6} {:>11} | {:>7} {:>6} {:>6} | {:>5}",
        record.about,
        method("rounds"),
        method("seconds"),
        method("flows"),
        "# queues",
        "bytes",
        "program",
        "mode",
        "Mpps",
        "spread",
        "lost %",
        "ns/packet",
        "of tx",
        "spread",
        "softirq",
        "system",
        "steal",
        "quiet",
    )
}

fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5).unwrap_or(f64::NAN)
}

fn spread(values: &[f64], digits: usize) -> String {
    let end = |share| percentile(values, share).unwrap_or(f64::NAN);
    format!("{:.digits$}..{:.digits$}", end(0.0), end(1.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{record::VALUE, wire::Shares};

    fn samples(arrived: [u64; 3]) -> Vec<Sample> {
        let sample = |arrived| Sample {
            offered: 2_000_000,
            arrived,
            seconds: 0.5,
            shares: Shares { system: 10.0, softirq: 80.0, steal: 1.0, idle: 9.0 },
            quiet: true,
        };
        arrived.map(sample).to_vec()
    }

    fn found(frame_bytes: usize) -> Vec<Outcome> {
        let place = Place { queues: 2, frame_bytes, flows: 1024, generator: "live" };
        let contenders = [(XDP_TX, Mode::Native), (LB, Mode::Native), (LB, Mode::Generic), ("forwarding", Mode::Stack)];
        let rates = [
            [2_000_000, 1_000_000, 1_500_000],
            [1_600_000, 900_000, 1_200_000],
            [500_000; 3],
            [200_000, 100_000, 150_000],
        ];
        outcomes(place, &contenders, &rates.map(samples))
    }

    #[test]
    fn compares_round_by_round_with_the_empty_program_of_the_same_place() {
        let found = found(64);
        let rows: Vec<Vec<Row>> = found.iter().map(Outcome::rows).collect();
        assert_eq!(rows[0].len(), 1, "the empty program is not compared with itself");
        let [rate, ratio] = rows[1].as_slice() else { panic!("{:?}", rows[1]) };
        assert_eq!(
            (rate.text("figure"), rate.text("program"), rate.number("queues")),
            (Some("rate"), Some(LB), Some(2))
        );
        assert_eq!(rate.samples[VALUE], [3.2, 1.8, 2.4]);
        assert_eq!(rate.samples[REFERENCE], [4.0, 2.0, 3.0]);
        assert_eq!((rate.told_as("lost"), rate.told_as("softirq")), (Some(40.0), Some(80.0)));
        assert_eq!(rate.samples["idle"], [9.0; 3], "what of that time was not spent on packets");
        assert_eq!(rate.told_as("ns_per_packet"), Some(833.33));
        assert_eq!((ratio.samples[VALUE].as_slice(), ratio.value()), ([0.8, 0.9, 0.8].as_slice(), 0.8));
        // There is no empty program in generic mode here, and the stack is compared with that in the driver.
        assert_eq!(rows[2].len(), 1);
        assert_eq!(rows[3][1].samples[VALUE], [0.1, 0.1, 0.1]);
    }

    #[test]
    fn only_small_frames_in_the_driver_are_held_to_the_goal() {
        let limits =
            |bytes| -> Vec<Option<f64>> { found(bytes).iter().flat_map(Outcome::rows).map(|row| row.limit).collect() };
        assert_eq!(limits(64), [None, None, Some(GOAL), None, None, None]);
        assert!(limits(128).iter().all(Option::is_none));
        let found = found(64);
        assert!(!found[1].rows()[1].is_kept() && found[1].line().ends_with("BELOW 0.85"), "{}", found[1].line());
        assert!(!found[0].line().contains("BELOW"));
    }

    #[test]
    fn prints_columns_below_their_heads() {
        let record = Record::begin("wire", json!({ "rounds": 3, "seconds": 0.5, "flows": 1024 })).unwrap();
        let heading = heading(&record);
        assert!(heading.contains("3 rounds of 0.5 s, 1024 flows"), "{heading}");
        let bars = |text: &str| text.match_indices('|').map(|(at, _)| at).collect::<Vec<_>>();
        for outcome in found(64) {
            assert_eq!(bars(heading.lines().last().unwrap()), bars(&outcome.line()), "{heading}\n{}", outcome.line());
        }
    }
}
