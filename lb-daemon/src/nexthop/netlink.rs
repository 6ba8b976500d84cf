//! Questions to the kernel by netlink, and its messages as facts of the [`table`](super::table).

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        link::{
            InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol,
            VlanQosMapping,
        },
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
    },
};

use super::{
    Error, Unreachable,
    table::{Kind, Link, Neighbour, Place, Route},
};

/// The kernel answers in microseconds; beyond this the reply was lost.
const REPLY_WAIT: Duration = Duration::from_secs(2);

/// Route look-ups under way at once: enough to hide the round trip, and their replies fit the socket's buffer.
const LOOKUPS_AT_ONCE: usize = 32;

/// All links, by index.
pub(super) async fn links(handle: &Handle) -> Result<BTreeMap<u32, Link>, Error> {
    let messages = collect("links", handle.link().get().execute()).await?;
    Ok(messages.iter().map(|message| (message.header.index, link(message))).collect())
}

/// All neighbours of both families.
pub(super) async fn neighbours(handle: &Handle) -> Result<BTreeMap<Place, Neighbour>, Error> {
    let mut facts = BTreeMap::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let messages = collect("neighbours", handle.neighbours().get().set_address_family(family).execute()).await?;
        facts.extend(messages.iter().filter_map(neighbour).filter_map(|(place, fact)| Some((place, fact?))));
    }
    Ok(facts)
}

/// How the kernel would route a packet to each address.
pub(super) async fn routes(
    handle: &Handle,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<BTreeMap<IpAddr, Route>, Error> {
    stream::iter(addresses)
        .map(|address| async move { Ok((address, route_to(handle, address).await?)) })
        .buffer_unordered(LOOKUPS_AT_ONCE)
        .try_collect()
        .await
}

async fn route_to(handle: &Handle, address: IpAddr) -> Result<Route, Error> {
    let mut request = RouteMessage::default();
    let (family, length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    request.header.address_family = family;
    request.header.destination_prefix_length = length;
    request.attributes.push(RouteAttribute::Destination(address.into()));
    match collect("a route", handle.route().get(request).execute()).await {
        Ok(replies) => {
            Ok(replies.first().map_or(Route::Unreachable(Unreachable::NoRoute), |reply| route(address, reply)))
        }
        Err(Error::Ask { source: rtnetlink::Error::NetlinkError(refusal), .. }) => refused(&refusal.to_io())
            .map(Route::Unreachable)
            .ok_or(Error::Ask { what: "a route", source: rtnetlink::Error::NetlinkError(refusal) }),
        Err(error) => Err(error),
    }
}

/// What the error of a look-up means for the address; `None` when the look-up itself failed.
fn refused(error: &std::io::Error) -> Option<Unreachable> {
    match error.raw_os_error()? {
        libc::ENETUNREACH => Some(Unreachable::NoRoute),
        // An unreachable, a prohibit and a blackhole route, in this order.
        libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL => Some(Unreachable::Refused),
        _ => None,
    }
}

/// Makes the kernel solicit a neighbour, as if it had a packet for it.
///
/// Not for neighbours that are resolved otherwise than stale: kernels since 5.16 would make a permanent one dynamic.
pub(super) async fn solicit(handle: &Handle, (ifindex, address): Place) -> Result<(), Error> {
    let request = handle
        .neighbours()
        .add(ifindex, address)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use)
        // Else an entry that exists would be refused.
        .replace();
    let reply = tokio::time::timeout(REPLY_WAIT, request.execute()).await;
    let what = "a neighbour's solicitation";
    match reply.map_err(|_| Error::Timeout(what))? {
        // The interface has just gone; the change that says so is on its way.
        Err(rtnetlink::Error::NetlinkError(refusal)) if refusal.to_io().raw_os_error() == Some(libc::ENODEV) => Ok(()),
        reply => reply.map_err(|source| Error::Ask { what, source }),
    }
}

async fn collect<T>(
    what: &'static str,
    replies: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, Error> {
    let all = tokio::time::timeout(REPLY_WAIT, replies.try_collect()).await;
    all.map_err(|_| Error::Timeout(what))?.map_err(|source| Error::Ask { what, source })
}

/// Whether the message is about a link as such: a bridge sends messages of its own family about its ports.
pub(super) fn is_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// A change of a link as a fact.
pub(super) fn link_event(message: &LinkMessage) -> Option<Link> {
    is_link(message).then(|| link(message))
}

/// A link's message as a fact.
fn link(message: &LinkMessage) -> Link {
    let mut link = Link { name: String::new(), mac: None, mtu: 0, up: false, kind: kind(message), master: None };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(address) => link.mac = mac(address),
            LinkAttribute::Controller(master) => link.master = Some(*master),
            _ => {}
        }
    }
    let flags = message.header.flags;
    // A loopback device shows an address of zeros; IFF_NOARP devices have nobody to resolve.
    if message.header.link_layer_type != LinkLayerType::Ether || flags.contains(LinkFlags::Noarp) {
        link.mac = None;
    }
    // Running is the operational state (RFC 2863): not so without a carrier, or before 802.1X let the port in.
    link.up = flags.contains(LinkFlags::Up | LinkFlags::Running);
    link
}

