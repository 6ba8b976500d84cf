//! Puts VIPs and groups in force, each with its ring.

use std::{collections::BTreeSet, net::IpAddr, ops::Range};

use lb_common::layout::{
    prefix::Group,
    ring::blocks,
    vip::{Vip, VipKey},
};

use super::{
    RingCache, State,
    draft::{Draft, group_blocks, ring_blocks},
    error::PlanError,
    place::{Placed, places},
    rings::{Member, Recipe},
    turns::{Renewal, turns},
    wanted::{Disposition, WantedGroup, service},
};

/// A ring to be put in force.
pub(super) struct Job {
    whose: Whose,
    /// Of what the ring is made.
    recipe: Recipe,
    /// Places of the VIP's range in force whose backends leave.
    gone: BTreeSet<u16>,
    /// Those whose backends left before, while the ring in force went on to name them: that of a closed VIP does.
    vacant: BTreeSet<u16>,
}

/// What becomes of the ring in force and its history.
enum Renewed {
    /// They stay.
    No,
    /// There is to be no ring, where this is the first block.
    Empty(u32),
    /// The ring stays as it was, by which known flows of an adaptive VIP go, but nobody takes new ones.
    Closed,
    /// A ring without a history is written.
    Ring,
    /// A ring is written, and a history behind it; whether all flows were remembered so far.
    RingAndHistory(bool),
}

/// Whose ring it is.
enum Whose {
    /// A VIP's, with all its value but the ring.
    Vip(VipKey, Vip),
    /// A group's: the VIP's key, the group's number, and all its value but the ring.
    Group(VipKey, u32, Group),
}

impl Job {
    /// The VIP with its own ring, of those of its backends that may take new flows. `before` are the tables as they are.
    pub(super) fn vip(placed: &Placed, before: &State) -> Self {
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
        let (gone, vacant) = if wanted.flags & Vip::ADAPTIVE == 0 {
            Default::default()
        } else {
            (leaving(placed, before), vacant(&key, before))
        };
        Self { whose: Whose::Vip(key, vip), recipe, gone, vacant }
    }

