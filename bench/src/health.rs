//! What health checks cost: the real daemon with thousands of them, of real servers in a namespace beside its own.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netns_tests::balancer::metrics::Metrics;

use crate::{
    daemon::{Daemon, LIMIT},
    lab::Stop,
};

mod servers;
mod site;

pub use self::site::{Kind, Site};

/// The part of all probes that may be too many or too few: jitter does that, and the time that a scrape takes.
const TOLERANCE: u64 = 33;
/// Units of `/proc/PID/stat` in a second: the same on all machines that the kernel's interface is known of.
const TICKS: f64 = 100.0;
/// Parts of the time for which a daemon is watched, each a sample of its CPU time.
const PARTS: u32 = 10;
/// Microseconds of a second.
const MICROSECONDS: f64 = 1e6;

/// What a daemon used and did, over a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// How long it was watched, in seconds.
    pub seconds: f64,
    /// How long its probes were counted, in seconds: before that and after.
    pub counted: f64,
    /// Share of one core in the program, in percent.
    pub user: f64,
    /// The same in the kernel: with what the probed servers' network costs there, see the README.
    pub system: f64,
    /// Both, of each part of that time.
    pub parts: Vec<[f64; 2]>,
    /// Resident memory at the end, in MiB: its own, its text, and the tables that it maps.
    pub resident: f64,
    /// Of it what is its own.
    pub own: f64,
    /// The most that was resident since the start.
    pub peak: f64,
    /// Probes that ended, by how.
    pub succeeded: u64,
    /// All that did not succeed.
    pub others: u64,
    /// Probes that there should have been.
    pub expected: u64,
    /// Lateness in ms, of half of all probes and of 99 in 100, interpolated within the histogram's buckets.
    pub late_p50: f64,
    /// The same.
    pub late_p99: f64,
    /// Upper bound of the last bucket with a probe in it, in ms.
    pub late_most: f64,
    /// Backends that are up at the end.
    pub up: usize,
    /// Processes that wanted a CPU in the last minute, at the end.
    pub load: String,
}

impl Figures {
    /// Of one core, in percent.
    pub fn cpu(&self) -> f64 {
        self.user + self.system
    }

    /// Whether all checks were made as often as they should be, and succeeded.
    pub fn is_whole(&self, checks: usize) -> bool {
        self.others == 0 && self.up == checks && self.succeeded.abs_diff(self.expected) * TOLERANCE < self.expected
    }
}

/// A daemon that is watched.
#[derive(Debug)]
struct Watched<'s> {
    site: &'s Site,
    daemon: Daemon,
}

/// What a daemon told, and when.
#[derive(Debug)]
struct Scrape {
    metrics: Metrics,
    at: Instant,
}

/// What a process used so far.
#[derive(Clone, Copy, Debug)]
struct Used {
    at: Instant,
    user: f64,
    system: f64,
}

impl Used {
    /// Shares of one core, in percent, in the program and in the kernel.
    fn since(&self, from: &Self) -> [f64; 2] {
        let seconds = (self.at - from.at).as_secs_f64();
        [self.user - from.user, self.system - from.system].map(|used| used / seconds * 100.0)
    }
}

/// Runs this `lb` with checks of that kind, and watches it for the second time once all backends are up and the first has passed.
///
/// # Errors
/// If it does not come up, or backends do not, or `stop` says so.
pub fn measure(site: &Site, lb: &Path, kind: Kind, times: [Duration; 2], stop: &Stop) -> Result<Figures> {
    let [settle, time] = times;
    let daemon = Daemon::start(&site.daemon, lb, |folder| site.text(kind, folder), stop)?;
    let watched = Watched { site, daemon };
    let begun = Instant::now();
    while up(&watched.scrape()?.metrics) < site.checks {
        ensure!(begun.elapsed() < LIMIT, "not all backends come up:\n{}", watched.daemon.log());
        stop.sleep(Duration::from_secs(1))?;
    }
    stop.sleep(settle)?;
    let before = watched.scrape()?;
    // What that took is not counted, nor what the next one takes.
    stop.sleep(Duration::from_millis(100))?;
    let mut readings = vec![watched.used()?];
    for _ in 0..PARTS {
        stop.sleep(time / PARTS)?;
        readings.push(watched.used()?);
    }
    let after = watched.scrape()?;
    watched.figures(&readings, (&before, &after))
}

