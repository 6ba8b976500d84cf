//! seccomp(2), for which the crate that compiles filters has no flags.

use std::{io, ptr};

use libc::{SECCOMP_FILTER_FLAG_LOG, SECCOMP_SET_MODE_FILTER, sock_fprog};
use seccompiler::BpfProgramRef;

/// Has the kernel filter the calls of this thread, beside the filters that there are, and perhaps log those that it
/// refuses.
pub(super) fn install(filter: BpfProgramRef<'_>, log: bool) -> io::Result<()> {
    let flags = if log { SECCOMP_FILTER_FLAG_LOG } else { 0 };
    let length = filter.len().try_into().map_err(io::Error::other)?;
    // Both crates name the kernel's `struct sock_filter`; the kernel only reads it.
    let program = sock_fprog { len: length, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: the kernel copies `len` instructions from a slice of that length, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&program)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
