//! A table's memory, shared with the program.

use std::{io, os::fd::AsFd, ptr::NonNull, slice, sync::atomic::AtomicU64};

use rustix::mm::{self, MapFlags, ProtFlags};

/// The words of a mappable array.
#[derive(Debug)]
pub(super) struct Words {
    base: NonNull<AtomicU64>,
    words: usize,
}

impl Words {
    /// Maps so many words of a table.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn map(table: impl AsFd, words: usize) -> io::Result<Self> {
        let (bytes, protection) = (words * size_of::<AtomicU64>(), ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let base = unsafe { mm::mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, table, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, words })
    }

    /// All words.
    pub(super) fn all(&self) -> &[AtomicU64] {
        // SAFETY: `base` is page-aligned, the mapping is as long as `words` and lives as long as `self`.
        unsafe { slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: made by `mmap` with this length; no slice of it outlives `self`.
        // A failure could only mean that the range was not mapped.
        let _ = unsafe { mm::munmap(self.base.as_ptr().cast(), self.words * size_of::<AtomicU64>()) };
    }
}
