//! How long it takes from a change's beginning to the first packet that meets it.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::daemon::LIMIT;

/// Looks over and over, from before a change is begun, and tells how long after that it was seen.
///
/// # Errors
/// If the change fails, or looking does, or nothing is seen of it in the end.
pub(super) fn until_changed(
    look: impl Fn() -> Result<bool> + Sync,
    change: impl FnOnce() -> Result<()>,
) -> Result<Duration> {
    let over = AtomicBool::new(false);
    let (tell, seen) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let told = match look() {
                    Ok(false) => continue,
                    Ok(true) => Ok(Instant::now()),
                    Err(error) => Err(error),
                };
                // Whoever waits may have given up.
                let _ = tell.send(told);
                return;
            }
        });
        let begun = Instant::now();
        let at = change().and_then(|()| match seen.recv_timeout(LIMIT) {
            Ok(told) => told,
            Err(RecvTimeoutError::Timeout) => bail!("no change {} s after it was made", LIMIT.as_secs()),
            Err(gone @ RecvTimeoutError::Disconnected) => Err(gone).context("whoever looks for the change is gone"),
        });
        over.store(true, Ordering::Relaxed);
        Ok(at?.duration_since(begun))
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn tells_when_the_change_was_seen() {
        let changed = AtomicBool::new(false);
        let look = || Ok(changed.load(Ordering::Relaxed));
        let change = || {
            thread::sleep(Duration::from_millis(5));
            changed.store(true, Ordering::Relaxed);
            Ok(())
        };
        let taken = until_changed(look, change).unwrap();
        assert!(taken >= Duration::from_millis(5) && taken < LIMIT / 2, "{taken:?}");
    }

    #[test]
    fn a_change_that_fails_is_not_waited_for() {
        let start = Instant::now();
        let failed = until_changed(|| Ok(false), || Err(anyhow!("lb says no")));
        assert_eq!(failed.unwrap_err().to_string(), "lb says no");
        assert!(start.elapsed() < LIMIT / 2);
    }

    #[test]
    fn what_cannot_be_looked_at_is_an_error() {
        let failed = until_changed(|| Err(anyhow!("no such program")), || Ok(()));
        assert_eq!(failed.unwrap_err().to_string(), "no such program");
    }
}
