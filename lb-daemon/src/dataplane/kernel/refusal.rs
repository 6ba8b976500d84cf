//! Why an interface did not take the program.
//!
//! The kernel tells of a link's failure by a number alone. What the driver had to say it tells those who attach by netlink,
//! so that is asked too.

use std::{error::Error, io, os::fd::AsFd};

use aya::programs::{ProgramError, Xdp, XdpError, XdpMode};

use super::{
    attach,
    error::AttachError,
    explain::system,
    interfaces::{self, Hook},
    load::{self, program_error},
    occupant::Occupant,
};

/// Largest MTU whose frames lie in one buffer with every driver.
const ETHERNET_MTU: u32 = 1500;
/// What drivers call an MTU that is too large for XDP, in lower case.
const TOO_LARGE: [&str; 5] = ["mtu", "frags", "multi-buffer", "multi buffer", "jumbo"];

/// What was attempted.
pub(super) struct Attempt<'a> {
    /// The interface's name.
    pub(super) name: &'a str,
    /// Its number.
    pub(super) index: u32,
    /// Where the program should run.
    pub(super) mode: XdpMode,
}

/// Why it failed, given what aya made of it.
pub(super) fn explain(program: &Xdp, attempt: &Attempt<'_>, error: ProgramError) -> AttachError {
    let name = attempt.name.to_owned();
    let generic = matches!(attempt.mode, XdpMode::Skb);
    let mode = if generic { Hook::Generic.name() } else { Hook::Native.name() };
    let code = code(&error);
    match code {
        Some(libc::EBUSY | libc::EEXIST) => {
            if let Some(busy) = busy(attempt.name) {
                return busy;
            }
        }
        Some(code @ (libc::EPERM | libc::EACCES)) => {
            return system(format!("attach to {name}"), io::Error::from_raw_os_error(code)).into();
        }
        Some(_) => {}
        None => return program_error(format!("attach to {name}"), error).into(),
    }
    let told = program.fd().ok().and_then(|fd| interfaces::refusal(attempt.index, fd.as_fd(), generic).ok().flatten());
    let mtu = attach::find(attempt.name).map(|found| found.mtu).unwrap_or_default();
    let too_large = !generic && concerns_size(told.as_deref(), code, mtu);
    let reason = told.unwrap_or_else(|| chain(&error));
    if too_large {
        let multi_buffer = load::is_multi_buffer(program);
        return AttachError::FramesTooLarge { name, mode, mtu, multi_buffer, reason };
    }
    AttachError::Refused { name, mode, reason }
}

/// Whether a driver refused because of the size of the interface's frames: by its words, or where it has none, by what is
/// likely.
fn concerns_size(told: Option<&str>, code: Option<i32>, mtu: u32) -> bool {
    match told.map(str::to_lowercase) {
        Some(told) => TOO_LARGE.iter().any(|word| told.contains(word)),
        None => match code {
            Some(libc::ERANGE) => true,
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::E2BIG) => mtu > ETHERNET_MTU,
            _ => false,
        },
    }
}

/// Whether the interface is taken by a program of ours that nothing but a process keeps there: one that may be ending.
pub(super) fn is_leaving(name: &str, error: &ProgramError) -> bool {
    matches!(code(error), Some(libc::EBUSY | libc::EEXIST))
        && match busy(name) {
            Some(AttachError::Busy { occupant, .. }) => occupant == Occupant::Balancer { pin_path: None },
            // It has left by now.
            _ => true,
        }
}

/// Who is in the way, if anyone is.
fn busy(name: &str) -> Option<AttachError> {
    let (hook, program) = attach::find(name).ok()?.programs.first().copied()?;
    let occupant = Occupant::of(program, name);
    Some(AttachError::Busy { name: name.to_owned(), program, mode: hook.name(), occupant })
}

/// The system's error number within aya's.
fn code(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) | ProgramError::NetlinkError(error) => {
            error.raw_os_error()
        }
        _ => None,
    }
}

/// An error with its sources, each once.
fn chain(error: &ProgramError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_by_what_the_driver_says_of_frame_sizes() {
        for told in [
            "MTU too large w/o XDP_FRAGS",
            "veth: Peer MTU is too large to set XDP",
            "single-buffer XDP requires MTU less than 3506",
            "Jumbo frames not yet supported with XDP",
        ] {
            assert!(concerns_size(Some(told), Some(libc::EINVAL), 1500), "{told}");
        }
        let told = "Underlying driver does not support XDP in native mode";
        assert!(!concerns_size(Some(told), Some(libc::EOPNOTSUPP), 65_536));
        assert!(concerns_size(None, Some(libc::EOPNOTSUPP), 9000));
        assert!(concerns_size(None, Some(libc::ERANGE), 1500));
        assert!(!concerns_size(None, Some(libc::EINVAL), 1500));
        assert!(!concerns_size(None, Some(libc::ENOMEM), 9000));
    }
}
