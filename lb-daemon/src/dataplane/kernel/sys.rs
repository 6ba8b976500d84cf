//! The few system calls that aya and rustix have no way to: what a link is bound to, pinning it, taking it off at once,
//! and leaving signals to others for a while, whether programs may take frames in several buffers; and the heap's one knob.
//!
//! Removing a link's pin detaches it only some time later, after an RCU grace period and on a worker; whoever attaches
//! anew right then is told that the interface is busy. `BPF_LINK_DETACH` returns when it is done.

use std::{
    ffi::CString,
    fs, io,
    marker::PhantomData,
    mem::{MaybeUninit, size_of},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
};

use aya_obj::generated::{BPF_F_RDONLY, BPF_F_XDP_HAS_FRAGS};

use super::specs::count;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_PROG_TYPE_XDP: u32 = 6;

/// The part of `union bpf_attr` for loading that a program without maps and log needs.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// `struct bpf_insn`
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// `struct { __u64 pathname; __u32 bpf_fd; __u32 file_flags; }` of `union bpf_attr`.
#[repr(C)]
struct ByPath {
    pathname: u64,
    bpf_fd: RawFd,
    file_flags: u32,
}

/// `struct { __u32 bpf_fd; __u32 info_len; __aligned_u64 info; }` of `union bpf_attr`.
#[repr(C)]
struct InfoByFd {
    bpf_fd: RawFd,
    info_len: u32,
    info: u64,
}

/// `struct { __u32 link_fd; __u32 new_prog_fd; __u32 flags; __u32 old_prog_fd; }` of `union bpf_attr`.
#[repr(C)]
struct LinkUpdate {
    link_fd: RawFd,
    program_fd: RawFd,
    flags: u32,
    old_program_fd: u32,
}

/// `struct { __u32 link_fd; }` of `union bpf_attr`.
#[repr(C)]
struct LinkDetach {
    link_fd: RawFd,
}

/// The part of `struct bpf_link_info` that all kernels since 5.9 fill in for an XDP link.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    ifindex: u32,
    pad2: u32,
}

/// An XDP link.
#[derive(Debug)]
pub(super) struct XdpLink {
    fd: OwnedFd,
    /// Interface that it was bound to when it was looked at; 0 when that was gone.
    pub(super) ifindex: u32,
    /// Number of the program that it ran.
    pub(super) program: u32,
}

impl XdpLink {
    /// Opens a pinned link.
    ///
    /// # Errors
    /// `ENOENT` when nothing is pinned there, `EINVAL` when it is something else than an XDP link.
    pub(super) fn pinned(path: &Path) -> io::Result<Self> {
        Self::look(obj_get(path, 0)?)
    }

    /// The same link as it is now.
    pub(super) fn again(&self) -> io::Result<Self> {
        Self::look(self.fd.try_clone()?)
    }

    fn look(fd: OwnedFd) -> io::Result<Self> {
        let mut info = RawLinkInfo::default();
        let attr = InfoByFd {
            bpf_fd: fd.as_raw_fd(),
            info_len: count(size_of::<RawLinkInfo>()),
            info: (&raw mut info) as u64,
        };
        // SAFETY: the kernel writes at most `info_len` bytes to `info`, which lives until the call returns.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) }?;
        // Other objects start with their own type, and an XDP program's and a per-CPU array's are 6 too.
        if info.kind != BPF_LINK_TYPE_XDP || !is_link(&fd)? {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(Self { fd, ifindex: info.ifindex, program: info.program })
    }

    /// Whether it was bound to an interface when it was looked at.
    pub(super) fn is_alive(&self) -> bool {
        self.ifindex != 0
    }

    /// Puts another program in the place of the one that it runs; packets meet either.
    pub(super) fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let attr =
            LinkUpdate { link_fd: self.fd.as_raw_fd(), program_fd: program.as_raw_fd(), flags: 0, old_program_fd: 0 };
        // SAFETY: the kernel only reads the attribute.
        unsafe { bpf(BPF_LINK_UPDATE, &attr) }.map(drop)
    }

