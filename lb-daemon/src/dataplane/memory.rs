//! The tables in memory: what a plan is tried on, and what the controller's tests run against.
//!
//! Sizes are kept as the kernel keeps them: a table that is full refuses, an index past its end too.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::{FlowEntry, WAYS},
        prefix::Group,
        ring::{RingBlock, SLOTS_PER_BLOCK},
        server::ServerKey,
        target::Target,
        vip::{Vip, VipKey},
    },
    maps::{BONDS, GROUPS, PREFIX_VIPS, RINGS, SERVER_IDS, TARGET_COUNTERS, TARGETS, TUNNEL_ADDRESSES, VIPS},
    verdict::Verdict,
};

use super::{
    Counters, Dataplane, Error, FlowCount,
    flows::{Liveness, PARTS},
};
use crate::plan::{
    Capacity, ListId, ListTable, Op, State, digest,
    history::{self, Before, next, without},
    prefixes::Prefixes,
};

/// The tables in memory.
#[derive(Clone, Debug)]
pub struct Memory {
    vips: BTreeMap<VipKey, Vip>,
    rings: Vec<RingBlock>,
    targets: Vec<Target>,
    target_counters: Vec<TargetCounters>,
    flows: Vec<[FlowEntry; WAYS]>,
    verdicts: Vec<VerdictCounters>,
    path: Vec<u64>,
    groups: Vec<Group>,
    servers: BTreeMap<ServerKey, u32>,
    lists: BTreeMap<ListId, Arc<Prefixes>>,
    tunnels: BTreeSet<[u8; 16]>,
    bonds: BTreeMap<u32, u32>,
    capacity: Capacity,
    /// Ops carried out so far.
    applied: usize,
    /// The op that is to fail, counted like `applied`.
    fail_at: Option<usize>,
}

impl Memory {
    /// Empty tables of these sizes and a flow table of `buckets` buckets.
    pub fn new(capacity: Capacity, buckets: usize) -> Self {
        Self {
            vips: BTreeMap::new(),
            rings: vec![RingBlock::default(); capacity.ring_blocks as usize],
            targets: vec![Target::default(); capacity.targets as usize],
            target_counters: vec![TargetCounters::default(); capacity.targets as usize],
            flows: vec![[FlowEntry::default(); WAYS]; buckets],
            verdicts: vec![VerdictCounters::default(); Verdict::ALL.len()],
            path: vec![0; PathEvent::ALL.len()],
            groups: vec![Group::default(); capacity.groups as usize],
            servers: BTreeMap::new(),
            lists: BTreeMap::new(),
            tunnels: BTreeSet::new(),
            bonds: BTreeMap::new(),
            capacity,
            applied: 0,
            fail_at: None,
        }
    }

    /// Makes tables larger, never smaller.
    pub fn resize(&mut self, capacity: Capacity) {
        let count = |has: usize, asked: u32| has.max(asked as usize);
        self.rings.resize(count(self.rings.len(), capacity.ring_blocks), RingBlock::default());
        self.targets.resize(count(self.targets.len(), capacity.targets), Target::default());
        self.target_counters.resize(self.targets.len(), TargetCounters::default());
        self.groups.resize(count(self.groups.len(), capacity.groups), Group::default());
        self.capacity = capacity;
    }

    /// Lets the op after the next `ops` ones fail, once, without effect.
    pub fn fail_after(&mut self, ops: usize) {
        self.fail_at = Some(self.applied + ops);
    }

    /// Where `slot` of a VIP's ring leads, as the program follows it: a target's number and value. `None` if there is no
    /// such VIP, slot or target.
    pub fn route(&self, key: &VipKey, slot: u32) -> Option<(u32, &Target)> {
        let vip = self.vips.get(key).filter(|vip| slot < vip.ring_slots)?;
        let place = self.slots(vip).nth(slot as usize)?;
        let id = vip.target_base + u32::from(place);
        Some((id, self.targets.get(id as usize)?))
    }

