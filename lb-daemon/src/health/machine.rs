//! Rise and fall of one probe, without I/O: results and instants in, state and the next deadline out.

use std::time::{Duration, Instant};

use crate::{
    dice::Dice,
    model::{Check, Initial},
};

/// Share of the interval by which the time between two probes varies, up and down.
const JITTER: f64 = 0.1;

/// The first interval, and the first after a time of fast ones, is cut short at random, to no less than this share: it
/// spreads checks that began together over the whole interval.
const SHORTEST_FIRST: f64 = 0.1;

/// How often is asked, and what follows from the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pace {
    /// What a backend is before its first results.
    pub initial: Initial,
    /// Time between the starts of two probes.
    pub interval: Duration,
    /// The same until the first result, and while results count against what the backend is.
    pub fast_interval: Option<Duration>,
    /// Successes in a row that take a backend up.
    pub rise: u32,
    /// Failures in a row that take a backend down.
    pub fall: u32,
}

impl Pace {
    /// That of a check.
    pub fn of(check: &Check) -> Self {
        let Check { initial, interval, fast_interval, rise, fall, .. } = *check;
        Self { initial, interval, fast_interval, rise, fall }
    }
}

/// The state of a check.
///
/// Where nothing is known the first result alone decides whether a backend is up: at the start nothing is gained by
/// waiting for `rise` of them, and with a long interval a pool would serve nobody for minutes. From then on it takes `rise`
/// successes in a row to go up and `fall` failures in a row to go down.
#[derive(Clone, Debug)]
pub struct Machine {
    pace: Pace,
    up: Option<bool>,
    successes: u32,
    failures: u32,
    timer: Timer,
    /// Whether the next interval that is not a fast one is cut short.
    spread: bool,
    random: Dice,
}

/// When to probe.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// At this instant.
    At(Instant),
    /// A probe is on its way since then.
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
    /// A machine at its beginning, whose first probe starts `now`. `up` is what is known of the backend already, if anything
    /// is; it stays until `rise` or `fall` results say otherwise. `seed` sets the jitter.
    pub fn new(pace: Pace, up: Option<bool>, seed: u64, now: Instant) -> Self {
        let (timer, random) = (Timer::At(now), Dice::new(seed));
        Self { pace, up, successes: 0, failures: 0, timer, spread: true, random }
    }

    /// Has the next probe start at some instant of this time; one that is on its way does not count.
    pub fn start_within(&mut self, from: Instant, within: Duration) {
        self.timer = Timer::At(from + within.mul_f64(self.random.fraction()));
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
            self.timer = Timer::Running(now);
        }
    }

    /// The probe has ended.
    pub fn on_result(&mut self, success: bool, now: Instant) -> Option<Transition> {
        let transition = self.count(success);
        self.end(now);
        transition
    }

    /// The probe could not be made, for want of something here: that says nothing about the backend.
    pub fn on_skip(&mut self, now: Instant) {
        self.end(now);
    }

    fn count(&mut self, success: bool) -> Option<Transition> {
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
        let (against, limit) = if up { (self.failures, self.pace.fall) } else { (self.successes, self.pace.rise) };
        if up == success || against < limit {
            return None;
        }
        self.up = Some(success);
        Some(Transition { up: success, first: false })
    }

    /// Sets the time of the next probe: counted from the start of this one, or at once, if it took longer.
    fn end(&mut self, now: Instant) {
        let Timer::Running(started) = self.timer else { return };
        let interval = self.interval();
        self.timer = Timer::At((started + interval).max(now));
    }

    fn interval(&mut self) -> Duration {
        let fast = self.pace.fast_interval.filter(|_| self.is_changing());
        let cut_short = std::mem::replace(&mut self.spread, fast.is_some()) && fast.is_none();
        let (least, most) = if cut_short { (SHORTEST_FIRST, 1.0) } else { (1.0 - JITTER, 1.0 + JITTER) };
        fast.unwrap_or(self.pace.interval).mul_f64(least + (most - least) * self.random.fraction())
    }

    /// Whether nothing was heard yet, or results count against what the backend is.
    fn is_changing(&self) -> bool {
        let against = match self.up {
            Some(true) => self.failures,
            Some(false) => self.successes,
            None => 0,
        };
        against > 0 || self.successes == 0 && self.failures == 0
    }
}

#[cfg(test)]
mod tests;