    /// Pins it.
    pub(super) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let attr = ByPath { pathname: path.as_ptr() as u64, bpf_fd: self.fd.as_raw_fd(), file_flags: 0 };
        // SAFETY: the kernel reads the path, which lives until the call returns.
        unsafe { bpf(BPF_OBJ_PIN, &attr) }.map(drop)
    }

    /// Takes the program off its interface; done when this returns. A pin stays, dead.
    pub(super) fn detach(&self) -> io::Result<()> {
        let attr = LinkDetach { link_fd: self.fd.as_raw_fd() };
        // SAFETY: the kernel only reads the attribute.
        unsafe { bpf(BPF_LINK_DETACH, &attr) }.map(drop)
    }
}

/// Whether the kernel lets XDP programs take frames in several buffers: it is asked with the smallest program that there is.
pub(super) fn takes_multi_buffer() -> bool {
    // r0 = XDP_PASS; exit
    let pass = [
        Instruction { code: 0xb7, registers: 0, offset: 0, immediate: 2 },
        Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 },
    ];
    let attr = ProgramLoad {
        kind: BPF_PROG_TYPE_XDP,
        instruction_count: count(pass.len()),
        instructions: pass.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: BPF_F_XDP_HAS_FRAGS,
    };
    let blocked = BlockedSignals::new();
    // SAFETY: the kernel reads the instructions and the license, which live until the call returns.
    let result = unsafe { bpf(BPF_PROG_LOAD, &attr) };
    drop(blocked);
    match result {
        Ok(fd) => {
            // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            true
        }
        // Before 5.18 the flag is unknown. Whatever else is wrong, the program itself will be refused for it.
        Err(error) => error.raw_os_error() != Some(libc::EINVAL),
    }
}

/// While it lives, signals to the process are left to its other threads, or wait.
pub(super) struct BlockedSignals {
    before: libc::sigset_t,
    /// It is this thread's mask.
    thread: PhantomData<*const ()>,
}

impl BlockedSignals {
    pub(super) fn new() -> Self {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: it fills in the set that it is given.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: both sets are this thread's own; the call cannot fail with a valid first argument.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: a set is an array of integers, for which zeros are a value, and the call has filled it in.
        Self { before: unsafe { before.assume_init() }, thread: PhantomData }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set was filled in by `new`, on this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

/// Lets all threads share one heap, from now on. By default glibc gives each thread its own, and each keeps what its
/// largest task took: with ten VIPs of a hundred backends the daemon held 24 MiB of data after scrapes and reloads, and
/// 11 MiB with one heap. Its threads seldom work at the same time, so none waits for another.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only sets a limit for heaps that are made later. Without effect, memory is merely larger.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives the system back what is free on the heap. A change of configuration makes and drops far more than stays: with a
/// thousand VIPs of a hundred backends each the daemon kept 345 MB after three reloads, of which 69 MB were in use. Takes
/// some tens of milliseconds then.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator locks itself; it only returns what nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The number of an interface of this network namespace; 0 if there is none of that name.
pub(super) fn interface_index(name: &str) -> u32 {
    let Ok(name) = CString::new(name) else { return 0 };
    // SAFETY: the call only reads the name, which lives until it returns.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// Whether a descriptor is a BPF link rather than a program or map.
fn is_link(fd: &OwnedFd) -> io::Result<bool> {
    let name = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    // The kernel's name for a link that was opened, and for one that was just made.
    Ok(["anon_inode:bpf-link", "anon_inode:bpf_link"].iter().any(|link| name == Path::new(link)))
}

/// A descriptor of the map that is pinned at a path, through which the kernel lets nobody write.
///
/// # Errors
/// `ENOENT` when nothing is pinned there.
pub(super) fn open_to_read(path: &Path) -> io::Result<OwnedFd> {
    obj_get(path, BPF_F_RDONLY)
}

/// `BPF_OBJ_GET`: a descriptor of what is pinned at a path.
fn obj_get(path: &Path, file_flags: u32) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = ByPath { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags };
    // SAFETY: the kernel reads the path, which lives until the call returns.
    let fd = unsafe { bpf(BPF_OBJ_GET, &attr) }?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
///
/// # Safety
/// `attr` must be what `command` expects, and all memory that it points to must live until the call returns.
pub(super) unsafe fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<RawFd> {
    // SAFETY: the caller vouches for the attribute; its size is passed, and shorter ones are taken as zero-padded.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, (&raw const *attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { RawFd::try_from(result).map_err(io::Error::other) }
}
