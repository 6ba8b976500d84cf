//! A plan in the making: the ops so far, and the tables as they will be after them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use lb_common::layout::{
    prefix::Group,
    ring::blocks,
    server::ServerKey,
    target::Target,
    vip::{Vip, VipKey},
};

use super::{ListId, Op, RingDigest, State, prefixes::Prefixes, space::Space};

/// Ops so far, and what they lead to. Its methods write only what differs, so a plan for the state in force is empty.
pub(super) struct Draft {
    /// The tables after `ops`; its digests are also of rings that nothing leads to any more.
    state: State,
    ops: Vec<Op>,
    /// Blocks of `RINGS`.
    blocks: Space,
    /// Targets that nothing leads to any more, whose flows are to be forgotten.
    forget: BTreeSet<u32>,
    /// Targets that moved: old number to new.
    renumber: BTreeMap<u32, u32>,
    /// Groups that no route leads to any more.
    stale_groups: BTreeSet<u32>,
    /// Groups whose ring comes into force once no packet reads their value as it was before.
    late_groups: BTreeMap<u32, Group>,
    /// Numbers of VIPs that packets on their way may still go by.
    leaving_vips: BTreeSet<u32>,
}

/// Where a draft stood before rings were written.
pub(super) struct Mark {
    vips: BTreeMap<VipKey, Vip>,
    groups: BTreeMap<u32, Group>,
    late_groups: BTreeMap<u32, Group>,
    ops: usize,
    blocks: Space,
}

impl Draft {
    pub(super) fn new(observed: &State) -> Self {
        Self::part(observed, observed.clone())
    }

    /// A draft that changes only `part` of what was observed. Blocks of rings are free or not as the whole says.
    pub(super) fn part(observed: &State, part: State) -> Self {
        let mut blocks = Space::new(0..observed.capacity.ring_blocks);
        for vip in observed.vips.values() {
            blocks.reserve(ring_blocks(vip));
        }
        for group in observed.groups.values() {
            blocks.reserve(group_blocks(group));
        }
        Self {
            state: part,
            ops: Vec::new(),
            blocks,
            forget: BTreeSet::new(),
            renumber: BTreeMap::new(),
            stale_groups: BTreeSet::new(),
            late_groups: BTreeMap::new(),
            leaving_vips: BTreeSet::new(),
        }
    }

    /// The tables after the ops so far.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Whether the ring at `base` has this digest.
    pub(super) fn has_ring(&self, base: u32, digest: RingDigest) -> bool {
        self.state.rings.get(&base) == Some(&digest)
    }

