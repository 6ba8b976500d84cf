//! A table's memory, shared with the program.

use std::{
    os::fd::AsFd,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use rustix::mm::{self, MapFlags, ProtFlags};

/// The words of a mappable array. It stays mapped until the process ends.
#[derive(Debug)]
pub(super) struct Mapped {
    words: &'static [AtomicU64],
}

impl Mapped {
    /// Maps so many words of a map that was created with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: impl AsFd, words: usize) -> Self {
        let (bytes, protection) = (words * size_of::<u64>(), ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let base = unsafe { mm::mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, map, 0) };
        let base: NonNull<AtomicU64> = NonNull::new(base.expect("a mapping").cast()).expect("an address");
        // SAFETY: `base` is page-aligned, the mapping is as long as that and never undone.
        Self { words: unsafe { slice::from_raw_parts(base.as_ptr(), words) } }
    }

    /// The words.
    pub(super) fn words(&self) -> &'static [AtomicU64] {
        self.words
    }

    /// Makes the table hold these words.
    pub(super) fn fill(&self, words: impl Iterator<Item = u64>) {
        for (place, word) in self.words.iter().zip(words) {
            if place.load(Relaxed) != word {
                place.store(word, Relaxed);
            }
        }
    }

    /// The first word that is another, and what it is here and there.
    pub(super) fn difference(&self, words: impl Iterator<Item = u64>) -> Option<(usize, u64, u64)> {
        let pairs = self.words.iter().map(|place| place.load(Relaxed)).zip(words);
        pairs.enumerate().find(|(_, (here, there))| here != there).map(|(place, (here, there))| (place, here, there))
    }
}