    /// Remembers a flow, as the program does after it was steered; `false` if its bucket is full or not there.
    pub fn remember(&mut self, bucket: usize, entry: FlowEntry) -> bool {
        let free = self.flows.get_mut(bucket).and_then(|ways| ways.iter_mut().find(|way| way.is_empty()));
        free.map(|way| *way = entry).is_some()
    }

    /// All flows that are remembered.
    pub fn remembered(&self) -> impl Iterator<Item = FlowEntry> {
        self.flows.iter().flatten().copied().filter(|entry| !entry.is_empty())
    }

    /// Rewrites flows that are remembered, as the program does when packets come; tells how many became others.
    pub fn change(&mut self, mut new: impl FnMut(FlowEntry) -> FlowEntry) -> usize {
        let entries = self.flows.iter_mut().flatten().filter(|entry| !entry.is_empty());
        entries.filter_map(|entry| (new(*entry) != *entry).then(|| *entry = new(*entry))).count()
    }

    /// The buckets of flows that are remembered.
    pub fn buckets(&mut self) -> &mut [[FlowEntry; WAYS]] {
        &mut self.flows
    }

    /// Counters of a target, to count at.
    pub fn target_counters(&mut self, id: u32) -> Option<&mut TargetCounters> {
        self.target_counters.get_mut(id as usize)
    }

    /// Counters of a verdict, to count at.
    pub fn verdict_counters(&mut self, verdict: Verdict) -> Option<&mut VerdictCounters> {
        self.verdicts.get_mut(verdict as usize)
    }

    /// Counter of an event, to count at.
    pub fn path_counter(&mut self, event: PathEvent) -> Option<&mut u64> {
        self.path.get_mut(event as usize)
    }

    /// The ring that a VIP of this value leads to, slot by slot.
    pub fn slots(&self, vip: &Vip) -> impl Iterator<Item = u16> {
        self.slots_at(vip.ring_base, vip.ring_slots)
    }

    /// So many slots from a block on.
    pub fn slots_at(&self, base: u32, slots: u32) -> impl Iterator<Item = u16> {
        let blocks = self.rings.iter().skip(base as usize);
        blocks.flat_map(|block| block.slots).take(slots as usize)
    }

    fn write_ring(&mut self, base: u32, slots: &[u16]) -> Result<(), Error> {
        let base = base as usize;
        let end = base + slots.len().div_ceil(SLOTS_PER_BLOCK);
        let blocks = self.rings.get_mut(base..end).ok_or_else(|| refused("write", RINGS, libc::E2BIG))?;
        for (block, slots) in blocks.iter_mut().zip(slots.chunks(SLOTS_PER_BLOCK)) {
            block.slots[..slots.len()].copy_from_slice(slots);
        }
        Ok(())
    }

    fn set_vip(&mut self, key: VipKey, vip: Vip) -> Result<(), Error> {
        // Prefixes have a table of their own, of the same size.
        let alike = self.vips.keys().filter(|other| other.is_prefix() == key.is_prefix()).count();
        if !self.vips.contains_key(&key) && alike >= self.capacity.vips as usize {
            let (table, code) = if key.is_prefix() { (PREFIX_VIPS, libc::ENOSPC) } else { (VIPS, libc::E2BIG) };
            return Err(refused("write", table, code));
        }
        self.vips.insert(key, vip);
        Ok(())
    }

    fn set_list(&mut self, list: ListId, to: &Arc<Prefixes>) -> Result<(), Error> {
        let places = match list.table {
            ListTable::Access | ListTable::Routes => self.capacity.prefixes,
            ListTable::TunnelSources => self.capacity.tunnel_sources,
        };
        let of_table = self.lists.iter().filter(|(id, _)| id.table == list.table && **id != list);
        let others: usize = of_table.map(|(_, list)| list.len()).sum();
        let joint = self.lists.get(&list).map_or(to.len(), |held| held.joint_len(to));
        if others + joint > places as usize {
            return Err(refused("write", list.table.name(), libc::ENOSPC));
        }
        if to.is_empty() {
            self.lists.remove(&list);
        } else {
            self.lists.insert(list, Arc::clone(to));
        }
        Ok(())
    }

