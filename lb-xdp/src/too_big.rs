//! Side road: a packet that is too big for the way to its backend. The sender is told, by the VIP, how much fits: nothing is
//! fragmented here, and the router that would otherwise tell him cannot, for it sees only our tunnel.

use lb_common::verdict::Verdict;

use crate::{
    checksum,
    encap::TTL,
    frame::Frame,
    limit, link,
    parse::{self, Family, Kind, Packet},
    path::Tables,
    wire::{
        eth,
        icmp::{FRAGMENTATION_NEEDED, Icmp, LEN, TOO_BIG_V6, UNREACHABLE_V4},
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
    },
};

/// Bytes quoted of an IPv4 packet: the message is to be 576 bytes at most (RFC 1812 section 4.3.2.3).
const QUOTED_V4: usize = 544;
/// Bytes quoted of an IPv6 packet: the message is to be 1280 bytes at most (RFC 4443 section 3.2).
const QUOTED_V6: usize = 1232;
/// Bytes quoted of a packet that is shorter.
const QUOTED_LEAST: usize = 64;

/// Answers a packet that is longer than `mtu`, if it may be answered; the verdict on it.
#[inline(always)]
pub fn answer<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, mtu: u32, tables: &T) -> Verdict {
    match told(frame, packet, mtu, tables) {
        Ok(()) => Verdict::TooBigAnswered,
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn told<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, mtu: u32, tables: &T) -> Result<(), Verdict> {
    // No error about an error, nor about a fragment other than the first (RFC 1122 section 3.2.2).
    if packet.kind != Kind::Flow {
        return Err(Verdict::TooBig);
    }
    let l3 = packet.l3();
    if packet.family == Family::V4 && !frame.at::<Ipv4>(l3).ok_or(Verdict::Inconsistent)?.dont_fragment() {
        return Err(Verdict::TooBig);
    }
    let source = parse::source(frame, packet).ok_or(Verdict::Inconsistent)?;
    if !parse::is_one_host(source) {
        return Err(Verdict::TooBig);
    }
    if !limit::too_big(limit::hash_of(source, tables.hash_seed()), tables) {
        return Err(Verdict::TooBigLimited);
    }
    match packet.family {
        Family::V4 => tell_v4(frame, packet, mtu),
        Family::V6 => tell_v6(frame, packet, mtu),
    }
}

#[inline(always)]
fn tell_v4<F: Frame>(frame: &mut F, packet: &Packet, mtu: u32) -> Result<(), Verdict> {
    let l3 = packet.l3();
    let (quoted, quote) = quote_v4(frame, l3, packet.len).ok_or(Verdict::TooBig)?;
    let ip = frame.at::<Ipv4>(l3).ok_or(Verdict::Inconsistent)?;
    let (from, to) = (ip.destination, ip.source);
    let len = ipv4::LEN + LEN + quoted;
    let tags = link::turn_round(frame, l3, ipv4::LEN + LEN, eth::IPV4).map_err(|_| Verdict::NoHeadroom)?;
    frame.truncate(eth::LEN + len).map_err(|_| Verdict::NoHeadroom)?;

    let [len_high, len_low] = (len as u16).to_be_bytes();
    let [flag, offset] = ipv4::DONT_FRAGMENT;
    let (one, two) = ([ipv4::VERSION_IHL, 0, len_high, len_low], [0, 0, flag, offset]);
    let three = [TTL, lb_common::layout::vip::ICMP, 0, 0];
    let sum: u32 = [one, two, three, from, to].map(checksum::words).iter().sum();
    let [sum_a, sum_b] = (!checksum::fold(sum)).to_ne_bytes();
    let [ttl, protocol, ..] = three;
    let words = [one, two, [ttl, protocol, sum_a, sum_b], from, to].map(u32::from_ne_bytes);
    frame.at_mut::<Ipv4>(eth::LEN).ok_or(Verdict::NoHeadroom)?.set(words);

    let mtu = (mtu.min(u16::MAX.into()) as u16).to_be_bytes();
    let sum = checksum::word([UNREACHABLE_V4, FRAGMENTATION_NEEDED]) + checksum::word(mtu);
    let sum = sum + u32::from(checksum::fold(quote));
    let [high, low] = mtu;
    let icmp = frame.at_mut::<Icmp>(eth::LEN + ipv4::LEN).ok_or(Verdict::NoHeadroom)?;
    icmp.kind = UNREACHABLE_V4;
    icmp.code = FRAGMENTATION_NEEDED;
    icmp.checksum = (!checksum::fold(sum)).to_ne_bytes();
    icmp.rest = [0, 0, high, low];
    link::push(frame, tags).map_err(|_| Verdict::NoHeadroom)
}

#[inline(always)]
fn tell_v6<F: Frame>(frame: &mut F, packet: &Packet, mtu: u32) -> Result<(), Verdict> {
    let l3 = packet.l3();
    let (quoted, quote) = quote_v6(frame, l3, packet.len).ok_or(Verdict::TooBig)?;
    let [[f0, f1], [t0, t1]] = frame.at::<Ipv6>(l3).ok_or(Verdict::Inconsistent)?.addresses_swapped();
    let len = LEN + quoted;
    let tags = link::turn_round(frame, l3, ipv6::LEN + LEN, eth::IPV6).map_err(|_| Verdict::NoHeadroom)?;
    frame.truncate(eth::LEN + ipv6::LEN + len).map_err(|_| Verdict::NoHeadroom)?;

    let protocol = lb_common::layout::vip::ICMPV6;
    let [a, b, c, d] = Ipv6::first_word(0);
    let [len_high, len_low] = (len as u16).to_be_bytes();
    let first = u64::from_ne_bytes([a, b, c, d, len_high, len_low, protocol, TTL]);
    frame.at_mut::<Ipv6>(eth::LEN).ok_or(Verdict::NoHeadroom)?.set([first, f0, f1, t0, t1]);

    let rest = mtu.to_be_bytes();
    // With the pseudo-header of RFC 8200 section 8.1.
    let sum = checksum::word([TOO_BIG_V6, 0])
        + checksum::words(rest)
        + checksum::word([len_high, len_low])
        + checksum::word([0, protocol])
        + [f0, f1, t0, t1].map(checksum::double_words).iter().sum::<u32>()
        + u32::from(checksum::fold(quote));
    let icmp = frame.at_mut::<Icmp>(eth::LEN + ipv6::LEN).ok_or(Verdict::NoHeadroom)?;
    icmp.kind = TOO_BIG_V6;
    icmp.code = 0;
    icmp.checksum = (!checksum::fold(sum)).to_ne_bytes();
    icmp.rest = rest;
    link::push(frame, tags).map_err(|_| Verdict::NoHeadroom)
}

/// What is quoted of a packet of `len` bytes: how many bytes, and their sum.
#[inline(always)]
fn quote_v4<F: Frame>(frame: &F, l3: usize, len: u16) -> Option<(usize, u32)> {
    if (len as usize) < QUOTED_V4 {
        return Some((QUOTED_LEAST, frame.sum_of::<QUOTED_LEAST>(l3)?));
    }
    let sum = frame.sum_of::<512>(l3)?;
    Some((QUOTED_V4, sum + frame.sum_of::<{ QUOTED_V4 - 512 }>(l3 + 512)?))
}

#[inline(always)]
fn quote_v6<F: Frame>(frame: &F, l3: usize, len: u16) -> Option<(usize, u32)> {
    if (len as usize) < QUOTED_V6 {
        return Some((QUOTED_LEAST, frame.sum_of::<QUOTED_LEAST>(l3)?));
    }
    let sum = frame.sum_of::<512>(l3)?;
    let sum = sum + frame.sum_of::<512>(l3 + 512)?;
    Some((QUOTED_V6, sum + frame.sum_of::<{ QUOTED_V6 - 1024 }>(l3 + 1024)?))
}
