//! Limits: is this one too many? See [`lb_common::layout::limit`] for how they count.

use core::sync::atomic::Ordering::Relaxed;

use lb_common::{
    layout::{
        flow::Word,
        limit::{BURST_NS, SourceEntry, TOO_BIG_NS, TOO_BIG_WORDS},
        vip::Vip,
    },
    maps::feature,
    verdict::Verdict,
};

use crate::{
    frame::Frame,
    hash,
    parse::{self, Family, Packet},
    path::Tables,
};

/// Takes one at `price` nanoseconds, if the limit allows it.
#[inline(always)]
fn take(limit: &Word, price: u64, now: u64) -> bool {
    let at = limit.load(Relaxed).max(now);
    let next = at.wrapping_add(price);
    let allowed = next.wrapping_sub(now) <= BURST_NS;
    if allowed {
        limit.store(next, Relaxed);
    }
    allowed
}

/// A packet of a source.
///
/// # Errors
/// [`Verdict::SourceLimit`]
#[inline(always)]
pub fn packet<T: Tables>(source: [u64; 2], family: Family, tables: &T) -> Result<(), Verdict> {
    let price = tables.source_limit().packet_ns;
    if price == 0 {
        return Ok(());
    }
    let now = tables.now_ns();
    match entry(source, family, tables, now) {
        Some(entry) if !take(&entry.packets, price, now) => Err(Verdict::SourceLimit),
        _ => Ok(()),
    }
}

/// A new flow of a VIP, and of its source.
///
/// # Errors
/// [`Verdict::SourceLimit`], [`Verdict::NewFlowLimit`]
#[inline(always)]
pub fn new_flow<F: Frame, T: Tables>(frame: &F, packet: &Packet, vip: &Vip, tables: &T) -> Result<(), Verdict> {
    let now = tables.now_ns();
    if tables.has(feature::SOURCE_LIMIT) && vip.flags & Vip::LIMIT_SOURCES != 0 {
        let price = tables.source_limit().flow_ns;
        let source = parse::source(frame, packet).ok_or(Verdict::Inconsistent)?;
        if price != 0
            && let Some(entry) = entry(source, packet.family, tables, now)
            && !take(&entry.flows, price, now)
        {
            return Err(Verdict::SourceLimit);
        }
    }
    if tables.has(feature::NEW_FLOW_LIMIT)
        && vip.flags & Vip::LIMIT_NEW != 0
        && let Some(limit) = tables.vip_limit(vip.id)
        && !take(limit, vip.new_flow_ns.into(), now)
    {
        return Err(Verdict::NewFlowLimit);
    }
    Ok(())
}

/// A packet-too-big message to a source, given its address' hash.
#[inline(always)]
pub fn too_big<T: Tables>(hash: u64, tables: &T) -> bool {
    tables
        .too_big_limit(hash as u32 & (TOO_BIG_WORDS - 1))
        .is_some_and(|limit| take(limit, TOO_BIG_NS, tables.now_ns()))
}

/// Hash of a source address, of which these halves count.
#[inline(always)]
pub fn hash_of(source: [u64; 2], seed: u64) -> u64 {
    hash::v6(source, [0; 2], 0, 0, seed)
}

/// What is known of a source's prefix. One that is new takes the place of the one that was quiet for longest, and starts
/// with a whole burst.
#[inline(always)]
fn entry<T: Tables>(source: [u64; 2], family: Family, tables: &T, now: u64) -> Option<&SourceEntry> {
    let limit = tables.source_limit();
    let [first, second] = source;
    let masked = match family {
        // The address lies in the upper half of the second word.
        Family::V4 => [first, second & (u64::from(u32::from_le(limit.v4_mask)) << 32 | u64::from(u32::MAX))],
        Family::V6 => {
            let [mask_first, mask_second] = limit.v6_mask;
            [first & u64::from_le(mask_first), second & u64::from_le(mask_second)]
        }
    };
    let hash = hash_of(masked, tables.hash_seed());
    let tag = hash | 1;
    let line = tables.source_line((hash >> 32) as u32 & limit.line_mask)?;
    let [one, other] = &line.entries;
    if one.tag.load(Relaxed) == tag {
        return Some(one);
    }
    if other.tag.load(Relaxed) == tag {
        return Some(other);
    }
    let quiet_since = |entry: &SourceEntry| entry.packets.load(Relaxed).max(entry.flows.load(Relaxed));
    let entry = if quiet_since(one) <= quiet_since(other) { one } else { other };
    entry.packets.store(now, Relaxed);
    entry.flows.store(now, Relaxed);
    entry.tag.store(tag, Relaxed);
    Some(entry)
}
