//! The tables that a packet meets when it is explained: copies of what lies in the live ones, and notes of what it asked
//! for. What the way writes, it writes to the copies.

use std::{
    cell::{Cell, OnceCell, RefCell},
    sync::atomic::Ordering::Relaxed,
};

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters},
        flow::{Bucket, TIME_SHIFT, Word},
        limit::{SOURCE_WAYS, SourceEntry, SourceLine},
        prefix::{Group, SourceKey},
        ring::{RingBlock, SLOTS_PER_BLOCK},
        server::ServerKey,
        target::Target,
        vip::{PrefixKey, Vip, VipKey},
    },
    maps::Tuning,
};
use lb_xdp::path::{SourceLimit, Tables};

use super::copies::Copies;
use crate::{
    dataplane::{
        Error,
        lookups::{Entries, LINE_WORDS, Lookups},
    },
    plan::ListTable,
};

/// A copy that the way may write to, and what it was before.
#[derive(Debug)]
pub(super) struct Held<B, T> {
    pub(super) before: B,
    pub(super) now: T,
}

type HeldBucket = Option<Held<Entries, Bucket>>;

/// Copies of what a packet looked up.
pub(super) struct Recorder<'t, L> {
    live: &'t L,
    now_ns: u64,
    pub(super) vips: Copies<VipKey, Option<Vip>>,
    pub(super) prefix_vips: Copies<PrefixKey, Option<Vip>>,
    pub(super) flows: Copies<u32, HeldBucket>,
    pub(super) fragments: Copies<u32, HeldBucket>,
    pub(super) rings: Copies<u32, Option<RingBlock>>,
    pub(super) targets: Copies<u32, Option<Target>>,
    pub(super) listed: Copies<(ListTable, SourceKey), Option<u32>>,
    pub(super) groups: Copies<u32, Option<Group>>,
    pub(super) servers: Copies<ServerKey, Option<u32>>,
    pub(super) vip_limits: Copies<u32, Option<Held<u64, Word>>>,
    pub(super) sources: Copies<u32, Option<Held<[u64; LINE_WORDS], SourceLine>>>,
    pub(super) too_big_limits: Copies<u32, Option<Held<u64, Word>>>,
    bonds: Copies<u32, Option<u32>>,
    tunnels: Copies<[u8; 16], bool>,
    notes: RefCell<Notes>,
    /// The first table that could not be read.
    fault: OnceCell<Error>,
    /// What stands for every target while slots are asked for; see [`Recorder::slot`].
    stand_in: OnceCell<Target>,
    probed: Cell<Option<u32>>,
    probing: Cell<bool>,
}

/// What a packet did beside its look-ups.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// What befell it.
    pub(super) events: Vec<PathEvent>,
    /// What it would count, by target.
    pub(super) counted: Vec<(u32, TargetCounters)>,
    /// The target that it looked at last.
    pub(super) last_target: Option<u32>,
}

/// Slots of a block.
pub(super) const BLOCK: u32 = {
    assert!(SLOTS_PER_BLOCK == 32);
    32
};

/// A ring's block in which each slot leads to its own number.
static NUMBERED: RingBlock = {
    let mut slots = [0; SLOTS_PER_BLOCK];
    let mut slot = 0_u16;
    while (slot as usize) < SLOTS_PER_BLOCK {
        slots[slot as usize] = slot;
        slot += 1;
    }
    RingBlock { slots }
};

impl<'t, L: Lookups> Recorder<'t, L> {
    /// Over these tables, at this moment.
    pub(super) fn new(live: &'t L) -> Self {
        Self {
            live,
            now_ns: live.now_ns(),
            vips: Copies::default(),
            prefix_vips: Copies::default(),
            flows: Copies::default(),
            fragments: Copies::default(),
            rings: Copies::default(),
            targets: Copies::default(),
            listed: Copies::default(),
            groups: Copies::default(),
            servers: Copies::default(),
            vip_limits: Copies::default(),
            sources: Copies::default(),
            too_big_limits: Copies::default(),
            bonds: Copies::default(),
            tunnels: Copies::default(),
            notes: RefCell::default(),
            fault: OnceCell::new(),
            stand_in: OnceCell::new(),
            probed: Cell::new(None),
            probing: Cell::new(false),
        }
    }

