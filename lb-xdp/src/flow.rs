//! Step 3: is the flow known? And what is remembered of it.
//!
//! A new entry takes the place of, in this order: an empty way, a closing flow, an expired UDP flow, the oldest flow of
//! which only one packet (or only SYNs) was seen, a flow idle for [`STALE`]. Never of another one that is in use: a flood
//! of single packets, SYNs or not, cannot displace flows that are. If nothing gives way, the ring answers for the new flow
//! packet by packet.

use core::sync::atomic::Ordering::Relaxed;

use lb_common::{
    layout::{
        counter::PathEvent,
        flow::{Bucket, FlowEntry, FlowState, TAG_BITS, WAYS},
        target::Target,
        vip::{TCP, Vip},
    },
    verdict::Verdict,
};

use crate::{
    parse::Packet,
    path::Tables,
    ring,
    wire::l4::{FIN, RST, SYN},
};

/// A flow in use that was idle for this many units (4.6 minutes) may give way to a new one.
pub const STALE: u32 = 64;

/// The target of the packet's flow: the remembered one while it may be used, else the ring's.
///
/// # Errors
/// [`Verdict::NoBackend`] if the ring is empty; [`Verdict::Inconsistent`].
#[inline(always)]
pub fn steer<T: Tables>(packet: &Packet, vip: &Vip, tables: &T) -> Result<u32, Verdict> {
    let index = packet.hash as u32 & tables.bucket_mask();
    let bucket = tables.bucket(index).ok_or(Verdict::Inconsistent)?;
    let tag = tag(packet.hash);
    let found = find(bucket, tag);
    // The clock is read after the entry, or one that another CPU has just written would seem to be a whole turn of the
    // clock old.
    let place = Place { bucket, tag, now: tables.now() };
    match found {
        Some((way, entry)) => known(packet, vip, tables, place, way, entry),
        None => unknown(packet, vip, tables, place),
    }
}

/// Where a flow is remembered, or would be.
#[derive(Clone, Copy)]
struct Place<'t> {
    bucket: &'t Bucket,
    tag: u32,
    now: u32,
}

/// Upper bits of the hash; never 0, the tag of empty ways.
#[inline(always)]
const fn tag(hash: u64) -> u32 {
    let tag = (hash >> (u64::BITS - TAG_BITS)) as u32;
    if tag == 0 { 1 } else { tag }
}

#[inline(always)]
fn find(bucket: &Bucket, tag: u32) -> Option<(usize, FlowEntry)> {
    for (way, entry) in bucket.entries.iter().enumerate() {
        let entry = FlowEntry(entry.load(Relaxed));
        if entry.tag() == tag {
            return Some((way, entry));
        }
    }
    None
}

#[inline(always)]
fn store(bucket: &Bucket, way: usize, entry: FlowEntry) {
    // The mask is for the verifier; `way` is below `WAYS`.
    if let Some(place) = bucket.entries.get(way & (WAYS - 1)) {
        place.store(entry.0, Relaxed);
    }
}

/// A flow with an entry. The common case writes nothing: the entry is in use, its unit of time is now.
#[inline(always)]
fn known<T: Tables>(
    packet: &Packet,
    vip: &Vip,
    tables: &T,
    place: Place,
    way: usize,
    entry: FlowEntry,
) -> Result<u32, Verdict> {
    let target = tables.target(entry.target()).ok_or(Verdict::Inconsistent)?;
    let usable = target.serves == vip.id;
    let age = entry.age(place.now);
    let plain = packet.flags & (SYN | FIN | RST) == 0;
    if usable && plain && is_in_use(entry.state()) {
        if age == 0 {
            return Ok(entry.target());
        }
        if entry.state() == FlowState::Established as u32 || age <= tables.udp_idle() {
            store(place.bucket, way, entry.touched(place.now, entry.state()));
            return Ok(entry.target());
        }
    }
    if is_expired(entry, age, tables.udp_idle()) {
        tables.event(PathEvent::Expired);
        return create(packet, vip, tables, place, Some(way));
    }
    if !usable {
        return moved(packet, vip, tables, place, way, entry);
    }
    match advance(packet, target, entry, tables) {
        Some(state) => {
            store(place.bucket, way, entry.touched(place.now, state as u32));
            Ok(entry.target())
        }
        None => create(packet, vip, tables, place, Some(way)),
    }
}

#[inline(always)]
const fn is_in_use(state: u32) -> bool {
    state == FlowState::Established as u32 || state == FlowState::Datagram as u32
}

#[inline(always)]
const fn is_expired(entry: FlowEntry, age: u32, udp_idle: u32) -> bool {
    let datagram = entry.state() == FlowState::Datagram as u32 || entry.state() == FlowState::FirstDatagram as u32;
    datagram && age > udp_idle
}

