//! What the daemon gives up once the program is in force and its sockets are bound.
//!
//! Four fences, each for itself: capabilities, no new privileges by execve(2), a filter of system calls, and Landlock for
//! files. All of them belong to a thread and are inherited by those that it starts, so [`confine`] is called while there is
//! only one. The first two always work; of the others a kernel or a container may know less, which is told and no error.
//!
//! Loading a program needs `CAP_PERFMON`, which nothing else does. The thread that loads keeps the right to it and uses it
//! only while it loads ([`Loading`]); every other thread gives up even that ([`end_loading`]).

use std::{fmt, io};

use tracing::{info, warn};

mod calls;
mod capabilities;
mod denied;
mod files;

#[cfg(test)]
mod tests;

pub use self::{
    capabilities::{Loading, end_loading, give_up_all, missing},
    denied::{Denied, explain},
    files::Files,
};

/// What a fence came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// It stands.
    Whole,
    /// It stands as far as this kernel knows how.
    Partial,
    /// It does not, for this reason.
    Missing(String),
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::Partial => f.write_str("partial"),
            Self::Missing(why) => write!(f, "missing: {why}"),
        }
    }
}

/// How the daemon is confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Capabilities that every thread has.
    pub capabilities: Vec<&'static str>,
    /// Those that the controller's thread has besides, while it loads a program.
    pub while_loading: Vec<&'static str>,
    /// Landlock.
    pub files: Fence,
    /// Seccomp.
    pub calls: Fence,
}

/// Why the daemon could not be confined. It must not go on then.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel refused to take capabilities away.
    #[error("cannot give up capabilities")]
    Capabilities(#[source] io::Error),
    /// The kernel refused to forbid new privileges.
    #[error("cannot forbid new privileges")]
    NoNewPrivileges(#[source] io::Error),
}

/// Confines this thread, and with it all that it starts from now on; `files` are what they may reach. To be called while
/// there is no other thread.
///
/// # Errors
/// When capabilities cannot be given up.
pub fn confine(files: &Files) -> Result<Confinement, ConfineError> {
    // Before capabilities go: without this the two that follow would need CAP_SYS_ADMIN.
    rustix::thread::set_no_new_privs(true).map_err(|error| ConfineError::NoNewPrivileges(error.into()))?;
    let fenced = files.fence();
    let kept = capabilities::give_up().map_err(|error| ConfineError::Capabilities(error.into()))?;
    // The last one, since it stands in the way of the others.
    let calls = calls::fence();
    for (what, fence) in [("files (Landlock)", &fenced), ("system calls (seccomp)", &calls)] {
        if let Fence::Missing(why) = fence {
            warn!(why, "the daemon runs without a fence for {what}");
        }
    }
    let confinement = Confinement {
        capabilities: capabilities::names(kept.always),
        while_loading: capabilities::names(kept.loading),
        files: fenced,
        calls,
    };
    info!(capabilities = confinement.capabilities.join(" "), "confined");
    Ok(confinement)
}
