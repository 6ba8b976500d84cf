//! The clock that the program reads.

use std::{thread::sleep, time::Duration};

use lb_common::layout::flow::TIME_SHIFT;
use rustix::time::{ClockId, clock_gettime};

/// The program's clock in nanoseconds.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The same in units of 2^32 ns.
pub fn unit() -> u32 {
    (now_ns() >> TIME_SHIFT) as u32
}

/// The same, and waits before if the unit would end within `room`, so that what follows falls into one unit.
pub fn settled_unit(room: Duration) -> u32 {
    settle(room);
    unit()
}

/// Waits if the unit would end within `room`.
pub fn settle(room: Duration) {
    let left = Duration::from_nanos((1 << TIME_SHIFT) - (now_ns() & ((1 << TIME_SHIFT) - 1)));
    if left <= room {
        sleep(left + Duration::from_millis(10));
    }
}
