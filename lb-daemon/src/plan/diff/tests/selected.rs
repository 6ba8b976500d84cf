//! Packets that find their backend by a group or a server ID, at every moment of a plan.

use lb_common::layout::{prefix::Group, server::ServerKey};

use super::{lab::Lab, *};
use crate::plan::{ListId, ListTable};

/// What packets on their way may still read or hold: all since the last grace, each with the step at which it was last in
/// force. A packet reads its VIP first, so what was gone when the VIP's value came it doesn't meet.
#[derive(Clone, Default)]
pub(super) struct Held {
    /// Steps so far.
    step: u32,
    /// Groups that a VIP's routes named: number of the VIP, of the group.
    routes: BTreeMap<(u32, u32), u32>,
    /// Values of groups: their numbers, and their words, which packets may read one by one.
    groups: BTreeMap<(u32, (u32, u32), u32), u32>,
    /// Targets that server IDs led to.
    servers: BTreeMap<(ServerKey, u32), u32>,
}

impl Held {
    /// Notes what is in force, and returns the step.
    pub(super) fn note(&mut self, state: &State) -> u32 {
        self.step += 1;
        let step = self.step;
        let routes = state.lists.iter().filter(|(id, _)| id.table == ListTable::Routes);
        self.routes.extend(routes.flat_map(|(id, list)| list.iter().map(move |(_, group)| ((id.vip, group), step))));
        let value = |group: &Group| ((group.vip, group.ring_base), group.ring_slots);
        let groups = state.groups.iter().map(|(id, group)| (*id, value(group)));
        self.groups.extend(groups.map(|(id, (first, second))| ((id, first, second), step)));
        self.servers.extend(state.servers.iter().map(|(key, target)| ((*key, *target), step)));
        step
    }

    /// First block and slots that packets of a VIP may read by its routes from a step on. The two lie in different words,
    /// so each may be of any of the group's values.
    pub(super) fn rings_of(&self, vip: u32, since: u32) -> BTreeSet<(u32, u32)> {
        let named = self.routes.iter().filter(|((of, _), last)| *of == vip && **last >= since);
        let values = |number: u32| {
            let own = self.groups.iter().filter(move |((id, (of, _), _), _)| *id == number && *of == vip);
            own.filter(|(_, last)| **last >= since).map(|((_, (_, base), slots), _)| (*base, *slots))
        };
        let rings = named.flat_map(|((_, number), _)| {
            values(*number).flat_map(move |(base, _)| values(*number).map(move |(_, slots)| (base, slots)))
        });
        rings.filter(|(_, slots)| *slots > 0).collect()
    }

    /// All rings that groups have or may seem to have.
    pub(super) fn all_rings(&self) -> BTreeSet<(u32, u32)> {
        self.routes.keys().flat_map(|(vip, _)| self.rings_of(*vip, 0)).collect()
    }

    /// A packet of a VIP finds a target of its VIP, whichever server ID it bears.
    pub(super) fn check_servers(&self, state: &State, vip: u32, since: u32) {
        for ((key, id), _) in self.servers.iter().filter(|((key, _), last)| key.vip == vip && **last >= since) {
            let target = state.targets.get(id).copied().unwrap_or_default();
            assert_eq!(target.vip, key.vip, "server {} of VIP {} is target {id}: {target:?}", key.id(), key.vip);
        }
    }
}

/// What holds of VIPs at every moment: what they say they go by is there.
pub(super) fn check_flags(state: &State) {
    for (key, vip) in &state.vips {
        let has = |table, vip| state.lists.contains_key(&ListId { table, vip });
        assert!(vip.flags & Vip::ACL == 0 || has(ListTable::Access, vip.id), "{key:?} has no access list");
        assert!(vip.flags & Vip::SOURCE_ROUTES == 0 || has(ListTable::Routes, vip.id), "{key:?} has no routes");
        let global = vip.flags & Vip::ACL_GLOBAL == 0 || has(ListTable::Access, 0);
        assert!(global || key.is_address(), "{key:?} has no global access list");
    }
}

/// A VIP that comes has nothing under its number but what is its own.
pub(super) fn check_newcomer(state: &State, vip: &Vip, wanted: &WantedVip) {
    let list = |table| state.lists.get(&ListId { table, vip: vip.id }).cloned().unwrap_or_default();
    assert_eq!(list(ListTable::Access), wanted.access);
    let prefixes = |list: &crate::plan::prefixes::Prefixes| list.iter().map(|(prefix, _)| prefix).collect::<Vec<_>>();
    assert_eq!(prefixes(&list(ListTable::Routes)), prefixes(&wanted.routes));
    let servers = state.servers.keys().filter(|key| key.vip == vip.id).map(ServerKey::id);
    assert!(servers.eq(wanted.servers.keys().copied()));
}

/// The tables hold what is wanted beyond VIPs, targets and their rings.
pub(super) fn check_reached(lab: &Lab, state: &State, wanted: &Wanted) {
    let mut lists = BTreeMap::new();
    let mut servers = BTreeMap::new();
    let mut groups = 0;
    let mut add = |table, vip, list: &std::sync::Arc<crate::plan::prefixes::Prefixes>| {
        if !list.is_empty() {
            lists.insert(ListId { table, vip }, list.clone());
        }
    };
    add(ListTable::Access, 0, &wanted.access);
    add(ListTable::TunnelSources, 0, &wanted.tunnel_sources);
    for (key, wanted) in &wanted.vips {
        let vip = &state.vips[key];
        assert_eq!(vip.flags & !(Vip::HISTORY | Vip::CLOSED), wanted.flags);
        let places = places(state, vip);
        let target = |backend: &IpAddr| vip.target_base + u32::from(places[backend]);
        servers.extend(wanted.servers.iter().map(|(id, backend)| (ServerKey::new(vip.id, *id), target(backend))));
        let numbers: Vec<u32> = wanted.groups.iter().map(|wanted| check_group(lab, state, vip, wanted)).collect();
        groups += numbers.len();
        add(ListTable::Access, vip.id, &wanted.access);
        add(ListTable::Routes, vip.id, &wanted.routes.renumbered(&numbers).into());
    }
    assert_eq!(state.lists, lists);
    assert_eq!(state.servers, servers);
    assert_eq!(state.groups.len(), groups, "groups are left over");
    assert_eq!((&state.tunnels, &state.bonds), (&wanted.tunnels, &wanted.bonds));
}

/// The number of a group, which has the ring that its members make.
fn check_group(lab: &Lab, state: &State, vip: &Vip, wanted: &crate::plan::wanted::WantedGroup) -> u32 {
    let is_it = |(_, group): &(&u32, &Group)| group.vip == vip.id && group.identity == wanted.identity;
    let (number, group) = state.groups.iter().find(is_it).expect("the group is there");
    let places = places(state, vip);
    let serves = |backend: &IpAddr| {
        let target = &state.targets[&(vip.target_base + u32::from(places[backend]))];
        target.serves == vip.id && target.flags == 0
    };
    let members = wanted.members.iter().filter(|(backend, _)| serves(backend));
    let weights: Vec<(IpAddr, u32)> = members.map(|(backend, weight)| (*backend, *weight)).collect();
    let ring = crate::maglev::ring(&weights, wanted.ring_size);
    let expected: Vec<u16> = ring.into_iter().map(|index| places[&weights[usize::from(index)].0]).collect();
    let found: Vec<u16> = lab.memory.slots_at(group.ring_base, group.ring_slots).collect();
    assert_eq!(found, expected, "the ring of group {number}");
    *number
}
