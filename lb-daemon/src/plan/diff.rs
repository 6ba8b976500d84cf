//! From observed and wanted state to ordered ops.
//!
//! The order of a plan, so that after any prefix of it no packet can meet a target that is not filled in:
//! VIPs that leave · targets that open · rings and VIPs · targets that close · sweep of the flow table · places freed.
//! A plan that was cut short leaves targets that no VIP leads to; the next one finds and frees them.
//!
//! Whoever plans again after an op failed should wait for a moment first: ring blocks that were given up by the ops that
//! did succeed look free, while packets may still be reading them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_common::layout::{
    flow::MAX_TARGETS,
    ring::blocks,
    target::Target,
    vip::{ICMP, ICMPV6, Vip, VipKey},
};

use super::{
    Capacity, Op, RingCache, State,
    draft::{Draft, target_range},
    install::install,
    place::{Placed, place, places, range_size},
    target::{address_of, target},
    wanted::{Disposition, Wanted, WantedVip},
};

/// Why there is no plan; the state in force goes on serving.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// `VIPS` is too small.
    #[error("the configuration takes {needed} entries for VIPs and their addresses, the table holds {places}; {FIX}")]
    TooManyVips {
        /// Entries of all services and addresses.
        needed: u32,
        /// Entries that the table can hold.
        places: u32,
    },
    /// A pool has more backends than a ring can name.
    #[error("{service} has {backends} backends, the limit is {limit}; spread them over several VIPs")]
    TooManyBackends {
        /// The VIP.
        service: String,
        /// Its backends.
        backends: u32,
        /// Most backends of a VIP.
        limit: u32,
    },
    /// `TARGETS` is too small, or too fragmented.
    #[error(
        "{service} needs {needed} places in a row for its targets; of the table's {places}, {free} are free, {longest} in a row at most; {FIX}"
    )]
    TooManyTargets {
        /// The VIP.
        service: String,
        /// Places that it needs, one beside the other.
        needed: u32,
        /// The longest free run of places.
        longest: u32,
        /// All free places.
        free: u32,
        /// Places of the table.
        places: u32,
    },
    /// `RINGS` is too small, or too fragmented: an old ring must stay until its successor is in force.
    #[error(
        "the new ring of {service} needs {needed} blocks in a row; of the table's {places}, {free} are free, {longest} in a row at most; {FIX}"
    )]
    RingSpace {
        /// The VIP.
        service: String,
        /// Blocks that its ring needs, one beside the other.
        needed: u32,
        /// The longest free run of blocks.
        longest: u32,
        /// All free blocks.
        free: u32,
        /// Blocks of the table.
        places: u32,
    },
}

/// Tables are sized when they are made, for the configuration of that time.
const FIX: &str = "`lb unload` and a new start make tables of the size that this configuration needs";

/// The ops that lead from `observed` to `wanted`; none if nothing differs. See the module for their order.
///
/// VIPs and backends that stay keep their numbers. `rings` only saves work; it may be empty.
///
/// # Errors
/// When the tables are too small for `wanted`.
pub fn plan(observed: &State, wanted: &Wanted, rings: &mut RingCache) -> Result<Vec<Op>, PlanError> {
    let addresses = addresses(wanted);
    let entries = entries(wanted.vips.len() + addresses.len());
    if entries > observed.capacity.vips {
        return Err(PlanError::TooManyVips { needed: entries, places: observed.capacity.vips });
    }
    let mut draft = Draft::new(observed);
    remove_vips(&mut draft, wanted, &addresses);
    retire_leftovers(&mut draft, wanted);
    let placed = match place(draft.state(), wanted) {
        // Freeing what is left over first costs the time of a sweep before anything new serves, hence only at need.
        Err(_) if draft.reclaim() => place(draft.state(), wanted)?,
        placed => placed?,
    };
    open_targets(&mut draft, &placed);
    for &address in &addresses {
        draft.set_vip(address, Vip::default());
    }
    let set = install(&mut draft, &placed, rings);
    rings.end_plan();
    set?;
    for vip in &placed {
        close_targets(&mut draft, vip);
    }
    Ok(draft.finish())
}

/// Sizes of fresh tables for `wanted`, with room for growth and for rings that are written while their predecessors are
/// still in force.
pub fn needs(wanted: &Wanted) -> Capacity {
    /// Slots of a default ring.
    const DEFAULT_RING: u32 = 65_537;
    let vips = entries(wanted.vips.len() + addresses(wanted).len());
    let range = |vip: &WantedVip| range_size(entries(vip.backends.len()));
    let targets = wanted.vips.values().map(range).fold(0, u32::saturating_add);
    let rings = || wanted.vips.values().map(|vip| blocks(vip.ring_size));
    let ring_blocks = rings().fold(0, u32::saturating_add);
    // The largest ring must fit twice, or it could never be replaced.
    let spare = (ring_blocks / 4).max(16 * blocks(DEFAULT_RING)).max(rings().max().unwrap_or(0));
    Capacity {
        vips: doubled(vips).max(64),
        targets: (doubled(targets).max(4096).saturating_add(1)).min(MAX_TARGETS),
        ring_blocks: ring_blocks.saturating_add(spare),
    }
}