    /// A group with the ring of those of its members that may take new flows and that `takes` takes.
    pub(super) fn group(placed: &Placed, number: u32, group: &WantedGroup, takes: impl Fn(IpAddr) -> bool) -> Self {
        let value = Group { vip: placed.id, identity: group.identity, ..Group::default() };
        let weights = group.members.iter().map(|(address, weight)| (*address, *weight));
        let recipe = (members(placed, weights.filter(|(address, _)| takes(*address))), group.ring_size);
        Self { whose: Whose::Group(placed.key, number, value), recipe, gone: BTreeSet::new(), vacant: BTreeSet::new() }
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

    /// What has to be written.
    fn renewed(&self, draft: &Draft, rings: &mut RingCache) -> Renewed {
        match &self.whose {
            Whose::Vip(key, vip) if vip.flags & Vip::ADAPTIVE != 0 => self.renewed_adaptive(draft, key, rings),
            // An empty ring lies where the one before it did: a group's value must not change in two words at once.
            Whose::Group(..) if self.recipe.0.is_empty() => {
                Renewed::Empty(self.ring_before(draft).map_or(0, |(base, _)| base))
            }
            Whose::Vip(..) if self.recipe.0.is_empty() => Renewed::Empty(0),
            Whose::Vip(..) | Whose::Group(..) if self.is_in_force(draft, rings) => Renewed::No,
            Whose::Vip(..) | Whose::Group(..) => Renewed::Ring,
        }
    }

    /// The same of an adaptive VIP.
    fn renewed_adaptive(&self, draft: &Draft, key: &VipKey, rings: &mut RingCache) -> Renewed {
        let before = draft.state().vips.get(key);
        let was_adaptive = before.is_some_and(|vip| vip.flags & Vip::ADAPTIVE != 0);
        let was_off = before.is_some_and(|vip| vip.flags & Vip::UNTRACKED != 0);
        let had_ring = before.is_some_and(|vip| vip.ring_slots > 0);
        if self.recipe.0.is_empty() {
            return if was_adaptive && had_ring { Renewed::Closed } else { Renewed::Empty(0) };
        }
        let stays = self.is_in_force(draft, rings);
        match before {
            None => Renewed::Ring,
            Some(_) if stays && (was_adaptive || was_off) => Renewed::No,
            Some(_) => Renewed::RingAndHistory(!was_adaptive && !was_off),
        }
    }

    /// Whether the ring in force is the one that is wanted.
    fn is_in_force(&self, draft: &Draft, rings: &mut RingCache) -> bool {
        let before = self.ring_before(draft).filter(|(_, slots)| *slots == self.recipe.1);
        before.is_some_and(|(base, _)| draft.has_ring(base, rings.digest(&self.recipe)))
    }

    /// Blocks that have to be found.
    fn needed(&self, renewed: &Renewed) -> u32 {
        match renewed {
            Renewed::No | Renewed::Empty(_) | Renewed::Closed => 0,
            Renewed::Ring => blocks(self.recipe.1),
            Renewed::RingAndHistory(_) => blocks(self.recipe.1).saturating_mul(2),
        }
    }

    /// Puts it in force. What is written goes to `base`.
    fn put_in_force(&self, draft: &mut Draft, renewed: &Renewed, base: u32, rings: &mut RingCache) {
        if self.needed(renewed) > 0 {
            draft.write_ring(base, rings.slots(&self.recipe));
        }
        let (base, slots) = match renewed {
            Renewed::Ring | Renewed::RingAndHistory(_) => (base, self.recipe.1),
            Renewed::No | Renewed::Closed => self.ring_before(draft).unwrap_or_default(),
            Renewed::Empty(base) => (*base, 0),
        };
        match self.whose {
            Whose::Vip(key, vip) => {
                let vip = Vip { ring_base: base, ring_slots: slots, ..vip };
                let vip =
                    if vip.flags & Vip::ADAPTIVE == 0 { vip } else { self.with_history(draft, &key, vip, renewed) };
                draft.set_vip(key, vip);
            }
            Whose::Group(_, id, group) => draft.set_group(id, Group { ring_base: base, ring_slots: slots, ..group }),
        }
    }

    /// An adaptive VIP with its history, if it has one.
    fn with_history(&self, draft: &mut Draft, key: &VipKey, vip: Vip, renewed: &Renewed) -> Vip {
        let before = draft.state().vips.get(key).copied().unwrap_or_default();
        let closed = if matches!(renewed, Renewed::Closed) { Vip::CLOSED } else { 0 };
        let vip = Vip { flags: vip.flags | closed, ..vip };
        let with_history = |history_base| Vip { flags: vip.flags | Vip::HISTORY, history_base, ..vip };
        match renewed {
            Renewed::Ring | Renewed::Empty(_) => vip,
            Renewed::RingAndHistory(remembers_all) => {
                let after = with_history(vip.ring_base.saturating_add(blocks(vip.ring_slots)));
                draft.write_history(before, after, *remembers_all, &self.gone | &self.vacant);
                after
            }
            Renewed::No | Renewed::Closed => {
                let is_tracked = draft.state().histories.get(&before.history_base).is_some_and(|slots| *slots > 0);
                if !before.has_history() || !is_tracked {
                    return vip;
                }
                // Before another backend may get such a place.
                if !self.gone.is_empty() {
                    draft.disown(before, self.gone.clone());
                }
                with_history(before.history_base)
            }
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
                needed: first.needed(&first.renewed(draft, rings)),
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
        let renewed = job.renewed(draft, rings);
        match job.needed(&renewed) {
            0 => job.put_in_force(draft, &renewed, 0, rings),
            needed => waiting.push((job, renewed, needed)),
        }
    }
    draft.settle_blocks();
    let renewals: Vec<Renewal> =
        waiting.iter().map(|(job, _, needed)| Renewal { needed: *needed, held: job.held(draft) }).collect();
    let Some(turns) = turns(draft.blocks(), &renewals) else { return false };
    for (at, base) in turns {
        let (job, renewed, needed) = &waiting[at];
        draft.take_blocks_at(base, *needed);
        job.put_in_force(draft, renewed, base, rings);
    }
    true
}

/// Puts one ring in force; `false` if there is no room for it.
fn install_one(draft: &mut Draft, job: &Job, rings: &mut RingCache) -> bool {
    let renewed = job.renewed(draft, rings);
    let base = match job.needed(&renewed) {
        0 => Some(0),
        needed => draft.take_blocks(needed),
    };
    if let Some(base) = base {
        job.put_in_force(draft, &renewed, base, rings);
    }
    base.is_some()
}

/// Places of a VIP's range in force whose backends leave, or get another place.
fn leaving(placed: &Placed, before: &State) -> BTreeSet<u16> {
    let Some(vip) = before.vips.get(&placed.key) else { return BTreeSet::new() };
    let held = places(before, vip).into_iter();
    held.filter(|(address, place)| placed.places.get(address) != Some(place)).map(|(_, place)| place).collect()
}

/// Places of a closed VIP's range that have no target.
fn vacant(key: &VipKey, before: &State) -> BTreeSet<u16> {
    let Some(vip) = before.vips.get(key).filter(|vip| vip.flags & Vip::CLOSED != 0) else { return BTreeSet::new() };
    let all = 0..u16::try_from(vip.target_count).unwrap_or(u16::MAX);
    all.filter(|place| !before.targets.contains_key(&(vip.target_base + u32::from(*place)))).collect()
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