    fn set_tunnel(&mut self, address: [u8; 16]) -> Result<(), Error> {
        if !self.tunnels.contains(&address) && self.tunnels.len() >= self.capacity.own as usize {
            return Err(refused("write", TUNNEL_ADDRESSES, libc::E2BIG));
        }
        self.tunnels.insert(address);
        Ok(())
    }

    fn remove_tunnel(&mut self, address: &[u8; 16]) -> Result<(), Error> {
        let removed = self.tunnels.remove(address);
        if removed { Ok(()) } else { Err(refused("remove an entry of", TUNNEL_ADDRESSES, libc::ENOENT)) }
    }

    fn sweep(&mut self, forget: &BTreeSet<u32>, renumber: &BTreeMap<u32, u32>) {
        for entry in self.flows.iter_mut().flatten().filter(|entry| !entry.is_empty()) {
            if forget.contains(&entry.target()) {
                *entry = FlowEntry::default();
            } else if let Some(&new) = renumber.get(&entry.target()) {
                *entry = entry.with_target(new);
            }
        }
    }
}

impl Dataplane for Memory {
    fn observe(&mut self) -> Result<State, Error> {
        let of_groups = self.groups.iter().map(|group| (group.ring_base, group.ring_slots));
        let rings = self.vips.values().map(|vip| (vip.ring_base, vip.ring_slots)).chain(of_groups);
        let rings = rings.filter(|(_, slots)| *slots > 0);
        let rings = rings.map(|(base, slots)| (base, digest(&self.slots_at(base, slots).collect::<Vec<_>>())));
        let groups = (0..).zip(&self.groups).filter(|(_, group)| group.vip != 0);
        let targets = (0..).zip(&self.targets).filter(|(_, target)| !target.is_free());
        Ok(State {
            vips: self.vips.clone(),
            targets: targets.map(|(id, target)| (id, *target)).collect(),
            rings: rings.collect(),
            histories: history::counts(self.vips.values(), |vip| self.history(vip)),
            groups: groups.map(|(id, group)| (id, *group)).collect(),
            servers: self.servers.clone(),
            lists: self.lists.clone(),
            tunnels: self.tunnels.clone(),
            bonds: self.bonds.clone(),
            capacity: self.capacity,
        })
    }

    fn apply(&mut self, op: &Op) -> Result<(), Error> {
        if self.fail_at == Some(self.applied) {
            self.fail_at = None;
            return Err(Error::Injected(self.applied));
        }
        match op {
            Op::SetTarget { id, target } => *entry(&mut self.targets, *id, TARGETS)? = *target,
            Op::ClearCounters { id } => {
                *entry(&mut self.target_counters, *id, TARGET_COUNTERS)? = TargetCounters::default();
            }
            Op::WriteRing { base, slots } => self.write_ring(*base, slots)?,
            Op::WriteHistory { before, after, remembers_all, gone } => {
                let (ring, history) = (self.ring_in_force(before), self.history(before));
                let before = Before { ring: &ring, history: &history, remembers_all: *remembers_all };
                let slots = next(&before, &self.ring_in_force(after), gone);
                self.write_ring(after.history_base, &slots)?;
            }
            Op::Disown { vip, gone } => {
                let slots = without(&self.history(vip), &self.ring_in_force(vip), gone);
                self.write_slots(vip.history_base, &slots)?;
            }
            Op::SetVip { key, vip } => self.set_vip(*key, *vip)?,
            Op::RemoveVip { key } => {
                self.vips.remove(key).ok_or_else(|| refused("remove an entry of", VIPS, libc::ENOENT))?;
            }
            // Whoever calls is the only one who reads.
            Op::Grace => {}
            Op::SweepFlows { forget, renumber } => self.sweep(forget, renumber),
            Op::SetGroup { id, group } => *entry(&mut self.groups, *id, GROUPS)? = *group,
            Op::SetList { list, to } => self.set_list(*list, to)?,
            Op::SetServer { key, target } => {
                insert(&mut self.servers, *key, *target, self.capacity.servers, SERVER_IDS)?;
            }
            Op::RemoveServer { key } => remove(&mut self.servers, key, SERVER_IDS)?,
            Op::SetTunnel { address } => self.set_tunnel(*address)?,
            Op::RemoveTunnel { address } => self.remove_tunnel(address)?,
            Op::SetBond { member, bond } => insert(&mut self.bonds, *member, *bond, self.capacity.own, BONDS)?,
            Op::RemoveBond { member } => remove(&mut self.bonds, member, BONDS)?,
        }
        self.applied += 1;
        Ok(())
    }

