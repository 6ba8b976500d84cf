//! What `prog-run` found, for people and for programs.

use crate::{
    balancer::Scale,
    measure::{Figures, Round},
    record::{Better, REFERENCE, Record, Row},
    stats::hundredths,
    workload::{Case, Verdict},
};

/// One program, one packet, one number of flows.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the traffic is like.
    pub case: Case,
    /// What packet it is.
    pub packet: String,
    /// Length of its frame.
    pub frame_bytes: usize,
    /// Of how many flows.
    pub flows: u32,
    /// VIPs and backends of each, and entries of the flow table, where they are not the usual.
    pub scale: Scale,
    /// Memory of the program's flow table in bytes, if it has one.
    pub flow_table: Option<u64>,
    /// The program's name.
    pub program: String,
    /// What it does with the packet.
    pub verdict: Verdict,
    /// `net.p10` as a multiple of that of the constant encapsulator; of packets that are encapsulated.
    pub times_floor: Option<f64>,
    /// What it takes.
    pub figures: Figures,
}

/// What the table stands under.
pub fn heading(record: &Record) -> String {
    let method = |name: &str| record.about.method.get(name).map(ToString::to_string).unwrap_or_default();
    format!(
        "# {}\n\
         # CPU {}, {} rounds of {} x {} packets; ns per packet; net = raw - null, spread of the rounds' net median\n\
         {:<9} {:<14} {:>8} {:<14} | {:>7} {:>7} {:>15} {:>6} | {:>7} {:>7} | {:>6} {:>6} | {:>7} {:>6} verdict",
        record.about,
        method("cpu"),
        method("rounds"),
        method("chunks"),
        method("chunk_packets"),
        "# case",
        "packet",
        "flows",
        "program",
        "net p10",
        "median",
        "spread",
        "xfloor",
        "raw p10",
        "median",
        "null",
        "median",
        "quiet",
        "known",
    )
}

impl Outcome {
    /// A line of the table.
    pub fn line(&self) -> String {
        let Figures { raw, null, net, spread, quiet, rounds, known } = &self.figures;
        format!(
            "{:<9} {:<14} {:>8} {:<14} | {:>7.1} {:>7.1} {:>15} {:>6} | {:>7.1} {:>7.1} | {:>6.1} {:>6.1} | {:>7} {:>6} {}",
            self.case.name(),
            self.packet,
            self.flows,
            self.program,
            net.p10,
            net.median,
            format!("{:.1}..{:.1}", spread[0], spread[1]),
            self.times_floor.map_or_else(|| "-".to_owned(), |times| format!("{times:.2}")),
            raw.p10,
            raw.median,
            null.p10,
            null.median,
            format!("{quiet}/{}", rounds.len()),
            known.map_or_else(|| "-".to_owned(), |known| format!("{:.1}%", known * 100.0)),
            self.verdict,
        )
    }

