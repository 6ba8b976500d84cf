//! Side road: tunnel packets of other lbs to one of our own addresses. What is inside is steered here once more, and never
//! again: a tunnel within the tunnel is not looked at.
//!
//! The outer header stays until the packet inside is sent on or answered; if that is for no VIP, the frame passes as it came. Packets
//! that go round between lbs die out, because the next outer header has one hop less to live than this one.

use lb_common::{
    layout::{
        prefix::SourceKey,
        vip::{self, UDP},
    },
    verdict::Verdict,
};

use crate::{
    checksum, ecn,
    encap::{INNER_V4, INNER_V6},
    frame::Frame,
    parse::{Family, Packet, Start},
    path::Tables,
    wire::{
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
        l4::{UDP_LEN, Udp},
    },
};

/// The packet inside, if this is a tunnel packet to us; else the packet itself.
///
/// # Errors
/// [`Verdict::TunnelSource`], [`Verdict::TunnelLoop`].
#[inline(always)]
pub fn enter<F: Frame, T: Tables>(frame: &F, start: &Start, tables: &T) -> Result<Start, Verdict> {
    let Some(outer) = outer(frame, start) else { return Ok(*start) };
    let Outer { behind, end, .. } = outer;
    let (family, l3, limit) = match outer.protocol {
        INNER_V4 => (Family::V4, behind, end),
        INNER_V6 => (Family::V6, behind, end),
        UDP => match gue(frame, behind, tables) {
            Some((family, len)) => (family, behind + UDP_LEN, end.min(behind + len)),
            None => return Ok(*start),
        },
        _ => return Ok(*start),
    };
    let address = outer.destination.map(u64::to_le);
    if !tables.is_tunnel(&zerocopy::transmute!(address)) {
        return Ok(*start);
    }
    if !tables.is_tunnel_source(&SourceKey::from_words(0, outer.source)) {
        return Err(Verdict::TunnelSource);
    }
    if outer.ttl <= 1 {
        return Err(Verdict::TunnelLoop);
    }
    Ok(Start::tunnelled(l3, limit, family, outer.ttl.wrapping_sub(1).min(start.ttl), outer.ecn))
}

/// What an outer header says.
struct Outer {
    source: [u64; 2],
    destination: [u64; 2],
    protocol: u8,
    ttl: u8,
    ecn: u8,
    /// Offset of what follows.
    behind: usize,
    /// Offset of the first byte behind that.
    end: usize,
}

#[inline(always)]
fn outer<F: Frame>(frame: &F, start: &Start) -> Option<Outer> {
    let l3 = start.l3();
    Some(match start.family {
        Family::V4 => {
            let ip = frame.at::<Ipv4>(l3)?;
            let end = l3 + ip.packet_len();
            let whole = ip.version() == 4 && ip.header_len() >= ipv4::LEN && frame.holds(end);
            if ip.is_fragment() || !whole {
                return None;
            }
            Outer {
                source: vip::mapped_words(u32::from_le_bytes(ip.source)),
                destination: vip::mapped_words(u32::from_le_bytes(ip.destination)),
                protocol: ip.protocol,
                ttl: ip.ttl,
                ecn: ip.tos & ecn::MASK,
                behind: l3 + ip.header_len(),
                end,
            }
        }
        Family::V6 => {
            let ip = frame.at::<Ipv6>(l3)?;
            let end = l3 + ip.packet_len();
            let (source, destination) = ip.address_words();
            // In the tables a mapped address means an IPv4 one.
            let is_mapped = vip::is_mapped(source) || vip::is_mapped(destination);
            if ip.version() != 6 || is_mapped || !frame.holds(end) {
                return None;
            }
            Outer {
                source,
                destination,
                protocol: ip.next_header,
                ttl: ip.hop_limit,
                ecn: ip.traffic_class() & ecn::MASK,
                behind: l3 + ipv6::LEN,
                end,
            }
        }
    })
}

/// IP version of the packet behind a UDP header to the port of GUE, variant 1: its own first bits tell. And the datagram's
/// length by its own count.
#[inline(always)]
fn gue<F: Frame, T: Tables>(frame: &F, offset: usize, tables: &T) -> Option<(Family, usize)> {
    let udp = frame.at::<Udp>(offset)?;
    let &[_, _, high, low] = &udp.ports;
    if [high, low] != tables.gue_port() {
        return None;
    }
    let len = u16::from_be_bytes(udp.len) as usize;
    match frame.byte(offset + UDP_LEN)? >> 4 {
        4 => Some((Family::V4, len)),
        6 => Some((Family::V6, len)),
        _ => None,
    }
}

/// Takes over what the outer header says of congestion, before it is cut: RFC 6040 section 4.2.
///
/// # Errors
/// [`Verdict::CongestionLost`]
#[inline(always)]
pub fn settle<F: Frame>(frame: &mut F, packet: &mut Packet) -> Result<(), Verdict> {
    let inner = packet.tos & ecn::MASK;
    let merged = ecn::merged(inner, packet.tunnel_ecn).ok_or(Verdict::CongestionLost)?;
    if merged == inner {
        return Ok(());
    }
    let tos = packet.tos & !ecn::MASK | merged;
    let l3 = packet.l3();
    match packet.family {
        Family::V4 => {
            let ip = frame.at_mut::<Ipv4>(l3).ok_or(Verdict::Inconsistent)?;
            ip.checksum = checksum::updated(ip.checksum, [ip.version_ihl, ip.tos], [ip.version_ihl, tos]);
            ip.tos = tos;
        }
        Family::V6 => frame.at_mut::<Ipv6>(l3).ok_or(Verdict::Inconsistent)?.set_ecn(merged),
    }
    packet.tos = tos;
    Ok(())
}