    fn ring_in_force(&self, vip: &Vip) -> Vec<u16> {
        self.slots(vip).collect()
    }

    fn history(&self, vip: &Vip) -> Vec<u16> {
        self.slots_at(vip.history_base, vip.history_slots()).collect()
    }

    fn write_slots(&mut self, base: u32, slots: &[(u32, u16)]) -> Result<(), Error> {
        for (slot, to) in slots {
            let (block, slot) = ((base as usize) + *slot as usize / SLOTS_PER_BLOCK, *slot as usize % SLOTS_PER_BLOCK);
            self.rings.get_mut(block).ok_or_else(|| refused("write", RINGS, libc::E2BIG))?.slots[slot] = *to;
        }
        Ok(())
    }

    fn walk_flows(&mut self, keep: &mut dyn FnMut(FlowEntry) -> bool) {
        retain(self.flows.as_flattened_mut(), keep);
    }

    fn strays_lost(&mut self) -> Result<u64, Error> {
        Ok(self.path[PathEvent::StrayLost as usize])
    }

    fn counters(&mut self) -> Result<Counters, Error> {
        let in_use = (0..).zip(&self.targets).zip(&self.target_counters).filter(|((_, target), _)| !target.is_free());
        Ok(Counters {
            targets: in_use.map(|((id, _), counters)| (id, *counters)).collect(),
            verdicts: self.verdicts.clone(),
            path: self.path.clone(),
        })
    }

    fn counted(&mut self, targets: &[u32]) -> Result<BTreeMap<u32, TargetCounters>, Error> {
        let counted = |id: &u32| Some((*id, *self.target_counters.get(*id as usize)?));
        Ok(targets.iter().filter_map(counted).collect())
    }

    fn flows(&mut self, rule: Liveness) -> Result<FlowCount, Error> {
        Ok(FlowCount::of(self.flows.as_flattened().iter().copied(), rule))
    }

    fn forget_ended(&mut self, rule: Liveness, part: u32) -> u64 {
        let entries = self.flows.as_flattened_mut();
        let length = entries.len().div_ceil(PARTS as usize).max(1);
        let part = entries.chunks_mut(length).nth(part as usize).unwrap_or_default();
        retain(part, &mut |entry| !rule.is_to_be_forgotten(entry))
    }
}

/// Empties entries that are not to be kept; tells how many.
fn retain(entries: &mut [FlowEntry], keep: &mut dyn FnMut(FlowEntry) -> bool) -> u64 {
    let gone = entries.iter_mut().filter(|entry| !entry.is_empty() && !keep(**entry));
    gone.map(|entry| *entry = FlowEntry::default()).count() as u64
}

fn entry<'t, T>(table: &'t mut [T], id: u32, name: &str) -> Result<&'t mut T, Error> {
    table.get_mut(id as usize).ok_or_else(|| refused("write", name, libc::E2BIG))
}

/// The kernel's answer to a write that its table cannot take.
fn refused(verb: &str, table: &str, code: i32) -> Error {
    Error::Table { what: format!("{verb} {table}"), source: io::Error::from_raw_os_error(code) }
}

fn insert<K: Ord>(table: &mut BTreeMap<K, u32>, key: K, value: u32, places: u32, name: &str) -> Result<(), Error> {
    if !table.contains_key(&key) && table.len() >= places as usize {
        return Err(refused("write", name, libc::E2BIG));
    }
    table.insert(key, value);
    Ok(())
}

fn remove<K: Ord>(table: &mut BTreeMap<K, u32>, key: &K, name: &str) -> Result<(), Error> {
    table.remove(key).map(|_| ()).ok_or_else(|| refused("remove an entry of", name, libc::ENOENT))
}

#[cfg(test)]
mod tests;
