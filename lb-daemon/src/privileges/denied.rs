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

/// An error of reading a file, with the reason where being confined is the reason. Another process's errors stay as they
/// are.
pub fn explain(path: &Path, error: io::Error) -> io::Error {
    match READABLE.get() {
        Some(folders) if error.kind() == io::ErrorKind::PermissionDenied => {
            io::Error::new(error.kind(), reason(path, folders))
        }
        _ => error,
    }
}

/// Why a file cannot be read by who may read these folders.
pub(super) fn reason(path: &Path, folders: &[Folder]) -> String {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let inside =
        folders.iter().any(|folder| real.starts_with(&folder.real) && identity(&folder.real) == Some(folder.identity));
    if inside {
        "permission denied: the daemon gave up CAP_DAC_OVERRIDE when it had started, so also as root it needs the file's \
         permission; make the file the daemon's user's, or readable for all"
            .to_owned()
    } else {
        "outside of what the daemon may read since it started: the folders of its configuration's files, as they were \
         then; restart it, forwarding goes on meanwhile"
            .to_owned()
    }
}
