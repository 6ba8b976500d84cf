//! Fragments: later ones bear no ports, and follow the first.
//!
//! The first fragment is steered as any packet, and its target remembered under addresses, protocol and identification. A
//! later one that comes before it is dropped, as nothing is held back here; but that is remembered too, so that fragments
//! out of order can be told from those whose first never comes.

use core::sync::atomic::Ordering::Relaxed;

use lb_common::{
    layout::{
        counter::PathEvent,
        flow::{Bucket, FRAGMENT_BUCKETS, FlowEntry, FlowState, WAYS},
    },
    verdict::Verdict,
};

use crate::{
    flow::{find, store, tag},
    frame::Frame,
    hash,
    parse::{Family, Packet, extensions},
    path::Tables,
    vip,
    wire::{
        ipv4::Ipv4,
        ipv6::{FragmentHeader, Ipv6},
    },
};

/// Stands for a target when the datagram is the host's, though it is to a VIP's address: no VIP serves its port.
pub const HOST: u32 = 0;

/// Units (30 s) after which a datagram that is still incomplete is given up, as receivers do (RFC 8200 section 4.5).
const TOO_OLD: u32 = 7;

/// Remembers where the first of several fragments went: to a target, or to the [`HOST`].
///
/// # Errors
/// [`Verdict::Inconsistent`]
#[inline(always)]
pub fn remember<F: Frame, T: Tables>(frame: &F, packet: &Packet, target: u32, tables: &T) -> Result<(), Verdict> {
    let hash = key(frame, packet, tables.hash_seed()).ok_or(Verdict::Inconsistent)?;
    let bucket = bucket(hash, tables)?;
    let (mut way, entry) = find(bucket, tag(hash));
    let now = tables.now();
    if entry.is_empty() {
        way = oldest(bucket, now);
    } else if entry.state() == FlowState::Empty as u32 && entry.age(now) <= TOO_OLD {
        tables.event(PathEvent::FragmentLate);
    }
    tables.event(PathEvent::FragmentFirst);
    store(bucket, way, FlowEntry::new(tag(hash), target, now, FlowState::Datagram));
    Ok(())
}

/// The target of the datagram that a later fragment belongs to.
///
/// # Errors
/// [`Verdict::Fragment`] if it is the host's; [`Verdict::FragmentUnknown`] if its first fragment is not known;
/// [`Verdict::Inconsistent`].
#[inline(always)]
pub fn follow<T: Tables>(packet: &Packet, tables: &T) -> Result<u32, Verdict> {
    if !vip::is_own(packet.destination, packet.family, tables) {
        return Err(Verdict::Fragment);
    }
    let bucket = bucket(packet.hash, tables)?;
    let (way, entry) = find(bucket, tag(packet.hash));
    let now = tables.now();
    if !entry.is_empty() && entry.age(now) <= TOO_OLD {
        let is_late = entry.state() == FlowState::Empty as u32;
        if entry.target() == HOST && !is_late {
            return Err(Verdict::Fragment);
        }
        let is_up = tables.target(entry.target()).is_some_and(|target| target.serves != 0);
        if is_late || !is_up {
            return Err(Verdict::FragmentUnknown);
        }
        tables.event(PathEvent::FragmentFollowed);
        return Ok(entry.target());
    }
    // It must not take the place of a datagram whose first fragment did come.
    let way = if entry.is_empty() { spare(bucket, now) } else { Some(way) };
    if let Some(way) = way {
        store(bucket, way, FlowEntry::new(tag(packet.hash), HOST, now, FlowState::Empty));
    }
    Err(Verdict::FragmentUnknown)
}

/// Hash of what the fragments of a datagram have in common, given the first.
#[inline(always)]
fn key<F: Frame>(frame: &F, packet: &Packet, seed: u64) -> Option<u64> {
    let l3 = packet.l3();
    Some(match packet.family {
        Family::V4 => {
            let ip = frame.at::<Ipv4>(l3)?;
            let (source, destination) = (u32::from_le_bytes(ip.source), u32::from_le_bytes(ip.destination));
            hash::v4(source, destination, u16::from_le_bytes(ip.id).into(), ip.protocol, seed)
        }
        Family::V6 => {
            let (source, destination) = frame.at::<Ipv6>(l3)?.address_words();
            let offset = packet.first_fragment()?;
            let protocol = frame.at::<FragmentHeader>(offset)?.next_header;
            hash::v6(source, destination, extensions::id(frame, offset), protocol, seed)
        }
    })
}

#[inline(always)]
fn bucket<T: Tables>(hash: u64, tables: &T) -> Result<&Bucket, Verdict> {
    tables.fragments(hash as u32 & (FRAGMENT_BUCKETS - 1)).ok_or(Verdict::Inconsistent)
}

/// The way that a first fragment takes: one without a target, else the oldest.
#[inline(always)]
fn oldest(bucket: &Bucket, now: u32) -> usize {
    let mut best = 0;
    let mut best_way = 0;
    for (way, entry) in bucket.entries.iter().enumerate() {
        let entry = FlowEntry(entry.load(Relaxed));
        let score = if entry.state() == FlowState::Empty as u32 { u32::MAX } else { entry.age(now) };
        if score > best {
            best = score;
            best_way = way;
        }
    }
    best_way
}

/// A way without a target, or with one that is too old.
#[inline(always)]
fn spare(bucket: &Bucket, now: u32) -> Option<usize> {
    let mut spare = WAYS;
    for (way, entry) in bucket.entries.iter().enumerate() {
        let entry = FlowEntry(entry.load(Relaxed));
        if entry.state() == FlowState::Empty as u32 || entry.age(now) > TOO_OLD {
            spare = way;
        }
    }
    (spare < WAYS).then_some(spare)
}
