//! Where a tunnelled packet leaves: interface and MAC addresses, from the kernel's routes and neighbours.
//!
//! A backend's address goes through three facts of the kernel: its **route** (out-interface, gateway), that **link** (own
//! MAC, MTU, up or not, and what lies below it if it is a VLAN device) and the **neighbour** (MAC of the gateway or of the
//! backend itself). [`table`] puts them together, without I/O; `netlink` asks the kernel for them; [`watcher`] follows their changes for as long as the daemon runs.
//! Neighbours that the kernel has not resolved are solicited by it on our request; no packet is made here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

mod follower;
mod netlink;
pub mod table;
pub mod watcher;

use follower::Follower;

/// How to reach one backend address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface to leave by, below any VLAN devices; 0 is the one a packet came in by.
    pub ifindex: u32,
    /// MAC address that frames come from: the interface's own, or that of the VLAN device above it; zeros when `ifindex`
    /// is 0.
    pub source_mac: [u8; 6],
    /// MAC address of the router or backend.
    pub mac: [u8; 6],
    /// Largest packet of the way, in bytes, outer header included.
    pub mtu: u32,
    /// VLAN tags of frames to it, as `Target::tags`.
    pub tags: [[u8; 4]; 2],
    /// Whether the neighbour is the backend itself, not a router.
    pub on_link: bool,
}

/// Next hops of all backend addresses; an address that is absent or `None` cannot be reached yet.
pub type NextHops = BTreeMap<IpAddr, Option<NextHop>>;

/// The next hops of one moment, and why some are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The way to each address that was asked for.
    pub hops: NextHops,
    /// Why an address has no way; has an entry for each `None` of [`hops`](Self::hops).
    pub reasons: BTreeMap<IpAddr, Unreachable>,
    /// Interfaces that are members of bonds, and the bond of each, by number. A route names the bond, and a packet comes
    /// in by a member.
    pub bonds: BTreeMap<u32, u32>,
}

impl Snapshot {
    /// Why `address` has no way; `None` when it has one or was not asked for.
    pub fn reason(&self, address: IpAddr) -> Option<&Unreachable> {
        self.reasons.get(&address)
    }
}

/// Why an address cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The kernel has no route to it.
    NoRoute,
    /// Its route says blackhole, unreachable or prohibit.
    Refused,
    /// It belongs to this host: a packet to it never leaves.
    Local,
    /// It is a broadcast or multicast address.
    NotUnicast,
    /// Its route adds an encapsulation of its own (MPLS, a light-weight tunnel), which XDP would skip.
    Encapsulated,
    /// The interface is down, has no carrier, or is gone.
    LinkDown {
        /// The interface's name, or its number if it is gone.
        interface: String,
    },
    /// The interface has no Ethernet address: loopback, point-to-point or a tunnel.
    NoEthernet {
        /// The interface's name.
        interface: String,
    },
    /// The interface is a VLAN device over more of its kind than a frame can bear tags.
    TooManyTags {
        /// The interface's name.
        interface: String,
    },
    /// The neighbour's MAC address is being asked for.
    Unresolved {
        /// The backend or its gateway.
        neighbour: IpAddr,
        /// The interface's name.
        interface: String,
    },
    /// The neighbour does not answer.
    Silent {
        /// The backend or its gateway.
        neighbour: IpAddr,
        /// The interface's name.
        interface: String,
    },
}

impl Unreachable {
    /// Whether the address itself is at fault, so that waiting helps nothing.
    pub(crate) fn is_a_mistake(&self) -> bool {
        matches!(self, Self::Local | Self::NotUnicast)
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("no route"),
            Self::Refused => f.write_str("its route is a blackhole, unreachable or prohibit route"),
            Self::Local => f.write_str("it is an address of this host"),
            Self::NotUnicast => f.write_str("it is a broadcast or multicast address"),
            Self::Encapsulated => f.write_str("its route adds an encapsulation of its own"),
            Self::LinkDown { interface } => write!(f, "interface {interface} is down"),
            Self::NoEthernet { interface } => write!(f, "interface {interface} has no Ethernet address"),
            Self::TooManyTags { interface } => write!(f, "interface {interface} adds more than two VLAN tags"),
            Self::Unresolved { neighbour, interface } => write!(f, "{neighbour} on {interface} is not resolved yet"),
            Self::Silent { neighbour, interface } => write!(f, "{neighbour} on {interface} does not answer"),
        }
    }
}

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] std::io::Error),
    /// A request failed.
    #[error("cannot ask the kernel for {what}")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// What netlink said.
        #[source]
        source: rtnetlink::Error,
    },
    /// The kernel did not answer.
    #[error("the kernel did not answer when asked for {0}")]
    Timeout(&'static str),
    /// The socket that brings changes has closed.
    #[error("the netlink socket was closed")]
    Closed,
}

/// Looks up the way to each address, waiting up to a second for neighbours that must be solicited first.
///
/// # Errors
/// When the kernel cannot be asked. An address that cannot be reached is no error: see [`Snapshot::reasons`].
pub async fn resolve_once(addresses: &BTreeSet<IpAddr>) -> Result<Snapshot, Error> {
    let mut follower = Follower::open()?;
    follower.sync(addresses).await?;
    follower.resolve().await?;
    Ok(follower.snapshot())
}

/// The same gateway for every address: packets leave by the interface they came in by, addressed to `mac`. It counts as each
/// backend's own neighbour, for nothing is known of what lies behind it.
pub fn gateway(addresses: &BTreeSet<IpAddr>, mac: [u8; 6], mtu: u32) -> NextHops {
    let hop = NextHop { ifindex: 0, source_mac: [0; 6], mac, mtu, tags: [[0; 4]; 2], on_link: true };
    addresses.iter().map(|&address| (address, Some(hop))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gateway_serves_every_address_by_the_interface_packets_came_in_by() {
        let addresses = BTreeSet::from(["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        let hops = gateway(&addresses, [2, 0, 0, 0, 0, 1], 1500);
        assert_eq!(hops.keys().copied().collect::<BTreeSet<IpAddr>>(), addresses);
        let expected = NextHop {
            ifindex: 0,
            source_mac: [0; 6],
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            tags: [[0; 4]; 2],
            on_link: true,
        };
        assert!(hops.values().all(|hop| *hop == Some(expected)));
    }
}
