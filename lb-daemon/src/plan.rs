//! From what is wanted to the writes that bring it about. Pure: no clock, no I/O.
//!
//! [`wanted::wanted`] says what the tables should hold; [`diff::plan`] compares that with what they hold and makes ordered
//! [`Op`]s; [`crate::dataplane`] carries these out.

pub mod diff;
pub mod history;
pub mod lists;
pub mod patch;
pub mod prefixes;
pub mod preview;
pub mod room;
pub mod target;
pub mod wanted;

mod draft;
mod error;
mod install;
mod pack;
mod place;
mod rings;
mod selectors;
mod space;
mod state;
mod turns;

pub use rings::RingCache;
pub use room::Room;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lb_common::layout::{
    prefix::Group,
    server::ServerKey,
    target::Target,
    vip::{Vip, VipKey},
};

use self::prefixes::Prefixes;

/// What the tables hold, read back from them. Planning starts from this, never from what was written earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Services and addresses.
    pub vips: BTreeMap<VipKey, Vip>,
    /// Targets that are not free, by number.
    pub targets: BTreeMap<u32, Target>,
    /// Digest of each ring of a VIP or a group, by the ring's first block.
    pub rings: BTreeMap<u32, RingDigest>,
    /// Slots that are tracked, by the first block of a ring's history; [`UNCOUNTED`] if it was not read back yet.
    pub histories: BTreeMap<u32, u32>,
    /// Groups that are not free, by number.
    pub groups: BTreeMap<u32, Group>,
    /// Server IDs and the targets that have them.
    pub servers: BTreeMap<ServerKey, u32>,
    /// Lists of source prefixes; an absent one is empty.
    pub lists: BTreeMap<ListId, Arc<Prefixes>>,
    /// Addresses that take tunnel packets of other lbs, IPv4 mapped.
    pub tunnels: BTreeSet<[u8; 16]>,
    /// Interfaces that are members of bonds, and these bonds.
    pub bonds: BTreeMap<u32, u32>,
    /// Sizes of the tables.
    pub capacity: Capacity,
}

/// Stands in [`State::histories`] for a number of slots that was not read back yet: there are some.
pub const UNCOUNTED: u32 = u32::MAX;

/// Sizes of the tables, in entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Entries of `VIPS`.
    pub vips: u32,
    /// Places of `TARGETS`; number 0 is never used.
    pub targets: u32,
    /// Blocks of `RINGS`.
    pub ring_blocks: u32,
    /// Places of `GROUPS`; number 0 is never used.
    pub groups: u32,
    /// Entries of `SERVER_IDS`.
    pub servers: u32,
    /// Entries of `ACL`, and as many of `SOURCE_ROUTES`.
    pub prefixes: u32,
    /// Entries of `TUNNEL_SOURCES`.
    pub tunnel_sources: u32,
    /// Entries of `TUNNEL_ADDRESSES`, and as many of `BONDS`.
    pub own: u32,
}

/// Which list of source prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListId {
    /// The table that it lies in.
    pub table: ListTable,
    /// Number of the VIP; 0 for all VIPs.
    pub vip: u32,
}

/// A table of source prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListTable {
    /// `ACL`: each prefix stands for an [`lb_common::layout::prefix::AclRule`] by number.
    Access,
    /// `SOURCE_ROUTES`: each prefix stands for the number of a group, or for 0, which is none.
    Routes,
    /// `TUNNEL_SOURCES`: each prefix stands for 1, or for 0, from which none may come. One list, of VIP 0.
    TunnelSources,
}

impl ListTable {
    /// Its name among [`lb_common::maps`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => lb_common::maps::ACL,
            Self::Routes => lb_common::maps::SOURCE_ROUTES,
            Self::TunnelSources => lb_common::maps::TUNNEL_SOURCES,
        }
    }
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
    /// Write a whole ring to blocks that no VIP and no group uses.
    WriteRing {
        /// First block.
        base: u32,
        /// Target's number within the VIP's range, for each slot.
        slots: Arc<[u16]>,
    },
    /// Write the history of the ring of `after`, which is written already, to blocks that no VIP uses, as
    /// [`history::next`] makes it of the ring and history of `before`.
    WriteHistory {
        /// The VIP in force.
        before: Vip,
        /// The VIP that is to come.
        after: Vip,
        /// Whether all flows were remembered so far.
        remembers_all: bool,
        /// Places whose backends left.
        gone: BTreeSet<u16>,
    },
    /// Have the history of a VIP in force name these places no more; see [`history::without`].
    Disown {
        /// The VIP.
        vip: Vip,
        /// Places whose backends left.
        gone: BTreeSet<u16>,
    },
    /// Fill in, change, or (with [`Group::default`]) free a group. Where packets may use it, only one of its first two
    /// 64-bit words differs from before: the ring's first block, or its length.
    SetGroup {
        /// Its number.
        id: u32,
        /// Its new value.
        group: Group,
    },
    /// Lead a server ID to a target.
    SetServer {
        /// Whose ID.
        key: ServerKey,
        /// Number of the target.
        target: u32,
    },
    /// Forget a server ID.
    RemoveServer {
        /// Whose ID.
        key: ServerKey,
    },
    /// Make a list of source prefixes hold these, by single writes in the order of [`prefixes::Changes`].
    SetList {
        /// Which.
        list: ListId,
        /// What it is to hold.
        to: Arc<Prefixes>,
    },
    /// Take tunnel packets to an address, IPv4 mapped.
    SetTunnel {
        /// The address.
        address: [u8; 16],
    },
    /// Take none to it any more.
    RemoveTunnel {
        /// The address.
        address: [u8; 16],
    },
    /// Note that an interface is a member of a bond.
    SetBond {
        /// Number of the member.
        member: u32,
        /// Number of the bond.
        bond: u32,
    },
    /// Note that it is none.
    RemoveBond {
        /// Number of the interface.
        member: u32,
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
