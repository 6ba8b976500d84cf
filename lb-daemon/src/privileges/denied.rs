//! Why a file cannot be read: the reasons that a confined daemon has and its operator would not guess.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Folders that may be read since this process was confined to them.
static READABLE: OnceLock<Vec<Folder>> = OnceLock::new();

/// A folder as it was.
#[derive(Debug)]
pub(super) struct Folder {
    real: PathBuf,
    /// Its device and number there.
    identity: (u64, u64),
}

impl Folder {
    /// The folder that a path leads to at the moment.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let real = fs::canonicalize(path).ok()?;
        Some(Self { identity: identity(&real)?, real })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Remembers what may be read from now on.
pub(super) fn remember(folders: impl Iterator<Item = PathBuf>) {
    // A process is confined once.
    let _ = READABLE.set(folders.filter_map(|folder| Folder::at(&folder)).collect());
}

/// Why a confined daemon may not read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is in no folder that was allowed.
    #[error("outside of what the daemon may read since it started; restart it")]
    Outside,
    /// The file's permissions forbid it, and this is root no more.
    #[error("permission denied, and the daemon gave up CAP_DAC_OVERRIDE when it had started")]
    Permission,
}

impl Denied {
    /// The reason that [`explain`] gave to an error, if it did.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }

    /// What mends it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Outside => {
                "restart the daemon, forwarding goes on meanwhile; it may then read the folders of all files that the \
                 configuration names"
            }
            Self::Permission => "make the file the daemon's user's own, or readable for all",
        }
    }
}

/// An error of reading a file, with the reason where being confined is the reason. Other errors stay as they are, and so do
/// those of a process that is not confined.
pub fn explain(path: &Path, error: io::Error) -> io::Error {
    match READABLE.get() {
        Some(folders) if error.kind() == io::ErrorKind::PermissionDenied => {
            io::Error::new(error.kind(), reason(path, folders))
        }
        _ => error,
    }
}

/// Why a file cannot be read by who may read these folders.
pub(super) fn reason(path: &Path, folders: &[Folder]) -> Denied {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_within = |folder: &Folder| real.starts_with(&folder.real) && identity(&folder.real) == Some(folder.identity);
    if folders.iter().any(is_within) { Denied::Permission } else { Denied::Outside }
}
