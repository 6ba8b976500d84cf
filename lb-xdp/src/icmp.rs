//! Side road: echo requests to a VIP are answered here, as no backend could tell whether the lb is alive.

use lb_common::{layout::vip::VipKey, verdict::Verdict};

use crate::{
    checksum,
    encap::TTL,
    frame::Frame,
    parse::{Family, Packet},
    path::Tables,
    wire::{
        eth::{self, Ethernet},
        icmp::{ECHO_REPLY_V4, ECHO_REPLY_V6, ECHO_REQUEST_V4, ECHO_REQUEST_V6, Icmp},
        ipv4::Ipv4,
        ipv6::Ipv6,
    },
};

/// Turns an echo request to a VIP into its reply, in place.
///
/// # Errors
/// [`Verdict::Icmp`] for everything else, which is the host's.
#[inline(always)]
pub fn answer<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, tables: &T) -> Result<Verdict, Verdict> {
    let (request, reply) = match packet.family {
        Family::V4 => (ECHO_REQUEST_V4, ECHO_REPLY_V4),
        Family::V6 => (ECHO_REQUEST_V6, ECHO_REPLY_V6),
    };
    let offset = packet.l4 as usize;
    if frame.at::<Icmp>(offset).ok_or(Verdict::Icmp)?.kind != request {
        return Err(Verdict::Icmp);
    }
    tables.vip(&VipKey::from_words(packet.destination, 0, packet.protocol)).ok_or(Verdict::Icmp)?;

    let icmp = frame.at_mut::<Icmp>(offset).ok_or(Verdict::Inconsistent)?;
    icmp.checksum = checksum::updated(icmp.checksum, [icmp.kind, icmp.code], [reply, icmp.code]);
    icmp.kind = reply;
    match packet.family {
        Family::V4 => {
            let ip = frame.at_mut::<Ipv4>(eth::LEN).ok_or(Verdict::Inconsistent)?;
            // Swapping the addresses leaves the sum as it is.
            (ip.source, ip.destination) = (ip.destination, ip.source);
            ip.checksum = checksum::updated(ip.checksum, [ip.ttl, ip.protocol], [TTL, ip.protocol]);
            ip.ttl = TTL;
        }
        Family::V6 => {
            let ip = frame.at_mut::<Ipv6>(eth::LEN).ok_or(Verdict::Inconsistent)?;
            ip.swap_addresses();
            ip.hop_limit = TTL;
        }
    }
    let ethernet = frame.at_mut::<Ethernet>(0).ok_or(Verdict::Inconsistent)?;
    let (source, destination) = (ethernet.source.load(), ethernet.destination.load());
    ethernet.set(source, destination, ethernet.ether_type);
    Ok(Verdict::EchoReplied)
}
