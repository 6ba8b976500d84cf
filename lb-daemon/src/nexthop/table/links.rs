//! The interfaces, and how a frame leaves by one of them: through VLAN devices, each of which adds a tag, to the device below.

use std::collections::BTreeMap;

use crate::nexthop::Unreachable;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it has one and resolves neighbours.
    pub mac: Option<[u8; 6]>,
    /// Largest packet, in bytes; VLAN tags do not count.
    pub mtu: u32,
    /// Whether it is up and has a carrier.
    pub up: bool,
    /// What it does with frames.
    pub kind: Kind,
    /// The interface that it is a member of, by number: a bond, a bridge.
    pub master: Option<u32>,
}

/// What an interface does with the frames that leave by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing that concerns us: XDP can leave by it.
    #[default]
    Plain,
    /// Sends each by one of its members, which XDP leaves to it.
    Bond,
    /// Tags them and hands them to the device below, by which XDP has to leave.
    Vlan {
        /// That device, by number.
        below: u32,
        /// `EtherType` and tag control information, in network order.
        tag: [u8; 4],
    },
}

/// How frames leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    /// Name of the interface that the route names.
    pub(super) interface: String,
    /// The interface below all VLAN devices.
    pub(super) ifindex: u32,
    /// The address that frames bear: that of the interface that the route names.
    pub(super) source_mac: [u8; 6],
    /// Smallest of all MTUs on the way.
    pub(super) mtu: u32,
    /// The tags, the outer one first.
    pub(super) tags: [[u8; 4]; 2],
}

/// How frames leave by interface `ifindex`.
pub(super) fn exit(links: &BTreeMap<u32, Link>, ifindex: u32) -> Result<Exit, Unreachable> {
    let top = up(links, ifindex)?;
    let interface = top.name.clone();
    let Some(source_mac) = top.mac else { return Err(Unreachable::NoEthernet { interface }) };
    let mut exit = Exit { interface, ifindex, source_mac, mtu: top.mtu, tags: [[0; 4]; 2] };
    let mut link = top;
    while let Kind::Vlan { below, tag } = link.kind {
        let [outer, inner] = exit.tags;
        if inner != [0; 4] {
            return Err(Unreachable::TooManyTags { interface: exit.interface });
        }
        // The device below tags what this one has tagged already.
        exit.tags = [tag, outer];
        link = up(links, below)?;
        exit.ifindex = below;
        exit.mtu = exit.mtu.min(link.mtu);
    }
    Ok(exit)
}

/// Members of bonds, and the bond of each, by number.
pub(super) fn bonds(links: &BTreeMap<u32, Link>) -> BTreeMap<u32, u32> {
    let is_bond = |ifindex: &u32| links.get(ifindex).is_some_and(|link| link.kind == Kind::Bond);
    links.iter().filter_map(|(&member, link)| Some((member, link.master.filter(is_bond)?))).collect()
}

fn up(links: &BTreeMap<u32, Link>, ifindex: u32) -> Result<&Link, Unreachable> {
    match links.get(&ifindex) {
        Some(link) if link.up => Ok(link),
        Some(link) => Err(Unreachable::LinkDown { interface: link.name.clone() }),
        None => Err(Unreachable::LinkDown { interface: format!("number {ifindex}") }),
    }
}

#[cfg(test)]
mod tests;
