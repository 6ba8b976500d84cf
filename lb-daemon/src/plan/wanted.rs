//! What the tables should hold: configuration, health and next hops brought together.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lb_common::layout::vip::{TCP, UDP, Vip as VipValue, VipKey};

use super::{
    lists::{Lists, VipLists},
    prefixes::Prefixes,
    target::{address_bytes, address_of},
};
use crate::{
    health::{HealthView, Member, Standing, WHOLE},
    model::{
        AdminState, Backend, Config, DataplaneConfig, Encap, FlowTracking, HashMode, Pool, Protocol, Quic, RouteTo,
        Service, Vip,
    },
    nexthop::{NextHop, NextHops},
};

/// The state to reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// VIPs, by key; address entries are derived from these.
    pub vips: BTreeMap<VipKey, WantedVip>,
    /// [`VipValue::flags`] of every address entry.
    pub address_flags: u32,
    /// Who may send to any VIP; see [`Lists::access`].
    pub access: Arc<Prefixes>,
    /// Addresses that take tunnel packets of other lbs, IPv4 mapped.
    pub tunnels: BTreeSet<[u8; 16]>,
    /// Where these may come from; see [`Lists::tunnel_sources`].
    pub tunnel_sources: Arc<Prefixes>,
    /// Interfaces that are members of bonds, and these bonds.
    pub bonds: BTreeMap<u32, u32>,
}

/// A VIP to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedVip {
    /// Slots of its ring; prime.
    pub ring_size: u32,
    /// [`VipValue::flags`].
    pub flags: u32,
    /// [`VipValue::new_flow_ns`].
    pub new_flow_ns: u32,
    /// [`VipValue::quic_lengths`].
    pub quic_lengths: u32,
    /// Whether packets to its address at a port that no VIP serves are dropped.
    pub drops_unknown_port: bool,
    /// Its backends, by address (never an IPv4 address as IPv6), of its own pool and of those that its routes lead to; a
    /// backend that is not configured any more is absent.
    pub backends: BTreeMap<IpAddr, WantedTarget>,
    /// Who may send to it; see [`VipLists::access`].
    pub access: Arc<Prefixes>,
    /// Its source routes, whose numbers are places in `groups`; see [`VipLists::routes`].
    pub routes: Arc<Prefixes>,
    /// Where its routes lead.
    pub groups: Vec<WantedGroup>,
    /// Which backend has which server ID; empty if the VIP does not go by them.
    pub servers: BTreeMap<u128, IpAddr>,
}

/// Some backends of a VIP that a source route leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedGroup {
    /// [`lb_common::layout::prefix::Group::identity`].
    pub identity: u64,
    /// Slots of its ring.
    pub ring_size: u32,
    /// Shares of new flows of those that may take any.
    pub members: BTreeMap<IpAddr, u32>,
}

/// A backend of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedTarget {
    /// Share of the flows that the VIP's own ring gives out; 0 takes none of these.
    pub weight: u32,
    /// What it may take.
    pub disposition: Disposition,
    /// The way to it; `None` when it cannot be reached, which makes it down.
    pub next_hop: Option<NextHop>,
    /// How its packets are wrapped.
    pub encap: Encap,
    /// Whether it is this host, to which there is no way to go, and nothing is wrapped.
    pub local: bool,
}

impl WantedTarget {
    /// What it may take, given that without a way it can take nothing.
    pub fn effective(&self) -> Disposition {
        if reaches(self.local, self.encap, self.next_hop) { self.disposition } else { Disposition::Down }
    }
}

/// Whether packets find their backend. Without a header of our own a router would send them back to us.
fn reaches(local: bool, encap: Encap, next_hop: Option<NextHop>) -> bool {
    local || next_hop.is_some_and(|hop| encap != Encap::L2 || hop.on_link)
}

/// What a backend may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disposition {
    /// Nothing.
    Down,
    /// Known flows only.
    Draining,
    /// New and known flows.
    Serving,
}

