//! Prints how good rings are, beside the method of the paper. See the crate's README.

use std::{
    hint,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use bench::{
    options::each,
    output::{Output, Run, exit_code},
    record::{
        Better::{self, Less, More},
        Field, Row, what,
    },
    rings::{Backend, Event, Fill, Weights, balance, moved},
};
use clap::Parser;
use fastrand::Rng;
use serde_json::json;

/// Backends of which many fail at once, as in the paper.
const MANY: usize = 1000;
/// How many of them.
const FAILURES: [usize; 6] = [1, 5, 10, 20, 50, 100];
/// Chooses who fails, the same in each run.
const SEED: u64 = 0x9e37_79b9;

/// Measure rings: time to build one, balance, and what moves when backends come and go
#[derive(Debug, Parser)]
struct Options {
    /// Sizes of rings; primes
    #[arg(long, value_delimiter = ',', default_value = "65537,655373,1048573")]
    slots: Vec<u32>,
    /// Sizes of pools, 2 to 65535: one may fail
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000", value_parser = clap::value_parser!(u16).range(2..))]
    backends: Vec<u16>,
    /// How often each ring is built for its time
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// How often each event is tried, upon others
    #[arg(long, default_value_t = 11)]
    repeats: usize,
    /// What becomes of the figures
    #[command(flatten)]
    output: Output,
}

fn main() -> Result<ExitCode, anyhow::Error> {
    let options = Options::parse();
    let method = json!({ "rounds": options.rounds, "repeats": options.repeats, "seed": SEED });
    let run = options.output.begin("maglev", method)?;
    let mut bench = Bench { options, run, out: io::stdout().lock() };
    writeln!(bench.out, "# {}", bench.run.record.about)?;
    let slots: Vec<u32> = each(&bench.options.slots).into_iter().collect();
    let pools = each(&bench.options.backends);
    for (fill, weights) in [(Fill::Lb, Weights::Equal), (Fill::Lb, Weights::Mixed), (Fill::Paper, Weights::Equal)] {
        for &slots in &slots {
            for &count in &pools {
                bench.ring(&Ring { fill, weights, slots, backends: weights.backends(count.into()) })?;
            }
        }
    }
    // The paper's two sizes: how many fail at once.
    for fill in [Fill::Lb, Fill::Paper] {
        for &slots in &slots[..slots.len().min(2)] {
            let ring = Ring { fill, weights: Weights::Equal, slots, backends: Weights::Equal.backends(MANY) };
            for failures in FAILURES {
                bench.event(&ring, Event::Fail(failures))?;
            }
        }
    }
    bench.run.finish().map(exit_code)
}

/// What is measured.
struct Ring {
    fill: Fill,
    weights: Weights,
    slots: u32,
    backends: Vec<Backend>,
}

impl Ring {
    fn fields<'f>(&self, figure: &'f str) -> [(&'f str, Field); 5] {
        [
            ("fill", self.fill.name().into()),
            ("weights", self.weights.name().into()),
            ("slots", self.slots.into()),
            ("backends", self.backends.len().into()),
            ("figure", figure.into()),
        ]
    }
}

struct Bench<'o> {
    options: Options,
    run: Run,
    out: io::StdoutLock<'o>,
}

impl Bench<'_> {
    /// Time and balance, and what moves upon each event.
    fn ring(&mut self, ring: &Ring) -> Result<(), anyhow::Error> {
        let Ring { fill, slots, ref backends, .. } = *ring;
        let mut built = Vec::new();
        let times = (0..self.options.rounds.max(1)).map(|_| {
            let start = Instant::now();
            built = hint::black_box(fill.ring(hint::black_box(backends), slots));
            start.elapsed().as_secs_f64() * 1000.0
        });
        let times = times.collect();
        let even = balance(&built, backends);
        self.row(ring, "build", "ms", Less, times)?;
        self.row(ring, "most", "x its share", Less, vec![even.most])?;
        self.row(ring, "least", "x its share", More, vec![even.least])?;
        self.row(ring, "deviation", "% of its share", Less, vec![even.deviation * 100.0])?;
        self.event(ring, Event::Fail(1))?;
        self.event(ring, Event::Add)?;
        if fill == Fill::Lb {
            self.event(ring, Event::Halve)?;
        }
        self.event(ring, Event::Fail((backends.len() / 100).max(1)))
    }

    /// Unless it befell that ring before.
    fn event(&mut self, ring: &Ring, event: Event) -> Result<(), anyhow::Error> {
        let Ring { fill, weights, slots, ref backends } = *ring;
        let [moved_figure, needed_figure] = ["moved", "needed"].map(|part| format!("{}: {part}", event.name()));
        if self.run.record.row(&what(ring.fields(&moved_figure))).is_some() {
            return Ok(());
        }
        let mut random = Rng::with_seed(SEED);
        let repeats = (0..self.options.repeats.max(1)).map(|_| {
            let after = event.befalls(weights, backends, &mut random);
            moved(fill, backends, &after, slots)
        });
        let repeats: Vec<_> = repeats.collect();
        let moved = repeats.iter().map(|one| one.moved * 100.0).collect();
        let needed = repeats.iter().map(|one| one.needed * 100.0).collect();
        self.row(ring, &moved_figure, "% of slots", Less, moved)?;
        self.row(ring, &needed_figure, "% of slots", Less, needed)
    }

    fn row(
        &mut self,
        ring: &Ring,
        figure: &str,
        unit: &str,
        better: Better,
        samples: Vec<f64>,
    ) -> Result<(), anyhow::Error> {
        let row = Row::new(ring.fields(figure), unit, better, samples);
        writeln!(
            self.out,
            "{:<6} {:<6} {:>9} slots {:>6} backends  {figure:<22} {:>9} {unit}",
            ring.fill.name(),
            ring.weights.name(),
            ring.slots,
            ring.backends.len(),
            row.value(),
        )?;
        self.run.add([row])
    }
}
