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
        eth::{self, Ethernet, Mac},
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
    let arrived_at = frame.at::<Ethernet>(0).ok_or(Verdict::Inconsistent)?.destination.load();
    let same_way = target.ifindex == 0 || target.ifindex == frame.ingress();
    let (source, ifindex) =
        if same_way { (arrived_at, 0) } else { (Mac::from_bytes(&target.source_mac), target.ifindex) };
    let next_hop = Mac::from_bytes(&target.next_hop);
    if target.encap == Encap::IpipV4 as u32 {
        frame.grow_head(ipv4::LEN).map_err(|_| Verdict::NoHeadroom)?;
        frame.at_mut::<Ipv4>(eth::LEN).ok_or(Verdict::NoHeadroom)?.set(outer_v4(packet, target, tables));
        frame.at_mut::<Ethernet>(0).ok_or(Verdict::NoHeadroom)?.set(next_hop, source, eth::IPV4);
    } else if target.encap == Encap::IpipV6 as u32 {
        frame.grow_head(ipv6::LEN).map_err(|_| Verdict::NoHeadroom)?;
        frame.at_mut::<Ipv6>(eth::LEN).ok_or(Verdict::NoHeadroom)?.set(outer_v6(packet, target, tables));
        frame.at_mut::<Ethernet>(0).ok_or(Verdict::NoHeadroom)?.set(next_hop, source, eth::IPV6);
    } else {
        return Err(Verdict::Inconsistent);
    }
    Ok(Exit { verdict: Verdict::Forwarded, ifindex })
}

/// IP protocol of the inner packet.
#[inline(always)]
const fn inner_protocol(packet: &Packet) -> u8 {
    match packet.family {
        Family::V4 => INNER_V4,
        Family::V6 => INNER_V6,
    }
}

/// The outer IPv4 header as words in memory order.
#[inline(always)]
fn outer_v4<T: Tables>(packet: &Packet, target: &Target, tables: &T) -> [u32; 5] {
    let protocol = inner_protocol(packet);
    let [len_high, len_low] = packet.len.wrapping_add(ipv4::LEN as u16).to_be_bytes();
    let (prefix, mask) = tables.source_v4();
    let source = prefix | (packet.hash as u32 & mask);
    let [_, destination] = outer_destination(target);
    let sum = target
        .checksum
        .wrapping_add(checksum::word([0, packet.tos]))
        .wrapping_add(checksum::word([len_high, len_low]))
        .wrapping_add(checksum::word([TTL, protocol]))
        .wrapping_add(checksum::words(source.to_ne_bytes()));
    let [sum_a, sum_b] = (!checksum::fold(sum)).to_ne_bytes();
    let [flag, offset] = ipv4::DONT_FRAGMENT;
    [
        u32::from_ne_bytes([ipv4::VERSION_IHL, packet.tos, len_high, len_low]),
        u32::from_ne_bytes([0, 0, flag, offset]),
        u32::from_ne_bytes([TTL, protocol, sum_a, sum_b]),
        source,
        upper_half(destination),
    ]
}

/// The outer IPv6 header as double words in memory order.
#[inline(always)]
fn outer_v6<T: Tables>(packet: &Packet, target: &Target, tables: &T) -> [u64; 5] {
    let [a, b, c, d] = Ipv6::first_word(packet.tos);
    let [len_high, len_low] = packet.len.to_be_bytes();
    let [prefix_first, prefix_second] = tables.source_v6();
    let [first, second] = outer_destination(target);
    [
        u64::from_ne_bytes([a, b, c, d, len_high, len_low, inner_protocol(packet), TTL]),
        prefix_first,
        prefix_second | u64::from_be(packet.hash & u64::from(u32::MAX)),
        first,
        second,
    ]
}

/// Both halves of the backend's address, in memory order.
#[inline(always)]
fn outer_destination(target: &Target) -> [u64; 2] {
    let halves: &[[u8; 8]; 2] = zerocopy::transmute_ref!(&target.outer_destination);
    halves.map(u64::from_ne_bytes)
}

/// The four bytes that come last in memory.
#[inline(always)]
const fn upper_half(half: u64) -> u32 {
    (u64::from_le(half) >> 32) as u32
}
