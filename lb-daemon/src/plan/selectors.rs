//! What picks a backend before the ring does, and who is let in: groups and source routes, server IDs, access lists; and
//! what is known of tunnels and bonds.
//!
//! What a VIP goes by is written before the VIP's value says so, and removed after it says so no more. Nothing is left
//! under the number of a VIP that is gone, so whoever has the number next inherits nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lb_common::layout::{prefix::Group, server::ServerKey};

use super::{
    ListId, ListTable, RingCache,
    draft::Draft,
    error::PlanError,
    install::{Job, install},
    place::Placed,
    prefixes::Prefixes,
    wanted::Wanted,
};

/// Removes what belongs to VIPs that are not there any more.
pub(super) fn clear_orphans(draft: &mut Draft) {
    let services = draft.state().vips.iter().filter(|(key, _)| !key.is_address());
    let live: BTreeSet<u32> = services.map(|(_, vip)| vip.id).collect();
    let is_orphan = |vip: u32| !live.contains(&vip);
    let lists: Vec<ListId> =
        draft.state().lists.keys().filter(|id| id.vip != 0 && is_orphan(id.vip)).copied().collect();
    let servers: Vec<ServerKey> = draft.state().servers.keys().filter(|key| is_orphan(key.vip)).copied().collect();
    let orphaned = |(id, group): (&u32, &Group)| is_orphan(group.vip).then_some(*id);
    let groups: Vec<u32> = draft.state().groups.iter().filter_map(orphaned).collect();
    for list in lists {
        draft.set_list(list, Arc::default());
    }
    for key in servers {
        draft.remove_server(key);
    }
    for id in groups {
        draft.give_up_group(id);
    }
}

/// Writes what VIPs are about to go by.
///
/// # Errors
/// When a table is too small.
pub(super) fn prepare(
    draft: &mut Draft,
    wanted: &Wanted,
    placed: &[Placed],
    cache: &mut RingCache,
) -> Result<(), PlanError> {
    let jobs: Vec<Job> = placed.iter().flat_map(|vip| first_groups(draft, vip)).collect();
    install(draft, &jobs, cache)?;
    fill_list(draft, cache, ListId { table: ListTable::Access, vip: 0 }, &wanted.access, None)?;
    for vip in placed {
        fill_list(draft, cache, ListId { table: ListTable::Access, vip: vip.id }, &vip.wanted.access, None)?;
        let routes = ListId { table: ListTable::Routes, vip: vip.id };
        fill_list(draft, cache, routes, &vip.wanted.routes, Some(&vip.groups))?;
    }
    fill_servers(draft, placed)?;
    prepare_tunnels(draft, wanted, cache)
}

/// Gives groups of VIPs that moved their members of the new range, now that the VIPs lead there.
///
/// # Errors
/// When there is no room for a ring.
pub(super) fn follow_moves(draft: &mut Draft, placed: &[Placed], cache: &mut RingCache) -> Result<(), PlanError> {
    let moved = || placed.iter().filter(|vip| moves_under_packets(vip) && !vip.groups.is_empty());
    if moved().next().is_none() {
        return Ok(());
    }
    // A packet that read the VIP before it moved must not go by a ring that names places of the new range.
    draft.grace();
    let jobs: Vec<Job> = moved().flat_map(|vip| groups(vip, |_| true)).collect();
    install(draft, &jobs, cache)
}

/// Removes what VIPs no longer go by.
pub(super) fn tidy(draft: &mut Draft, wanted: &Wanted, placed: &[Placed]) {
    empty_list(draft, ListId { table: ListTable::Access, vip: 0 }, &wanted.access);
    for vip in placed {
        empty_list(draft, ListId { table: ListTable::Access, vip: vip.id }, &vip.wanted.access);
        empty_list(draft, ListId { table: ListTable::Routes, vip: vip.id }, &vip.wanted.routes);
    }
    let in_use: BTreeSet<u32> = placed.iter().flat_map(|vip| vip.groups.iter().copied()).collect();
    let stale: Vec<u32> = draft.state().groups.keys().filter(|id| !in_use.contains(id)).copied().collect();
    for id in stale {
        draft.give_up_group(id);
    }
    remove_servers(draft, &servers(placed));
    for address in draft.state().tunnels.difference(&wanted.tunnels).copied().collect::<Vec<_>>() {
        draft.remove_tunnel(address);
    }
    empty_list(draft, ListId { table: ListTable::TunnelSources, vip: 0 }, &wanted.tunnel_sources);
    set_bonds(draft, &wanted.bonds);
}

/// Whether packets go by the VIP's value while its range changes.
fn moves_under_packets(vip: &Placed) -> bool {
    vip.is_in_force && vip.moves()
}

