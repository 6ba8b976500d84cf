//! Step 5: the outer header, and off to the backend.
//!
//! DF set, TTL 64 (less for what came in a tunnel), identification 0 (an atomic datagram, RFC 6864). DSCP is copied, and so
//! is ECN: RFC 6040 section 4.1, normal mode. The source is the tunnel prefix with bits of the flow's hash, so that the
//! backend's receive queues share the flows; with GUE so is the source port.

use lb_common::{
    layout::{
        target::{Encap, Target},
        vip::UDP,
    },
    maps::feature,
    verdict::Verdict,
};

use crate::{
    checksum,
    frame::Frame,
    link,
    parse::{Family, Packet},
    path::{Exit, Tables},
    too_big,
    wire::{
        eth::{self, Ethernet, Mac},
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
        l4::{UDP_LEN, Udp},
    },
};

/// Time to live of outer headers.
pub const TTL: u8 = 64;
/// IP protocol of an IPv4 packet inside (RFC 2003).
pub const INNER_V4: u8 = 4;
/// IP protocol of an IPv6 packet inside (RFC 2473, RFC 4213).
pub const INNER_V6: u8 = 41;
/// Source ports of GUE: the dynamic ones (RFC 6335 section 6), of which the flow decides the other bits.
const FIRST_PORT: u16 = 0xc000;

/// Whether a plain packet can go the plain way to its target: wrapped IP-in-IP into an untagged frame that fits.
#[inline(always)]
pub fn is_plain(packet: &Packet, target: &Target) -> bool {
    u32::from(packet.len) <= target.mtu
        && (target.encap == Encap::IpipV4 as u32 || target.encap == Encap::IpipV6 as u32)
        && target.tags == [link::NO_TAG; 2]
}

/// Sends a packet for which [`is_plain`] holds.
///
/// # Errors
/// [`Verdict::NoHeadroom`], [`Verdict::Inconsistent`].
#[inline(always)]
pub fn send_plain<F: Frame, T: Tables>(
    frame: &mut F,
    packet: &Packet,
    target: &Target,
    tables: &T,
) -> Result<Exit, Verdict> {
    let (source, ifindex) = leave(frame, target, tables)?;
    let ether_type = if target.encap == Encap::IpipV4 as u32 {
        wrap_v4(frame, packet, target, tables)?
    } else {
        wrap_v6(frame, packet, target, tables)?
    };
    let next_hop = Mac::from_bytes(&target.next_hop);
    frame.at_mut::<Ethernet>(0).ok_or(Verdict::NoHeadroom)?.set(next_hop, source, ether_type);
    Ok(Exit { verdict: Verdict::Forwarded, ifindex })
}

/// Puts the target's outer header in front of the packet and addresses the frame to the target's next hop.
///
/// # Errors
/// [`Verdict::Local`] for a packet that is to go up here; [`Verdict::TooBigAnswered`] and its like for one that does not
/// fit the way; [`Verdict::NoHeadroom`]; [`Verdict::Inconsistent`] for a target without a known encapsulation.
#[inline(always)]
pub fn send<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, target: &Target, tables: &T) -> Result<Exit, Verdict> {
    if u32::from(packet.len) > target.mtu {
        return Err(too_big::answer(frame, packet, target.mtu, tables));
    }
    let (source, ifindex) = leave(frame, target, tables)?;
    let keeps_tags = target.flags & Target::KEEPS_TAGS != 0 && packet.l3() != eth::LEN;
    let tags = if keeps_tags { link::tags(frame) } else { target.tags };
    let ether_type = wrap(frame, packet, target, tables)?;
    let next_hop = Mac::from_bytes(&target.next_hop);
    frame.at_mut::<Ethernet>(0).ok_or(Verdict::NoHeadroom)?.set(next_hop, source, ether_type);
    link::push(frame, tags).map_err(|_| Verdict::NoHeadroom)?;
    Ok(Exit { verdict: Verdict::Forwarded, ifindex })
}