    /// Where the draft stands; [`Draft::back_to`] leads back here if no target was set meanwhile.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            vips: self.state.vips.clone(),
            groups: self.state.groups.clone(),
            late_groups: self.late_groups.clone(),
            ops: self.ops.len(),
            blocks: self.blocks.clone(),
        }
    }

    /// Drops all ops since `mark`.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.state.vips = mark.vips;
        self.state.groups = mark.groups;
        self.late_groups = mark.late_groups;
        self.ops.truncate(mark.ops);
        self.blocks = mark.blocks;
    }

    /// Which blocks of `RINGS` are free.
    pub(super) fn blocks(&self) -> &Space {
        &self.blocks
    }

    /// Blocks of `RINGS` that are free, and the longest run of them.
    pub(super) fn free_blocks(&self) -> (u32, u32) {
        self.blocks.free()
    }

    pub(super) fn set_target(&mut self, id: u32, target: Target) {
        if self.state.targets.get(&id).copied().unwrap_or_default() == target {
            return;
        }
        if target.is_free() {
            self.state.targets.remove(&id);
        } else {
            self.state.targets.insert(id, target);
        }
        self.ops.push(Op::SetTarget { id, target });
    }

    pub(super) fn set_vip(&mut self, key: VipKey, vip: Vip) {
        let before = self.state.vips.insert(key, vip);
        if before == Some(vip) {
            return;
        }
        if let Some(before) = before {
            let (held, holds) = (ring_blocks(&before), ring_blocks(&vip));
            // A history that is given up lies behind its ring.
            let stays = holds.start == held.start && !holds.is_empty() && holds.end <= held.end;
            self.blocks.release(if stays { holds.end..held.end } else { held });
        }
        self.ops.push(Op::SetVip { key, vip });
    }

    pub(super) fn remove_vip(&mut self, key: VipKey) {
        if let Some(vip) = self.state.vips.remove(&key) {
            self.blocks.release(ring_blocks(&vip));
            if !key.is_address() {
                self.leaving_vips.insert(vip.id);
            }
            self.ops.push(Op::RemoveVip { key });
        }
    }

    /// Numbers of VIPs that were removed while packets may still go by them: no new VIP may have one of these.
    pub(super) fn leaving_vips(&self) -> &BTreeSet<u32> {
        &self.leaving_vips
    }

    /// Puts a group in force, by single words that packets may meet in any order: a group that gets another ring of the
    /// same length, or none, at once; one that gets a ring of another length after [`Draft::end_groups`].
    pub(super) fn set_group(&mut self, id: u32, group: Group) {
        let before = self.state.groups.get(&id).copied().unwrap_or_default();
        if before.vip == 0 || before.ring_slots == group.ring_slots {
            self.write_group(id, group);
        } else if group.ring_slots == 0 {
            self.write_group(id, Group { ring_base: before.ring_base, ..group });
        } else {
            self.write_group(id, Group { ring_slots: 0, ..before });
            self.late_groups.insert(id, group);
        }
    }

    /// Brings into force what [`Draft::set_group`] left for later.
    pub(super) fn end_groups(&mut self) {
        let late = std::mem::take(&mut self.late_groups);
        if late.is_empty() {
            return;
        }
        // No packet may read the old length with the new place, nor the new length with the old place.
        self.grace();
        for (id, group) in &late {
            self.write_group(*id, Group { ring_slots: 0, ..*group });
        }
        self.grace();
        for (id, group) in late {
            self.write_group(id, group);
        }
    }

    /// Gives a group up; [`Draft::reclaim`] frees it.
    pub(super) fn give_up_group(&mut self, id: u32) {
        self.stale_groups.insert(id);
    }

    fn write_group(&mut self, id: u32, group: Group) {
        let before = self.state.groups.get(&id).copied().unwrap_or_default();
        if before == group {
            return;
        }
        // What follows an empty ring was taken for it before.
        if group_blocks(&before) != group_blocks(&group) {
            self.blocks.release(group_blocks(&before));
        }
        if group.vip == 0 {
            self.state.groups.remove(&id);
        } else {
            self.state.groups.insert(id, group);
        }
        self.ops.push(Op::SetGroup { id, group });
    }

    pub(super) fn set_server(&mut self, key: ServerKey, target: u32) {
        if self.state.servers.insert(key, target) != Some(target) {
            self.ops.push(Op::SetServer { key, target });
        }
    }

    pub(super) fn remove_server(&mut self, key: ServerKey) {
        if self.state.servers.remove(&key).is_some() {
            self.ops.push(Op::RemoveServer { key });
        }
    }

    /// Makes a list hold what it does not hold yet.
    pub(super) fn set_list(&mut self, list: ListId, to: Arc<Prefixes>) {
        if to.is_empty() {
            self.state.lists.remove(&list);
        } else {
            self.state.lists.insert(list, Arc::clone(&to));
        }
        self.ops.push(Op::SetList { list, to });
    }

    pub(super) fn set_tunnel(&mut self, address: [u8; 16]) {
        if self.state.tunnels.insert(address) {
            self.ops.push(Op::SetTunnel { address });
        }
    }

    pub(super) fn remove_tunnel(&mut self, address: [u8; 16]) {
        if self.state.tunnels.remove(&address) {
            self.ops.push(Op::RemoveTunnel { address });
        }
    }

    pub(super) fn set_bond(&mut self, member: u32, bond: u32) {
        if self.state.bonds.insert(member, bond) != Some(bond) {
            self.ops.push(Op::SetBond { member, bond });
        }
    }

    pub(super) fn remove_bond(&mut self, member: u32) {
        if self.state.bonds.remove(&member).is_some() {
            self.ops.push(Op::RemoveBond { member });
        }
    }

    /// So many blocks, one behind the other: the first, or `None` if no free run of blocks is long enough.
    pub(super) fn take_blocks(&mut self, count: u32) -> Option<u32> {
        self.blocks.take(count)
    }

    /// So many blocks from `base` on, which are free, or will be when packets on their way have passed.
    pub(super) fn take_blocks_at(&mut self, base: u32, count: u32) {
        let taken = base..base.saturating_add(count);
        if !self.blocks.is_free(&taken) {
            self.settle_blocks();
        }
        self.blocks.reserve(taken);
    }

    /// Writes a ring to blocks that [`Draft::take_blocks`] gave.
    pub(super) fn write_ring(&mut self, base: u32, slots: Arc<[u16]>) {
        // Whoever asks for this ring in the same plan must not be answered by what lay there before.
        self.state.rings.insert(base, super::digest(&slots));
        self.ops.push(Op::WriteRing { base, slots });
    }

    /// Writes the history of the ring of `after`, which is written, behind that.
    pub(super) fn write_history(&mut self, before: Vip, after: Vip, remembers_all: bool, gone: BTreeSet<u16>) {
        self.state.histories.insert(after.history_base, super::UNCOUNTED);
        self.ops.push(Op::WriteHistory { before, after, remembers_all, gone });
    }

    /// Has the history of a VIP in force name some places no more.
    pub(super) fn disown(&mut self, vip: Vip, gone: BTreeSet<u16>) {
        self.ops.push(Op::Disown { vip, gone });
    }

    /// Waits for packets on their way, if that frees blocks. Says whether it does.
    pub(super) fn settle_blocks(&mut self) -> bool {
        let frees = self.blocks.is_unsettled();
        if frees {
            self.grace();
        }
        frees
    }

    /// Closes a target that no ring names any more; [`Draft::reclaim`] frees it.
    pub(super) fn retire(&mut self, id: u32) {
        if let Some(&target) = self.state.targets.get(&id) {
            self.set_target(id, Target { serves: 0, flags: target.flags | Target::GONE, ..target });
            self.forget.insert(id);
        }
    }

    /// Gives the flows of target `old` to `new`, which is the same backend of the same VIP; [`Draft::reclaim`] frees `old`.
    pub(super) fn renumber(&mut self, old: u32, new: u32) {
        self.renumber.insert(old, new);
    }

    /// Frees the targets that were retired or renumbered, and the groups that were given up. Says whether there were any.
    pub(super) fn reclaim(&mut self) -> bool {
        let forget = std::mem::take(&mut self.forget);
        let moved = std::mem::take(&mut self.renumber);
        let groups = std::mem::take(&mut self.stale_groups);
        // A sweep renames each flow once, so what goes to a target that moves itself goes to that one's new number.
        let renumber: BTreeMap<u32, u32> =
            moved.iter().map(|(old, new)| (*old, *moved.get(new).unwrap_or(new))).collect();
        let ids: BTreeSet<u32> = forget.iter().chain(renumber.keys()).copied().collect();
        if ids.is_empty() && groups.is_empty() {
            return false;
        }
        self.lead_servers_away(&forget, &renumber);
        // A retired target serves nothing, so after this no packet writes its number into the flow table again.
        self.grace();
        for id in groups {
            self.write_group(id, Group::default());
        }
        if ids.is_empty() {
            // Nothing leads to the groups any more, so what they held is free at once.
            self.blocks.settle();
            return true;
        }
        self.ops.push(Op::SweepFlows { forget: forget.clone(), renumber: renumber.clone() });
        if !renumber.is_empty() {
            // But one that moved serves on, lest its flows move: a packet may have touched its flow's entry under the
            // old number while the sweep renamed it. What slips through twice finds another backend by the ring.
            self.grace();
            self.ops.push(Op::SweepFlows { forget, renumber });
        }
        for id in ids {
            self.ops.push(Op::ClearCounters { id });
            self.set_target(id, Target::default());
        }
        // Packets that read an entry before it was swept must not meet the next user of the number.
        self.grace();
        true
    }

    /// Server IDs must not name targets that are about to be freed.
    fn lead_servers_away(&mut self, forget: &BTreeSet<u32>, renumber: &BTreeMap<u32, u32>) {
        let named = |target: &u32| forget.contains(target) || renumber.contains_key(target);
        let naming = self.state.servers.iter().filter(|(_, target)| named(target));
        for (key, target) in naming.map(|(key, target)| (*key, *target)).collect::<Vec<_>>() {
            match renumber.get(&target).filter(|_| !forget.contains(&target)) {
                Some(&new) => self.set_server(key, new),
                None => self.remove_server(key),
            }
        }
    }

    /// The finished plan. All that it freed may be used by the next one.
    pub(super) fn finish(mut self) -> Vec<Op> {
        self.reclaim();
        self.settle_blocks();
        if !self.leaving_vips.is_empty() {
            self.grace();
        }
        self.ops
    }

    /// Waits for packets on their way.
    pub(super) fn grace(&mut self) {
        self.ops.push(Op::Grace);
        self.blocks.settle();
        self.leaving_vips.clear();
    }
}

/// The blocks of a VIP's ring, and of its history, which lies behind it.
pub(super) fn ring_blocks(vip: &Vip) -> Range<u32> {
    let all = blocks(vip.ring_slots).saturating_add(blocks(vip.history_slots()));
    vip.ring_base..vip.ring_base.saturating_add(all)
}

/// The blocks of a group's ring.
pub(super) fn group_blocks(group: &Group) -> Range<u32> {
    group.ring_base..group.ring_base.saturating_add(blocks(group.ring_slots))
}

/// A VIP's range of targets.
pub(super) fn target_range(vip: &Vip) -> Range<u32> {
    vip.target_base..vip.target_base.saturating_add(vip.target_count)
}
