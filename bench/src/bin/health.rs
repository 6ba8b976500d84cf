//! Prints what health checks cost, with the goals that they are held to. See the crate's README.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use bench::{
    balancer::binary,
    health::{Figures, Kind, Site, measure},
    machine::{Machine, commit},
};
use clap::{Parser, ValueEnum};
use serde::Serialize;

/// Most of one core that a daemon may use, in percent.
const CPU: f64 = 30.0;
/// Most that may be resident, in MiB.
const MEMORY: f64 = 150.0;
/// Most by which 99 of 100 probes may start late, in ms.
const LATE: f64 = 200.0;

/// Time health checks
#[derive(Debug, Parser)]
struct Options {
    /// Checks, each of a backend of its own
    #[arg(long, default_value_t = 5000)]
    checks: usize,
    /// Seconds between two probes of a check
    #[arg(long, default_value_t = 2)]
    interval: u64,
    /// Which kinds
    #[arg(long = "kind", value_enum, value_delimiter = ',', default_values_t = Kind::value_variants().to_vec())]
    kinds: Vec<Kind>,
    /// Seconds for which each kind is watched
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seconds before, once all backends are up
    #[arg(long, default_value_t = 10)]
    settle: u64,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is written as JSON.
#[derive(Debug, Serialize)]
struct Report {
    commit: String,
    machine: Machine,
    checks: usize,
    interval_seconds: u64,
    rows: Vec<Row>,
}

/// The figures of one kind.
#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    kept: bool,
    #[serde(flatten)]
    figures: Figures,
}

fn main() -> Result<ExitCode, anyhow::Error> {
    let options = Options::parse();
    let lb = binary()?;
    let site = Site::build(options.checks, Duration::from_secs(options.interval), &lb)?;
    let machine = Machine::read();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} checks every {} s, {} s each; {}, {} CPUs, Linux {}, commit {}\n\
         goals: CPU below {CPU} % of a core, resident below {MEMORY} MiB, 99 of 100 less than {LATE} ms late\n\
         {:<11} {:>6} {:>6} {:>6} {:>9} {:>6} {:>6} {:>9} {:>6} {:>9} {:>9} {:>9} {:>6}",
        options.checks,
        options.interval,
        options.seconds,
        machine.cpu_model,
        machine.cpus,
        machine.kernel,
        commit(),
        "# kind",
        "user %",
        "sys %",
        "CPU %",
        "resident",
        "own",
        "peak",
        "probes/s",
        "failed",
        "late p50",
        "p99 ms",
        "most ms",
        "load",
    )?;
    let mut rows = Vec::new();
    for kind in &options.kinds {
        let times = [options.settle, options.seconds].map(Duration::from_secs);
        let figures = measure(&site, &lb, *kind, times)?;
        let kept = figures.is_whole(site.checks)
            && figures.cpu() < CPU
            && figures.resident < MEMORY
            && figures.late_p99 < LATE;
        writeln!(out, "{:<11} {}{}", kind.name(), line(&figures), if kept { "" } else { "  EXCEEDED" })?;
        rows.push(Row { kind: kind.name(), kept, figures });
    }
    let kept = rows.iter().all(|row| row.kept);
    let report = Report { commit: commit(), machine, checks: options.checks, interval_seconds: options.interval, rows };
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
fn line(figures: &Figures) -> String {
    format!(
        "{:>6.1} {:>6.1} {:>6.1} {:>9.1} {:>6.1} {:>6.1} {:>9.1} {:>6} {:>9.2} {:>9.2} {:>9.0} {:>6}",
        figures.user,
        figures.system,
        figures.cpu(),
        figures.resident,
        figures.own,
        figures.peak,
        figures.succeeded as f64 / figures.counted,
        figures.others,
        figures.late_p50,
        figures.late_p99,
        figures.late_most,
        figures.load,
    )
}