impl Disposition {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Serving => "serving",
        }
    }
}

/// What the tables should hold. `lists` are those of `config`; `bonds` are interfaces that are members of bonds, and these.
///
/// A backend that `health` doesn't know takes nothing, in a panic neither: right for one that was just added, wrong for a
/// daemon that was just started. Until the first result of every check is there (or its time is up), the caller must hold
/// the first plan back, else a restart would take all backends down that have served all the time.
///
/// A VIP whose pool does not exist has no backends; the configuration's validation lets none through.
pub fn wanted(
    config: &Config,
    lists: &Lists,
    health: &HealthView,
    hops: &NextHops,
    bonds: &BTreeMap<u32, u32>,
) -> Wanted {
    let none = VipLists::default();
    let vips = config.vips.iter().map(|vip| {
        let key = key(&vip.service);
        let own_lists = lists.vips.get(&key).unwrap_or(&none);
        let shares = |pool| Shares::of(&config.dataplane, vip, pool, health, hops);
        let pools: Vec<Shares> = lists.pools(config, vip).into_iter().map(shares).collect();
        (key, wanted_vip(&config.dataplane, vip, own_lists, &pools))
    });
    Wanted {
        vips: vips.collect(),
        address_flags: common_flags(&config.dataplane),
        access: Arc::clone(&lists.access),
        tunnels: config.dataplane.tunnels.addresses.iter().map(|address| address_bytes(*address)).collect(),
        tunnel_sources: Arc::clone(&lists.tunnel_sources),
        bonds: bonds.clone(),
    }
}

/// `pools` are those of the VIP, its own first.
fn wanted_vip(dataplane: &DataplaneConfig, vip: &Vip, lists: &VipLists, pools: &[Shares]) -> WantedVip {
    let mut backends: BTreeMap<IpAddr, WantedTarget> = BTreeMap::new();
    for shares in pools {
        for (&address, one) in &shares.targets {
            // A backend of several pools takes what any of them lets it take.
            let merged = backends.entry(address).or_insert(WantedTarget { weight: 0, ..*one });
            merged.disposition = merged.disposition.max(one.disposition);
        }
    }
    let own = pools.iter().find(|shares| shares.pool.name == vip.pool);
    for (address, weight) in own.map(Shares::serving).unwrap_or_default() {
        if let Some(target) = backends.get_mut(&address) {
            target.weight = weight;
        }
    }
    let group = |(identity, to): &(u64, RouteTo)| match to {
        RouteTo::Pool(name) => {
            let members = pools.iter().find(|shares| shares.pool.name == *name).map(Shares::serving);
            WantedGroup { identity: *identity, ring_size: vip.ring_size, members: members.unwrap_or_default() }
        }
        RouteTo::Backend(name) => {
            let mut members = own.map(Shares::serving).unwrap_or_default();
            let named = |address: &IpAddr| own.is_some_and(|shares| shares.is_named(name, *address));
            members.retain(|address, _| named(address));
            WantedGroup { identity: *identity, ring_size: 1, members }
        }
    };
    let routed_by_id = vip.quic != Quic::Off || vip.tcp_server_id || vip.udp_stable;
    let mut servers = BTreeMap::new();
    for backend in pools.iter().filter(|_| routed_by_id).flat_map(|shares| &shares.pool.backends) {
        if let Some(id) = backend.server_id {
            servers.entry(id.value).or_insert(backend.address.to_canonical());
        }
    }
    WantedVip {
        ring_size: vip.ring_size,
        flags: flags(dataplane, vip, lists),
        new_flow_ns: vip.max_new_flows_per_second.map_or(0, new_flow_ns),
        quic_lengths: quic_lengths(vip.quic),
        drops_unknown_port: vip.drops_unknown_port,
        backends,
        access: Arc::clone(&lists.access),
        routes: Arc::clone(&lists.routes),
        groups: lists.groups.iter().map(group).collect(),
        servers,
    }
}

