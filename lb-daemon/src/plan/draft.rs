//! A plan in the making: the ops so far, and the tables as they will be after them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use lb_common::layout::{
    ring::blocks,
    target::Target,
    vip::{Vip, VipKey},
};

use super::{Op, RingDigest, State, space::Space};

/// Ops so far, and what they lead to. Its methods write only what differs, so a plan for the state in force is empty.
pub(super) struct Draft {
    /// The tables after `ops`; its digests of rings are those observed.
    state: State,
    ops: Vec<Op>,
    /// Blocks of `RINGS`.
    blocks: Space,
    /// Targets that nothing leads to any more, whose flows are to be forgotten.
    forget: BTreeSet<u32>,
    /// Targets that moved: old number to new.
    renumber: BTreeMap<u32, u32>,
}

/// Where a draft stood before rings were written.
pub(super) struct Mark {
    vips: BTreeMap<VipKey, Vip>,
    ops: usize,
    blocks: Space,
}

impl Draft {
    pub(super) fn new(observed: &State) -> Self {
        let mut blocks = Space::new(0..observed.capacity.ring_blocks);
        for vip in observed.vips.values() {
            blocks.reserve(ring_blocks(vip));
        }
        Self { state: observed.clone(), ops: Vec::new(), blocks, forget: BTreeSet::new(), renumber: BTreeMap::new() }
    }

    /// The tables after the ops so far.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Whether the ring observed at `base` has this digest.
    pub(super) fn has_ring(&self, base: u32, digest: RingDigest) -> bool {
        self.state.rings.get(&base) == Some(&digest)
    }

    /// Where the draft stands; [`Draft::back_to`] leads back here if no target was set meanwhile.
    pub(super) fn mark(&self) -> Mark {
        Mark { vips: self.state.vips.clone(), ops: self.ops.len(), blocks: self.blocks.clone() }
    }

    /// Drops all ops since `mark`.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.state.vips = mark.vips;
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
        if let Some(before) = before.filter(|before| ring_blocks(before) != ring_blocks(&vip)) {
            self.blocks.release(ring_blocks(&before));
        }
        self.ops.push(Op::SetVip { key, vip });
    }

    pub(super) fn remove_vip(&mut self, key: VipKey) {
        if let Some(vip) = self.state.vips.remove(&key) {
            self.blocks.release(ring_blocks(&vip));
            self.ops.push(Op::RemoveVip { key });
        }
    }

    /// Room for a ring of `slots` slots: its first block, or `None` if no free run of blocks is long enough.
    pub(super) fn take_blocks(&mut self, slots: u32) -> Option<u32> {
        self.blocks.take(blocks(slots))
    }

    /// Room for a ring of `slots` slots at `base`: blocks that are free, or will be when packets on their way have passed.
    pub(super) fn take_blocks_at(&mut self, base: u32, slots: u32) {
        let taken = base..base.saturating_add(blocks(slots));
        if !self.blocks.is_free(&taken) {
            self.settle_blocks();
        }
        self.blocks.reserve(taken);
    }

    /// Writes a ring to blocks that [`Draft::take_blocks`] gave.
    pub(super) fn write_ring(&mut self, base: u32, slots: Arc<[u16]>) {
        self.ops.push(Op::WriteRing { base, slots });
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

    /// Frees the targets that were retired or renumbered. Says whether there were any.
    pub(super) fn reclaim(&mut self) -> bool {
        let forget = std::mem::take(&mut self.forget);
        let moved = std::mem::take(&mut self.renumber);
        // A sweep renames each flow once, so what goes to a target that moves itself goes to that one's new number.
        let renumber: BTreeMap<u32, u32> =
            moved.iter().map(|(old, new)| (*old, *moved.get(new).unwrap_or(new))).collect();
        let ids: BTreeSet<u32> = forget.iter().chain(renumber.keys()).copied().collect();
        if ids.is_empty() {
            return false;
        }
        // A retired target serves nothing, so after this no packet writes its number into the flow table again.
        self.grace();
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

    /// The finished plan. All that it freed may be used by the next one.
    pub(super) fn finish(mut self) -> Vec<Op> {
        self.reclaim();
        self.settle_blocks();
        self.ops
    }

    fn grace(&mut self) {
        self.ops.push(Op::Grace);
        self.blocks.settle();
    }
}

/// The blocks of a VIP's ring.
pub(super) fn ring_blocks(vip: &Vip) -> Range<u32> {
    vip.ring_base..vip.ring_base.saturating_add(blocks(vip.ring_slots))
}

/// A VIP's range of targets.
pub(super) fn target_range(vip: &Vip) -> Range<u32> {
    vip.target_base..vip.target_base.saturating_add(vip.target_count)
}
