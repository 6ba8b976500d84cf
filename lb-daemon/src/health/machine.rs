//! Rise and fall of one probe, without I/O: results and instants in, state and the next deadline out.

use std::time::{Duration, Instant};

use crate::model::Check;

/// The first probe starts within this time (or within the interval, if that is shorter), at an instant of its own for
/// each check: soon, since traffic waits for it, but not all at once.
const START_SPREAD: Duration = Duration::from_millis(300);

/// Share of the interval by which the time between two probes varies, up and down.
const JITTER: f64 = 0.1;

/// The first interval is cut short at random, to no less than this share: it spreads the checks over the whole interval.
const SHORTEST_FIRST: f64 = 0.1;

/// The state of a check.
///
/// The first result alone decides whether a backend is up: at the start nothing is gained by waiting for `rise` of them,
/// and with a long interval a pool would serve nobody for minutes. From then on it takes `rise` successes in a row to go
/// up and `fall` failures in a row to go down.
#[derive(Clone, Debug)]
pub struct Machine {
    check: Check,
    up: Option<bool>,
    successes: u32,
    failures: u32,
    timer: Timer,
    started: bool,
    random: SplitMix,
}

/// When to probe.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// At this instant.
    At(Instant),
    /// A probe is on its way; the next is due then, or when this one has ended, whichever is later.
    Running(Instant),
}

/// A check went up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whether it is up now.
    pub up: bool,
    /// Whether this was the first result, and nothing was known before.
    pub first: bool,
}

impl Machine {
    /// A machine at its beginning. `initial` is the state that an earlier one was in, if there was one; it stays until
    /// `rise` or `fall` new results say otherwise. `seed` sets the jitter.
    pub fn new(check: Check, initial: Option<bool>, seed: u64, now: Instant) -> Self {
        let random = SplitMix(seed);
        let timer = Timer::At(now);
        let mut machine = Self { check, up: initial, successes: 0, failures: 0, timer, started: false, random };
        machine.start_anew(now);
        machine
    }

    /// Whether the backend is up; `None` before the first result.
    pub fn up(&self) -> Option<bool> {
        self.up
    }

    /// Successes in a row up to now.
    pub fn successes(&self) -> u32 {
        self.successes
    }

    /// Failures in a row up to now.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next probe is to start; `None` while one is on its way.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.timer {
            Timer::At(at) => Some(at),
            Timer::Running(_) => None,
        }
    }

    /// A probe starts. Late starts are not made up for: the interval counts from here.
    pub fn on_start(&mut self, now: Instant) {
        if let Timer::At(_) = self.timer {
            let (least, most) = if self.started { (1.0 - JITTER, 1.0 + JITTER) } else { (SHORTEST_FIRST, 1.0) };
            self.started = true;
            let factor = least + (most - least) * self.random.fraction();
            self.timer = Timer::Running(now + self.check.interval.mul_f64(factor));
        }
    }

    /// The probe has ended.
    pub fn on_result(&mut self, success: bool, now: Instant) -> Option<Transition> {
        self.end(now);
        if success {
            self.successes = self.successes.saturating_add(1);
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.successes = 0;
        }
        let Some(up) = self.up else {
            self.up = Some(success);
            return Some(Transition { up: success, first: true });
        };
        let (against, limit) = if up { (self.failures, self.check.fall) } else { (self.successes, self.check.rise) };
        if up == success || against < limit {
            return None;
        }
        self.up = Some(success);
        Some(Transition { up: success, first: false })
    }

    /// The probe could not be made, for want of something here: that says nothing about the backend.
    pub fn on_skip(&mut self, now: Instant) {
        self.end(now);
    }

    /// The next probe starts soon, as the first does; one that is on its way does not count.
    pub fn start_anew(&mut self, now: Instant) {
        self.timer = Timer::At(now + self.spread());
    }

    fn spread(&mut self) -> Duration {
        self.check.interval.min(START_SPREAD).mul_f64(self.random.fraction())
    }

    fn end(&mut self, now: Instant) {
        if let Timer::Running(next) = self.timer {
            self.timer = Timer::At(next.max(now));
        }
    }
}

/// A small random generator (`SplitMix64`); jitter needs no more, and a seed makes it repeatable.
#[derive(Clone, Copy, Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (word ^ (word >> 31)).to_le_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
