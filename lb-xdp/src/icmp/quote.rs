//! The packet that an ICMP error quotes: as much of it as came along.

use lb_common::{layout::vip, verdict::Verdict};

use crate::{
    frame::Frame,
    hash,
    parse::{
        Family, Packet,
        extensions::{self, Upper},
        is_balanced,
    },
    ring::Origin,
    wire::{
        ipv4::{self, Ipv4},
        ipv6::Ipv6,
    },
};

/// What a quoted packet tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote {
    /// Who sent it: little-endian loads of the halves of its source address.
    pub(super) source: [u64; 2],
    /// Its protocol, TCP or UDP.
    pub(super) protocol: u8,
    /// The flow that it answers: its own the other way round.
    pub(super) flow: Origin,
}

/// Reads the packet that is quoted at `at`. Its ports suffice, which RFC 792 has every quote include. Its length is not
/// looked at: that of a quote is the whole packet's, and more was cut off.
///
/// # Errors
/// [`Verdict::BadQuote`] if it is too short, or not a packet; [`Verdict::Icmp`] if it is none that we could have steered.
#[inline(always)]
pub(super) fn read<F: Frame>(frame: &F, packet: &Packet, at: usize, seed: u64) -> Result<Quote, Verdict> {
    let end = packet.end();
    match packet.family {
        Family::V4 => {
            let ip = frame.at::<Ipv4>(at).ok_or(Verdict::BadQuote)?;
            if ip.version() != 4 || ip.header_len() < ipv4::LEN {
                return Err(Verdict::BadQuote);
            }
            if ip.is_later_fragment() || !is_balanced(ip.protocol) {
                return Err(Verdict::Icmp);
            }
            let ports = ports(frame, at + ip.header_len(), end)?;
            let (client, own) = (u32::from_le_bytes(ip.destination), u32::from_le_bytes(ip.source));
            let hash = hash::v4(client, own, ports, ip.protocol, seed);
            let flow = Origin { hash, source: vip::mapped_words(client), ports };
            Ok(Quote { source: vip::mapped_words(own), protocol: ip.protocol, flow })
        }
        Family::V6 => {
            let ip = frame.at::<Ipv6>(at).ok_or(Verdict::BadQuote)?;
            if ip.version() != 6 {
                return Err(Verdict::BadQuote);
            }
            let (own, client) = ip.address_words();
            if vip::is_mapped(own) {
                // In the tables it would mean an IPv4 address.
                return Err(Verdict::Icmp);
            }
            let mut upper = Upper::behind_ipv6(ip.next_header, at);
            extensions::walk(frame, &mut upper, end).map_err(|_| Verdict::BadQuote)?;
            if upper.is_later || !is_balanced(upper.protocol) {
                return Err(Verdict::Icmp);
            }
            let ports = ports(frame, upper.l4, end)?;
            let hash = hash::v6(client, own, ports, upper.protocol, seed);
            Ok(Quote { source: own, protocol: upper.protocol, flow: Origin { hash, source: client, ports } })
        }
    }
}

/// The ports at `offset`, swapped.
#[inline(always)]
fn ports<F: Frame>(frame: &F, offset: usize, end: usize) -> Result<u32, Verdict> {
    if offset + size_of::<[u8; 4]>() > end {
        return Err(Verdict::BadQuote);
    }
    let ports = frame.at::<[u8; 4]>(offset).ok_or(Verdict::BadQuote)?;
    Ok(u32::from_le_bytes(*ports).rotate_left(16))
}
