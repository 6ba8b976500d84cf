//! Everything down again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lb_common::maps;

use super::{
    error::OpenError,
    explain::system,
    links,
    lock::Lock,
    pins::{self, Pins},
    probes,
};

/// What was taken down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unloaded {
    /// Interfaces that run the program no more.
    pub detached: Vec<String>,
    /// Pins that were removed, links aside.
    pub removed: Vec<PathBuf>,
    /// What else lies there and is not the balancer's: it stays.
    pub left: Vec<PathBuf>,
}

/// Detaches and removes all that the balancer pinned, of this layout version or another, complete or not.
pub(super) fn unload(path: &Path) -> Result<Unloaded, OpenError> {
    let mut done = Unloaded::default();
    if !path.exists() {
        remove_probes(path)?;
        return Ok(done);
    }
    let lock = Lock::take(path)?;
    remove_probes(path)?;
    let pins = Pins::new(path);
    let listing = |source| system(format!("list {}", path.display()), source);
    for (interface, link) in pins.links().map_err(listing)? {
        match links::take_off(&link) {
            Ok(true) => done.detached.push(interface),
            Ok(false) => {}
            // Something else than an XDP link is not ours, whatever its name.
            Err(OpenError::System { source, .. } | OpenError::Unsupported { source, .. })
                if source.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    for file in [pins.program(), pins.next_program()] {
        remove(&file, &mut done)?;
    }
    for version in pins.versions().map_err(listing)? {
        tables(&path.join(version), &pins, &mut done)?;
    }
    for alias in [pins.tables_alias(), pins.next_alias()] {
        // Only what is a symbolic link: a folder of that name is not ours.
        if fs::read_link(&alias).is_ok() {
            pins::remove(&alias)?;
        }
    }
    pins.remove_empty();
    done.left = pins::names(path).map_err(listing)?.into_iter().map(|name| path.join(name)).collect();
    drop(lock);
    Ok(done)
}

fn remove_probes(path: &Path) -> Result<(), OpenError> {
    let removed = probes::remove(path).map_err(|error| {
        let what = "take down what carries health probes".to_owned();
        OpenError::Object { what, source: Box::new(error) }
    });
    removed.map(drop)
}

/// Removes the tables of one layout version and its folders.
fn tables(version: &Path, pins: &Pins, done: &mut Unloaded) -> Result<(), OpenError> {
    let folder = version.join("maps");
    let own = version == pins.version();
    for name in pins::names(&folder).map_err(|source| system(format!("list {}", folder.display()), source))? {
        // What tables another version has is not known here; its folder is ours all the same.
        if !own || maps::ALL.contains(&pins::table_of(&name)) {
            remove(&folder.join(name), done)?;
        }
    }
    for empty in [folder.as_path(), version] {
        match fs::remove_dir(empty) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
            Err(source) => return Err(system(format!("remove {}", empty.display()), source)),
        }
    }
    Ok(())
}

fn remove(file: &Path, done: &mut Unloaded) -> Result<(), OpenError> {
    if pins::remove(file)? {
        done.removed.push(file.to_owned());
    }
    Ok(())
}
