//! From observed and wanted state to ordered ops.
//!
//! The order of a plan, so that after any prefix of it no packet can meet a target that is not filled in:
//! VIPs that leave · targets that open · groups, lists and server IDs · rings and VIPs · what VIPs go by no more · targets
//! that close · sweep of the flow table · places freed.
//! A plan that was cut short leaves targets that no VIP leads to; the next one finds and frees them.
//!
//! Whoever plans again after an op failed should wait for a moment first: ring blocks that were given up by the ops that
//! did succeed look free, while packets may still be reading them.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::layout::{
    flow::MAX_TARGETS,
    ring::blocks,
    target::Target,
    vip::{ICMP, ICMPV6, Vip, VipKey},
};

pub use super::error::PlanError;
use super::{
    Capacity, Op, RingCache, State,
    draft::{Draft, target_range},
    install::{Job, install},
    place::{Placed, place, places, range_size},
    selectors,
    target::{address_of, target},
    wanted::{Disposition, Wanted, WantedVip},
};

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
    histories_fit(&observed.capacity, wanted)?;
    let mut draft = Draft::new(observed);
    remove_vips(&mut draft, wanted, &addresses);
    selectors::clear_orphans(&mut draft);
    retire_leftovers(&mut draft, wanted);
    let placed = match place(draft.state(), draft.leaving_vips(), wanted) {
        // Freeing what is left over first costs the time of a sweep before anything new serves, hence only at need.
        Err(_) if draft.reclaim() => place(draft.state(), draft.leaving_vips(), wanted)?,
        placed => placed?,
    };
    let written = write(&mut draft, wanted, &addresses, &placed, rings);
    rings.end_plan();
    written?;
    Ok(draft.finish())
}

/// Brings about what is wanted, in the space that is there.
pub(super) fn write(
    draft: &mut Draft,
    wanted: &Wanted,
    addresses: &BTreeMap<VipKey, Vip>,
    placed: &[Placed],
    rings: &mut RingCache,
) -> Result<(), PlanError> {
    open_targets(draft, placed);
    for (key, vip) in addresses {
        // Nothing may be dropped for want of a service that is about to come.
        let flags = vip.flags & !Vip::DROP_UNKNOWN_PORT;
        let before = draft.state().vips.get(key).copied();
        draft.set_vip(*key, before.unwrap_or(Vip { flags, ..*vip }));
    }
    selectors::prepare(draft, wanted, placed, rings)?;
    let jobs: Vec<Job> = placed.iter().map(|vip| Job::vip(vip, draft.state())).collect();
    install(draft, &jobs, rings)?;
    for (key, vip) in addresses {
        draft.set_vip(*key, *vip);
    }
    selectors::follow_moves(draft, placed, rings)?;
    selectors::tidy(draft, wanted, placed);
    for vip in placed {
        close_targets(draft, vip);
    }
    Ok(())
}

/// Sizes of fresh tables for `wanted`, with room for growth and for rings that are written while their predecessors are
/// still in force.
pub fn needs(wanted: &Wanted) -> Capacity {
    /// Slots of a default ring.
    const DEFAULT_RING: u32 = 65_537;
    /// Prefixes that a table may hold at least. It takes memory only as it fills.
    const PREFIXES: u32 = 4_194_304;
    let vips = entries(wanted.vips.len() + addresses(wanted).len());
    let range = |vip: &WantedVip| range_size(entries(vip.backends.len()));
    let targets = wanted.vips.values().map(range).fold(0, u32::saturating_add);
    let groups = wanted.vips.values().map(|vip| vip.groups.len()).sum();
    let (ring_blocks, largest) = all_ring_blocks(wanted);
    // The largest ring must fit twice, or it could never be replaced.
    let spare = (ring_blocks / 4).max(16 * blocks(DEFAULT_RING)).max(largest);
    let servers = wanted.vips.values().map(|vip| vip.servers.len()).sum();
    let access = wanted.vips.values().map(|vip| vip.access.len()).sum::<usize>() + wanted.access.len();
    let routes = wanted.vips.values().map(|vip| vip.routes.len()).sum();
    Capacity {
        vips: doubled(vips).max(64),
        targets: (doubled(targets).max(4096).saturating_add(1)).min(MAX_TARGETS),
        ring_blocks: ring_blocks.saturating_add(spare),
        groups: doubled(entries(groups)).max(256),
        servers: doubled(entries(servers)).max(4096),
        prefixes: doubled(entries(access.max(routes))).max(PREFIXES),
        tunnel_sources: doubled(entries(wanted.tunnel_sources.len())).max(4096),
        own: doubled(entries(wanted.tunnels.len())).max(256),
    }
}

