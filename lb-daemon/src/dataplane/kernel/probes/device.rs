//! The interfaces, and the routes by them.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{
            AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags,
            LinkInfo, LinkMessage,
        },
        route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
    },
};

use super::{ProbeError, failed};
use crate::dataplane::kernel::netlink::{change, link, or_there};

/// Largest packet of a probe, in bytes: the least that IPv6 asks for leaves room for any outer header on Ethernet.
const MTU: u32 = 1280;
/// Gateways of the routes. Nobody has these addresses on that interface, and nobody is asked for them.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Part of the number of a routing table that all of ours have; it keeps them away from the small numbers that people use.
const TABLES: u32 = 0x4000_0000;

/// Both ends of the veth, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    name: String,
    peer: String,
    table: u32,
}

impl Device {
    /// That of a pin path.
    pub(super) fn of(pin_path: &Path) -> Self {
        let absolute = std::path::absolute(pin_path).unwrap_or_else(|_| pin_path.to_owned());
        // Without a slash at the end.
        let absolute: PathBuf = absolute.components().collect();
        let hash = crc32fast::hash(absolute.as_os_str().as_encoded_bytes());
        Self { name: format!("lbp-{hash:08x}"), peer: format!("lbq-{hash:08x}"), table: TABLES | hash & (TABLES - 1) }
    }

    /// Name of the end that probes leave by.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Number of the routing table.
    pub(super) fn table(&self) -> u32 {
        self.table
    }

    /// Number of the interface, if it is there and up.
    pub(super) fn find(&self) -> io::Result<Option<u32>> {
        let found = link(&self.name)?;
        Ok(found.filter(|link| link.header.flags.contains(LinkFlags::Up)).map(|link| link.header.index))
    }

    /// Has both ends, up; the number of that which probes leave by.
    pub(super) fn ensure(&self) -> Result<u32, ProbeError> {
        let asked = || failed(format!("ask for the interface {}", self.name));
        if link(&self.name).map_err(asked())?.is_none() {
            self.make()?;
        }
        for name in [&self.peer, &self.name] {
            let index = link(name).map_err(asked())?.map(|link| link.header.index);
            let index = index.ok_or(io::ErrorKind::NotFound.into()).map_err(asked())?;
            set(index).map_err(failed(format!("set the interface {name} up")))?;
        }
        let found = link(&self.name).map_err(asked())?.map(|link| link.header.index);
        found.ok_or(io::ErrorKind::NotFound.into()).map_err(asked())
    }

    fn make(&self) -> Result<(), ProbeError> {
        let end = |name: &str| {
            let mut message = LinkMessage::default();
            // Segments one by one: the program makes an outer header for each.
            message.attributes.extend([
                LinkAttribute::IfName(name.to_owned()),
                LinkAttribute::Mtu(MTU),
                LinkAttribute::GsoMaxSegs(1),
            ]);
            message
        };
        let mut pair = end(&self.name);
        let data = InfoData::Veth(InfoVeth::Peer(end(&self.peer)));
        pair.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]));
        let made = or_there(change(RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL));
        made.map_err(|source| match source.raw_os_error() {
            Some(libc::EOPNOTSUPP) => ProbeError::NoVeth { name: self.name.clone(), source },
            _ => failed(format!("make the interface {}", self.name))(source),
        })
    }

    /// Has the routes, in all families that there are.
    pub(super) fn route(&self, index: u32) -> Result<(), ProbeError> {
        let what = || format!("route by {}", self.name);
        let v4 = RouteAttribute::Gateway(GATEWAY_V4.into());
        add(AddressFamily::Inet, v4, index, self.table).map_err(failed(what()))?;
        let v6 = RouteAttribute::Gateway(GATEWAY_V6.into());
        match add(AddressFamily::Inet6, v6, index, self.table) {
            // The kernel has no IPv6, or none for new interfaces; then no VIP of it is reached either.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EACCES)) =>
            {
                Ok(())
            }
            outcome => outcome.map_err(failed(what())),
        }
    }

    /// Removes both ends, and with them the routes; whether they were there.
    pub(super) fn remove(&self) -> Result<bool, ProbeError> {
        let what = || failed(format!("remove the interface {}", self.name));
        let Some(found) = link(&self.name).map_err(what())? else { return Ok(false) };
        let mut message = LinkMessage::default();
        message.header.index = found.header.index;
        change(RouteNetlinkMessage::DelLink(message), 0).map_err(what())?;
        Ok(true)
    }
}

/// Takes an interface up, silent: without addresses of its own, and without asking for anybody's.
fn set(index: u32) -> io::Result<()> {
    let mut quiet = LinkMessage::default();
    quiet.header.index = index;
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    quiet.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    match change(RouteNetlinkMessage::SetLink(quiet), 0) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
        outcome => outcome?,
    }
    let mut up = LinkMessage::default();
    up.header.index = index;
    up.header.flags = LinkFlags::Up | LinkFlags::Noarp;
    up.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
    change(RouteNetlinkMessage::SetLink(up), 0)
}

fn add(family: AddressFamily, gateway: RouteAttribute, index: u32, table: u32) -> io::Result<()> {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        flags: RouteFlags::Onlink,
        ..RouteHeader::default()
    };
    message.attributes.extend([RouteAttribute::Table(table), RouteAttribute::Oif(index), gateway]);
    or_there(change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pin_path_has_names_and_a_table_of_its_own() {
        let (one, other) = (Device::of(Path::new("/sys/fs/bpf/lb")), Device::of(Path::new("/sys/fs/bpf/lb2")));
        assert_eq!(one, Device::of(Path::new("/sys/fs/bpf/lb/")), "a path is the same with a slash behind it");
        for device in [&one, &other] {
            assert!(device.name.len() <= 15 && device.table & TABLES != 0 && device.table >> 31 == 0, "{device:?}");
        }
        assert!(one.name != other.name && one.peer != other.peer && one.table != other.table);
    }
}
