//! The other end of the tunnel: a backend unwraps IP-in-IP, in all family pairs, and passes the packet up.
//!
//! For hosts without tunnel devices. Whatever is not a tunnel packet to one of the host's tunnel addresses is untouched.

use lb_common::{layout::vip, maps::DecapVerdict};

use crate::{
    checksum,
    encap::{INNER_V4, INNER_V6},
    frame::Frame,
    wire::{
        eth::{self, Ethernet},
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
    },
};

/// The look-up that unwrapping needs.
pub trait Addresses {
    /// Whether this address (IPv4 mapped) is one of the host's tunnel addresses.
    fn is_tunnel(&self, address: &[u8; 16]) -> bool;
}

const ECN_MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_0: u8 = 0b10;
const ECT_1: u8 = 0b01;
const CE: u8 = 0b11;

/// What the outer header says.
struct Outer {
    /// Bytes to cut.
    header_len: usize,
    /// Bytes that follow: by its own count, and in fact.
    inner_len: usize,
    protocol: u8,
    ecn: u8,
}

/// Unwraps the frame in place if it is for one of the tunnel addresses.
#[inline(always)]
pub fn unwrap<F: Frame, A: Addresses>(frame: &mut F, addresses: &A) -> DecapVerdict {
    let Some(outer) = outer(frame, addresses) else {
        return DecapVerdict::Untouched;
    };
    let result = match outer.protocol {
        INNER_V4 => unwrap_v4(frame, &outer),
        _ => unwrap_v6(frame, &outer),
    };
    match result {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

/// The outer header, if this is a tunnel packet for us.
#[inline(always)]
fn outer<F: Frame, A: Addresses>(frame: &F, addresses: &A) -> Option<Outer> {
    let ethernet = frame.at::<Ethernet>(0)?;
    match ethernet.ether_type {
        eth::IPV4 => {
            let ip = frame.at::<Ipv4>(eth::LEN)?;
            let tunnelled = ip.protocol == INNER_V4 || ip.protocol == INNER_V6;
            if !tunnelled || ip.is_fragment() || ip.version_ihl >> 4 != 4 || ip.header_len() < ipv4::LEN {
                return None;
            }
            // By words: LLVM makes a call of memset of an array of bytes.
            let words = vip::mapped_words(u32::from_le_bytes(ip.destination)).map(u64::to_le);
            addresses.is_tunnel(&zerocopy::transmute!(words)).then(|| Outer {
                header_len: ip.header_len(),
                inner_len: ip.packet_len().saturating_sub(ip.header_len()).min(behind(frame, ip.header_len())),
                protocol: ip.protocol,
                ecn: ip.tos & ECN_MASK,
            })
        }
        eth::IPV6 => {
            let ip = frame.at::<Ipv6>(eth::LEN)?;
            let tunnelled = ip.next_header == INNER_V4 || ip.next_header == INNER_V6;
            if !tunnelled || ip.version() != 6 {
                return None;
            }
            addresses.is_tunnel(&ip.destination).then(|| Outer {
                header_len: ipv6::LEN,
                inner_len: (ip.packet_len() - ipv6::LEN).min(behind(frame, ipv6::LEN)),
                protocol: ip.next_header,
                ecn: ip.traffic_class() & ECN_MASK,
            })
        }
        _ => None,
    }
}

/// Bytes of the frame behind an IP header of this length.
#[inline(always)]
fn behind<F: Frame>(frame: &F, header_len: usize) -> usize {
    frame.len().saturating_sub(eth::LEN + header_len)
}

#[inline(always)]
fn unwrap_v4<F: Frame>(frame: &mut F, outer: &Outer) -> Result<DecapVerdict, DecapVerdict> {
    let inner = frame.at_mut::<Ipv4>(eth::LEN + outer.header_len).ok_or(DecapVerdict::Malformed)?;
    if inner.version() != 4 || inner.packet_len() > outer.inner_len {
        return Err(DecapVerdict::Malformed);
    }
    let ecn = merged_ecn(inner.tos & ECN_MASK, outer.ecn)?;
    let tos = inner.tos & !ECN_MASK | ecn;
    inner.checksum = checksum::updated(inner.checksum, [inner.version_ihl, inner.tos], [inner.version_ihl, tos]);
    inner.tos = tos;
    cut(frame, outer.header_len, eth::IPV4)?;
    Ok(DecapVerdict::UnwrappedV4)
}

#[inline(always)]
fn unwrap_v6<F: Frame>(frame: &mut F, outer: &Outer) -> Result<DecapVerdict, DecapVerdict> {
    let inner = frame.at_mut::<Ipv6>(eth::LEN + outer.header_len).ok_or(DecapVerdict::Malformed)?;
    if inner.version() != 6 || inner.packet_len() > outer.inner_len {
        return Err(DecapVerdict::Malformed);
    }
    let ecn = merged_ecn(inner.traffic_class() & ECN_MASK, outer.ecn)?;
    // The last two bits of the traffic class are the upper half of the second byte's upper nibble.
    let [_, second, ..] = &mut inner.version_class_label;
    *second = *second & !(ECN_MASK << 4) | ecn << 4;
    cut(frame, outer.header_len, eth::IPV6)?;
    Ok(DecapVerdict::UnwrappedV6)
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

/// Cuts the outer header and puts the Ethernet header in front of the inner one.
#[inline(always)]
fn cut<F: Frame>(frame: &mut F, header_len: usize, ether_type: [u8; 2]) -> Result<(), DecapVerdict> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(DecapVerdict::Malformed)?;
    let (destination, source) = (ethernet.destination.load(), ethernet.source.load());
    frame.shrink_head(header_len).map_err(|_| DecapVerdict::Malformed)?;
    frame.at_mut::<Ethernet>(0).ok_or(DecapVerdict::Malformed)?.set(destination, source, ether_type);
    Ok(())
}

#[cfg(test)]
mod tests;
