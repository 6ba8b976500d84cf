//! All bytes of a pinned table.

use std::{
    ffi::CString,
    io,
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _},
    path::Path,
};

use anyhow::{Context as _, Result};

use super::{InfoByFd, OBJ_GET, OBJ_GET_INFO_BY_FD, ObjGet, call, descriptor};

const LOOKUP_ELEM: libc::c_int = 1;
const GET_NEXT_KEY: libc::c_int = 4;
const TYPE_PERCPU_ARRAY: u32 = 6;

/// First fields of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
}

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Keys and values of a pinned table, those of per-CPU values of all CPUs.
///
/// # Errors
/// When nothing is pinned there, or it cannot be read.
pub fn dump(pin: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let text = CString::new(pin.as_os_str().as_bytes()).context("a path with a zero byte")?;
    let get = ObjGet { pathname: text.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    let map = descriptor(OBJ_GET, &get).with_context(|| format!("cannot open {}", pin.display()))?;
    let mut info = Info::default();
    let number = map.as_raw_fd().cast_unsigned();
    let size = u32::try_from(size_of::<Info>())?;
    call(OBJ_GET_INFO_BY_FD, &InfoByFd { bpf_fd: number, info_len: size, info: (&raw mut info) as u64 })?;
    let cpus = if info.kind == TYPE_PERCPU_ARRAY { aya::util::nr_cpus().map_err(|(_, error)| error)? } else { 1 };
    let mut value = vec![0_u8; (info.value_size as usize).next_multiple_of(8) * cpus];
    let (mut key, mut next) = (vec![0_u8; info.key_size as usize], vec![0_u8; info.key_size as usize]);
    let mut found = Vec::new();
    let mut is_first = true;
    loop {
        let before = if is_first { 0 } else { key.as_ptr() as u64 };
        is_first = false;
        let step = Element { map: number, pad: 0, key: before, value: next.as_mut_ptr() as u64, flags: 0 };
        match call(GET_NEXT_KEY, &step) {
            Err(error) if is_missing(&error) => return Ok(found),
            other => other.context("cannot read a key")?,
        };
        key.copy_from_slice(&next);
        let look =
            Element { map: number, pad: 0, key: key.as_ptr() as u64, value: value.as_mut_ptr() as u64, flags: 0 };
        call(LOOKUP_ELEM, &look).context("cannot read a value")?;
        found.push((key.clone(), value.clone()));
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}