/// Source MAC address of the frame to a target, and the interface to leave by; 0 is the one it came in by.
#[inline(always)]
fn leave<F: Frame, T: Tables>(frame: &F, target: &Target, tables: &T) -> Result<(Mac, u32), Verdict> {
    let arrived_at = frame.at::<Ethernet>(0).ok_or(Verdict::Inconsistent)?.destination.load();
    Ok(if leaves_where_it_came(frame, target, tables) {
        (arrived_at, 0)
    } else {
        (Mac::from_bytes(&target.source_mac), target.ifindex)
    })
}

#[inline(always)]
fn leaves_where_it_came<F: Frame, T: Tables>(frame: &F, target: &Target, tables: &T) -> bool {
    target.ifindex == 0
        || target.ifindex == frame.ingress()
        // A bond's member sends what its bond is to send; the bond itself chooses among them.
        || tables.has(feature::BONDS) && tables.bond(frame.ingress()) == Some(target.ifindex)
}

/// Puts room for an Ethernet header and the outer header in front of the packet, and writes the latter. Returns the frame's
/// new `EtherType`.
#[inline(always)]
fn wrap<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, target: &Target, tables: &T) -> Result<[u8; 2], Verdict> {
    let full = |_| Verdict::NoHeadroom;
    let before = packet.l3();
    if target.encap == Encap::IpipV4 as u32 {
        return wrap_v4(frame, packet, target, tables);
    }
    if target.encap == Encap::IpipV6 as u32 {
        return wrap_v6(frame, packet, target, tables);
    }
    if target.encap == Encap::L2 as u32 && tables.has(feature::UNWRAPPED) {
        frame.replace_head(before, eth::LEN).map_err(full)?;
        return Ok(packet.family.ether_type());
    }
    if target.encap == Encap::Local as u32 && tables.has(feature::UNWRAPPED) {
        if packet.is_tunnelled() {
            link::strip(frame, before, packet.family.ether_type()).map_err(full)?;
        }
        return Err(Verdict::Local);
    }
    if !tables.has(feature::GUE) {
        return Err(Verdict::Inconsistent);
    }
    let len = packet.len.wrapping_add(UDP_LEN as u16);
    if target.encap == Encap::GueV4 as u32 {
        frame.replace_head(before, eth::LEN + ipv4::LEN + UDP_LEN).map_err(full)?;
        let header = outer_v4(packet, len, UDP, target, tables);
        frame.at_mut::<Ipv4>(eth::LEN).ok_or(Verdict::NoHeadroom)?.set(header);
        // Over IPv4 the checksum may be left out (RFC 768), which spares a walk through the whole packet.
        let udp = frame.at_mut::<Udp>(eth::LEN + ipv4::LEN).ok_or(Verdict::NoHeadroom)?;
        udp.set(ports(packet, tables), len, [0; 2]);
        Ok(eth::IPV4)
    } else if target.encap == Encap::GueV6 as u32 {
        // Of the packet as it is, whatever its own checksums say.
        let inner = frame.sum(before, packet.len as usize).ok_or(Verdict::Inconsistent)?;
        frame.replace_head(before, eth::LEN + ipv6::LEN + UDP_LEN).map_err(full)?;
        let header = outer_v6(packet, len, UDP, target, tables);
        frame.at_mut::<Ipv6>(eth::LEN).ok_or(Verdict::NoHeadroom)?.set(header);
        let udp = frame.at_mut::<Udp>(eth::LEN + ipv6::LEN).ok_or(Verdict::NoHeadroom)?;
        let ports = ports(packet, tables);
        udp.set(ports, len, gue_checksum(header, ports, len, inner));
        Ok(eth::IPV6)
    } else {
        Err(Verdict::Inconsistent)
    }
}

#[inline(always)]
fn wrap_v4<F: Frame, T: Tables>(
    frame: &mut F,
    packet: &Packet,
    target: &Target,
    tables: &T,
) -> Result<[u8; 2], Verdict> {
    frame.replace_head(packet.l3(), eth::LEN + ipv4::LEN).map_err(|_| Verdict::NoHeadroom)?;
    let header = outer_v4(packet, packet.len, inner_protocol(packet), target, tables);
    frame.at_mut::<Ipv4>(eth::LEN).ok_or(Verdict::NoHeadroom)?.set(header);
    Ok(eth::IPV4)
}

