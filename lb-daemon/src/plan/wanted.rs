//! What the tables should hold: configuration, health and next hops brought together.

use std::net::IpAddr;

use lb_common::layout::vip::VipKey;

/// The state to reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// VIPs, by key; address entries are derived from these.
    pub vips: std::collections::BTreeMap<VipKey, WantedVip>,
}

/// A VIP to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedVip {
    /// Slots of its ring; prime.
    pub ring_size: u32,
    /// Its backends, by address; a backend that is not configured any more is absent.
    pub backends: std::collections::BTreeMap<IpAddr, WantedTarget>,
}

/// A backend of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedTarget {
    /// Share of new flows; 0 takes none.
    pub weight: u32,
    /// What it may take.
    pub disposition: Disposition,
    /// The way to it; `None` when it cannot be reached, which makes it down.
    pub next_hop: Option<crate::nexthop::NextHop>,
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
