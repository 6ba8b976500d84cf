//! The other end of the tunnel: a backend unwraps IP-in-IP, in all family pairs, and GUE, and passes the packet up.
//!
//! For hosts without tunnel devices. Whatever is not a tunnel packet to one of the host's tunnel addresses is untouched.
//!
//! GUE is variant 1 of draft-ietf-intarea-gue-09 (section 5): an IP packet lies in the datagram at once, and its version tells
//! the variant. The other variants have a header with flags and control messages; an endpoint for them, such as the kernel's
//! own, may live at the same port, so they are untouched.
//!
//! The outer UDP checksum is not looked at. Before the kernel has seen a frame that sum may be one that hardware was to
//! complete (virtio and veth hand such frames over) or has verified already; IP-in-IP has none at all, and what is inside
//! brings its own. Lengths are trusted by none of the headers.

use lb_common::{layout::vip, maps::DecapVerdict};

use crate::{
    checksum,
    encap::{INNER_V4, INNER_V6},
    frame::Frame,
    wire::{
        eth::{self, Ethernet},
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
        l4::{UDP_LEN, Udp},
    },
};

/// The look-ups that unwrapping needs.
pub trait Addresses {
    /// Whether this address (IPv4 mapped) is one of the host's tunnel addresses.
    fn is_tunnel(&self, address: &[u8; 16]) -> bool;

    /// Whether tunnel packets may come from this address (IPv4 mapped), given as little-endian loads of its halves.
    fn is_source(&self, address: [u64; 2]) -> bool;

    /// UDP port of GUE, network order.
    fn gue_port(&self) -> [u8; 2];
}

const ECN_MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_0: u8 = 0b10;
const ECT_1: u8 = 0b01;
const CE: u8 = 0b11;

/// Where the first VLAN tag lies, in place of the `EtherType`: two bytes that say so, two of priority and number.
const TAGS: usize = eth::LEN - 2;
/// Length of a tag.
const TAG_LEN: usize = size_of::<Tag>();
/// Tags that are looked behind: one each of a provider and a customer.
const MOST_TAGS: usize = 2;

/// A VLAN tag, moved as it is.
type Tag = [u8; 4];

/// What the outer IP header says.
struct Outer {
    /// VLAN tags before it.
    tags: usize,
    header_len: usize,
    /// Bytes that follow: by its own count, and in fact.
    payload_len: usize,
    protocol: u8,
    ecn: u8,
    /// Addresses, IPv4 mapped, as little-endian loads of their halves.
    source: [u64; 2],
    destination: [u64; 2],
}

/// The packet inside.
struct Inner {
    tags: usize,
    /// Bytes to cut.
    outer_len: usize,
    /// Most bytes that it may have.
    most: usize,
    /// ECN field of the outer header.
    ecn: u8,
    is_v4: bool,
}

impl Inner {
    /// Where it starts.
    #[inline(always)]
    const fn start(&self) -> usize {
        eth::LEN + self.tags * TAG_LEN + self.outer_len
    }
}

