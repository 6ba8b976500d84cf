//! Side road: ICMP to a VIP. Echo requests are answered here, as no backend could tell whether the lb is alive; errors go to
//! the backend of the flow that they are about.

use lb_common::{
    layout::{
        counter::PathEvent,
        limit::SILENCE_NS,
        vip::{Vip, VipKey},
    },
    maps::feature,
    verdict::Verdict,
};

use crate::{
    checksum,
    encap::TTL,
    flow,
    frame::Frame,
    link,
    parse::{self, Family, Packet},
    path::Tables,
    ring::{self, Origin, Tracked},
    select, vip,
    wire::{
        icmp::{
            ECHO_REPLY_V4, ECHO_REPLY_V6, ECHO_REQUEST_V4, ECHO_REQUEST_V6, ERRORS_V6, Icmp, LEN, PARAMETER_PROBLEM_V4,
            TIME_EXCEEDED_V4, UNREACHABLE_V4,
        },
        ipv4::Ipv4,
        ipv6::Ipv6,
    },
};

mod quote;

/// What an ICMP packet is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// An echo request to a VIP.
    Echo,
    /// About the flow with this hash, whose target this is.
    About {
        /// Hash of the flow.
        flow: u64,
        /// Its target.
        target: u32,
    },
}

/// Reads an ICMP packet.
///
/// # Errors
/// [`Verdict::Icmp`] for what is the host's; those of [`select::admit`] and [`Verdict::Withdrawn`] for an echo request;
/// [`Verdict::BadQuote`], if an error to a VIP doesn't tell what it is about; those of [`ring::pick`].
#[inline(always)]
pub fn read<F: Frame, T: Tables>(frame: &F, packet: &Packet, tables: &T) -> Result<Matter, Verdict> {
    let kind = frame.at::<Icmp>(packet.l4()).ok_or(Verdict::Icmp)?.kind;
    let (request, is_error) = match packet.family {
        Family::V4 => (ECHO_REQUEST_V4, matches!(kind, UNREACHABLE_V4 | TIME_EXCEEDED_V4 | PARAMETER_PROBLEM_V4)),
        Family::V6 => (ECHO_REQUEST_V6, ERRORS_V6.contains(&kind)),
    };
    if kind == request {
        return echo(frame, packet, tables);
    }
    if is_error { about(frame, packet, tables) } else { Err(Verdict::Icmp) }
}

#[inline(always)]
fn echo<F: Frame, T: Tables>(frame: &F, packet: &Packet, tables: &T) -> Result<Matter, Verdict> {
    let key = VipKey::from_words(packet.destination, 0, packet.protocol);
    let entry = vip::address(key, tables).ok_or(Verdict::Icmp)?;
    let source = parse::source(frame, packet).ok_or(Verdict::Inconsistent)?;
    if !parse::is_one_host(source) {
        return Err(Verdict::Icmp);
    }
    if entry.flags != 0 {
        select::admit(source, packet.family, entry, tables)?;
    }
    if tables.has(feature::WITHDRAW) && is_silent(tables) {
        return Err(Verdict::Withdrawn);
    }
    Ok(Matter::Echo)
}

/// Whether the daemon showed no sign of life for so long that it is taken for lost.
#[inline(always)]
fn is_silent<T: Tables>(tables: &T) -> bool {
    // A sign that came after this CPU read the clock is none of the future.
    tables.now_ns().saturating_sub(tables.heartbeat()) >= SILENCE_NS
}

/// The flow that an error is about, as the client sees it: from where the quoted packet went to where it came from.
#[inline(always)]
fn about<F: Frame, T: Tables>(frame: &F, packet: &Packet, tables: &T) -> Result<Matter, Verdict> {
    let quote = match quote::read(frame, packet, packet.l4() + LEN, tables.hash_seed()) {
        Err(Verdict::BadQuote) if vip::is_own(packet.destination, packet.family, tables) => {
            return Err(Verdict::BadQuote);
        }
        quote => quote.map_err(|_| Verdict::Icmp)?,
    };
    if quote.source != packet.destination {
        // An error goes to who sent the packet. This one is about something else.
        return Err(Verdict::Icmp);
    }
    let service = VipKey::from_words(quote.source, (quote.flow.ports >> 16) as u16, quote.protocol);
    let vip: &Vip = vip::find(service, packet.family, tables).map_err(|_| Verdict::Icmp)?;
    let Origin { hash, .. } = quote.flow;
    let adaptive = ring::is_adaptive(vip, tables);
    let slot = if adaptive { ring::tracked(hash, vip, tables)? } else { Tracked::NONE };
    let is_tracked = if adaptive { slot.is_tracked() } else { select::is_tracked(vip, tables) };
    let known = if is_tracked { flow::peek(hash, vip, tables) } else { None };
    let target = match known {
        Some(target) => target,
        None if slot.is_tracked() => slot.previous_if_serving(vip, tables)?,
        None if adaptive => ring::pick_untracked(hash, vip, tables)?,
        None if ring::is_special(vip) => ring::pick_special(&quote.flow, vip, tables)?,
        None => ring::pick(hash, vip, tables)?,
    };
    tables.event(PathEvent::IcmpSteered);
    Ok(Matter::About { flow: hash, target })
}

/// Turns an echo request into its reply, in place.
///
/// # Errors
/// [`Verdict::Inconsistent`]
#[inline(always)]
pub fn answer<F: Frame>(frame: &mut F, packet: &Packet) -> Result<Verdict, Verdict> {
    let reply = match packet.family {
        Family::V4 => ECHO_REPLY_V4,
        Family::V6 => ECHO_REPLY_V6,
    };
    let (l3, l4) = (packet.l3(), packet.l4());
    let icmp = frame.at_mut::<Icmp>(l4).ok_or(Verdict::Inconsistent)?;
    let sum = checksum::updated(icmp.checksum, [icmp.kind, icmp.code], [reply, icmp.code]);
    icmp.checksum = sum;
    icmp.kind = reply;
    // Of zeros alone, as a reply over IPv4 may be, the sum is the other zero, which the update cannot know.
    if sum == [0; 2] && frame.sum(l4, packet.end().wrapping_sub(l4)) == Some(0) {
        frame.at_mut::<Icmp>(l4).ok_or(Verdict::Inconsistent)?.checksum = [0xff; 2];
    }
    match packet.family {
        Family::V4 => {
            let ip = frame.at_mut::<Ipv4>(l3).ok_or(Verdict::Inconsistent)?;
            // Swapping the addresses leaves the sum as it is.
            (ip.source, ip.destination) = (ip.destination, ip.source);
            ip.checksum = checksum::updated(ip.checksum, [ip.ttl, ip.protocol], [TTL, ip.protocol]);
            ip.ttl = TTL;
        }
        Family::V6 => {
            let ip = frame.at_mut::<Ipv6>(l3).ok_or(Verdict::Inconsistent)?;
            ip.swap_addresses();
            ip.hop_limit = TTL;
        }
    }
    let tags = link::turn_round(frame, l3, 0, packet.family.ether_type()).map_err(|_| Verdict::NoHeadroom)?;
    link::push(frame, tags).map_err(|_| Verdict::NoHeadroom)?;
    Ok(Verdict::EchoReplied)
}
