//! The program and its tables, pinned as the daemon pins them, so that `lb explain` finds them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Context as _, Result};
use aya::{Ebpf, programs::Xdp};
use lb_common::{layout::LAYOUT_VERSION, maps};

use crate::leftovers::{BPFFS, PREFIXES};

/// A folder of pins, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Pinned(PathBuf);

impl Pinned {
    /// Pins a loaded object of which nothing was taken yet.
    pub(super) fn new(object: &mut Ebpf, program: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}-packet{}", PREFIXES[0], process::id(), NUMBER.fetch_add(1, Relaxed));
        let pinned = Self(Path::new(BPFFS).join(name));
        let tables = pinned.0.join(format!("v{LAYOUT_VERSION}/maps"));
        fs::create_dir_all(&tables).context("cannot make a folder of pins")?;
        for name in maps::ALL {
            let map = object.map(name).context(name)?;
            map.pin(tables.join(name)).with_context(|| format!("cannot pin {name}"))?;
        }
        let program: &mut Xdp = object.program_mut(program).context("the program")?.try_into()?;
        program.pin(pinned.0.join("prog")).context("cannot pin the program")?;
        Ok(pinned)
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // On a BPF file system folders are removed when they are empty, and what is in them one by one.
        let removed: io::Result<()> = fs::remove_dir_all(&self.0);
        if let Err(error) = removed {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}
