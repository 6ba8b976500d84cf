//! Puts VIPs and groups in force, each with its ring.

use std::{net::IpAddr, ops::Range};

use lb_common::layout::{
    prefix::Group,
    ring::blocks,
    vip::{Vip, VipKey},
};

use super::{
    RingCache,
    draft::{Draft, group_blocks, ring_blocks},
    error::PlanError,
    place::Placed,
    rings::{Member, Recipe},
    turns::{Renewal, turns},
    wanted::{Disposition, WantedGroup, service},
};

/// A ring to be put in force.
pub(super) struct Job {
    whose: Whose,
    /// Of what the ring is made.
    recipe: Recipe,
}

/// Whose ring it is.
enum Whose {
    /// A VIP's, with all its value but the ring.
    Vip(VipKey, Vip),
    /// A group's: the VIP's key, the group's number, and all its value but the ring.
    Group(VipKey, u32, Group),
}

impl Job {
    /// The VIP with its own ring, of those of its backends that may take new flows.
    pub(super) fn vip(placed: &Placed) -> Self {
        let Placed { key, wanted, id, base, count, .. } = *placed;
        let vip = Vip {
            id,
            flags: wanted.flags,
            target_base: base,
            target_count: count,
            new_flow_ns: wanted.new_flow_ns,
            quic_lengths: wanted.quic_lengths,
            wildcard_bits: key.wildcard_bits.into(),
            ..Vip::default()
        };
        let weights = wanted.backends.iter().map(|(address, target)| (*address, target.weight));
        let recipe = (members(placed, weights), wanted.ring_size);
        Self { whose: Whose::Vip(key, vip), recipe }
    }

    /// A group with the ring of those of its members that may take new flows and that `takes` takes.
    pub(super) fn group(placed: &Placed, number: u32, group: &WantedGroup, takes: impl Fn(IpAddr) -> bool) -> Self {
        let value = Group { vip: placed.id, identity: group.identity, ..Group::default() };
        let weights = group.members.iter().map(|(address, weight)| (*address, *weight));
        let recipe = (members(placed, weights.filter(|(address, _)| takes(*address))), group.ring_size);
        Self { whose: Whose::Group(placed.key, number, value), recipe }
    }

    fn key(&self) -> &VipKey {
        match &self.whose {
            Whose::Vip(key, _) | Whose::Group(key, ..) => key,
        }
    }

    /// First block and slots of the ring in force.
    fn ring_before(&self, draft: &Draft) -> Option<(u32, u32)> {
        match &self.whose {
            Whose::Vip(key, _) => draft.state().vips.get(key).map(|vip| (vip.ring_base, vip.ring_slots)),
            Whose::Group(_, id, _) => draft.state().groups.get(id).map(|group| (group.ring_base, group.ring_slots)),
        }
    }

    /// Blocks of the ring in force.
    fn held(&self, draft: &Draft) -> Range<u32> {
        match &self.whose {
            Whose::Vip(key, _) => draft.state().vips.get(key).map(ring_blocks),
            Whose::Group(_, id, _) => draft.state().groups.get(id).map(group_blocks),
        }
        .unwrap_or_default()
    }

    /// First block of the ring, if none has to be written: it is there, or there is to be none.
    fn base_in_force(&self, draft: &Draft, rings: &mut RingCache) -> Option<u32> {
        if self.recipe.0.is_empty() {
            // An empty ring lies where the one before it did: a group's value must not change in two words at once.
            return Some(match &self.whose {
                Whose::Vip(..) => 0,
                Whose::Group(..) => self.ring_before(draft).map_or(0, |(base, _)| base),
            });
        }
        let (base, _) = self.ring_before(draft).filter(|(_, slots)| *slots == self.recipe.1)?;
        draft.has_ring(base, rings.digest(&self.recipe)).then_some(base)
    }

    fn put_in_force(&self, draft: &mut Draft, ring_base: u32) {
        let ring_slots = if self.recipe.0.is_empty() { 0 } else { self.recipe.1 };
        match self.whose {
            Whose::Vip(key, vip) => draft.set_vip(key, Vip { ring_base, ring_slots, ..vip }),
            Whose::Group(_, id, group) => draft.set_group(id, Group { ring_base, ring_slots, ..group }),
        }
    }
}

/// Writes the rings that differ and puts VIPs and groups in force.
///
/// # Errors
/// When there is no room for a ring beside those that it must not overwrite.
pub(super) fn install(draft: &mut Draft, jobs: &[Job], rings: &mut RingCache) -> Result<(), PlanError> {
    let start = draft.mark();
    let in_turn = in_turn(draft, jobs, rings);
    if in_turn.is_err() {
        // A ring that took the wrong blocks may be all that is in the way.
        draft.back_to(start);
        if by_search(draft, jobs, rings) {
            draft.end_groups();
            return Ok(());
        }
    }
    draft.end_groups();
    in_turn
}

/// One ring after the other. Those for which there is no room wait until others have given up theirs.
fn in_turn(draft: &mut Draft, jobs: &[Job], rings: &mut RingCache) -> Result<(), PlanError> {
    let mut waiting: Vec<&Job> = jobs.iter().collect();
    loop {
        let before = waiting.len();
        waiting.retain(|job| !install_one(draft, job, rings));
        let Some(first) = waiting.first() else { return Ok(()) };
        if !draft.settle_blocks() && waiting.len() == before {
            let (free, longest) = draft.free_blocks();
            return Err(PlanError::RingSpace {
                service: service(first.key()).map(|service| service.to_string()).unwrap_or_default(),
                needed: blocks(first.recipe.1),
                longest,
                free,
                places: draft.state().capacity.ring_blocks,
            });
        }
    }
}

/// In the order that [`turns`] finds, if any; says whether it does.
fn by_search(draft: &mut Draft, jobs: &[Job], rings: &mut RingCache) -> bool {
    let mut waiting = Vec::new();
    for job in jobs {
        match job.base_in_force(draft, rings) {
            Some(base) => job.put_in_force(draft, base),
            None => waiting.push(job),
        }
    }
    draft.settle_blocks();
    let renewals: Vec<Renewal> =
        waiting.iter().map(|job| Renewal { needed: blocks(job.recipe.1), held: job.held(draft) }).collect();
    let Some(turns) = turns(draft.blocks(), &renewals) else { return false };
    for (at, base) in turns {
        let job = waiting[at];
        draft.take_blocks_at(base, job.recipe.1);
        draft.write_ring(base, rings.slots(&job.recipe));
        job.put_in_force(draft, base);
    }
    true
}

/// Puts one ring in force; `false` if there is no room for it.
fn install_one(draft: &mut Draft, job: &Job, rings: &mut RingCache) -> bool {
    let base = job.base_in_force(draft, rings).or_else(|| {
        let base = draft.take_blocks(job.recipe.1)?;
        draft.write_ring(base, rings.slots(&job.recipe));
        Some(base)
    });
    if let Some(base) = base {
        job.put_in_force(draft, base);
    }
    base.is_some()
}

/// Those of these backends of a VIP that may take new flows.
fn members(placed: &Placed, weights: impl Iterator<Item = (IpAddr, u32)>) -> Vec<Member> {
    let member = |(address, weight): (IpAddr, u32)| {
        let serves = placed.wanted.backends.get(&address)?.effective() == Disposition::Serving;
        let place = placed.places.get(&address).copied()?;
        (serves && weight > 0).then_some(Member { address, place, weight })
    };
    weights.filter_map(member).collect()
}