    /// The tables behind.
    pub(super) fn live(&self) -> &'t L {
        self.live
    }

    /// Parameters of the program.
    pub(super) fn tuning(&self) -> &'t Tuning {
        self.live.tuning()
    }

    /// What was noted so far.
    pub(super) fn notes(&self) -> Notes {
        self.notes.borrow().clone()
    }

    /// The first table that could not be read.
    pub(super) fn into_fault(self) -> Option<Error> {
        self.fault.into_inner()
    }

    /// The slot that `pick` comes to in the ring that begins at `base`: the way itself is asked, over rings that lead each
    /// slot to its own number.
    pub(super) fn slot<E>(&self, vip: &Vip, base: u32, pick: impl FnOnce(&Self) -> Result<u32, E>) -> Option<u32> {
        self.stand_in.get_or_init(|| Target { vip: vip.id, serves: vip.id, ..Target::default() });
        self.probing.set(true);
        let picked = pick(self);
        self.probing.set(false);
        let block = self.probed.get()?.wrapping_sub(base);
        Some(block.wrapping_mul(BLOCK).wrapping_add(picked.ok()?.wrapping_sub(vip.target_base)))
    }

    fn read<T>(&self, result: Result<Option<T>, Error>) -> Option<T> {
        result.unwrap_or_else(|error| {
            // Later ones say no more than the first.
            let _ = self.fault.set(error);
            None
        })
    }
}

fn bucket(entries: Option<Entries>) -> HeldBucket {
    entries.map(|before| Held { before, now: Bucket { entries: before.map(Word::new) } })
}

fn word(word: Option<u64>) -> Option<Held<u64, Word>> {
    word.map(|before| Held { before, now: Word::new(before) })
}

fn line(words: [u64; LINE_WORDS]) -> Held<[u64; LINE_WORDS], SourceLine> {
    let entry = |words: [u64; 4]| {
        let [tag, packets, flows, reserved] = words;
        SourceEntry { tag: Word::new(tag), packets: Word::new(packets), flows: Word::new(flows), reserved }
    };
    let entries: [[u64; 4]; SOURCE_WAYS] = zerocopy::transmute!(words);
    Held { before: words, now: SourceLine { entries: entries.map(entry) } }
}

/// A bucket's entries as they are now.
pub(super) fn entries(bucket: &Bucket) -> Entries {
    bucket.entries.each_ref().map(|entry| entry.load(Relaxed))
}

