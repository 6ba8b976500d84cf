//! One writer for each pin path.
//!
//! The lock is an flock(2) of the folder itself: the kernel lets go of it when the process dies, however it dies, and
//! nothing is left to clean up. Readers take none.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::{FlockOperation, flock, major, minor};

use super::{
    error::{Holder, OpenError},
    explain::system,
    pins::make_folder,
};

/// Times that a folder may vanish between opening and locking it before that is an error.
const ATTEMPTS: usize = 8;

/// Holds a pin path until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    folder: File,
}

impl Lock {
    /// Makes the folder if it is missing and locks it.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when another process, or another part of this one, holds it.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let fail = |source| system(format!("lock {}", path.display()), source);
        for _ in 0..ATTEMPTS {
            make_folder(path)?;
            let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path);
            let folder = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(fail)?,
            };
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(OpenError::InUse { path: path.to_owned(), holder: holder(&folder) });
                }
                Err(error) => return Err(fail(error.into())),
            }
            // An `lb unload` may have removed the folder after it was opened here.
            let locked = folder.metadata().map_err(fail)?;
            if path.metadata().is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
                return Ok(Self { folder });
            }
        }
        Err(fail(io::Error::other("the folder keeps vanishing")))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do while a child of another thread, forked but not yet its own program, has a copy of
        // the descriptor. It cannot fail for a lock that is held.
        let _ = flock(&self.folder, FlockOperation::Unlock);
    }
}

/// Who holds the lock of a file.
fn holder(file: &File) -> Holder {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let pid = file.metadata().ok().and_then(|metadata| holder_of(&locks, metadata.dev(), metadata.ino()));
    Holder { pid }
}

/// The same from the text of `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 17283 00:27:32273 0 EOF`.
fn holder_of(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let holds = |line: &&str| {
        line.contains(" FLOCK ") && !line.contains("->") && line.split_whitespace().any(|word| word == file)
    };
    locks.lines().find(holds)?.split_whitespace().nth(4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_who_holds_a_lock() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:27:32273 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 17283 00:27:32273 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 99 00:27:5 0 EOF\n";
        assert_eq!(holder_of(locks, 0x27, 32273), Some(17283));
        assert_eq!(holder_of(locks, 0x27, 5), None);
        assert_eq!(holder_of(locks, 0x28, 32273), None);
    }
}