/// A pool as a VIP uses it.
struct Shares<'a> {
    pool: &'a Pool,
    targets: BTreeMap<IpAddr, WantedTarget>,
}

impl<'a> Shares<'a> {
    fn of(dataplane: &DataplaneConfig, vip: &Vip, pool: &'a Pool, health: &HealthView, hops: &NextHops) -> Self {
        let panic = in_panic(vip, pool, health);
        let target = |backend: &Backend| {
            let next_hop = hops.get(&backend.address).copied().flatten();
            // What the operator says counts for more than what the kernel knows.
            let next_hop = next_hop.map(|hop| NextHop { mtu: dataplane.mtu.unwrap_or(hop.mtu), ..hop });
            let whole = panic && takes_new_flows(backend) && takes(vip, backend, health) == Some(false);
            let part = if whole { Some(WHOLE) } else { part(vip, pool, backend, health) };
            let disposition = match backend.state {
                AdminState::Disabled => Disposition::Down,
                _ if vip.disabled => Disposition::Down,
                _ if part.is_none() || !reaches(backend.local, vip.encap, next_hop) => Disposition::Down,
                AdminState::Drain => Disposition::Draining,
                AdminState::Active if backend.weight == 0 || part == Some(0) => Disposition::Draining,
                AdminState::Active => Disposition::Serving,
            };
            let weight = weight(pool, backend, part.unwrap_or(WHOLE));
            WantedTarget { weight, disposition, next_hop, encap: vip.encap, local: backend.local }
        };
        let targets = pool.backends.iter().map(|backend| (backend.address.to_canonical(), target(backend))).collect();
        Self { pool, targets }
    }

    /// The shares of those that may take new flows.
    fn serving(&self) -> BTreeMap<IpAddr, u32> {
        let serving = self.targets.iter().filter(|(_, target)| target.disposition == Disposition::Serving);
        serving.map(|(address, target)| (*address, target.weight)).collect()
    }

    /// Whether the backend of this name has this address.
    fn is_named(&self, name: &str, address: IpAddr) -> bool {
        self.pool.backends.iter().any(|backend| backend.name == name && backend.address.to_canonical() == address)
    }
}

/// The part of its weight that a backend is to have; `None` if it is down.
fn part(vip: &Vip, pool: &Pool, backend: &Backend, health: &HealthView) -> Option<u16> {
    if !pool.health.is_watched() {
        return Some(WHOLE);
    }
    let standing = standing(vip, backend, health)?;
    standing.up.then_some(standing.permille)
}

fn standing<'a>(vip: &Vip, backend: &Backend, health: &'a HealthView) -> Option<&'a Standing> {
    health.get(&Member { service: vip.service, backend: backend.address })
}

/// Whether a backend that is checked is up, and wants new flows, if that is known.
fn takes(vip: &Vip, backend: &Backend, health: &HealthView) -> Option<bool> {
    standing(vip, backend, health).map(Standing::takes_new_flows)
}

/// A backend's weight among those of its pool. Where agents speak it is told in thousandths, so that a part of a small weight
/// is none of a larger one: only proportions count.
fn weight(pool: &Pool, backend: &Backend, part: u16) -> u32 {
    if pool.health.agent.is_some() { backend.weight * u32::from(part) } else { backend.weight }
}

/// A panic: so few backends of a pool are healthy, and want new flows, that all are used of which something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Few {
    /// Those that are healthy.
    pub up: usize,
    /// Those of which something is known.
    pub of: usize,
}

/// Whether so few of the backends that should take new flows are healthy, and want any, that all of them are to be used: the
/// few would be overrun, and more likely checks and agents are wrong than all those backends dead. `takes` says of a backend
/// whether it would take some; of whom that is not known yet, nobody says that it is dead: it counts neither way.
pub fn few(vip: &Vip, pool: &Pool, takes: impl Fn(&Backend) -> Option<bool>) -> Option<Few> {
    if !pool.health.is_watched() {
        return None;
    }
    let known: Vec<bool> = pool.backends.iter().filter(|one| takes_new_flows(one)).filter_map(takes).collect();
    let few = Few { up: known.iter().filter(|takes| **takes).count(), of: known.len() };
    (few.up * 100 < few.of * usize::from(vip.panic_threshold)).then_some(few)
}

