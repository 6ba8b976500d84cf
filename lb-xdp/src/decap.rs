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
    checksum, ecn,
    encap::{INNER_V4, INNER_V6},
    frame::Frame,
    link,
    parse::Family,
    wire::{
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

/// What the outer IP header says.
struct Outer {
    /// Offset of what follows.
    behind: usize,
    /// Bytes of that: by the header's own count, and in fact.
    payload_len: usize,
    protocol: u8,
    ecn: u8,
    /// Addresses, IPv4 mapped, as little-endian loads of their halves.
    source: [u64; 2],
    destination: [u64; 2],
}

/// The packet inside.
struct Inner {
    /// Where it starts.
    start: usize,
    /// Most bytes that it may have.
    most: usize,
    /// ECN field of the outer header.
    ecn: u8,
    is_v4: bool,
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
    let Outer { behind, payload_len, protocol, ecn, .. } = outer;
    let inner = match datagram {
        None => Inner { start: behind, most: payload_len, ecn, is_v4: protocol == INNER_V4 },
        Some(Datagram { len, .. }) if len > payload_len => return Err(DecapVerdict::Malformed),
        Some(Datagram { len, is_v4 }) => Inner { start: behind + UDP_LEN, most: len - UDP_LEN, ecn, is_v4 },
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
    let start = link::network(frame).ok()?;
    let (l3, family) = (start.l3(), start.family);
    match family {
        Family::V4 => {
            let ip = frame.at::<Ipv4>(l3)?;
            let header_len = ip.header_len();
            if ip.is_fragment() || ip.version() != 4 || header_len < ipv4::LEN {
                return None;
            }
            let behind = l3 + header_len;
            Some(Outer {
                behind,
                payload_len: ip.packet_len().saturating_sub(header_len).min(rest(frame, behind)),
                protocol: ip.protocol,
                ecn: ip.tos & ecn::MASK,
                source: vip::mapped_words(u32::from_le_bytes(ip.source)),
                destination: vip::mapped_words(u32::from_le_bytes(ip.destination)),
            })
        }
        Family::V6 => {
            let ip = frame.at::<Ipv6>(l3)?;
            let (source, destination) = ip.address_words();
            // In the tables a mapped address means an IPv4 one.
            if ip.version() != 6 || vip::is_mapped(source) || vip::is_mapped(destination) {
                return None;
            }
            let behind = l3 + ipv6::LEN;
            Some(Outer {
                behind,
                payload_len: (ip.packet_len() - ipv6::LEN).min(rest(frame, behind)),
                protocol: ip.next_header,
                ecn: ip.traffic_class() & ecn::MASK,
                source,
                destination,
            })
        }
    }
}

/// Bytes of the frame from `start` on.
#[inline(always)]
fn rest<F: Frame>(frame: &F, start: usize) -> usize {
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
    let start = outer.behind;
    let udp = frame.at::<Udp>(start)?;
    let [_, _, port_high, port_low] = udp.ports;
    let len = usize::from(u16::from_be_bytes(udp.len));
    if [port_high, port_low] != port || len <= UDP_LEN {
        return None;
    }
    let version = frame.byte(start + UDP_LEN)? >> 4;
    // Of the four bits the first two are GUE's own variant, and variant 1 shares them with IP versions 4 to 7.
    (version >> 2 == 1).then_some(Datagram { len, is_v4: version == 4 })
}

#[inline(always)]
fn unwrap_v4<F: Frame>(frame: &mut F, packet: &Inner) -> Result<(), DecapVerdict> {
    let inner = frame.at_mut::<Ipv4>(packet.start).ok_or(DecapVerdict::Malformed)?;
    if inner.version() != 4 || !(ipv4::LEN..=packet.most).contains(&inner.packet_len()) {
        return Err(DecapVerdict::Malformed);
    }
    let ecn = ecn::merged(inner.tos & ecn::MASK, packet.ecn).ok_or(DecapVerdict::CongestionLost)?;
    let tos = inner.tos & !ecn::MASK | ecn;
    inner.checksum = checksum::updated(inner.checksum, [inner.version_ihl, inner.tos], [inner.version_ihl, tos]);
    inner.tos = tos;
    cut(frame, packet, Family::V4)
}

#[inline(always)]
fn unwrap_v6<F: Frame>(frame: &mut F, packet: &Inner) -> Result<(), DecapVerdict> {
    let inner = frame.at_mut::<Ipv6>(packet.start).ok_or(DecapVerdict::Malformed)?;
    if inner.version() != 6 || inner.packet_len() > packet.most {
        return Err(DecapVerdict::Malformed);
    }
    let ecn = ecn::merged(inner.traffic_class() & ecn::MASK, packet.ecn).ok_or(DecapVerdict::CongestionLost)?;
    inner.set_ecn(ecn);
    cut(frame, packet, Family::V6)
}

/// Cuts the outer headers.
#[inline(always)]
fn cut<F: Frame>(frame: &mut F, packet: &Inner, family: Family) -> Result<(), DecapVerdict> {
    link::strip(frame, packet.start, family.ether_type()).map_err(|_| DecapVerdict::Malformed)
}

#[cfg(test)]
mod tests;
