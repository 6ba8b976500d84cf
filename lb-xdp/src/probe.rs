//! Health probes to a VIP, carried to one backend.
//!
//! A probe is a packet of this host, from a socket whose mark names the target. It is wrapped by [`encap`] as clients'
//! packets are, so it finds out whether these arrive: the tunnel, the backend's end of it and the service behind it. What the
//! backend answers comes straight back.

use lb_common::verdict::Verdict;

use crate::{
    checksum, encap,
    frame::Frame,
    parse,
    path::{Exit, Tables},
    wire::{
        eth::{Addresses, Mac},
        ipv4::{self, Ipv4},
        ipv6::Ipv6,
    },
};

/// Wraps a packet in an untagged frame for a target. `mac` is what it comes from if the target names no interface.
///
/// # Errors
/// [`Verdict::NotBalanced`] for anything but whole TCP and UDP packets; [`Verdict::TooBig`]; otherwise as [`encap::send`].
#[inline(always)]
pub fn carry<F: Frame, T: Tables>(frame: &mut F, id: u32, mac: Mac, tables: &T) -> Result<Exit, Verdict> {
    let packet = parse::plain(frame, tables.hash_seed()).ok_or(Verdict::NotBalanced)?;
    let target = tables.target(id).filter(|target| !target.is_free()).ok_or(Verdict::Inconsistent)?;
    if u32::from(packet.len) > target.mtu {
        return Err(Verdict::TooBig);
    }
    if target.ifindex == 0 {
        // The way takes what the frame was sent to for the address of the interface that it came in by.
        frame.at_mut::<Addresses>(0).ok_or(Verdict::Unreadable)?.set(mac, mac);
    }
    encap::send(frame, &packet, target, tables)
}

/// The sum of a whole TCP or UDP packet of this host at `offset`, as it is once its checksum is filled in: that may still be
/// left to hardware, and what the packet carries need not be at hand.
///
/// A right checksum makes a segment and its pseudo-header add up to -0, so the segment is minus its pseudo-header.
#[inline(always)]
pub fn sum_when_complete<F: Frame>(frame: &F, offset: usize) -> Option<u32> {
    if *frame.at::<u8>(offset)? >> 4 == 4 {
        let ip = frame.at::<Ipv4>(offset)?;
        let len = ip.packet_len().wrapping_sub(ipv4::LEN) as u16;
        let pseudo = checksum::words(ip.source)
            + checksum::words(ip.destination)
            + checksum::word([0, ip.protocol])
            + checksum::word(len.to_be_bytes());
        // The IP header itself adds up to -0.
        return Some(u32::from(!checksum::fold(pseudo)));
    }
    let ip = frame.at::<Ipv6>(offset)?;
    // Addresses and length are in the IP header and, with the other sign, in the segment's share.
    let not_in_both = u32::from(!u16::from_ne_bytes([0, ip.next_header]));
    Some(checksum::words(ip.version_class_label) + checksum::word([ip.next_header, ip.hop_limit]) + not_in_both)
}

#[cfg(test)]
mod tests;
