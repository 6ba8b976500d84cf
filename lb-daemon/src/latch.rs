//! Places where a test may have the daemon die, as if the machine had: nothing runs after them, not even destructors.
//!
//! `LB_LATCH=NAME` ends the process by SIGKILL the first time that it comes to the latch of that name, `LB_LATCH=NAME:3`
//! the third time. Release builds have no latches.

/// Dies here if the environment names this latch.
#[cfg(debug_assertions)]
pub(crate) fn at(name: &str) {
    use std::{
        env,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use rustix::process::{Signal, getpid, kill_process};

    /// How often the latch was passed. One process has one at most.
    static PASSED: AtomicUsize = AtomicUsize::new(0);

    let Ok(asked) = env::var("LB_LATCH") else { return };
    if falls(&asked, name, || PASSED.fetch_add(1, Ordering::Relaxed) + 1) {
        // Should the kernel refuse, the test sees a daemon that lives on.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// No latches in release builds.
#[cfg(not(debug_assertions))]
pub(crate) fn at(_: &str) {}

/// Whether the latch that was `asked` for is the one of this name, and it is its turn; `turn` counts.
#[cfg(debug_assertions)]
fn falls(asked: &str, name: &str, turn: impl FnOnce() -> usize) -> bool {
    let (wanted, number) = match asked.split_once(':') {
        Some((wanted, number)) => (wanted, number.parse().unwrap_or(1)),
        None => (asked, 1),
    };
    wanted == name && turn() == number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latch_falls_at_its_turn_and_no_other_counts() {
        let mut passed = 0;
        let mut pass = |asked, name| {
            falls(asked, name, || {
                passed += 1;
                passed
            })
        };
        assert!(!pass("apply-op:2", "generation-temp"));
        assert!(!pass("apply-op:2", "apply-op"));
        assert!(pass("apply-op:2", "apply-op"));
        assert!(!pass("apply-op:2", "apply-op"));
        assert!(falls("apply-op", "apply-op", || 1));
    }
}
