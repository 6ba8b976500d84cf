//! From what is wanted to the writes that bring it about. Pure: no clock, no I/O.

pub mod diff;
pub mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{
    target::Target,
    vip::{Vip, VipKey},
};

/// What the tables hold, read back from them. Planning starts from this, never from what was written earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Services and addresses.
    pub vips: BTreeMap<VipKey, Vip>,
    /// Targets that are not free, by number.
    pub targets: BTreeMap<u32, Target>,
    /// Digest of each VIP's ring, by the ring's first block.
    pub rings: BTreeMap<u32, RingDigest>,
    /// Sizes of the tables.
    pub capacity: Capacity,
}

/// Sizes of the tables, in entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Entries of `VIPS`.
    pub vips: u32,
    /// Places of `TARGETS`; number 0 is never used.
    pub targets: u32,
    /// Blocks of `RINGS`.
    pub ring_blocks: u32,
}

/// A hash of a ring's slots, to tell whether it must be written, and to compare two lbs of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingDigest(pub u64);

/// One write to the tables. A plan's order is safe: after any prefix no packet can meet a target that is not filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill in, change, or (with [`Target::default`]) free a target.
    SetTarget {
        /// Its number.
        id: u32,
        /// Its new value.
        target: Target,
    },
    /// Zero a target's counters; sums so far are kept by the daemon.
    ClearCounters {
        /// Its number.
        id: u32,
    },
    /// Write a whole ring to blocks that no VIP uses.
    WriteRing {
        /// First block.
        base: u32,
        /// Target's number within the VIP's range, for each slot.
        slots: std::sync::Arc<[u16]>,
    },
    /// Insert or replace a VIP or an address; readers see the old value or the new one.
    SetVip {
        /// Its key.
        key: VipKey,
        /// Its new value.
        vip: Vip,
    },
    /// Remove a VIP or an address.
    RemoveVip {
        /// Its key.
        key: VipKey,
    },
    /// Wait until no packet is on its way that read the tables before this op.
    Grace,
    /// Rewrite the flow table: entries of `forget` are emptied, those of a moved range get their new number.
    SweepFlows {
        /// Targets whose flows are forgotten.
        forget: BTreeSet<u32>,
        /// Old number to new number of targets that moved.
        renumber: BTreeMap<u32, u32>,
    },
}

/// Digest of a ring's slots: the same on every machine for the same slots.
pub fn digest(slots: &[u16]) -> RingDigest {
    let mut hash = 0x9E37_79B9_7F4A_7C15 ^ slots.len() as u64;
    for chunk in slots.chunks(4) {
        let word = chunk.iter().rev().fold(0_u64, |word, slot| word << 16 | u64::from(*slot));
        hash = (hash ^ word).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        hash ^= hash >> 32;
    }
    RingDigest(hash)
}
