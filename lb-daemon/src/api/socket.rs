//! The unix socket: taken over from a daemon that died, never from one that lives.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::{
    net::{UnixListener, UnixStream},
    time::sleep,
};

/// Owner and group may ask; nobody else.
const MODE: u32 = 0o660;
/// Of the folder, if it has to be made.
const FOLDER_MODE: u32 = 0o755;
/// How often a turn is asked for, and the pause between.
const TURN_TRIES: u32 = 50;
const TURN_PAUSE: Duration = Duration::from_millis(20);

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers on it.
    #[error("another daemon answers on {}; end it first, or give this one another [api] socket", .0.display())]
    InUse(PathBuf),
    /// A file that is no socket lies there.
    #[error("{} exists and is no socket; remove it, or name another [api] socket", .0.display())]
    NotASocket(PathBuf),
    /// This user may not write to the folder.
    #[error(
        "cannot make the socket {}: this user may not write to its folder; give its user the folder, or set another [api] \
         socket",
        .path.display()
    )]
    NotAllowed {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A step failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// A socket that listens; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    inode: u64,
}

/// Listens on `path`. A file that a dead daemon left is replaced.
///
/// # Errors
/// When a daemon answers there, or the socket cannot be made.
pub async fn listen(path: &Path) -> Result<(UnixListener, Socket), SocketError> {
    let failed = |what, named: &Path| {
        let named = named.to_owned();
        move |source| SocketError::Io { what, path: named, source }
    };
    let not_made = |what, named: &Path| {
        let failed = failed(what, named);
        move |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                SocketError::NotAllowed { path: path.to_owned(), source }
            }
            _ => failed(source),
        }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(FOLDER_MODE).create(folder).map_err(not_made("make folder", folder))?;
    }
    // Of two daemons that start at once, the second must meet the socket of the first, not the dead one before it.
    let _turn = turn(path).await;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) if is_answered(path).await.map_err(failed("try socket", path))? => {
            return Err(SocketError::InUse(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(not_made("look at", path)(error)),
    }
    // Under another name until its mode is right, so that nobody slips in before; the rename replaces a dead socket.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    remove_stale(&fresh).map_err(not_made("remove", &fresh))?;
    let listener = UnixListener::bind(&fresh).map_err(not_made("open socket", path))?;
    let ready = fs::set_permissions(&fresh, fs::Permissions::from_mode(MODE)).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = ready {
        // Best effort: the error below is what matters.
        let _ = fs::remove_file(&fresh);
        return Err(not_made("put socket in place at", path)(error));
    }
    let inode = fs::symlink_metadata(path).map_err(failed("look at", path))?.ino();
    Ok((listener, Socket { path: path.to_owned(), inode }))
}

/// Waits for our turn to take sockets in the folder of `path`, by a lock of the folder that ends with what is returned.
/// Not for long: others may lock folders for reasons of their own, and what is lost then is only a race.
async fn turn(path: &Path) -> Option<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::File::open(folder).ok()?;
    for _ in 0..TURN_TRIES {
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(folder);
        }
        sleep(TURN_PAUSE).await;
    }
    None
}

/// Whether somebody listens on `path`.
async fn is_answered(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(true),
        // A full backlog is a daemon too.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another daemon may have put its own socket there meanwhile; that one stays.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
