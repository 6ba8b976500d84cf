//! The machine: what it is, and whether it leaves us alone.

use std::{
    fs, hint,
    io::{Error, ErrorKind},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::stats::percentile;

/// A fixed piece of work may take this much longer than ever before on a core that is ours alone.
const QUIET: f64 = 1.08;

/// The CPUs that this thread may run on, in order: a machine may have others.
///
/// # Errors
/// If the system does not tell.
pub fn cpus() -> Result<Vec<usize>, anyhow::Error> {
    let set = sched_getaffinity(None).context("cannot tell which CPUs may be used")?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Binds this thread to one CPU; the last one that it may use, if none is named. Returns which.
///
/// # Errors
/// If there is no such CPU.
pub fn pin(cpu: Option<usize>) -> Result<usize, anyhow::Error> {
    let cpu = match cpu {
        Some(cpu) => cpu,
        None => *cpus()?.last().context("there is no CPU")?,
    };
    let mut set = CpuSet::new();
    if cpu >= CpuSet::MAX_CPU {
        return Err(Error::from(ErrorKind::InvalidInput)).with_context(|| format!("no CPU {cpu}"));
    }
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on CPU {cpu}"))?;
    Ok(cpu)
}

/// While it lives, this thread runs before all ordinary ones. Where the system refuses that, nothing happens; the chunks
/// then tell of interruptions.
#[derive(Debug)]
pub struct Priority(());

impl Priority {
    /// Begins.
    pub fn raise() -> Self {
        set_policy(libc::SCHED_FIFO, 20);
        Self(())
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        set_policy(libc::SCHED_OTHER, 0);
    }
}

#[expect(unsafe_code, reason = "no safe crate in use here offers this call")]
fn set_policy(policy: libc::c_int, priority: libc::c_int) {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the pointer is to a live value of the right type, and 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) };
}

/// Tells whether the core has been disturbed, by the time of a fixed piece of arithmetic: another guest on its other
/// hardware thread makes it 1.2 to 2 times longer.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    best: f64,
    pace: f64,
}

impl Watch {
    /// Learns for a moment what the arithmetic takes at best.
    pub fn start() -> Self {
        let mut watch = Self { best: f64::INFINITY, pace: f64::NAN };
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(500) {
            watch.is_quiet();
        }
        watch
    }

    /// Whether the core is undisturbed now.
    pub fn is_quiet(&mut self) -> bool {
        let times: Vec<f64> = (0..31).map(|_| arithmetic().as_secs_f64()).collect();
        let (Some(good), Some(median)) = (percentile(&times, 0.1), percentile(&times, 0.5)) else { return false };
        self.pace = good;
        self.best = self.best.min(good);
        median <= self.best * QUIET
    }

    /// What the arithmetic took when it was last looked at, in us: the speed of the core just then.
    pub fn pace(&self) -> f64 {
        self.pace * 1e6
    }

    /// Waits until the core is undisturbed; false if it is not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> bool {
        let begin = Instant::now();
        while !self.is_quiet() {
            if begin.elapsed() >= limit {
                return false;
            }
            thread::sleep(Duration::from_millis(3));
        }
        true
    }
}

/// Some 20 us of additions, multiplications and shifts that use most of a core's ports.
fn arithmetic() -> Duration {
    let begin = Instant::now();
    let mut lanes = [1_u64, 2, 3, 4];
    for _ in 0..10_000 {
        for lane in &mut lanes {
            *lane = lane.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7) ^ (*lane >> 3);
        }
        hint::black_box(&mut lanes);
    }
    begin.elapsed()
}

/// What the figures were taken on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Model, as the kernel names it.
    pub cpu_model: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Processes that wanted a CPU in the last minute, on average, when the run began.
    pub load: String,
}

impl Machine {
    /// Reads what the kernel tells.
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo");
        let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cpu_model: model.map_or("unknown", |(_, name)| name).to_owned(),
            cpus: cpus().map_or(0, |cpus| cpus.len()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or_default().to_owned(),
        }
    }
}

/// The commit that this was built from, with `-dirty` if files differ; "unknown" outside a repository.
pub fn commit() -> String {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_chosen_of_those_that_may_be_used() {
        let all = cpus().unwrap();
        for cpu in all {
            // Of a thread of its own: what it may use is narrowed for good.
            let chosen = thread::spawn(move || {
                pin(Some(cpu)).unwrap();
                (cpus().unwrap(), pin(None).unwrap(), Machine::read().cpus)
            });
            assert_eq!(chosen.join().unwrap(), (vec![cpu], cpu, 1));
        }
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error() {
        assert!(pin(Some(CpuSet::MAX_CPU)).unwrap_err().to_string().contains("no CPU"));
    }
}
