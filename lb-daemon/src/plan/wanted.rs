//! What the tables should hold: configuration, health and next hops brought together.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::layout::vip::{TCP, UDP, VipKey};

use super::target::{address_bytes, address_of};
use crate::{
    health::{CheckId, HealthView},
    model::{AdminState, Backend, Check, Config, Pool, Protocol, Service, Vip},
    nexthop::{NextHop, NextHops},
};

/// The state to reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// VIPs, by key; address entries are derived from these.
    pub vips: BTreeMap<VipKey, WantedVip>,
}

/// A VIP to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedVip {
    /// Slots of its ring; prime.
    pub ring_size: u32,
    /// Its backends, by address (never an IPv4 address as IPv6); a backend that is not configured any more is absent.
    pub backends: BTreeMap<IpAddr, WantedTarget>,
}

/// A backend of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedTarget {
    /// Share of new flows; 0 takes none.
    pub weight: u32,
    /// What it may take.
    pub disposition: Disposition,
    /// The way to it; `None` when it cannot be reached, which makes it down.
    pub next_hop: Option<NextHop>,
}

impl WantedTarget {
    /// What it may take, given that without a way it can take nothing.
    pub fn effective(&self) -> Disposition {
        if self.next_hop.is_some() { self.disposition } else { Disposition::Down }
    }
}

/// What a backend may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// New and known flows.
    Serving,
    /// Known flows only.
    Draining,
    /// Nothing.
    Down,
}

/// What the tables should hold.
///
/// A check that `health` doesn't know counts as down: right for a backend that was just added, wrong for a daemon that
/// was just started. Until the first result of every check is there (or its time is up), the caller must hold the first
/// plan back, else a restart would take all backends down that have served all the time.
///
/// A VIP whose pool does not exist has no backends; the configuration's validation lets none through.
pub fn wanted(config: &Config, health: &HealthView, hops: &NextHops) -> Wanted {
    let vips = config.vips.iter().map(|vip| {
        let backends = config.pools.get(&vip.pool).map(|pool| backends(vip, pool, health, hops)).unwrap_or_default();
        (key(&vip.service), WantedVip { ring_size: vip.ring_size, backends })
    });
    Wanted { vips: vips.collect() }
}

fn backends(vip: &Vip, pool: &Pool, health: &HealthView, hops: &NextHops) -> BTreeMap<IpAddr, WantedTarget> {
    let healthy = |backend: &Backend| {
        let check = CheckId { service: vip.service, backend: backend.address };
        pool.health.check == Check::None || health.get(&check).is_some_and(|status| status.up)
    };
    let panic = in_panic(vip, pool, healthy);
    let target = |backend: &Backend| {
        let next_hop = hops.get(&backend.address).copied().flatten();
        let up = healthy(backend) || panic && takes_new_flows(backend);
        let disposition = match backend.state {
            AdminState::Disabled => Disposition::Down,
            _ if !up || next_hop.is_none() => Disposition::Down,
            AdminState::Drain => Disposition::Draining,
            AdminState::Active if backend.weight == 0 => Disposition::Draining,
            AdminState::Active => Disposition::Serving,
        };
        WantedTarget { weight: backend.weight, disposition, next_hop }
    };
    pool.backends.iter().map(|backend| (backend.address.to_canonical(), target(backend))).collect()
}

/// Whether so few of the backends that should take new flows are healthy that all of them are to be used: the few would
/// be overrun, and more likely the checks are wrong than all those backends dead.
fn in_panic(vip: &Vip, pool: &Pool, healthy: impl Fn(&Backend) -> bool) -> bool {
    let eligible = || pool.backends.iter().filter(|backend| takes_new_flows(backend));
    let up = eligible().filter(|backend| healthy(backend)).count();
    up * 100 < eligible().count() * usize::from(vip.panic_threshold)
}

fn takes_new_flows(backend: &Backend) -> bool {
    backend.state == AdminState::Active && backend.weight > 0
}

/// Key of a service in `VIPS`.
pub fn key(service: &Service) -> VipKey {
    let protocol = match service.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    VipKey::service(address_bytes(service.address), service.port.to_be_bytes(), protocol)
}

/// The service of a key in `VIPS`; `None` for the entry of an address.
pub fn service(key: &VipKey) -> Option<Service> {
    let protocol = match key.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    Some(Service::of(address_of(key.address), u16::from_be_bytes(key.port), protocol))
}

#[cfg(test)]
mod tests;
