//! Prints how long changes of the configuration take, with the limits that they are held to. See the crate's README.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use bench::{
    control::{Change, Daemon, Site},
    stats::percentile,
};
use clap::Parser;
use lb_daemon::maglev;

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
}

/// A figure, and what it must stay below; in the same unit.
struct Row {
    what: &'static str,
    figure: f64,
    limit: Option<f64>,
    unit: &'static str,
}

fn main() -> Result<ExitCode, anyhow::Error> {
    let options = Options::parse();
    let site = Site { vips: options.vips.max(8), backends: options.backends.clamp(2, 254) };
    let rounds = options.rounds.max(1);
    let ring = median(rounds, || Ok(ring(site.backends)))?;
    let daemon = Daemon::start()?;
    let whole = daemon.apply(site, None)?;
    let by_override = median(rounds, || daemon.until_steered(site, Change::Override))?;
    let by_file = median(rounds, || daemon.until_steered(site, Change::File))?;
    // What was freed is given back a moment later.
    sleep(Duration::from_secs(2));
    #[expect(clippy::cast_precision_loss, reason = "KiB of one process")]
    let memory = daemon.memory()? as f64 / 1024.0;
    let rows = [
        Row { what: "a ring of 65,537 slots", figure: ring, limit: Some(3.0), unit: "ms" },
        Row { what: "lb apply, from nothing", figure: milliseconds(whole), limit: Some(5000.0), unit: "ms" },
        Row { what: "lb backend weight, to the first packet", figure: by_override, limit: Some(50.0), unit: "ms" },
        Row { what: "lb apply of one weight, to the first packet", figure: by_file, limit: None, unit: "ms" },
        Row { what: "memory of the daemon, without tables", figure: memory, limit: Some(200.0), unit: "MiB" },
    ];
    let mut out = io::stdout().lock();
    writeln!(out, "{} VIPs with {} backends each, medians of {rounds}", site.vips, site.backends)?;
    let mut kept = true;
    for Row { what, figure, limit, unit } in rows {
        let (limit, verdict) = match limit {
            None => (String::new(), ""),
            Some(limit) if figure < limit => (format!("limit {limit} {unit}"), ""),
            Some(limit) => (format!("limit {limit} {unit}"), "  EXCEEDED"),
        };
        kept &= verdict.is_empty();
        writeln!(out, "{what:<46} {figure:>9.1} {unit:<4} {limit}{verdict}")?;
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

fn median(rounds: usize, mut run: impl FnMut() -> Result<Duration, anyhow::Error>) -> Result<f64, anyhow::Error> {
    let times = (0..rounds).map(|_| run().map(milliseconds)).collect::<Result<Vec<f64>, _>>()?;
    Ok(percentile(&times, 0.5).unwrap_or(f64::NAN))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