/// Twice the next power of two, or as near as `u32` comes.
fn doubled(count: u32) -> u32 {
    count.checked_next_power_of_two().and_then(|power| power.checked_mul(2)).unwrap_or(u32::MAX)
}

fn entries(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The entries that tell which addresses are VIPs'; one for all services of an address.
fn addresses(wanted: &Wanted) -> BTreeSet<VipKey> {
    let entry = |key: &VipKey| {
        let protocol = if address_of(key.address).is_ipv4() { ICMP } else { ICMPV6 };
        VipKey::address(key.address, protocol)
    };
    wanted.vips.keys().map(entry).collect()
}

fn remove_vips(draft: &mut Draft, wanted: &Wanted, addresses: &BTreeSet<VipKey>) {
    let stays = |key: &VipKey| wanted.vips.contains_key(key) || addresses.contains(key);
    // Services before addresses: their keys are not sorted that way.
    let mut leaving: Vec<VipKey> = draft.state().vips.keys().filter(|key| !stays(key)).copied().collect();
    leaving.sort_by_key(VipKey::is_address);
    for key in leaving {
        draft.remove_vip(key);
    }
}

/// Targets outside their VIP's range, left by a move that was cut short, give their flows to that VIP's own target of the
/// same backend; targets whose VIP is gone just retire.
fn retire_leftovers(draft: &mut Draft, wanted: &Wanted) {
    let services = draft.state().vips.iter().filter(|(key, _)| !key.is_address());
    let by_id: BTreeMap<u32, (VipKey, Vip)> = services.map(|(key, vip)| (vip.id, (*key, *vip))).collect();
    let at_home =
        |id: u32, target: &Target| by_id.get(&target.vip).is_some_and(|(_, vip)| target_range(vip).contains(&id));
    let targets = draft.state().targets.iter().filter(|(id, target)| !at_home(**id, target));
    let leftovers: Vec<(u32, Target)> = targets.map(|(id, target)| (*id, *target)).collect();
    let mut homes: BTreeMap<u32, BTreeMap<IpAddr, u16>> = BTreeMap::new();
    for (id, target) in leftovers {
        let successor = by_id.get(&target.vip).and_then(|(key, vip)| {
            let backend = address_of(target.outer_destination);
            let stays = wanted.vips.get(key).is_some_and(|wanted| wanted.backends.contains_key(&backend));
            let home = homes.entry(vip.id).or_insert_with(|| places(draft.state(), vip));
            let place = home.get(&backend).copied();
            place.filter(|_| stays).map(|place| vip.target_base + u32::from(place))
        });
        match successor {
            Some(successor) => draft.renumber(id, successor),
            None => draft.retire(id),
        }
    }
}

/// Fills places that have no target yet, and lets targets serve that should: before any ring names them.
fn open_targets(draft: &mut Draft, placed: &[Placed]) {
    for vip in placed {
        for (&backend, wanted) in &vip.wanted.backends {
            let Some(&place) = vip.places.get(&backend) else { continue };
            let id = vip.target(place);
            let is_new = !draft.state().targets.contains_key(&id);
            if is_new || wanted.effective() == Disposition::Serving {
                let value = target(vip.id, backend, wanted, vip.target_before(draft.state(), backend, place));
                draft.set_target(id, value);
            }
        }
    }
}

/// Changes the targets that are not to serve, and retires those of backends that left, now that no ring names them.
fn close_targets(draft: &mut Draft, vip: &Placed) {
    for (&backend, wanted) in &vip.wanted.backends {
        if let Some(&place) = vip.places.get(&backend) {
            let value = target(vip.id, backend, wanted, vip.target_before(draft.state(), backend, place));
            draft.set_target(vip.target(place), value);
        }
    }
    let (base, count) = vip.range_before;
    let held = draft.state().targets.range(base..base.saturating_add(count));
    let own: Vec<(u32, Target)> =
        held.filter(|(_, target)| target.vip == vip.id).map(|(id, target)| (*id, *target)).collect();
    for (id, target) in own {
        let new = vip.places.get(&address_of(target.outer_destination)).map(|&place| vip.target(place));
        match new {
            Some(new) if new == id => {}
            Some(new) if id - base == new - vip.base => draft.renumber(id, new),
            _ => draft.retire(id),
        }
    }
}

#[cfg(test)]
mod tests;
