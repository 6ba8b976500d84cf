//! What the daemon keeps on disk, so that it outlives the daemon: `[daemon] state_dir`.
//!
//! Each instance has a folder of its own in there, named after its pin path. A file is whole or it is not there: it is
//! written under another name, brought to the disk, and renamed. What is read back is believed only if its checksum says
//! that it is what was written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod folder;
mod generation;
mod generations;
pub mod health;
pub mod overrides;
mod start;

pub use self::{
    folder::{Folder, StateError},
    generation::{About, Author, Generation, Origin, Pending},
    generations::Generations,
    start::{Start, choose},
};

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(milliseconds: u64) -> SystemTime {
    // The checksum says that lb wrote it, so it is no time beyond all clocks.
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds)).unwrap_or(UNIX_EPOCH)
}
