//! What a benchmark makes on the machine: namespaces, pins, folders. However it ends, nothing of it stays for good.
//!
//! All of it bears the number of this process in its name, `lbtest-PID-bench-…`. What a killed process could not take away,
//! the next benchmark or test does.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netns_tests::leftovers;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

/// How often a pause looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What something is called that is named by this word.
pub fn name(word: &str) -> String {
    format!("lbtest-{}-bench-{word}", process::id())
}

/// Fails at once where everything else would fail later, with less to say.
///
/// # Errors
/// If this is not root.
pub fn ensure_root() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "network namespaces and XDP need root: run it by sudo");
    Ok(())
}

/// A folder for files; removed when dropped.
pub(crate) fn folder() -> Result<TempDir> {
    tempfile::Builder::new().prefix(&name("files-")).tempdir().context("no place for a config file")
}

/// Where an `lb` pins its tables; removed with all that is pinned there when dropped.
#[derive(Debug)]
pub(crate) struct Pins(PathBuf);

impl Pins {
    /// A place of that name. What killed processes left is removed.
    pub(crate) fn new(word: &str) -> Self {
        leftovers::sweep();
        Self(Path::new(leftovers::BPFFS).join(name(word)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // `lb unload` has been there before, unless something went wrong.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether somebody asked the benchmark to end: it does so between two steps, and takes away what it made.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From here on SIGINT, SIGTERM and SIGHUP ask for it, and do nothing else.
    ///
    /// # Errors
    /// If signals cannot be handled.
    pub fn on_signals() -> Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0)).context("cannot handle signals")?;
        }
        Ok(stop)
    }

    /// Nothing, as long as nobody asked.
    ///
    /// # Errors
    /// If somebody did.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.0.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    /// Waits for so long.
    ///
    /// # Errors
    /// If somebody asked meanwhile.
    pub(crate) fn sleep(&self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_made_is_swept_once_its_maker_is_gone() {
        let folder = folder().unwrap();
        let found = leftovers::of(&format!("lbtest-{}", process::id()));
        assert!(found.contains(&folder.path().display().to_string()), "{found:?}");
        assert!(Pins::new("x").path().ends_with(name("x")) && folder.path().exists(), "swept too early");
    }

    #[test]
    fn a_pause_ends_when_it_is_asked_to() {
        let stop = Stop::default();
        stop.sleep(Duration::from_millis(1)).unwrap();
        let asking = stop.clone();
        let asked = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            asking.0.store(true, Ordering::Relaxed);
        });
        let begun = Instant::now();
        assert_eq!(stop.sleep(Duration::from_mins(1)).unwrap_err().to_string(), "interrupted");
        assert!(begun.elapsed() < Duration::from_secs(30));
        asked.join().unwrap();
    }
}
