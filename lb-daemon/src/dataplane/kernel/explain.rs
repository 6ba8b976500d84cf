//! What an error number of the kernel means to whoever runs lb.

use std::{fmt, io};

use super::error::OpenError;
use crate::privileges::missing;

/// Oldest kernel on which everything that the program uses exists.
pub(super) const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// An error of a system call, explained as far as its code tells.
pub(super) fn system(what: impl Into<String>, source: io::Error) -> OpenError {
    let what = what.into();
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission { what, missing: missing(), source },
        Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) if too_old(&kernel_release()) => {
            OpenError::Unsupported { what, kernel: kernel_release(), source }
        }
        _ => OpenError::System { what, source },
    }
}

/// The kernel's release, such as `6.1.0-21-amd64`.
pub(super) fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether a release is older than the oldest supported; one that cannot be read is not.
pub(super) fn too_old(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) < OLDEST_KERNEL)
}

/// Refuses what would fail half way for want of capabilities, before anything is made.
pub(super) fn require_capabilities(what: &str) -> Result<(), OpenError> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(OpenError::Permission { what: what.to_owned(), missing, source: io::Error::from_raw_os_error(libc::EPERM) })
}

/// What a process that was refused lacks.
pub(super) struct Privileges<'a>(pub(super) &'a [&'static str]);

impl fmt::Display for Privileges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str(
                "all capabilities are there, so a seccomp filter, a security module or a file's mode forbids it",
            )
        } else {
            write!(f, "this process lacks {}; run it as root or with these capabilities", self.0.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_old_kernels() {
        for old in ["4.19.0-27-amd64", "5.4.0", "5.14.21"] {
            assert!(too_old(old), "{old}");
        }
        for new in ["5.15.0", "6.1.0-21-amd64", "6.18", "7.3-rc1", "odd"] {
            assert!(!too_old(new), "{new}");
        }
    }

    #[test]
    fn explains_a_refusal() {
        let explained = Privileges(&["CAP_BPF"]).to_string();
        assert!(explained.contains("lacks CAP_BPF"), "{explained}");
        assert!(Privileges(&[]).to_string().contains("seccomp"));
    }
}
