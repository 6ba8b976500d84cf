//! When the controller plans next. Time comes in as a value.

use std::time::Duration;

use tokio::time::Instant;

/// How long a change waits for others, so that a burst makes one plan: a rack that fails, fails within milliseconds.
const GATHER: Duration = Duration::from_millis(10);
/// How often the tables are compared with what is wanted although nothing is known to have changed.
const RECONCILE: Duration = Duration::from_mins(1);
/// Wait after the first failure; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The controller's alarms.
#[derive(Debug)]
pub(super) struct Clock {
    /// Next look at the tables: the next minute, or the next retry.
    regular: Instant,
    /// When the changes that are known of are gathered.
    gathered: Option<Instant>,
    /// Wait after the next failure.
    retry: Duration,
}

impl Clock {
    /// Alarms that begin at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { regular: now + RECONCILE, gathered: None, retry: FIRST_RETRY }
    }

    /// Something changed: plan soon. Changes that follow do not put it off.
    pub(super) fn changed(&mut self, now: Instant) {
        self.gathered.get_or_insert(now + GATHER);
    }

    /// A plan was carried out whole.
    pub(super) fn succeeded(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// A plan for some VIPs was carried out: the look at all tables is due as before.
    pub(super) fn changes_made(&mut self) {
        self.gathered = None;
    }

    /// An attempt failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.gathered = None;
        self.regular = now + self.retry;
        self.retry = (self.retry * 2).min(LAST_RETRY);
    }

    /// Whether it is time for a look at the tables although nothing is known to have changed.
    pub(super) fn is_regular(&self, now: Instant) -> bool {
        now >= self.regular
    }

    /// When to plan next.
    pub(super) fn next(&self) -> Instant {
        self.gathered.map_or(self.regular, |gathered| gathered.min(self.regular))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_not_put_off_by_those_that_follow() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        assert_eq!(clock.next(), start + RECONCILE);
        clock.changed(start);
        clock.changed(start + GATHER / 2);
        assert_eq!(clock.next(), start + GATHER);
    }

    #[test]
    fn failures_wait_longer_each_time_until_one_attempt_succeeds() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let mut waits = Vec::new();
        for _ in 0..7 {
            clock.failed(start);
            waits.push((clock.next() - start).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        clock.succeeded(start);
        assert_eq!(clock.next(), start + RECONCILE);
        clock.failed(start);
        assert_eq!(clock.next(), start + FIRST_RETRY);
    }
}
