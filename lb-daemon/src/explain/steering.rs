//! What decided where a packet goes: its VIP, lists, a server ID, a ring.

use std::net::IpAddr;

use lb_common::{
    layout::{
        counter::PathEvent,
        prefix::SourceKey,
        ring::UNTRACKED,
        vip::{Vip, VipKey},
    },
    verdict::Verdict,
};
use lb_xdp::{
    host::HostFrame,
    parse::{Family, Kind},
    ring::{self, Origin},
    server_id::{self, ServerId},
    vip,
};

use super::{
    reading::Reading,
    recorder::{BLOCK, Recorder},
    tuple::words,
};
use crate::{
    dataplane::{Error, lookups::Lookups},
    plan::{ListTable, target::address_of},
};

/// What is served at a packet's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing was looked for, or the address is no VIP's.
    Nothing,
    /// The address is a VIP's, but the packet is to no port of it, or has none.
    Address(VipKey),
    /// A VIP.
    Vip(VipKey, Vip),
}

/// What an access list said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether it is the list of all VIPs, not the VIP's own.
    pub global: bool,
    /// The rule that decided, an [`lb_common::layout::prefix::AclRule`] by number; `None` if no prefix matched.
    pub rule: Option<u32>,
    /// The prefix that it stands for, and its bits; of an IPv4 prefix as it says itself.
    pub prefix: Option<(IpAddr, u8)>,
}

/// A server ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// What the packet says.
    pub id: ServerId,
    /// The target that has it, up or not.
    pub target: Option<u32>,
}

/// A group that a source route led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: u32,
    /// The prefix of the route.
    pub prefix: Option<(IpAddr, u8)>,
}

/// The slot of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// The group whose ring it is; else the VIP's own.
    pub group: Option<Group>,
    /// The slot; `None` of an empty ring.
    pub slot: Option<u32>,
    /// How many there are.
    pub slots: u32,
    /// Number of the target that it leads to.
    pub target: Option<u32>,
    /// What an adaptive VIP knows of the slot; `None` of other VIPs.
    pub history: Option<History>,
}

/// What an adaptive VIP knows of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Its flows are not looked for in the flow table.
    Untracked,
    /// Its flows are remembered. Those that are not yet are at this target, which it had before.
    Tracked(u32),
}

/// What the VIPs' table said.
pub(super) fn find<L: Lookups>(reading: &Reading, tables: &Recorder<L>) -> Found {
    // Of an ICMP error it is the quoted flow's service.
    let service = tables.vips.iter().map(|(key, _)| *key).find(|key| !key.is_address());
    let family = reading.packet().map_or(Family::V4, |packet| packet.family);
    let vip = service.and_then(|service| Some((service, vip::find(service, family, tables).ok()?)));
    if let Some((service, vip)) = vip {
        return Found::Vip(key_of(service, vip, tables), *vip);
    }
    let exact = tables.vips.iter().find(|(key, value)| key.is_address() && value.is_some());
    let prefix = tables.prefix_vips.iter().find_map(|(key, value)| {
        let value = (*value)?;
        key.key().is_address().then(|| under(key.key(), &value))
    });
    exact.map(|(key, _)| *key).or(prefix).map_or(Found::Nothing, Found::Address)
}

/// The key under which a VIP was found.
fn key_of<L: Lookups>(service: VipKey, vip: &Vip, tables: &Recorder<L>) -> VipKey {
    let is_it = |value: &Option<Vip>| value.as_ref() == Some(vip);
    let exact = tables.vips.iter().find(|(key, value)| !key.is_address() && is_it(value));
    let prefix = tables.prefix_vips.iter().find(|(key, value)| !key.key().is_address() && is_it(value));
    match (exact, prefix) {
        (Some((key, _)), _) => *key,
        (None, Some((key, _))) => under(key.key(), vip),
        (None, None) => service,
    }
}

/// The key of a prefix that matches an address.
fn under(key: VipKey, vip: &Vip) -> VipKey {
    let free = u128::MAX.checked_shr(128 - vip.wildcard_bits.min(128)).unwrap_or(0);
    let address = (u128::from_be_bytes(key.address) & !free).to_be_bytes();
    VipKey { address, ..key }.prefix(u8::try_from(vip.wildcard_bits).unwrap_or(128))
}

