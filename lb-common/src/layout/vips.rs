//! `VIPS`: a table of our own making, which the program reads without a call: a look-up in a hash table of the kernel's took
//! a third of a plain packet's time.
//!
//! An array of cells, each a cache line, their number a power of two. The first half is the index, the second half the
//! records. A key's place in the index, by its hash, names up to [`WAYS`] records, each by one word:
//! `tag:32 | cell:32`. A look-up reads one cell of the index and, if a tag matches, one record.
//!
//! The daemon writes through its memory map: a record that no packet can be reading, whole, then the word that names it. An
//! entry is changed by another record and the same word, so a packet meets the old value or the new one, never a mix.

use core::sync::atomic::Ordering::Relaxed;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    flow::Bucket,
    vip::{Vip, VipKey},
};

pub use super::flow::WAYS;

/// One cell of the index: words, from the first way on. A zero word is the last.
pub type IndexCell = Bucket;

/// One cell of the records: an entry of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Record {
    /// Of a single address; see [`VipKey`].
    pub key: VipKey,
    /// The value.
    pub vip: Vip,
}
const _: () = assert!(size_of::<Record>() == size_of::<IndexCell>());

/// A word that names no record, where others follow it.
pub const FREED: u64 = 1 << 32;

/// Bit of every tag, so that none is taken for that of [`FREED`] or of zero.
const TAG: u32 = 1 << 31;

/// Most cells: as many places as [`Place`] can tell apart, twice.
pub const MAX_CELLS: u32 = 1 << 25;

/// Cells of a table for so many entries: two places in the index for each, so that hardly ever more than [`WAYS`] share one,
/// and as many records, so that most changes find one that no packet was reading.
pub const fn cells(entries: u32) -> u32 {
    let entries = if entries == 0 { 1 } else { entries };
    if entries > MAX_CELLS / 4 { MAX_CELLS } else { (entries * 4).next_power_of_two() }
}

/// Entries that a table of so many cells has room for.
pub const fn entries(cells: u32) -> u32 {
    cells / 4
}

/// Where the index names the record of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Cell of the index.
    pub cell: u32,
    /// Upper half of the word.
    pub tag: u32,
}

impl Place {
    /// That of a key, by [`VipKey::words`], in an index of `mask` cells less one.
    #[inline(always)]
    pub const fn of([first, second, rest]: [u64; 3], mask: u32) -> Self {
        // The fractional part of the golden ratio. Keys are the operator's, who has no reason to let them collide.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut hash = first.wrapping_add(rest).wrapping_mul(SPREAD) ^ second;
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(SPREAD);
        Self { cell: (hash >> 40) as u32 & mask, tag: (hash >> 16) as u32 | TAG }
    }
}

/// The cell of the record that the index names for a tag; 0 if none.
#[inline(always)]
pub fn look(index: &IndexCell, tag: u32) -> u32 {
    for word in &index.entries {
        let word = word.load(Relaxed);
        if (word >> 32) as u32 == tag {
            return word as u32;
        }
        if word == 0 {
            break;
        }
    }
    0
}

impl Record {
    /// The value, if this is the record of a key, by [`VipKey::words`].
    #[inline(always)]
    pub fn of(&self, key: [u64; 3]) -> Option<&Vip> {
        // By hand: comparing arrays would call `memcmp`, which on BPF goes by bytes.
        let ([first, second, rest], [a, b, c]) = (self.key.words(), key);
        if (first ^ a) | (second ^ b) | (rest ^ c) == 0 { Some(&self.vip) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_CELLS, cells, entries};

    #[test]
    fn there_is_room_for_what_was_asked() {
        for wanted in [0, 1, 2, 3, 5, 100, 4000, 8192, 1_000_000] {
            assert!(entries(cells(wanted)) >= wanted && cells(wanted).is_power_of_two(), "{wanted}");
        }
        assert_eq!(cells(u32::MAX), MAX_CELLS);
    }
}
