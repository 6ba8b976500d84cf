//! What the daemon keeps on disk, so that it outlives the daemon: `[daemon] state_dir`.
//!
//! Each instance has a folder of its own in there, named after its pin path. A file is whole or it is not there: it is
//! written under another name, brought to the disk, and renamed. What is read back is believed only if its checksum says
//! that it is what was written.

mod folder;
mod generation;
mod generations;
pub mod overrides;
mod start;

pub use self::{
    folder::{Folder, StateError},
    generation::{About, Author, Generation, Origin, Pending},
    generations::Generations,
    start::{Start, choose},
};