/// Unwraps the frame in place if it is for one of the tunnel addresses.
#[inline(always)]
pub fn unwrap<F: Frame, A: Addresses>(frame: &mut F, addresses: &A) -> DecapVerdict {
    match unwrapped(frame, addresses) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

#[inline(always)]
fn unwrapped<F: Frame, A: Addresses>(frame: &mut F, addresses: &A) -> Result<DecapVerdict, DecapVerdict> {
    let outer = outer(frame).ok_or(DecapVerdict::Untouched)?;
    let datagram = match outer.protocol {
        INNER_V4 | INNER_V6 => None,
        vip::UDP => Some(gue(frame, &outer, addresses.gue_port()).ok_or(DecapVerdict::Untouched)?),
        _ => return Err(DecapVerdict::Untouched),
    };
    let destination = outer.destination.map(u64::to_le);
    if !addresses.is_tunnel(&zerocopy::transmute!(destination)) {
        return Err(DecapVerdict::Untouched);
    }
    if !addresses.is_source(outer.source) {
        return Err(DecapVerdict::ForeignSource);
    }
    let Outer { tags, header_len, payload_len, protocol, ecn, .. } = outer;
    let inner = match datagram {
        None => Inner { tags, outer_len: header_len, most: payload_len, ecn, is_v4: protocol == INNER_V4 },
        Some(Datagram { len, .. }) if len > payload_len => return Err(DecapVerdict::Malformed),
        Some(Datagram { len, is_v4 }) => {
            Inner { tags, outer_len: header_len + UDP_LEN, most: len - UDP_LEN, ecn, is_v4 }
        }
    };
    let done = if inner.is_v4 { unwrap_v4(frame, &inner) } else { unwrap_v6(frame, &inner) };
    done?;
    Ok(match (inner.is_v4, datagram.is_some()) {
        (true, false) => DecapVerdict::UnwrappedV4,
        (false, false) => DecapVerdict::UnwrappedV6,
        (true, true) => DecapVerdict::GueUnwrappedV4,
        (false, true) => DecapVerdict::GueUnwrappedV6,
    })
}

/// The outer IP header, if the frame has one that may be a tunnel's: a whole packet without extension headers.
#[inline(always)]
fn outer<F: Frame>(frame: &F) -> Option<Outer> {
    let mut ether_type = frame.at::<Ethernet>(0)?.ether_type;
    let mut tags = 0;
    while is_tag(ether_type) && tags < MOST_TAGS {
        tags += 1;
        ether_type = *frame.at(TAGS + tags * TAG_LEN)?;
    }
    let start = eth::LEN + tags * TAG_LEN;
    match ether_type {
        eth::IPV4 => {
            let ip = frame.at::<Ipv4>(start)?;
            let header_len = ip.header_len();
            if ip.is_fragment() || ip.version() != 4 || header_len < ipv4::LEN {
                return None;
            }
            Some(Outer {
                tags,
                header_len,
                payload_len: ip.packet_len().saturating_sub(header_len).min(behind(frame, start + header_len)),
                protocol: ip.protocol,
                ecn: ip.tos & ECN_MASK,
                source: vip::mapped_words(u32::from_le_bytes(ip.source)),
                destination: vip::mapped_words(u32::from_le_bytes(ip.destination)),
            })
        }
        eth::IPV6 => {
            let ip = frame.at::<Ipv6>(start)?;
            let (source, destination) = ip.address_words();
            // In the tables a mapped address means an IPv4 one.
            if ip.version() != 6 || vip::is_mapped(source) || vip::is_mapped(destination) {
                return None;
            }
            Some(Outer {
                tags,
                header_len: ipv6::LEN,
                payload_len: (ip.packet_len() - ipv6::LEN).min(behind(frame, start + ipv6::LEN)),
                protocol: ip.next_header,
                ecn: ip.traffic_class() & ECN_MASK,
                source,
                destination,
            })
        }
        _ => None,
    }
}

/// Whether a VLAN tag starts with these bytes (IEEE 802.1Q: of a customer, of a provider).
#[inline(always)]
const fn is_tag(ether_type: [u8; 2]) -> bool {
    matches!(ether_type, [0x81, 0x00] | [0x88, 0xa8])
}

/// Bytes of the frame from `start` on.
#[inline(always)]
fn behind<F: Frame>(frame: &F, start: usize) -> usize {
    frame.len().saturating_sub(start)
}

/// A GUE datagram of variant 1.
#[derive(Clone, Copy)]
struct Datagram {
    /// Length by its own count, more than a UDP header's.
    len: usize,
    is_v4: bool,
}

/// The GUE datagram behind the outer IP header, if there is one. An empty one tells no variant, so it is none.
#[inline(always)]
fn gue<F: Frame>(frame: &F, outer: &Outer, port: [u8; 2]) -> Option<Datagram> {
    let start = eth::LEN + outer.tags * TAG_LEN + outer.header_len;
    let udp = frame.at::<Udp>(start)?;
    let [_, _, port_high, port_low] = udp.ports;
    let len = usize::from(u16::from_be_bytes(udp.len));
    if [port_high, port_low] != port || len <= UDP_LEN {
        return None;
    }
    let version = *frame.at::<u8>(start + UDP_LEN)? >> 4;
    // Of the four bits the first two are GUE's own variant, and variant 1 shares them with IP versions 4 to 7.
    (version >> 2 == 1).then_some(Datagram { len, is_v4: version == 4 })
}

#[inline(always)]
fn unwrap_v4<F: Frame>(frame: &mut F, packet: &Inner) -> Result<(), DecapVerdict> {
    let inner = frame.at_mut::<Ipv4>(packet.start()).ok_or(DecapVerdict::Malformed)?;
    if inner.version() != 4 || !(ipv4::LEN..=packet.most).contains(&inner.packet_len()) {
        return Err(DecapVerdict::Malformed);
    }
    let ecn = merged_ecn(inner.tos & ECN_MASK, packet.ecn)?;
    let tos = inner.tos & !ECN_MASK | ecn;
    inner.checksum = checksum::updated(inner.checksum, [inner.version_ihl, inner.tos], [inner.version_ihl, tos]);
    inner.tos = tos;
    cut(frame, packet, eth::IPV4)
}

#[inline(always)]
fn unwrap_v6<F: Frame>(frame: &mut F, packet: &Inner) -> Result<(), DecapVerdict> {
    let inner = frame.at_mut::<Ipv6>(packet.start()).ok_or(DecapVerdict::Malformed)?;
    if inner.version() != 6 || inner.packet_len() > packet.most {
        return Err(DecapVerdict::Malformed);
    }
    let ecn = merged_ecn(inner.traffic_class() & ECN_MASK, packet.ecn)?;
    // The last two bits of the traffic class are the upper half of the second byte's upper nibble.
    let [_, second, ..] = &mut inner.version_class_label;
    *second = *second & !(ECN_MASK << 4) | ecn << 4;
    cut(frame, packet, eth::IPV6)
}

/// The inner ECN field after unwrapping: RFC 6040 section 4.2, figure 4.
#[inline(always)]
const fn merged_ecn(inner: u8, outer: u8) -> Result<u8, DecapVerdict> {
    match (inner, outer) {
        (NOT_ECT, CE) => Err(DecapVerdict::CongestionLost),
        (NOT_ECT, _) => Ok(NOT_ECT),
        (_, CE) => Ok(CE),
        (ECT_0, ECT_1) => Ok(ECT_1),
        _ => Ok(inner),
    }
}

/// Cuts the outer headers and puts the Ethernet header, with its tags, in front of the packet inside.
#[inline(always)]
fn cut<F: Frame>(frame: &mut F, packet: &Inner, ether_type: [u8; 2]) -> Result<(), DecapVerdict> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(DecapVerdict::Malformed)?;
    let (destination, source) = (ethernet.destination.load(), ethernet.source.load());
    // Without tags these are other bytes, and left where they are.
    let first: Tag = *frame.at(TAGS).ok_or(DecapVerdict::Malformed)?;
    let second: Tag = *frame.at(TAGS + TAG_LEN).ok_or(DecapVerdict::Malformed)?;
    frame.shrink_head(packet.outer_len).map_err(|_| DecapVerdict::Malformed)?;
    frame.at_mut::<Ethernet>(0).ok_or(DecapVerdict::Malformed)?.set(destination, source, ether_type);
    if packet.tags > 0 {
        *frame.at_mut(TAGS).ok_or(DecapVerdict::Malformed)? = first;
        if packet.tags > 1 {
            *frame.at_mut(TAGS + TAG_LEN).ok_or(DecapVerdict::Malformed)? = second;
        }
        *frame.at_mut(TAGS + packet.tags * TAG_LEN).ok_or(DecapVerdict::Malformed)? = ether_type;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
