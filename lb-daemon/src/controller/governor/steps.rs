//! When the steps of slow starts are made, and how large they are. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Steps of a slow start. Each gives a starting backend a twentieth of its weight more: of ten, one that starts moves half a
/// percent of the ring a step. And few plans are made: one each 1.5 s in a slow start of 30 s.
pub(super) const STEPS: u32 = 20;
/// Most of the ring that such a step moves, in percent: where nearly all start at once, their first twentieths outweigh the
/// few that serve. Twenty such steps move all of it, so it takes hardly longer.
pub(super) const STEP: u8 = 5;

/// When a step is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    pub(super) now: Instant,
    /// Where the steps of all slow starts of a length begin, so that those of several backends and VIPs fall together.
    pub(super) epoch: Instant,
    /// First results are waited for.
    pub(super) settling: bool,
}

/// Steps of this length since the epoch.
pub(super) fn tick(step: Duration, when: When) -> u64 {
    let passed = when.now.saturating_duration_since(when.epoch).as_nanos();
    u64::try_from(passed / step.as_nanos().max(1)).unwrap_or(u64::MAX)
}

/// When such a step begins.
pub(super) fn beginning(step: Duration, tick: u64, when: When) -> Instant {
    when.epoch + step.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX))
}

/// Twentieths of its weight that a backend has which starts at step `start`.
pub(super) fn level(start: u64, tick: u64) -> u32 {
    u32::try_from(tick.saturating_sub(start)).unwrap_or(STEPS).saturating_add(1).min(STEPS)
}
