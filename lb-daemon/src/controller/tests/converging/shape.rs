//! What tables say, without the numbers that are only names: what packets and flows see of them.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::layout::{
    target::Target,
    vip::{Vip, VipKey},
};

use crate::{
    dataplane::{Dataplane as _, memory::Memory},
    plan::{ListTable, State, prefixes::Prefix, target::address_of},
};

/// A list, with what its numbers mean.
type List = Vec<(Prefix, u64)>;

/// The tables, told by addresses.
#[derive(Debug, PartialEq)]
pub(super) struct Shape {
    /// Services, and entries of addresses as they are.
    vips: BTreeMap<VipKey, VipShape>,
    addresses: BTreeMap<VipKey, Vip>,
    lists: BTreeMap<(ListTable, Option<VipKey>), List>,
    tunnels: Vec<[u8; 16]>,
    bonds: BTreeMap<u32, u32>,
    /// Targets, groups and server IDs that belong to no VIP.
    orphans: usize,
}

/// A VIP. What its value says but for its number and places.
#[derive(Debug, PartialEq)]
struct VipShape {
    value: Vip,
    ring: Vec<IpAddr>,
    targets: BTreeMap<IpAddr, Target>,
    groups: BTreeMap<u64, Vec<IpAddr>>,
    servers: BTreeMap<[u64; 2], IpAddr>,
}

pub(super) fn shape(memory: &Memory) -> Shape {
    let mut memory = memory.clone();
    let state = memory.observe().unwrap();
    let services = || state.vips.iter().filter(|(key, _)| !key.is_address());
    let by_id: BTreeMap<u32, VipKey> = services().map(|(key, vip)| (vip.id, *key)).collect();
    let vips: BTreeMap<VipKey, VipShape> =
        services().map(|(key, vip)| (*key, vip_shape(&memory, &state, vip))).collect();
    let told = |of: fn(&VipShape) -> usize| vips.values().map(of).sum::<usize>();
    let all = state.targets.len() + state.groups.len() + state.servers.len();
    let orphans = all - told(|vip| vip.targets.len() + vip.groups.len() + vip.servers.len());
    let lists = state.lists.iter().map(|(id, list)| {
        let means = |number: u32| match id.table {
            ListTable::Routes => state.groups.get(&number).map_or(0, |group| group.identity),
            _ => number.into(),
        };
        let entries = list.iter().map(|(prefix, number)| (prefix, means(number))).collect();
        ((id.table, by_id.get(&id.vip).copied()), entries)
    });
    Shape {
        lists: lists.collect(),
        addresses: state.vips.iter().filter(|(key, _)| key.is_address()).map(|(key, vip)| (*key, *vip)).collect(),
        tunnels: state.tunnels.iter().copied().collect(),
        bonds: state.bonds.clone(),
        orphans,
        vips,
    }
}

fn vip_shape(memory: &Memory, state: &State, vip: &Vip) -> VipShape {
    let address = |id: &u32| address_of(state.targets[id].outer_destination);
    let ring = |base, slots| -> Vec<IpAddr> {
        memory.slots_at(base, slots).map(|place| address(&(vip.target_base + u32::from(place)))).collect()
    };
    let own = state.targets.iter().filter(|(_, target)| target.vip == vip.id);
    let target = |target: &Target| match target.serves {
        // It keeps the way that it had, which no packet takes.
        0 => Target {
            flags: target.flags & Target::GONE,
            outer_destination: target.outer_destination,
            ..Target::default()
        },
        serves => Target { vip: 0, serves: u32::from(serves == vip.id), ..*target },
    };
    let groups = state.groups.values().filter(|group| group.vip == vip.id);
    let servers = state.servers.iter().filter(|(key, _)| key.vip == vip.id);
    VipShape {
        value: Vip { id: 0, target_base: 0, target_count: 0, ring_base: 0, ..*vip },
        ring: ring(vip.ring_base, vip.ring_slots),
        targets: own.map(|(id, value)| (address(id), target(value))).collect(),
        groups: groups.map(|group| (group.identity, ring(group.ring_base, group.ring_slots))).collect(),
        servers: servers.map(|(key, id)| (key.id, address(id))).collect(),
    }
}