/// The flow's next state, or `None` if the packet opens a new flow under the old tuple. Counts what it means.
#[inline(always)]
fn advance<T: Tables>(packet: &Packet, target: &Target, entry: FlowEntry, tables: &T) -> Option<FlowState> {
    let state = FlowState::try_from(entry.state()).unwrap_or(FlowState::PickedUp);
    if packet.opens_flow() {
        if state == FlowState::Closing {
            return None;
        }
        // A SYN within a flow that goes on is the backend's to judge (RFC 9293 section 3.10.7.4); it stays there, or one
        // forged SYN would move the flow away.
        if state == FlowState::HalfOpen {
            if target.flags & Target::DRAINING != 0 {
                return None;
            }
            tables.count(entry.target(), |counters| {
                counters.syn_retransmits = counters.syn_retransmits.wrapping_add(1);
            });
        }
        return Some(state);
    }
    if packet.flags & (FIN | RST) != 0 {
        if state != FlowState::Closing {
            let reset = packet.flags & RST != 0;
            tables.count(entry.target(), |counters| {
                let counter = if reset { &mut counters.rsts } else { &mut counters.fins };
                *counter = counter.wrapping_add(1);
            });
        }
        return Some(FlowState::Closing);
    }
    Some(match state {
        FlowState::HalfOpen => {
            tables.count(entry.target(), |counters| counters.handshakes = counters.handshakes.wrapping_add(1));
            FlowState::Established
        }
        FlowState::Empty | FlowState::PickedUp | FlowState::Established => FlowState::Established,
        FlowState::Closing => FlowState::Closing,
        FlowState::FirstDatagram | FlowState::Datagram => FlowState::Datagram,
    })
}

/// A flow whose target is down or gone, or another VIP's (a tag that matches by chance): the ring decides anew.
#[inline(always)]
fn moved<T: Tables>(
    packet: &Packet,
    vip: &Vip,
    tables: &T,
    place: Place,
    way: usize,
    entry: FlowEntry,
) -> Result<u32, Verdict> {
    if packet.opens_flow() {
        return create(packet, vip, tables, place, Some(way));
    }
    let id = ring::pick(packet.hash, vip, tables)?;
    tables.event(PathEvent::Moved);
    tables.count(id, |counters| counters.flows_moved = counters.flows_moved.wrapping_add(1));
    let state = if packet.flags & (FIN | RST) != 0 {
        FlowState::Closing as u32
    } else if entry.state() == FlowState::HalfOpen as u32 {
        // This target took no part in the handshake.
        FlowState::PickedUp as u32
    } else {
        entry.state()
    };
    store(place.bucket, way, entry.with_target(id).touched(place.now, state));
    Ok(id)
}

/// A flow without an entry.
#[inline(always)]
fn unknown<T: Tables>(packet: &Packet, vip: &Vip, tables: &T, place: Place) -> Result<u32, Verdict> {
    tables.event(match (packet.protocol, packet.opens_flow()) {
        (TCP, true) => PathEvent::MissSyn,
        (TCP, false) => PathEvent::MissTcp,
        _ => PathEvent::MissUdp,
    });
    create(packet, vip, tables, place, None)
}

/// Takes the ring's target and remembers it, in the way of the tuple's former flow if there was one.
#[inline(always)]
fn create<T: Tables>(
    packet: &Packet,
    vip: &Vip,
    tables: &T,
    place: Place,
    former: Option<usize>,
) -> Result<u32, Verdict> {
    let id = ring::pick(packet.hash, vip, tables)?;
    if packet.flags & (FIN | RST) != 0 {
        // The end of a flow that is not known: nothing to remember.
        return Ok(id);
    }
    let state = match packet.protocol {
        TCP if packet.opens_flow() => FlowState::HalfOpen,
        TCP => FlowState::PickedUp,
        _ => FlowState::FirstDatagram,
    };
    let Some(way) = former.or_else(|| make_room(place, tables)) else {
        tables.event(PathEvent::NotRemembered);
        return Ok(id);
    };
    tables.count(id, |counters| {
        counters.flows_created = counters.flows_created.wrapping_add(1);
        counters.syns = counters.syns.wrapping_add(u64::from(state == FlowState::HalfOpen));
    });
    store(place.bucket, way, FlowEntry::new(place.tag, id, place.now, state));
    Ok(id)
}

// Ranks of what may give way, from the last resort to the first choice; 0 may not.
const IDLE_IN_USE: u32 = 1;
const ONE_PACKET: u32 = 2;
const EXPIRED: u32 = 3;
const CLOSED: u32 = 4;
const FREE: u32 = 5;

/// The way that a new entry takes, if any may give way.
#[inline(always)]
fn make_room<T: Tables>(place: Place, tables: &T) -> Option<usize> {
    let udp_idle = tables.udp_idle();
    let mut best = 0;
    let mut best_way = 0;
    for (way, entry) in place.bucket.entries.iter().enumerate() {
        let entry = FlowEntry(entry.load(Relaxed));
        let age = entry.age(place.now);
        let rank = rank(entry, age, udp_idle);
        // Among equals the tag decides, or a flood would always hit the same way, and with it whoever came just before.
        let turn = (way as u32).wrapping_add(place.tag) & (WAYS as u32 - 1);
        let score = (rank << 16) | (age << 3) | turn;
        if score > best {
            best = score;
            best_way = way;
        }
    }
    if best < IDLE_IN_USE << 16 {
        return None;
    }
    if best < FREE << 16 {
        tables.event(PathEvent::Evicted);
    }
    Some(best_way)
}

#[inline(always)]
const fn rank(entry: FlowEntry, age: u32, udp_idle: u32) -> u32 {
    if entry.is_empty() {
        return FREE;
    }
    if is_expired(entry, age, udp_idle) {
        return EXPIRED;
    }
    if is_in_use(entry.state()) {
        return if age >= STALE { IDLE_IN_USE } else { 0 };
    }
    // A half-closed flow may go on for long: it counts as closed only when it fell silent, for a whole unit at least.
    if entry.state() == FlowState::Closing as u32 && age > 1 { CLOSED } else { ONE_PACKET }
}

#[cfg(test)]
mod tests;