impl<L: Lookups> Tables for Recorder<'_, L> {
    fn has(&self, feature: u32) -> bool {
        self.tuning().features & feature != 0
    }

    fn hash_seed(&self) -> u64 {
        self.tuning().hash_seed
    }

    fn bucket_mask(&self) -> u32 {
        self.tuning().bucket_mask
    }

    fn udp_idle(&self) -> u32 {
        self.tuning().udp_idle
    }

    fn source_v4(&self) -> (u32, u32) {
        (u32::from_ne_bytes(self.tuning().source_v4), u32::from_ne_bytes(self.tuning().source_v4_mask))
    }

    fn source_v6(&self) -> [u64; 2] {
        let halves: [[u8; 8]; 2] = zerocopy::transmute!(self.tuning().source_v6);
        halves.map(u64::from_ne_bytes)
    }

    fn gue_port(&self) -> [u8; 2] {
        self.tuning().gue_port
    }

    fn source_limit(&self) -> SourceLimit {
        let tuning = self.tuning();
        let halves: [[u8; 8]; 2] = zerocopy::transmute!(tuning.limited_v6_mask);
        SourceLimit {
            packet_ns: tuning.source_packet_ns,
            flow_ns: tuning.source_flow_ns,
            line_mask: tuning.source_line_mask,
            v4_mask: u32::from_ne_bytes(tuning.limited_v4_mask),
            v6_mask: halves.map(u64::from_ne_bytes),
        }
    }

    fn now(&self) -> u32 {
        // By the lower bits, as the program cuts it.
        (self.now_ns >> TIME_SHIFT) as u32
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn vip(&self, key: &VipKey) -> Option<&Vip> {
        self.vips.get(*key, |key| self.read(self.live.vip(key))).as_ref()
    }

    fn prefix_vip(&self, key: &PrefixKey) -> Option<&Vip> {
        self.prefix_vips.get(*key, |key| self.read(self.live.prefix_vip(key))).as_ref()
    }

    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.flows.get(index, |index| bucket(self.live.flows(*index))).as_ref().map(|held| &held.now)
    }

    fn fragments(&self, index: u32) -> Option<&Bucket> {
        self.fragments.get(index, |index| bucket(self.live.fragments(*index))).as_ref().map(|held| &held.now)
    }

    fn ring(&self, block: u32) -> Option<&RingBlock> {
        if self.probing.get() {
            self.probed.set(Some(block));
            return Some(&NUMBERED);
        }
        self.rings.get(block, |block| self.live.ring(*block)).as_ref()
    }

    fn target(&self, id: u32) -> Option<&Target> {
        if self.probing.get() {
            return self.stand_in.get();
        }
        self.notes.borrow_mut().last_target = Some(id);
        self.targets.get(id, |id| self.live.target(*id)).as_ref()
    }

    fn acl(&self, key: &SourceKey) -> Option<u32> {
        *self.listed.get((ListTable::Access, *key), |(list, key)| self.read(self.live.listed(*list, key)))
    }

    fn source_route(&self, key: &SourceKey) -> Option<u32> {
        *self.listed.get((ListTable::Routes, *key), |(list, key)| self.read(self.live.listed(*list, key)))
    }

    fn group(&self, id: u32) -> Option<&Group> {
        self.groups.get(id, |id| self.read(self.live.group(*id))).as_ref()
    }

    fn server(&self, key: &ServerKey) -> Option<u32> {
        *self.servers.get(*key, |key| self.read(self.live.server(key)))
    }

    fn vip_limit(&self, vip: u32) -> Option<&Word> {
        self.vip_limits.get(vip, |vip| word(self.live.vip_limit(*vip))).as_ref().map(|held| &held.now)
    }

    fn source_line(&self, index: u32) -> Option<&SourceLine> {
        self.sources.get(index, |index| self.live.source_line(*index).map(line)).as_ref().map(|held| &held.now)
    }

    fn too_big_limit(&self, index: u32) -> Option<&Word> {
        self.too_big_limits.get(index, |index| word(self.live.too_big_limit(*index))).as_ref().map(|held| &held.now)
    }

    fn heartbeat(&self) -> u64 {
        self.live.heartbeat().unwrap_or_default()
    }

    fn bond(&self, ifindex: u32) -> Option<u32> {
        *self.bonds.get(ifindex, |ifindex| self.read(self.live.bond(*ifindex)))
    }

    fn is_tunnel(&self, address: &[u8; 16]) -> bool {
        *self.tunnels.get(*address, |address| self.read(self.live.is_tunnel(address).map(Some)).unwrap_or(false))
    }

    fn is_tunnel_source(&self, key: &SourceKey) -> bool {
        let look = |(list, key): &(ListTable, SourceKey)| self.read(self.live.listed(*list, key));
        *self.listed.get((ListTable::TunnelSources, *key), look) == Some(1)
    }

    fn count(&self, target: u32, update: impl FnOnce(&mut TargetCounters)) {
        let mut counters = TargetCounters::default();
        update(&mut counters);
        self.notes.borrow_mut().counted.push((target, counters));
    }

    fn event(&self, event: PathEvent) {
        if !self.probing.get() {
            self.notes.borrow_mut().events.push(event);
        }
    }
}
