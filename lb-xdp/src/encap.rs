//! Step 5: the outer header.
//!
//! DF set, TTL 64, identification 0 (an atomic datagram, RFC 6864). DSCP is copied, and so is ECN: RFC 6040 section 4.1,
//! normal mode. The source is the tunnel prefix with bits of the flow's hash, so that the backend's receive queues share
//! the flows.

use lb_common::{
    layout::target::{Encap, Target},
    verdict::Verdict,
};

use crate::{
    checksum,
    frame::Frame,
    parse::{Family, Packet},
    path::{Exit, Tables},
    wire::{
        eth::{self, Ethernet},
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
    },
};

/// Time to live of outer headers.
pub const TTL: u8 = 64;
/// IP protocol of an IPv4 packet inside (RFC 2003).
pub const INNER_V4: u8 = 4;
/// IP protocol of an IPv6 packet inside (RFC 2473, RFC 4213).
pub const INNER_V6: u8 = 41;

/// Puts the outer header in front of the packet and addresses the frame to the target's next hop.
///
/// # Errors
/// [`Verdict::NoHeadroom`]; [`Verdict::Inconsistent`] for a target without a known encapsulation.
#[inline(always)]
pub fn wrap<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, target: &Target, tables: &T) -> Result<Exit, Verdict> {
    let arrived_at = frame.at::<Ethernet>(0).ok_or(Verdict::Inconsistent)?.destination;
    let same_way = target.ifindex == 0 || target.ifindex == frame.ingress();
    let (source_mac, ifindex) = if same_way { (arrived_at, 0) } else { (target.source_mac, target.ifindex) };
    let ethernet = |ether_type| Ethernet { destination: target.next_hop, source: source_mac, ether_type };
    let protocol = match packet.family {
        Family::V4 => INNER_V4,
        Family::V6 => INNER_V6,
    };
    if target.encap == Encap::IpipV4 as u32 {
        frame.grow_head(ipv4::LEN).map_err(|_| Verdict::NoHeadroom)?;
        *frame.at_mut(0).ok_or(Verdict::NoHeadroom)? = ethernet(eth::IPV4);
        *frame.at_mut(eth::LEN).ok_or(Verdict::NoHeadroom)? = outer_v4(packet, target, tables, protocol);
    } else if target.encap == Encap::IpipV6 as u32 {
        frame.grow_head(ipv6::LEN).map_err(|_| Verdict::NoHeadroom)?;
        *frame.at_mut(0).ok_or(Verdict::NoHeadroom)? = ethernet(eth::IPV6);
        *frame.at_mut(eth::LEN).ok_or(Verdict::NoHeadroom)? = outer_v6(packet, target, tables, protocol);
    } else {
        return Err(Verdict::Inconsistent);
    }
    Ok(Exit { verdict: Verdict::Forwarded, ifindex })
}

#[inline(always)]
fn outer_v4<T: Tables>(packet: &Packet, target: &Target, tables: &T, protocol: u8) -> Ipv4 {
    let total_len = packet.len.wrapping_add(ipv4::LEN as u16).to_be_bytes();
    let (prefix, mask) = tables.source_v4();
    let flow_bits = packet.hash as u32 & u32::from_ne_bytes(mask);
    let source = (u32::from_ne_bytes(prefix) | flow_bits).to_ne_bytes();
    let sum = target
        .checksum
        .wrapping_add(checksum::word([0, packet.tos]))
        .wrapping_add(checksum::word(total_len))
        .wrapping_add(checksum::word([0, protocol]))
        .wrapping_add(checksum::words(source));
    let [.., a, b, c, d] = target.outer_destination;
    Ipv4 {
        version_ihl: ipv4::VERSION_IHL,
        tos: packet.tos,
        total_len,
        id: [0; 2],
        fragment: ipv4::DONT_FRAGMENT,
        ttl: TTL,
        protocol,
        checksum: (!checksum::fold(sum)).to_ne_bytes(),
        source,
        destination: [a, b, c, d],
    }
}

#[inline(always)]
fn outer_v6<T: Tables>(packet: &Packet, target: &Target, tables: &T, protocol: u8) -> Ipv6 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = tables.source_v6();
    let [m, n, o, p] = (packet.hash as u32).to_ne_bytes();
    Ipv6 {
        version_class_label: Ipv6::first_word(packet.tos),
        payload_len: packet.len.to_be_bytes(),
        next_header: protocol,
        hop_limit: TTL,
        source: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p],
        destination: target.outer_destination,
    }
}