impl Watched<'_> {
    fn scrape(&self) -> Result<Scrape> {
        let (_, text) = self.daemon.scrape()?;
        Ok(Scrape { metrics: Metrics::parse(&text), at: Instant::now() })
    }

    fn used(&self) -> Result<Used> {
        let stat = fs::read_to_string(self.daemon.proc("stat"))?;
        // The name stands in brackets and may hold anything; from there on it is the 12th and the 13th.
        let mut words = stat.rsplit_once(')').context("no name")?.1.split_whitespace().skip(11);
        let mut next = || -> Result<f64> {
            let ticks_used: u32 = words.next().context("a line that is too short")?.parse()?;
            Ok(f64::from(ticks_used) / TICKS)
        };
        Ok(Used { at: Instant::now(), user: next()?, system: next()? })
    }

    fn figures(&self, readings: &[Used], (before, after): (&Scrape, &Scrape)) -> Result<Figures> {
        let (from, until) = readings.first().zip(readings.last()).context("a daemon that was not watched")?;
        let seconds = (until.at - from.at).as_secs_f64();
        let [user, system] = until.since(from);
        let counted = (after.at - before.at).as_secs_f64();
        let (before, after) = (&before.metrics, &after.metrics);
        let grown = |labels: &[(&str, &str)]| -> Result<u64> {
            let of = |metrics: &Metrics| metrics.sum("lb_health_checks_total", labels);
            Ok(whole(of(after)? - of(before)?))
        };
        let succeeded = grown(&[("result", "success")])?;
        let late = Lateness::between(before, after);
        let checks = f64::from(u32::try_from(self.site.checks)?);
        Ok(Figures {
            seconds,
            counted,
            user,
            system,
            parts: readings.windows(2).map(|pair| pair[1].since(&pair[0])).collect(),
            resident: self.daemon.memory("VmRSS")?,
            own: self.daemon.memory("RssAnon")?,
            peak: self.daemon.memory("VmHWM")?,
            succeeded,
            others: grown(&[])? - succeeded,
            expected: whole(checks * counted / self.site.interval.as_secs_f64()),
            late_p50: late.quantile(0.5),
            late_p99: late.quantile(0.99),
            late_most: late.most(),
            up: up(after),
            load: fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// Backends that are up.
fn up(metrics: &Metrics) -> usize {
    metrics.all("lb_backend_up").filter(|backend| backend.value > 0.5).count()
}

/// A count, of a metric.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of some millions")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// How many probes were how late: the buckets of a histogram by their upper bound in ms, each without those below.
#[derive(Clone, Debug, PartialEq)]
struct Lateness(Vec<(f64, f64)>);

impl Lateness {
    fn between(before: &Metrics, after: &Metrics) -> Self {
        let name = "lb_health_check_lateness_seconds_bucket";
        let bounds = after.all(name).filter_map(|bucket| Some((bucket.label("le")?, bucket.value)));
        let was = |bound: &str| before.sum(name, &[("le", bound)]).unwrap_or(0.0);
        let (mut below, mut buckets) = (0.0, Vec::new());
        for (bound, count) in bounds {
            let count = count - was(bound);
            let seconds: f64 = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap_or(f64::NAN) };
            // As written, without a binary fraction's error.
            buckets.push(((seconds * MICROSECONDS).round() / 1000.0, count - below));
            below = count;
        }
        Self(buckets)
    }

    fn quantile(&self, share: f64) -> f64 {
        let rank = share * self.0.iter().map(|(_, count)| count).sum::<f64>();
        let (mut below, mut lower) = (0.0, 0.0);
        for &(upper, count) in &self.0 {
            if count > 0.0 && below + count >= rank {
                return lower + (upper - lower) * (rank - below) / count;
            }
            (below, lower) = (below + count, upper);
        }
        f64::NAN
    }

    fn most(&self) -> f64 {
        self.0.iter().rev().find(|(_, count)| *count > 0.0).map_or(f64::NAN, |(upper, _)| *upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_within_buckets_of_what_was_added() {
        let metrics = |counts: [u32; 4]| {
            let line = |(bound, count)| format!("lb_health_check_lateness_seconds_bucket{{le=\"{bound}\"}} {count}\n");
            Metrics::parse(&["0.001", "0.002", "0.005", "+Inf"].into_iter().zip(counts).map(line).collect::<String>())
        };
        let late = Lateness::between(&metrics([10, 20, 20, 20]), &metrics([10, 110, 120, 120]));
        assert_eq!(late, Lateness(vec![(1.0, 0.0), (2.0, 90.0), (5.0, 10.0), (f64::INFINITY, 0.0)]));
        assert!((late.quantile(0.45) - 1.5).abs() < 1e-9 && (late.quantile(0.95) - 3.5).abs() < 1e-9, "{late:?}");
        assert!((late.most() - 5.0).abs() < 1e-9);
    }
}