/// The groups as they must be while the VIP still leads to the range in force: if that is to be another one, only of
/// members that have the same place in both and serve in both.
fn first_groups(draft: &Draft, vip: &Placed) -> Vec<Job> {
    if !moves_under_packets(vip) {
        return groups(vip, |_| true);
    }
    let serves_already = |address: IpAddr| {
        let place = vip.places.get(&address).copied();
        let before = place.and_then(|place| vip.target_before(draft.state(), address, place));
        before.is_some_and(|target| target.serves == vip.id)
    };
    groups(vip, serves_already)
}

fn groups(vip: &Placed, takes: impl Fn(IpAddr) -> bool) -> Vec<Job> {
    let numbered = vip.wanted.groups.iter().zip(&vip.groups);
    numbered.map(|(group, number)| Job::group(vip, *number, group, &takes)).collect()
}

/// Makes a list hold what is wanted, unless that is nothing. `numbers` say what the numbers of `wanted` stand for.
fn fill_list(
    draft: &mut Draft,
    cache: &mut RingCache,
    id: ListId,
    wanted: &Arc<Prefixes>,
    numbers: Option<&[u32]>,
) -> Result<(), PlanError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let held = draft.state().lists.get(&id);
    let to = cache.list(id, wanted, numbers, held);
    if held.is_some_and(|held| Arc::ptr_eq(held, &to)) {
        return Ok(());
    }
    let of_table = draft.state().lists.iter().filter(|(other, _)| other.table == id.table && **other != id);
    let others: usize = of_table.map(|(_, list)| list.len()).sum();
    let worst = others + held.map_or(to.len(), |held| held.joint_len(&to));
    let capacity = &draft.state().capacity;
    let places = match id.table {
        ListTable::Access | ListTable::Routes => capacity.prefixes,
        ListTable::TunnelSources => capacity.tunnel_sources,
    };
    let needed = count(worst);
    if needed > places {
        return Err(PlanError::TooManyPrefixes { table: id.table.name(), needed, places });
    }
    draft.set_list(id, to);
    Ok(())
}

/// Empties a list that is wanted no more.
fn empty_list(draft: &mut Draft, id: ListId, wanted: &Prefixes) {
    if wanted.is_empty() && draft.state().lists.contains_key(&id) {
        draft.set_list(id, Arc::default());
    }
}

/// All server IDs and their targets.
fn servers(placed: &[Placed]) -> BTreeMap<ServerKey, u32> {
    let of_vip = |vip: &Placed| {
        let server = |(id, backend): (&u128, &IpAddr)| {
            let place = vip.places.get(backend)?;
            Some((ServerKey::new(vip.id, *id), vip.target(*place)))
        };
        vip.wanted.servers.iter().filter_map(server).collect::<Vec<_>>()
    };
    placed.iter().flat_map(of_vip).collect()
}

fn fill_servers(draft: &mut Draft, placed: &[Placed]) -> Result<(), PlanError> {
    let servers = servers(placed);
    let limit = draft.state().capacity.servers;
    if count(servers.len()) > limit {
        return Err(PlanError::TooManyServers { needed: count(servers.len()), places: limit });
    }
    let new = servers.keys().filter(|key| !draft.state().servers.contains_key(key)).count();
    if count(draft.state().servers.len() + new) > limit {
        // Packets with an ID that is on its way out then go by the ring a moment earlier.
        remove_servers(draft, &servers);
    }
    for (key, target) in servers {
        draft.set_server(key, target);
    }
    Ok(())
}

fn remove_servers(draft: &mut Draft, wanted: &BTreeMap<ServerKey, u32>) {
    let stale: Vec<ServerKey> = draft.state().servers.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
    for key in stale {
        draft.remove_server(key);
    }
}

/// Sources first: an address without any would take tunnel packets from nobody.
fn prepare_tunnels(draft: &mut Draft, wanted: &Wanted, cache: &mut RingCache) -> Result<(), PlanError> {
    let (needed, places) = (count(wanted.tunnels.len()), draft.state().capacity.own);
    if needed > places {
        return Err(PlanError::TooManyTunnels { needed, places });
    }
    let sources = ListId { table: ListTable::TunnelSources, vip: 0 };
    fill_list(draft, cache, sources, &wanted.tunnel_sources, None)?;
    let joint = draft.state().tunnels.union(&wanted.tunnels).count();
    if count(joint) > places {
        for address in draft.state().tunnels.difference(&wanted.tunnels).copied().collect::<Vec<_>>() {
            draft.remove_tunnel(address);
        }
    }
    for &address in &wanted.tunnels {
        draft.set_tunnel(address);
    }
    Ok(())
}

/// Members beyond what the table holds are left out: their packets are redirected instead of transmitted, which is slower.
fn set_bonds(draft: &mut Draft, bonds: &BTreeMap<u32, u32>) {
    for member in draft.state().bonds.keys().filter(|member| !bonds.contains_key(member)).copied().collect::<Vec<_>>() {
        draft.remove_bond(member);
    }
    for (&member, &bond) in bonds.iter().take(draft.state().capacity.own as usize) {
        draft.set_bond(member, bond);
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
