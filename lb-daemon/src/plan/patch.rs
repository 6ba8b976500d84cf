//! Plans for a few VIPs among many, made of these alone.
//!
//! A backend that fails, a weight that changes: nearly all plans concern one pool, and among a thousand VIPs of a hundred
//! backends comparing all with all takes a tenth of a second, this a millisecond.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::vip::VipKey;

use super::{
    Op, RingCache, State,
    diff::{retire_leftovers, write},
    draft::{Draft, target_range},
    place::{Placed, place},
    wanted::Wanted,
};

/// The ops that lead the VIPs of `wanted` from what `observed` has of them to what is wanted, as safe in their order as
/// those of [`super::diff::plan`]; the other VIPs stay as they are. What `wanted` says of no VIP in particular must be in
/// force already.
///
/// `None` if it takes more than the places that these VIPs have: a VIP that comes, moves, or gets groups, lists or server
/// IDs. Then the whole must be planned. `rings` as there.
pub fn patch(observed: &State, wanted: &Wanted, rings: &mut RingCache) -> Option<Vec<Op>> {
    let mut draft = Draft::part(observed, part(observed, wanted.vips.keys())?);
    retire_leftovers(&mut draft, wanted);
    let placed = place(draft.state(), &BTreeSet::new(), wanted).ok()?;
    if !placed.iter().all(|vip| has_its_places(vip, draft.state())) {
        return None;
    }
    // Address entries say nothing of backends.
    let written = write(&mut draft, wanted, &BTreeMap::new(), &placed, rings);
    rings.end_patch();
    written.ok()?;
    let ops = draft.finish();
    ops.iter().all(concerns_these_alone).then_some(ops)
}

/// What the tables hold of some VIPs, and of none in particular; `None` if they don't have them all.
pub fn part<'k>(observed: &State, keys: impl Iterator<Item = &'k VipKey>) -> Option<State> {
    let vip = |key: &VipKey| Some((*key, *observed.vips.get(key)?));
    let vips: BTreeMap<VipKey, _> = keys.map(vip).collect::<Option<_>>()?;
    let ids: BTreeSet<u32> = vips.values().map(|vip| vip.id).collect();
    let targets = vips.values().flat_map(|vip| observed.targets.range(target_range(vip)));
    let groups = observed.groups.iter().filter(|(_, group)| ids.contains(&group.vip));
    let groups: BTreeMap<u32, _> = groups.map(|(number, group)| (*number, *group)).collect();
    let bases = vips.values().map(|vip| vip.ring_base).chain(groups.values().map(|group| group.ring_base));
    let rings = bases.filter_map(|base| Some((base, *observed.rings.get(&base)?)));
    let histories = vips.values().map(|vip| vip.history_base);
    let histories = histories.filter_map(|base| Some((base, *observed.histories.get(&base)?)));
    let servers = observed.servers.iter().filter(|(key, _)| ids.contains(&key.vip));
    let lists = observed.lists.iter().filter(|(id, _)| id.vip == 0 || ids.contains(&id.vip));
    Some(State {
        targets: targets.map(|(id, target)| (*id, *target)).collect(),
        rings: rings.collect(),
        histories: histories.collect(),
        servers: servers.map(|(key, target)| (*key, *target)).collect(),
        lists: lists.map(|(id, list)| (*id, list.clone())).collect(),
        tunnels: observed.tunnels.clone(),
        bonds: observed.bonds.clone(),
        capacity: observed.capacity,
        vips,
        groups,
    })
}

/// Whether a VIP needs no number that might be another's, which a part of the state doesn't tell.
fn has_its_places(vip: &Placed, state: &State) -> bool {
    vip.is_in_force && !vip.moves() && vip.groups.iter().all(|number| state.groups.contains_key(number))
}

/// Whether an op is about a VIP's own places, and not about a table in which others count too.
fn concerns_these_alone(op: &Op) -> bool {
    match op {
        Op::SetTarget { .. }
        | Op::ClearCounters { .. }
        | Op::WriteRing { .. }
        | Op::WriteHistory { .. }
        | Op::Disown { .. }
        | Op::SetGroup { .. }
        | Op::SetVip { .. }
        | Op::Grace
        | Op::SweepFlows { .. } => true,
        Op::SetServer { .. }
        | Op::RemoveServer { .. }
        | Op::SetList { .. }
        | Op::SetTunnel { .. }
        | Op::RemoveTunnel { .. }
        | Op::SetBond { .. }
        | Op::RemoveBond { .. }
        | Op::RemoveVip { .. } => false,
    }
}
