//! Pinned tables that are only read: single elements through descriptors by which the kernel refuses every change, arrays
//! through mappings that are not writable.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use aya::maps::MapData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    error::OpenError,
    explain::system,
    mapping::Mapping,
    specs::map_error,
    sys::{self, bpf},
};
use crate::dataplane::Error;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;

/// The part of `union bpf_attr` for commands on elements.
#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

/// A table that is read element by element.
pub(super) struct Elements<K, V> {
    name: &'static str,
    data: MapData,
    of: PhantomData<(K, V)>,
}

impl<K: IntoBytes + FromBytes + Immutable, V: IntoBytes + FromBytes> Elements<K, V> {
    /// Opens a pinned table of these keys and values to be read.
    pub(super) fn open(path: &Path, name: &'static str) -> Result<Self, OpenError> {
        let data = open(path, name)?;
        let info = data.info().map_err(|error| map_error(&format!("look at the table {name}"), error))?;
        // The kernel reads and writes as many bytes as the table says.
        fits(name, "a key size of", info.key_size(), size_of::<K>())?;
        fits(name, "a value size of", info.value_size(), size_of::<V>())?;
        Ok(Self { name, data, of: PhantomData })
    }

    /// The value under a key; in a trie that of the longest prefix.
    pub(super) fn get(&self, key: &K) -> Result<Option<V>, Error> {
        let mut value = V::new_zeroed();
        let attr = Element {
            map: self.descriptor(),
            pad: 0,
            key: key.as_bytes().as_ptr() as u64,
            value: (&raw mut value) as u64,
            flags: 0,
        };
        // SAFETY: the kernel reads a key and writes a value of the sizes that `open` compared with the table's; both live
        // until the call returns, and any bytes are a value.
        match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &attr) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Table { what: format!("read {}", self.name), source }),
        }
    }

    /// The key after this one in the table's order. After one that is not there it is the first.
    pub(super) fn next(&self, key: &K) -> Result<Option<K>, Error> {
        let mut next = K::new_zeroed();
        let attr = Element {
            map: self.descriptor(),
            pad: 0,
            key: key.as_bytes().as_ptr() as u64,
            value: (&raw mut next) as u64,
            flags: 0,
        };
        // SAFETY: as for `get`; the kernel writes a key.
        match unsafe { bpf(BPF_MAP_GET_NEXT_KEY, &attr) } {
            Ok(_) => Ok(Some(next)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Table { what: format!("read {}", self.name), source }),
        }
    }

    fn descriptor(&self) -> u32 {
        self.data.fd().as_fd().as_raw_fd().cast_unsigned()
    }
}

/// Maps a pinned array of `T` to be read.
///
/// The kernel maps nothing by a descriptor that may only read: `mmap` clears `VM_SHARED` then, which `bpf_map_mmap` wants. So
/// it is one that may write, and is closed here; what `bpf_map_mmap` maps to be read can never be made writable.
pub(super) fn array<T>(path: &Path, name: &'static str) -> Result<Mapping, OpenError> {
    let what = || format!("map the table {name}");
    let data = MapData::from_pin(path).map_err(|error| map_error(&what(), error))?;
    let info = data.info().map_err(|error| map_error(&what(), error))?;
    fits(name, "a value size of", info.value_size(), size_of::<T>())?;
    Mapping::new(data.fd(), info.max_entries() as usize * size_of::<T>(), false)
        .map_err(|source| system(what(), source))
}

/// The only element of a table whose values have `length` bytes.
pub(super) fn only_value(data: &MapData, length: usize) -> io::Result<Vec<u8>> {
    let info = data.info().map_err(io::Error::other)?;
    if (info.key_size() as usize, info.value_size() as usize) != (size_of::<u32>(), length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is of another lb"));
    }
    let (key, mut value) = (0_u32, vec![0; length]);
    let attr = Element {
        map: data.fd().as_fd().as_raw_fd().cast_unsigned(),
        pad: 0,
        key: (&raw const key) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the kernel reads a key and writes a value of the sizes that were just compared with the table's.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &attr) }?;
    Ok(value)
}

fn open(path: &Path, name: &'static str) -> Result<MapData, OpenError> {
    let fd = sys::open_to_read(path).map_err(|source| system(format!("open the table {name}"), source))?;
    MapData::from_fd(fd).map_err(|error| map_error(&format!("look at the table {name}"), error))
}

fn fits(name: &str, what: &'static str, has: u32, needs: usize) -> Result<(), OpenError> {
    if has as usize == needs {
        return Ok(());
    }
    Err(OpenError::Incompatible { table: name.to_owned(), what, has: has.to_string(), needs: needs.to_string() })
}
