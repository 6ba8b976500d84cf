//! From what is wanted to the writes that bring it about. Pure: no clock, no I/O.
//!
//! [`wanted::wanted`] says what the tables should hold; [`diff::plan`] compares that with what they hold and makes ordered
//! [`Op`]s; [`crate::dataplane`] carries these out.

pub mod diff;
pub mod target;
pub mod wanted;

mod draft;
mod install;
mod pack;
mod place;
mod rings;
mod space;
mod turns;

pub use rings::RingCache;

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

/// A hash of a ring's slots, to tell whether it must be written; see [`digest`].
///
/// Slots say places in the VIP's range, which depend on the order in which backends came: two lbs of a fleet can have
/// different digests though they send every flow to the same backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingDigest(pub u64);

/// The digest of a ring of these slots.
///
/// Four slots make a word, the first in its lowest bits; the last word is filled up with zeros. Each word is mixed in by
/// xor, a multiplication with an odd constant and a shift, the number of slots last. Not secret, not proof against
/// an adversary: whoever can write rings needs no collisions.
pub fn digest(slots: &[u16]) -> RingDigest {
    let mix = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        product ^ product >> 32
    };
    let word = |slots: &[u16]| slots.iter().rev().fold(0, |word, &slot| word << 16 | u64::from(slot));
    let words = slots.chunks(4).map(word);
    RingDigest(mix(words.fold(0, mix), slots.len() as u64))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_tell_rings_apart() {
        let rings: [&[u16]; 7] = [&[], &[0], &[0, 0], &[1, 0], &[0, 1], &[0, 0, 0, 0, 1], &[1, 0, 0, 0, 0]];
        let digests: BTreeSet<RingDigest> = rings.into_iter().map(digest).collect();
        assert_eq!(digests.len(), rings.len());
    }

    #[test]
    fn each_slot_counts() {
        let slots: Vec<u16> = (0..251).collect();
        let changed = (0..slots.len()).map(|at| {
            let mut changed = slots.clone();
            changed[at] = 300;
            digest(&changed)
        });
        assert_eq!(changed.chain([digest(&slots)]).collect::<BTreeSet<_>>().len(), slots.len() + 1);
    }
}