/// Whether a VIP uses all known backends of a pool, by what is known of these: see [`few`].
pub fn in_panic(vip: &Vip, pool: &Pool, health: &HealthView) -> bool {
    few(vip, pool, |backend| takes(vip, backend, health)).is_some()
}

/// Whether a backend is to take new flows, if it can.
pub fn takes_new_flows(backend: &Backend) -> bool {
    backend.state == AdminState::Active && backend.weight > 0
}

/// [`VipValue::flags`] of a VIP.
fn flags(dataplane: &DataplaneConfig, vip: &Vip, lists: &VipLists) -> u32 {
    let hash = match vip.hash {
        HashMode::FiveTuple => 0,
        HashMode::SourceIp => VipValue::HASH_SOURCE,
        HashMode::SourceIpDestinationPort => VipValue::HASH_SOURCE_PORT,
        HashMode::DestinationPort => VipValue::HASH_PORT,
    };
    let quic = match vip.quic {
        Quic::Off => 0,
        Quic::QuicLb(_) => VipValue::QUIC_LB,
        Quic::Katran => VipValue::QUIC_KATRAN,
    };
    let asked = [
        (vip.flow_tracking == FlowTracking::Off, VipValue::UNTRACKED),
        (vip.is_adaptive(), VipValue::ADAPTIVE),
        (vip.tcp_server_id, VipValue::TCP_SERVER_ID),
        (vip.udp_stable, VipValue::UDP_SERVER_ID),
        (!lists.routes.is_empty(), VipValue::SOURCE_ROUTES),
        (!lists.access.is_empty(), VipValue::ACL),
        (vip.max_new_flows_per_second.is_some(), VipValue::LIMIT_NEW),
    ];
    let asked = asked.into_iter().filter(|(asked, _)| *asked).fold(0, |flags, (_, flag)| flags | flag);
    common_flags(dataplane) | hash | quic | asked
}

/// Flags that all VIPs have.
fn common_flags(dataplane: &DataplaneConfig) -> u32 {
    let access = if dataplane.access.is_empty() { 0 } else { VipValue::ACL_GLOBAL };
    let limits =
        dataplane.source_limit.filter(|limit| (limit.packets_per_second, limit.new_flows_per_second) != (None, None));
    access | limits.map_or(0, |_| VipValue::LIMIT_SOURCES)
}

/// [`VipValue::new_flow_ns`] of a limit of so many a second.
fn new_flow_ns(per_second: u32) -> u32 {
    const SECOND: u32 = 1_000_000_000;
    let per_second = per_second.max(1);
    // A limit of more than one in a nanosecond is none that anyone could meet.
    (SECOND / per_second + u32::from(SECOND % per_second >= per_second.div_ceil(2))).max(1)
}

/// [`VipValue::quic_lengths`].
fn quic_lengths(quic: Quic) -> u32 {
    let Quic::QuicLb(lengths) = quic else { return 0 };
    lengths.iter().rev().fold(0, |packed, length| packed << 4 | u32::from(length & 0xf))
}

/// Key of a service in `VIPS`.
pub fn key(service: &Service) -> VipKey {
    let protocol = match service.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let key = VipKey::service(address_bytes(service.address), service.port.to_be_bytes(), protocol);
    key.prefix(service.wildcard_bits)
}

/// The service of a key in `VIPS`; `None` for the entry of an address.
pub fn service(key: &VipKey) -> Option<Service> {
    let protocol = match key.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    let service = Service::of(address_of(key.address), u16::from_be_bytes(key.port), protocol);
    Some(Service { wildcard_bits: key.wildcard_bits, ..service })
}

#[cfg(test)]
mod tests;