/// Blocks of all rings, of VIPs and of groups, and of the largest of them; each with its history if it may have one.
fn all_ring_blocks(wanted: &Wanted) -> (u32, u32) {
    let of_vip =
        |vip: &WantedVip| blocks(vip.ring_size).saturating_mul(if vip.flags & Vip::ADAPTIVE == 0 { 1 } else { 2 });
    let of_groups = wanted.vips.values().flat_map(|vip| vip.groups.iter().map(|group| blocks(group.ring_size)));
    let all = wanted.vips.values().map(of_vip).chain(of_groups);
    all.fold((0, 0), |(sum, most), one| (u32::saturating_add(sum, one), u32::max(most, one)))
}

/// Refuses tables in which an adaptive VIP could one day find no room for the history of its ring: a backend that is down
/// would stay in force then.
fn histories_fit(capacity: &Capacity, wanted: &Wanted) -> Result<(), PlanError> {
    let Some((key, _)) = wanted.vips.iter().find(|(_, vip)| vip.flags & Vip::ADAPTIVE != 0) else { return Ok(()) };
    let (all, largest) = all_ring_blocks(wanted);
    let (needed, places) = (all.saturating_add(largest), capacity.ring_blocks);
    if needed <= places {
        return Ok(());
    }
    let service = super::wanted::service(key).map(|service| service.to_string()).unwrap_or_default();
    Err(PlanError::HistorySpace { service, needed, places })
}

/// Twice the next power of two, or as near as `u32` comes.
fn doubled(count: u32) -> u32 {
    count.checked_next_power_of_two().and_then(|power| power.checked_mul(2)).unwrap_or(u32::MAX)
}

fn entries(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The entries that tell which addresses are VIPs'; one for all services of an address or prefix.
fn addresses(wanted: &Wanted) -> BTreeMap<VipKey, Vip> {
    let mut entries: BTreeMap<VipKey, Vip> = BTreeMap::new();
    for (key, vip) in &wanted.vips {
        let protocol = if address_of(key.address).is_ipv4() { ICMP } else { ICMPV6 };
        let address = VipKey::address(key.address, protocol).prefix(key.wildcard_bits);
        let plain = Vip { flags: wanted.address_flags, wildcard_bits: key.wildcard_bits.into(), ..Vip::default() };
        let entry = entries.entry(address).or_insert(plain);
        if vip.drops_unknown_port {
            entry.flags |= Vip::DROP_UNKNOWN_PORT;
        }
    }
    entries
}

fn remove_vips(draft: &mut Draft, wanted: &Wanted, addresses: &BTreeMap<VipKey, Vip>) {
    let stays = |key: &VipKey| wanted.vips.contains_key(key) || addresses.contains_key(key);
    // Services before addresses: their keys are not sorted that way.
    let mut leaving: Vec<VipKey> = draft.state().vips.keys().filter(|key| !stays(key)).copied().collect();
    leaving.sort_by_key(VipKey::is_address);
    for key in leaving {
        draft.remove_vip(key);
    }
}

/// Targets outside their VIP's range, left by a move that was cut short, give their flows to that VIP's own target of the
/// same backend; targets whose VIP is gone just retire.
pub(super) fn retire_leftovers(draft: &mut Draft, wanted: &Wanted) {
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
pub(crate) mod tests;
