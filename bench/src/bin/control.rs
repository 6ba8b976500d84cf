//! Prints how long changes of the configuration take, with the limits that they are held to. See the crate's README.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use bench::{
    control::{Change, Daemon, Site},
    lab::{Stop, ensure_root},
    output::{Output, exit_code},
    record::{Better, Row},
};
use clap::Parser;
use lb_common::maps::FLOWS;
use lb_daemon::maglev;
use serde_json::json;

/// VIPs that a site must have at least: one of the first is looked at.
const FEWEST_VIPS: usize = 8;
/// What does not grow in the growing sites.
const FIXED: usize = 10;
/// Most backends of a pool.
const MOST_BACKENDS: usize = 65_535;
/// The figures: name, unit, and what it is.
const FIGURES: [(&str, &str, &str); 10] = [
    ("ring", "ms", "a ring of 65,537 slots"),
    ("apply", "ms", "lb apply, from nothing"),
    ("change", "ms", "lb backend weight, to the first packet"),
    ("change-file", "ms", "lb apply of one weight, to the first packet"),
    ("scrape", "ms", "all metrics, from the request to the last byte"),
    ("metrics", "MiB", "length of all metrics"),
    ("restart", "ms", "killed, started again, until ready"),
    ("memory", "MiB", "memory of the daemon, without tables"),
    ("tables", "MiB", "memory of the tables, without flows"),
    ("flows", "MiB", "memory of the flow table"),
];

/// Time changes of the configuration
#[derive(Debug, Parser)]
struct Options {
    /// VIPs, each with a pool of its own
    #[arg(long, default_value_t = 1000)]
    vips: usize,
    /// Backends of each
    #[arg(long, default_value_t = 100)]
    backends: usize,
    /// How often each change is timed
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Also how all that grows: with so many VIPs of 10 backends, and 10 VIPs of so many backends
    #[arg(long)]
    grow: bool,
    /// VIPs of the growing sites
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,4000")]
    grow_vips: Vec<usize>,
    /// Backends of the growing sites
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000")]
    grow_backends: Vec<usize>,
    /// How often each change is timed in the growing sites
    #[arg(long, default_value_t = 5)]
    grow_rounds: usize,
    /// What becomes of the figures
    #[command(flatten)]
    output: Output,
}

fn main() -> Result<ExitCode, anyhow::Error> {
    let options = Options::parse();
    ensure_root()?;
    let stop = Stop::on_signals()?;
    let rounds = options.rounds.max(1);
    let method = json!({ "rounds": rounds, "grow_rounds": options.grow_rounds });
    let mut run = options.output.begin("control", method)?;
    let mut out = io::stdout().lock();
    writeln!(out, "# {}", run.record.about)?;
    let usual = Site { vips: options.vips.max(FEWEST_VIPS), backends: options.backends.clamp(2, MOST_BACKENDS) };
    let limits = [("ring", 3.0), ("apply", 5000.0), ("change", 50.0), ("memory", 200.0)];
    let mut tell = |rows: Vec<Row>| -> Result<(), anyhow::Error> {
        for row in &rows {
            let limit = row.limit.map_or_else(String::new, |limit| format!("limit {limit} {}", row.unit));
            let verdict = if row.is_kept() { "" } else { "  EXCEEDED" };
            let [vips, backends] = ["vips", "backends"].map(|name| row.number(name).unwrap_or_default());
            let what =
                FIGURES.iter().find(|(figure, ..)| row.text("figure") == Some(figure)).map_or("", |(.., what)| what);
            let (value, unit) = (row.value(), &row.unit);
            writeln!(out, "{vips:>5} x {backends:<6} {what:<46} {value:>9.1} {unit:<4} {limit}{verdict}")?;
        }
        out.flush()?;
        run.add(rows)
    };
    tell(measured(usual, rounds, &limits, &stop)?)?;
    if options.grow {
        let more_vips = options.grow_vips.iter().map(|&vips| Site { vips: vips.max(FEWEST_VIPS), backends: FIXED });
        let more_backends = options
            .grow_backends
            .iter()
            .map(|&backends| Site { vips: FIXED, backends: backends.clamp(2, MOST_BACKENDS) });
        let mut seen = vec![(usual.vips, usual.backends)];
        for site in more_vips.chain(more_backends) {
            if !seen.contains(&(site.vips, site.backends)) {
                seen.push((site.vips, site.backends));
                tell(measured(site, options.grow_rounds.max(1), &[], &stop)?)?;
            }
        }
    }
    run.finish().map(exit_code)
}

/// All figures of a site.
fn measured(site: Site, rounds: usize, limits: &[(&str, f64)], stop: &Stop) -> Result<Vec<Row>, anyhow::Error> {
    let row = |figure: &str, unit: &str, samples: Vec<f64>| {
        let what = [("figure", figure.into()), ("vips", site.vips.into()), ("backends", site.backends.into())];
        let limit = limits.iter().find(|(name, _)| *name == figure).map(|(_, limit)| *limit);
        Row::new(what, unit, Better::Less, samples).limited(limit)
    };
    let mut found: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (figure, value) in round(site, stop)? {
            found.entry(figure).or_default().push(value);
        }
    }
    let rows = FIGURES.iter().filter_map(|(figure, unit, _)| Some(row(figure, unit, found.remove(figure)?)));
    Ok(rows.collect())
}

/// Each figure once, of a daemon that has seen nothing else: it, and so the figure, knows nothing of the other rounds.
fn round(site: Site, stop: &Stop) -> Result<Vec<(&'static str, f64)>, anyhow::Error> {
    let ring = ring(site.backends);
    let mut daemon = Daemon::start(stop)?;
    let apply = daemon.apply(site, None)?;
    let change = daemon.until_steered(site, Change::Override)?;
    let change_file = daemon.until_steered(site, Change::File)?;
    // What was freed is given back a moment later.
    sleep(Duration::from_secs(2));
    let memory = daemon.memory()?;
    let (scrape, length) = daemon.scrape()?;
    let (flows, others): (Vec<_>, Vec<_>) = daemon.tables()?.into_iter().partition(|(name, _)| name == FLOWS);
    let sum = |tables: Vec<(String, u64)>| mebibytes(tables.into_iter().map(|(_, memory)| memory).sum());
    Ok(vec![
        ("ring", milliseconds(ring)),
        ("apply", milliseconds(apply)),
        ("change", milliseconds(change)),
        ("change-file", milliseconds(change_file)),
        ("scrape", milliseconds(scrape)),
        ("metrics", mebibytes(u64::try_from(length)?)),
        ("restart", milliseconds(daemon.restart()?)),
        ("memory", memory),
        ("tables", sum(others)),
        ("flows", sum(flows)),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "bytes of one machine")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// Time of one ring of so many backends.
fn ring(backends: usize) -> Duration {
    let backends: Vec<(IpAddr, u32)> =
        (1_u32..).take(backends).map(|number| (Ipv4Addr::from_bits(0x0a00_0000 + number).into(), 100)).collect();
    let start = Instant::now();
    let ring = maglev::ring(&backends, 65_537);
    let taken = start.elapsed();
    assert_eq!(ring.len(), 65_537);
    taken
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