#[inline(always)]
fn wrap_v6<F: Frame, T: Tables>(
    frame: &mut F,
    packet: &Packet,
    target: &Target,
    tables: &T,
) -> Result<[u8; 2], Verdict> {
    frame.replace_head(packet.l3(), eth::LEN + ipv6::LEN).map_err(|_| Verdict::NoHeadroom)?;
    let header = outer_v6(packet, packet.len, inner_protocol(packet), target, tables);
    frame.at_mut::<Ipv6>(eth::LEN).ok_or(Verdict::NoHeadroom)?.set(header);
    Ok(eth::IPV6)
}

/// IP protocol of the inner packet.
#[inline(always)]
const fn inner_protocol(packet: &Packet) -> u8 {
    match packet.family {
        Family::V4 => INNER_V4,
        Family::V6 => INNER_V6,
    }
}

/// Ports of GUE, as they lie in the header.
#[inline(always)]
fn ports<T: Tables>(packet: &Packet, tables: &T) -> [u8; 4] {
    let [a, b] = (FIRST_PORT | (packet.hash >> 16) as u16).to_be_bytes();
    let [c, d] = tables.gue_port();
    [a, b, c, d]
}

/// The UDP checksum of a GUE packet with this outer IPv6 header (RFC 8200 section 8.1), never 0.
#[inline(always)]
fn gue_checksum(outer: [u64; 5], ports: [u8; 4], len: u16, inner: u32) -> [u8; 2] {
    let [_, s0, s1, d0, d1] = outer;
    let len = checksum::word(len.to_be_bytes());
    // The length counts twice: in the pseudo-header and in the UDP header.
    let sum = [s0, s1, d0, d1].map(checksum::double_words).iter().sum::<u32>()
        + checksum::word([0, UDP])
        + checksum::words(ports)
        + 2 * len
        + u32::from(checksum::fold(inner));
    match !checksum::fold(sum) {
        0 => [0xff; 2],
        sum => sum.to_ne_bytes(),
    }
}

/// The outer IPv4 header of a payload of `len` bytes, as words in memory order.
#[inline(always)]
fn outer_v4<T: Tables>(packet: &Packet, len: u16, protocol: u8, target: &Target, tables: &T) -> [u32; 5] {
    let [len_high, len_low] = len.wrapping_add(ipv4::LEN as u16).to_be_bytes();
    let (prefix, mask) = tables.source_v4();
    let source = prefix | (packet.hash as u32 & mask);
    let [_, destination] = outer_destination(target);
    let sum = target
        .checksum
        .wrapping_add(checksum::word([0, packet.tos]))
        .wrapping_add(checksum::word([len_high, len_low]))
        .wrapping_add(checksum::word([packet.ttl, protocol]))
        .wrapping_add(checksum::words(source.to_ne_bytes()));
    let [sum_a, sum_b] = (!checksum::fold(sum)).to_ne_bytes();
    let [flag, offset] = ipv4::DONT_FRAGMENT;
    [
        u32::from_ne_bytes([ipv4::VERSION_IHL, packet.tos, len_high, len_low]),
        u32::from_ne_bytes([0, 0, flag, offset]),
        u32::from_ne_bytes([packet.ttl, protocol, sum_a, sum_b]),
        source,
        upper_half(destination),
    ]
}

/// The outer IPv6 header of a payload of `len` bytes, as double words in memory order.
#[inline(always)]
fn outer_v6<T: Tables>(packet: &Packet, len: u16, protocol: u8, target: &Target, tables: &T) -> [u64; 5] {
    let [a, b, c, d] = Ipv6::first_word(packet.tos);
    let [len_high, len_low] = len.to_be_bytes();
    let [prefix_first, prefix_second] = tables.source_v6();
    let [first, second] = outer_destination(target);
    [
        u64::from_ne_bytes([a, b, c, d, len_high, len_low, protocol, packet.ttl]),
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
