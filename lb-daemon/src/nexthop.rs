//! Where a tunnelled packet leaves: interface and MAC addresses, from the kernel's routes and neighbours.

use std::{collections::BTreeMap, net::IpAddr};

/// How to reach one backend address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface to leave by; 0 is the one a packet came in by.
    pub ifindex: u32,
    /// That interface's own MAC address; zeros when `ifindex` is 0.
    pub source_mac: [u8; 6],
    /// MAC address of the router or backend.
    pub mac: [u8; 6],
    /// Largest packet of the way, in bytes, outer header included.
    pub mtu: u32,
}

/// Next hops of all backend addresses; an address that is absent or `None` cannot be reached yet.
pub type NextHops = BTreeMap<IpAddr, Option<NextHop>>;
