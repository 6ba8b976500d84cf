//! What becomes of answers to probes, which bear a VIP's address as their source.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAttribute, RouteMessage},
    },
};

use crate::dataplane::kernel::{
    interfaces,
    netlink::{send, socket},
};

/// The name of this interface, if the kernel drops what comes in by it from that VIP for its source: `rp_filter`.
pub(super) fn filtered_on(index: u32, vip: Ipv4Addr) -> io::Result<Option<String>> {
    // With the VIP as an address of this host, answers are refused for another reason, and no probe is carried.
    let own = interfaces::all_addresses()?;
    let here = own.iter().any(|(_, address)| *address == IpAddr::V4(vip));
    let mut reached = interfaces::answerable()?;
    reached.sort_by_key(|(at, _)| *at != index);
    let v4 = |(_, address): &(u32, IpAddr)| if let IpAddr::V4(v4) = address { Some(*v4) } else { None };
    let Some(to) = reached.iter().find_map(v4) else { return Ok(None) };
    if here || !is_refused(index, vip, to)? {
        return Ok(None);
    }
    let named = interfaces::list()?.into_iter().find(|(_, found)| found.index == index);
    Ok(named.map(|(name, _)| name))
}

/// Whether the kernel would refuse a packet that comes in so. It looks that up as if there were one.
fn is_refused(index: u32, from: Ipv4Addr, to: Ipv4Addr) -> io::Result<bool> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    (request.header.source_prefix_length, request.header.destination_prefix_length) = (32, 32);
    request.attributes.extend([
        RouteAttribute::Source(from.into()),
        RouteAttribute::Destination(to.into()),
        RouteAttribute::Iif(index),
    ]);
    let mut socket = socket()?;
    send(&mut socket, RouteNetlinkMessage::GetRoute(request), NLM_F_REQUEST)?;
    let (datagram, _) = socket.recv_from_full()?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&datagram).map_err(io::Error::other)?.payload {
        NetlinkPayload::Error(answer) => match answer.to_io() {
            // Which of the two depends on the kernel.
            error if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EXDEV)) => Ok(true),
            error => Err(error),
        },
        _ => Ok(false),
    }
}