/// What the access lists said.
pub(super) fn access<L: Lookups>(tables: &Recorder<L>) -> Result<Vec<Rule>, Error> {
    let asked = tables.listed.iter().filter(|((list, _), _)| *list == ListTable::Access);
    let rule = |((list, key), rule): (&(ListTable, SourceKey), &Option<u32>)| {
        let prefix = if rule.is_some() { prefix(tables, *list, key)? } else { None };
        Ok(Rule { global: key.vip == 0, rule: *rule, prefix })
    };
    asked.map(rule).collect()
}

/// The prefix that decided for an address.
fn prefix<L: Lookups>(tables: &Recorder<L>, list: ListTable, key: &SourceKey) -> Result<Option<(IpAddr, u8)>, Error> {
    Ok(tables.live().listed_bits(list, key)?.map(|bits| {
        let free = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
        let address = address_of((u128::from_be_bytes(key.address) & !free).to_be_bytes());
        // IPv4 prefixes lie 96 bits deep; a shorter one is of IPv6, and matches by chance of the mapping.
        (address, if address.is_ipv4() { bits.saturating_sub(96) } else { bits })
    }))
}

/// The server ID that the packet bears.
pub(super) fn server<L: Lookups>(
    frame: &HostFrame,
    reading: &Reading,
    found: &Found,
    tables: &Recorder<L>,
) -> Option<Server> {
    let (Found::Vip(_, vip), Some(packet)) = (found, reading.packet()) else { return None };
    if vip.flags == 0 || packet.kind != Kind::Flow {
        return None;
    }
    let id = server_id::read(frame, packet, vip, tables);
    let target = tables.servers.iter().find_map(|(_, target)| *target);
    (id != ServerId::Absent).then_some(Server { id, target })
}

/// The ring's slot, if a ring was asked.
pub(super) fn ring<L: Lookups>(reading: &Reading, found: &Found, tables: &Recorder<L>) -> Result<Option<Ring>, Error> {
    let (Found::Vip(_, vip), Some(flow)) = (found, reading.flow()) else { return Ok(None) };
    let asked = tables.rings.iter().next();
    let notes = tables.notes();
    let mut led = None;
    if notes.events.contains(&PathEvent::SourceRouted) {
        let group = tables.groups.iter().find_map(|(id, group)| Some((*id, (*group)?)));
        let route = tables.listed.iter().find(|((list, _), _)| *list == ListTable::Routes);
        if let (Some((id, group)), Some(((list, key), _))) = (group, route) {
            led = Some((Group { id, prefix: prefix(tables, *list, key)? }, group.ring_base, group.ring_slots));
        }
    }
    let (group, base, slots) = match led {
        Some((group, base, slots)) => (Some(group), base, slots),
        None => (None, vip.ring_base, vip.ring_slots),
    };
    if asked.is_none() {
        // An empty ring is asked by its length alone.
        let empty = slots == 0 && notes.last_target.is_none();
        return Ok(empty.then_some(Ring { group, slot: None, slots, target: None, history: None }));
    }
    let [a, b] = flow.source.port().to_be_bytes();
    let [c, d] = flow.destination.port().to_be_bytes();
    let origin = Origin {
        hash: flow.hash(tables.tuning().hash_seed),
        source: words(flow.source.ip()),
        ports: u32::from_le_bytes([a, b, c, d]),
    };
    let slot = tables.slot(vip, base, |tables| pick(&origin, vip, tables));
    let says = |base: u32, slot: u32| {
        let block = tables.rings.iter().find(|(block, _)| **block == base + slot / BLOCK)?.1.as_ref()?;
        block.slots.get((slot % BLOCK) as usize).copied()
    };
    let led_to = |place: u16| vip.target_base + u32::from(place);
    let target = slot.and_then(|slot| says(base, slot)).map(led_to);
    let previous = slot.filter(|_| vip.has_history()).and_then(|slot| says(vip.history_base, slot));
    let history = match previous {
        _ if !ring::is_adaptive(vip, tables) => None,
        None | Some(UNTRACKED) => Some(History::Untracked),
        Some(place) => Some(History::Tracked(led_to(place))),
    };
    Ok(Some(Ring { group, slot, slots, target, history }))
}

fn pick<L: Lookups>(origin: &Origin, vip: &Vip, tables: &Recorder<L>) -> Result<u32, Verdict> {
    if ring::is_special(vip) { ring::pick_special(origin, vip, tables) } else { ring::pick(origin.hash, vip, tables) }
}