/// What a link's message says of its kind.
fn kind(message: &LinkMessage) -> Kind {
    let (mut below, mut abroad, mut infos) = (None, false, [].as_slice());
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(ifindex) => below = Some(*ifindex),
            LinkAttribute::LinkNetNsId(_) => abroad = true,
            LinkAttribute::LinkInfo(all) => infos = all,
            _ => {}
        }
    }
    // A VLAN device that was moved here from the namespace of the one below is all that we can reach of the two.
    let below = below.filter(|_| !abroad);
    infos
        .iter()
        .find_map(|info| match (info, below) {
            (LinkInfo::Kind(InfoKind::Bond), _) => Some(Kind::Bond),
            (LinkInfo::Data(InfoData::Vlan(facts)), Some(below)) => Some(Kind::Vlan { below, tag: tag(facts) }),
            _ => None,
        })
        .unwrap_or_default()
}

/// The tag that a VLAN device adds to packets of priority 0: nothing in XDP sets another.
fn tag(facts: &[InfoVlan]) -> [u8; 4] {
    let (mut protocol, mut id, mut priority) = (VlanProtocol::Ieee8021Q, 0, 0);
    for fact in facts {
        match fact {
            InfoVlan::Protocol(known) => protocol = *known,
            InfoVlan::Id(number) => id = *number,
            InfoVlan::EgressQos(mappings) => {
                let of_zero = mappings.iter().find_map(|mapping| match mapping {
                    VlanQosMapping::Mapping(0, to) => Some(*to),
                    _ => None,
                });
                // Three bits, at the top of the tag control information.
                priority = of_zero.map_or(0, |to| u16::try_from(to & 7).unwrap_or(0) << 13);
            }
            _ => {}
        }
    }
    let ([a, b], [c, d]) = (u16::from(protocol).to_be_bytes(), (priority | id).to_be_bytes());
    [a, b, c, d]
}

/// A neighbour's message as a fact, `None` inside when the kernel knows nothing; `None` outside for what is no neighbour
/// in our sense, such as proxy entries and a bridge's forwarding table.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(Place, Option<Neighbour>)> {
    let header = &message.header;
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
        _ => None,
    });
    let fact = match header.state {
        NeighbourState::Failed => Some(Neighbour::Failed),
        NeighbourState::Incomplete => Some(Neighbour::Incomplete),
        NeighbourState::None => None,
        state => mac.map(|mac| Neighbour::Resolved { mac, stale: state == NeighbourState::Stale }),
    };
    Some(((header.ifindex, address), fact))
}

/// The reply to a look-up of `address` as a fact.
fn route(address: IpAddr, message: &RouteMessage) -> Route {
    let (mut ifindex, mut gateway, mut mtu) = (None, address, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(router)) | RouteAttribute::Via(RouteVia::Inet(router)) => {
                gateway = IpAddr::V4(*router);
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(router)) | RouteAttribute::Via(RouteVia::Inet6(router)) => {
                gateway = IpAddr::V6(*router);
            }
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(mtu_of),
            RouteAttribute::Encap(_) => return Route::Unreachable(Unreachable::Encapsulated),
            // IPv6 reports a route's refusal so on some kernels, and by an error on others.
            RouteAttribute::CacheInfo(info) if info.error != 0 => return Route::Unreachable(Unreachable::Refused),
            _ => {}
        }
    }
    match (message.header.kind, ifindex) {
        (RouteType::Local, _) => Route::Unreachable(Unreachable::Local),
        (RouteType::Broadcast | RouteType::Multicast, _) => Route::Unreachable(Unreachable::NotUnicast),
        (RouteType::Unicast | RouteType::Anycast, Some(ifindex)) => Route::Via { place: (ifindex, gateway), mtu },
        (RouteType::Unicast | RouteType::Anycast, None) => Route::Unreachable(Unreachable::NoRoute),
        _ => Route::Unreachable(Unreachable::Refused),
    }
}

fn mtu_of(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    }
}

fn mac(bytes: &[u8]) -> Option<[u8; 6]> {
    bytes.try_into().ok().filter(|mac| *mac != [0; 6])
}

#[cfg(test)]
mod tests;