    /// Its row: net p10 of all chunks for a figure, that of each round for a sample, and the core's pace in the round for a
    /// reference: that of null would bring null's error in once more.
    pub fn row(&self) -> Row {
        let Figures { raw, null, net, spread, quiet, rounds, known } = &self.figures;
        let series = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<f64>>();
        let what = [
            ("case", self.case.name().into()),
            ("packet", self.packet.as_str().into()),
            ("frame_bytes", self.frame_bytes.into()),
            ("flows", self.flows.into()),
            ("program", self.program.as_str().into()),
        ];
        let samples = series(|round| hundredths(round.raw.p10 - round.null.p10));
        let row = Row::new(what, "ns", Better::Less, samples)
            .with("median", series(|round| hundredths(round.raw.median - round.null.median)))
            .with(REFERENCE, series(|round| round.pace))
            .with("null", series(|round| round.null.p10))
            .with("quiet", series(|round| f64::from(u8::from(round.quiet))))
            .told("value", net.p10)
            .told("median", net.median)
            .told("least", spread[0])
            .told("most", spread[1])
            .told("raw", raw.p10)
            .told("null", null.p10)
            .told("quiet", f64::from(*quiet));
        let Scale { sites, flow_table } = self.scale;
        let more = [("vips", sites.map(|(vips, _)| vips)), ("targets", sites.map(|(vips, backends)| vips * backends))];
        let row = more.into_iter().chain([("flow_table", flow_table)]).fold(row, |row, (name, value)| match value {
            Some(value) => row.of(name, value.into()),
            None => row,
        });
        let row = self.times_floor.map_or(row.clone(), |times| row.told("times_floor", times));
        let row = known.map_or(row.clone(), |known| row.told("known", known));
        #[expect(clippy::cast_precision_loss, reason = "bytes of a table")]
        let memory = self.flow_table.filter(|_| flow_table.is_some()).map(|bytes| bytes as f64 / 1024.0 / 1024.0);
        memory.map_or(row.clone(), |memory| row.told("flow_table_mib", memory))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{record::VALUE, stats::Summary, workload::Action};

    fn outcome() -> Outcome {
        let raw = Summary { p10: 61.5, median: 62.0 };
        let null = Summary { p10: 41.0, median: 42.0 };
        let round = Round { raw, null, pace: 21.5, quiet: true };
        let figures = Figures {
            raw,
            null,
            net: raw.less(null),
            spread: [19.5, 20.5],
            quiet: 1,
            known: Some(0.5),
            rounds: vec![round; 2],
        };
        Outcome {
            case: Case::NotAVip,
            packet: "nonvip-udp4".into(),
            frame_bytes: 64,
            flows: 1,
            scale: Scale::default(),
            flow_table: Some(8 << 20),
            program: "lb".into(),
            verdict: Verdict { action: Action::Pass, grown: 0 },
            times_floor: None,
            figures,
        }
    }

    #[test]
    fn a_row_has_the_figure_of_all_chunks_and_the_samples_of_each_round() {
        let row = outcome().row();
        assert_eq!(
            (row.text("case"), row.text("packet"), row.number("flows")),
            (Some("not-a-vip"), Some("nonvip-udp4"), Some(1))
        );
        assert!((row.value() - 20.5).abs() < 1e-9, "{row:?}");
        assert_eq!(row.samples[VALUE], [20.5, 20.5]);
        assert_eq!((row.samples[REFERENCE].as_slice(), row.samples["null"][0]), ([21.5, 21.5].as_slice(), 41.0));
        assert_eq!((row.samples["median"][0], row.samples["quiet"][1]), (20.0, 1.0));
        assert_eq!(
            (row.told_as("least"), row.told_as("raw"), row.told_as("times_floor")),
            (Some(19.5), Some(61.5), None)
        );
        let many = Outcome { scale: Scale { sites: Some((10, 16)), flow_table: None }, ..outcome() }.row();
        assert_eq!(
            (many.number("vips"), many.number("targets"), many.number("flow_table")),
            (Some(10), Some(160), None)
        );
        assert_eq!(many.told_as("flow_table_mib"), None, "the usual one");
        let large = Outcome { scale: Scale { sites: None, flow_table: Some(1 << 20) }, ..outcome() }.row();
        assert_eq!((large.number("flow_table"), large.told_as("flow_table_mib")), (Some(1 << 20), Some(8.0)));
        let floor = Outcome { times_floor: Some(2.5), ..outcome() };
        assert_eq!(floor.row().told_as("times_floor"), Some(2.5));
    }

    #[test]
    fn prints_columns_below_their_heads() {
        let method = json!({ "cpu": 1, "rounds": 2, "chunks": 4, "chunk_packets": 8192 });
        let heading = heading(&Record::begin("prog-run", method).unwrap());
        assert!(heading.contains("CPU 1, 2 rounds of 4 x 8192 packets"), "{heading}");
        let (head, line) = (heading.lines().last().unwrap(), outcome().line());
        let bars = |text: &str| text.match_indices('|').map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(bars(head), bars(&line), "{head}\n{line}");
        assert!(line.contains("19.5..20.5") && line.ends_with("1/2  50.0% pass+0"), "{line}");
    }
}
