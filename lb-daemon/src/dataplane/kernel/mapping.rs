//! A table's memory, shared with the program: every access is atomic, for packets pass meanwhile.

use std::{io, os::fd::AsFd, ptr::NonNull, slice, sync::atomic::AtomicU64};

use rustix::mm::{self, MapFlags, ProtFlags};

/// The words of a mappable array.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to the whole process, and it is only reached through atomic words.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` of a map created with `BPF_F_MMAPABLE`, for writing too if `writable`.
    ///
    /// # Errors
    /// When the kernel refuses, for instance because the map is no such array.
    pub(super) fn new(map: impl AsFd, bytes: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let base = unsafe { mm::mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, map, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, words: bytes / size_of::<AtomicU64>() })
    }

    /// All words. Storing to those of a mapping that is not writable is a fault; see [`Mapping::new`].
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` is page-aligned, the mapping is as long as `words` and lives as long as `self`.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `mmap` with this length; no slice of it outlives `self`.
        // A failure could only mean that the range was not mapped.
        let _ = unsafe { mm::munmap(self.base.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}
