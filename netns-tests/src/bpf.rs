//! The few calls of bpf(2) that the lab makes itself: a program that passes every frame, ids of pinned links, the
//! instructions of a program.
//!
//! A veth hands frames of `XDP_TX` and `XDP_REDIRECT` to its peer only if the peer polls, and it polls when it has an XDP
//! program. So one that passes everything sits on the far end of each of the balancer's links.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result};

pub use self::{instructions::Instructions, port::TaggingPort};

mod instructions;
mod port;
pub mod table;

// From the kernel's include/uapi/linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// An XDP program that passes every frame, attached natively to an interface; dropping it detaches.
#[derive(Debug)]
pub struct PassProgram {
    _link: OwnedFd,
}

/// A link's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Number of the link; a link that is made anew gets another one.
    pub id: u32,
    /// Number of the program that it runs.
    pub program: u32,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// First fields of `struct bpf_link_info`; the kernel fills as many bytes as are asked for.
#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
}

impl PassProgram {
    /// Attaches to interface `name` of the calling thread's namespace.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses the program.
    pub fn attach(name: &str) -> Result<Self> {
        // mov r0, XDP_PASS; exit
        let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
        let license = c"Dual MIT/GPL";
        let load = ProgLoad {
            prog_type: PROG_TYPE_XDP,
            insn_cnt: 2,
            insns: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
        };
        let program = descriptor(PROG_LOAD, &load).context("cannot load an XDP program that passes")?;
        let ifindex = interface_number(name)?;
        let create = LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_ifindex: ifindex,
            attach_type: ATTACH_TYPE_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        let link = descriptor(LINK_CREATE, &create).with_context(|| format!("cannot attach XDP to {name}"))?;
        Ok(Self { _link: link })
    }
}

/// Number of interface `name` in the calling thread's namespace.
///
/// # Errors
/// When there is none.
pub fn interface_number(name: &str) -> Result<u32> {
    let text = CString::new(name).context("an interface name with a zero byte")?;
    // SAFETY: `text` is a C string that outlives the call.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(io::Error::last_os_error()).with_context(|| format!("no interface {name}")),
        number => Ok(number),
    }
}

/// Reads the numbers of a pinned link.
///
/// # Errors
/// When nothing is pinned there, or it is not a link.
pub fn pinned_link(pin: &Path) -> Result<LinkInfo> {
    let text = CString::new(pin.as_os_str().as_bytes()).context("a path with a zero byte")?;
    let get = ObjGet { pathname: text.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    let link = descriptor(OBJ_GET, &get).with_context(|| format!("cannot open {}", pin.display()))?;
    let mut info = RawLinkInfo::default();
    let ask = InfoByFd {
        bpf_fd: link.as_raw_fd().cast_unsigned(),
        info_len: u32::try_from(size_of::<RawLinkInfo>())?,
        info: (&raw mut info) as u64,
    };
    call(OBJ_GET_INFO_BY_FD, &ask).with_context(|| format!("cannot ask about {}", pin.display()))?;
    Ok(LinkInfo { id: info.id, program: info.prog_id })
}

fn descriptor<T>(command: libc::c_int, attributes: &T) -> Result<OwnedFd> {
    let number = call(command, attributes)?;
    // SAFETY: the kernel has just returned this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn call<T>(command: libc::c_int, attributes: &T) -> Result<libc::c_int> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the length given, the kernel takes the rest for zero; the
    // pointers in it lead to memory that the caller keeps until this returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(libc::c_int::try_from(result)?)
}
