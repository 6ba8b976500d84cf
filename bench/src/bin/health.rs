//! Prints what health checks cost, with the goals that they are held to. See the crate's README.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use bench::{
    balancer::binary,
    health::{Figures, Kind, Site, measure},
    lab::{Stop, ensure_root},
    output::{Output, exit_code},
    record::{
        Better::{self, Less, More},
        Row,
    },
};
use clap::Parser;
use serde_json::json;

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
    #[arg(long = "kind", value_enum, value_delimiter = ',', default_values_t = Kind::USUAL)]
    kinds: Vec<Kind>,
    /// Seconds for which each kind is watched
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seconds before, once all backends are up
    #[arg(long, default_value_t = 10)]
    settle: u64,
    /// What becomes of the figures
    #[command(flatten)]
    output: Output,
}

fn main() -> Result<ExitCode, anyhow::Error> {
    let options = Options::parse();
    ensure_root()?;
    let stop = Stop::on_signals()?;
    let lb = binary()?;
    let site = Site::build(options.checks, Duration::from_secs(options.interval), &lb)?;
    let method = json!({
        "checks": options.checks,
        "interval_seconds": options.interval,
        "seconds": options.seconds,
        "settle_seconds": options.settle,
    });
    let mut run = options.output.begin("health", method)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} checks every {} s, {} s each; {}\n\
         goals: CPU below {CPU} % of a core, resident below {MEMORY} MiB, 99 of 100 less than {LATE} ms late\n\
         {:<11} {:>6} {:>6} {:>6} {:>9} {:>6} {:>6} {:>9} {:>6} {:>9} {:>9} {:>9} {:>6}",
        options.checks,
        options.interval,
        options.seconds,
        run.record.about,
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
    let mut whole = true;
    for kind in &options.kinds {
        let times = [options.settle, options.seconds].map(Duration::from_secs);
        let figures = measure(&site, &lb, *kind, times, &stop)?;
        let rows = rows(kind.name(), &figures);
        let kept = figures.is_whole(site.checks) && rows.iter().all(Row::is_kept);
        writeln!(out, "{:<11} {}{}", kind.name(), line(&figures), if kept { "" } else { "  EXCEEDED" })?;
        whole &= figures.is_whole(site.checks);
        run.add(rows)?;
    }
    Ok(exit_code(run.finish()? && whole))
}

/// The rows of one kind.
#[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
fn rows(kind: &str, figures: &Figures) -> Vec<Row> {
    let row = |figure: &str, unit: &str, better: Better, value: f64| {
        Row::new([("kind", kind.into()), ("figure", figure.into())], unit, better, vec![value])
    };
    let parts = |of: fn(&[f64; 2]) -> f64| figures.parts.iter().map(of).collect::<Vec<f64>>();
    let used = |figure: &str, samples: Vec<f64>, value: f64| {
        let what = [("kind", kind.into()), ("figure", figure.into())];
        Row::new(what, "% of a core", Less, samples).told("value", value)
    };
    vec![
        used("cpu", parts(|[user, system]| user + system), figures.cpu()).limited(Some(CPU)),
        used("kernel", parts(|[_, system]| *system), figures.system),
        row("resident", "MiB", Less, figures.resident).limited(Some(MEMORY)),
        row("own", "MiB", Less, figures.own),
        row("peak", "MiB", Less, figures.peak),
        row("late-p50", "ms", Less, figures.late_p50),
        row("late-p99", "ms", Less, figures.late_p99).limited(Some(LATE)),
        row("probes", "1/s", More, figures.succeeded as f64 / figures.counted),
        row("failed", "probes", Less, figures.others as f64).limited(Some(1.0)),
    ]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_alone_is_measured_if_it_is_named() {
        let kinds = |arguments: &[&str]| Options::parse_from([&["health"], arguments].concat()).kinds;
        let usual = kinds(&[]);
        assert!(usual.contains(&Kind::Mixed) && !usual.contains(&Kind::Https), "{usual:?}");
        assert_eq!(kinds(&["--kind", "https"]), [Kind::Https]);
    }
}
