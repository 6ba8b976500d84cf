//! What the service manager is told: systemd's notification protocol, see `sd_notify(3)`.
//!
//! Nothing is said where `NOTIFY_SOCKET` is not set. Messages go out one by one, without a connection, so a manager that
//! was started anew meanwhile is found again.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    fmt::Write as _,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

mod follow;
mod summary;

#[cfg(test)]
mod tests;

pub use self::{
    follow::{states, watchdog},
    summary::summary,
};

/// What can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice<'a> {
    /// The start, or the reload before it, is done.
    Ready,
    /// The file is being read again; since this moment, in microseconds of the monotonic clock.
    Reloading { since: u64 },
    /// The end has begun.
    Stopping,
    /// Alive.
    Watchdog,
    /// A line for people.
    Status(&'a str),
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            Self::Reloading { since } => write!(f, "RELOADING=1\nMONOTONIC_USEC={since}"),
            Self::Stopping => f.write_str("STOPPING=1"),
            Self::Watchdog => f.write_str("WATCHDOG=1"),
            Self::Status(line) => write!(f, "STATUS={}", line.replace('\n', " ")),
        }
    }
}

/// Why the service manager cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The variable names no socket that we know how to reach.
    #[error("NOTIFY_SOCKET is {0:?}, which is neither an absolute path nor an abstract name (@...)")]
    Address(OsString),
    /// A step failed.
    #[error("cannot make a socket for NOTIFY_SOCKET {address:?}")]
    Socket {
        /// Where messages would go.
        address: OsString,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The service manager that waits for messages, or nobody; clones tell the same one.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    manager: Option<Arc<Manager>>,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// It wants to hear within this time, again and again.
    watchdog: Option<Duration>,
    /// It was told that the start is done.
    ready: AtomicBool,
}

impl Notifier {
    /// As the environment says.
    ///
    /// # Errors
    /// When it names a socket that cannot be used.
    pub fn from_environment() -> Result<Self, NotifyError> {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Ok(Self::default());
        };
        let pid = env::var("WATCHDOG_PID").ok();
        let usec = env::var("WATCHDOG_USEC").ok();
        Self::new(&address, watchdog_time(usec.as_deref(), pid.as_deref(), process::id()))
    }

    /// Tells who listens at `address`, and is alive at least each `watchdog`.
    fn new(address: &OsStr, watchdog: Option<Duration>) -> Result<Self, NotifyError> {
        let failed = |source| NotifyError::Socket { address: address.to_owned(), source };
        let place = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(address),
            _ => return Err(NotifyError::Address(address.to_owned())),
        };
        let socket = UnixDatagram::unbound().map_err(failed)?;
        // A manager that does not read must not hold us up.
        socket.set_nonblocking(true).map_err(failed)?;
        let manager = Manager { socket, address: place.map_err(failed)?, watchdog, ready: AtomicBool::new(false) };
        Ok(Self { manager: Some(Arc::new(manager)) })
    }

    /// How often the manager wants to hear that the daemon lives: twice in the time after which it gives up.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.manager.as_ref()?.watchdog.map(|time| time / 2)
    }

    /// The file is about to be read again. Says nothing before the start is done.
    pub fn reloading(&self) {
        if self.is_ready() {
            self.tell(&[Notice::Reloading { since: monotonic_microseconds() }]);
        }
    }

    /// What [`Notifier::reloading`] announced is done, whatever came of it.
    pub fn reloaded(&self, status: &str) {
        if self.is_ready() {
            self.tell(&[Notice::Ready, Notice::Status(status)]);
        }
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.tell(&[Notice::Stopping, Notice::Status("stopping")]);
    }

    /// The start is done. Says so once.
    fn ready(&self, status: &str) {
        let Some(manager) = &self.manager else { return };
        if !self.is_ready() && self.tell(&[Notice::Ready, Notice::Status(status)]) {
            manager.ready.store(true, Ordering::Relaxed);
        }
    }

    fn is_ready(&self) -> bool {
        self.manager.as_ref().is_some_and(|manager| manager.ready.load(Ordering::Relaxed))
    }

    /// Sends notices as one message. Tells whether it went out.
    fn tell(&self, notices: &[Notice<'_>]) -> bool {
        let Some(manager) = &self.manager else { return false };
        let mut message = String::new();
        for notice in notices {
            // Writing to a string cannot fail.
            let _ = writeln!(message, "{notice}");
        }
        match manager.socket.send_to_addr(message.as_bytes(), &manager.address) {
            Ok(_) => true,
            Err(error) => {
                // What is missing, the manager acts upon; in a log the loss of a status line would only be noise.
                if notices.contains(&Notice::Ready) {
                    warn!(%error, "the service manager could not be told that the daemon is ready");
                } else {
                    debug!(%error, message, "the service manager could not be told");
                }
                false
            }
        }
    }
}

/// The time that `WATCHDOG_USEC` gives to process `own`, unless `WATCHDOG_PID` means another.
fn watchdog_time(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    usec?.parse().ok().filter(|usec| *usec > 0).map(Duration::from_micros)
}

fn monotonic_microseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // It counts up from the machine's start.
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 1_000_000 + nanoseconds / 1000
}
