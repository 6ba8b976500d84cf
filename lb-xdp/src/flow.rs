//! Step 3: is the flow known? And what is remembered of it.
//!
//! A new entry takes the place of, in this order: the first empty way, a closing flow that fell silent, an expired UDP flow, the
//! oldest flow of which only one packet (or only SYNs) was seen or that is just closing, a flow idle for [`STALE`]. Never of another one that is in use: a flood
//! of single packets, SYNs or not, cannot displace flows that are. If nothing gives way, the ring answers for the new flow
//! packet by packet.

use core::{hint::black_box, sync::atomic::Ordering::Relaxed};

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
    frame::Frame,
    parse::Packet,
    path::Tables,
    ring::Tracked,
    select::Request,
    wire::l4::{FIN, RST, SYN},
};

mod room;

/// A flow in use that was idle for this many units (4.6 minutes) may give way to a new one.
pub const STALE: u32 = 64;

/// The target of the packet's flow: the remembered one while it may be used, else the ring's; or the one that the packet
/// itself names.
///
/// # Errors
/// [`Verdict::NoBackend`] if the ring is empty; [`Verdict::Inconsistent`]; that of a limit of new flows.
#[inline(always)]
pub fn steer<F: Frame, T: Tables>(request: &Request<F, T>) -> Result<u32, Verdict> {
    let Request { packet, tables, .. } = *request;
    let index = packet.hash as u32 & tables.bucket_mask();
    let bucket = tables.bucket(index).ok_or(Verdict::Inconsistent)?;
    let tag = tag(packet.hash);
    let (way, entry) = find(bucket, tag);
    // The clock is read after the entry, or one that another CPU has just written would seem to be a whole turn of the
    // clock old.
    let place = Place { bucket, way, tag, now: tables.now() };
    let step = if entry.is_empty() {
        tables.event(match (packet.protocol, packet.opens_flow()) {
            (TCP, true) => PathEvent::MissSyn,
            (TCP, false) => PathEvent::MissTcp,
            _ => PathEvent::MissUdp,
        });
        Step::Create { anew: true }
    } else {
        known(request, place, entry)?
    };
    match step {
        Step::Stay(id) => Ok(id),
        Step::Move(entry) => moved(request, place, entry),
        Step::Create { anew } => create(request, place, anew),
    }
}

/// The remembered target of a flow, by the flow's hash, if it may be used. Changes nothing.
#[inline(always)]
pub fn peek<T: Tables>(hash: u64, vip: &Vip, tables: &T) -> Option<u32> {
    let bucket = tables.bucket(hash as u32 & tables.bucket_mask())?;
    let (_, entry) = find(bucket, tag(hash));
    if entry.is_empty() {
        return None;
    }
    let target = tables.target(entry.target())?;
    (target.serves == vip.id).then_some(entry.target())
}

/// What becomes of a flow.
#[derive(Clone, Copy)]
enum Step {
    /// It stays with this target.
    Stay(u32),
    /// It has an entry, whose target cannot be used.
    Move(FlowEntry),
    /// It is new; `anew` if the tuple has no entry of a former flow either.
    Create { anew: bool },
}

/// Where a flow is remembered, or would be.
#[derive(Clone, Copy)]
struct Place<'t> {
    bucket: &'t Bucket,
    /// That of the tuple's entry; any if there is none.
    way: usize,
    tag: u32,
    now: u32,
}

/// Upper bits of the hash; never 0, the tag of empty ways.
#[inline(always)]
pub const fn tag(hash: u64) -> u32 {
    let tag = (hash >> (u64::BITS - TAG_BITS)) as u32;
    if tag == 0 { 1 } else { tag }
}

/// The entry of a bucket with this tag, and its way; an empty one if there is none.
#[inline(always)]
pub(crate) fn find(bucket: &Bucket, tag: u32) -> (usize, FlowEntry) {
    let (mut place, mut found) = (0, FlowEntry(0));
    for (at, entry) in bucket.entries.iter().enumerate() {
        let entry = FlowEntry(entry.load(Relaxed));
        if entry.tag() == tag {
            (place, found) = (turn(at, tag), entry);
            break;
        }
    }
    (way(place, tag), found)
}

/// Writes an entry whole.
#[inline(always)]
pub(crate) fn store(bucket: &Bucket, way: usize, entry: FlowEntry) {
    // The mask is for the verifier; `way` is below `WAYS`.
    if let Some(place) = bucket.entries.get(way & (WAYS - 1)) {
        place.store(entry.0, Relaxed);
    }
}

/// A flow with an entry. The common case writes nothing: the entry is in use, its unit of time is now.
#[inline(always)]
fn known<F: Frame, T: Tables>(request: &Request<F, T>, place: Place, found: FlowEntry) -> Result<Step, Verdict> {
    let Request { packet, vip, tables, named, .. } = *request;
    let mut entry = found;
    if named != 0 && named != entry.target() {
        entry = entry.with_target(named);
        store(place.bucket, place.way, entry);
    }
    let target = tables.target(entry.target()).ok_or(Verdict::Inconsistent)?;
    let usable = target.serves == vip.id;
    let age = entry.age(place.now);
    let plain = packet.flags & (SYN | FIN | RST) == 0;
    if usable && plain && is_in_use(entry.state()) {
        if age == 0 {
            return Ok(Step::Stay(entry.target()));
        }
        if entry.state() == FlowState::Established as u32 || age <= tables.udp_idle() {
            store(place.bucket, place.way, marked(request, entry.touched(place.now, entry.state())));
            return Ok(Step::Stay(entry.target()));
        }
    }
    if is_expired(entry, age, tables.udp_idle()) {
        tables.event(PathEvent::Expired);
        return Ok(Step::Create { anew: false });
    }
    if !usable {
        // Where another VIP's flow is by chance, this one is not known, and may be at its slot's previous target.
        let is_anothers = request.slot.is_tracked() && target.vip != vip.id;
        let is_new = packet.opens_flow() || is_anothers;
        return Ok(if is_new { Step::Create { anew: false } } else { Step::Move(entry) });
    }
    Ok(match advance(packet, target, entry, tables) {
        Some(state) => {
            store(place.bucket, place.way, marked(request, entry.touched(place.now, state as u32)));
            Step::Stay(entry.target())
        }
        None => Step::Create { anew: false },
    })
}

/// The entry with a note whether it is all that tells where the flow goes.
#[inline(always)]
fn marked<F, T>(request: &Request<F, T>, entry: FlowEntry) -> FlowEntry {
    let slot = request.slot;
    if slot.is_tracked() { entry.stray(entry.target() != slot.current) } else { entry }
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
fn moved<F: Frame, T: Tables>(request: &Request<F, T>, place: Place, entry: FlowEntry) -> Result<u32, Verdict> {
    let Request { packet, tables, .. } = *request;
    let id = request.pick()?;
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
    store(place.bucket, place.way, entry.with_target(id).touched(place.now, state));
    Ok(id)
}

/// A new flow: takes a target and remembers it, in the way of the tuple's former flow if there was one.
#[inline(always)]
fn create<F: Frame, T: Tables>(request: &Request<F, T>, place: Place, anew: bool) -> Result<u32, Verdict> {
    let Request { packet, tables, .. } = *request;
    let is_remembered = request.admit_flow()?;
    let id = request.named_or_picked()?;
    if packet.flags & (FIN | RST) != 0 {
        // The end of a flow that is not known: nothing to remember.
        return Ok(id);
    }
    let state = match packet.protocol {
        TCP if packet.opens_flow() => FlowState::HalfOpen,
        TCP => FlowState::PickedUp,
        _ => FlowState::FirstDatagram,
    };
    let least = if request.slot.is_tracked() { room::LEAST_FOR_TRACKED } else { room::LEAST };
    let way = match (is_remembered, anew) {
        (true, true) => room::make(place, least, tables),
        (true, false) => place.way,
        (false, _) => NO_WAY,
    };
    if way == NO_WAY {
        tables.event(PathEvent::NotRemembered);
        let slot = request.slot;
        return Ok(if slot.is_tracked() { not_kept(request, slot, id) } else { id });
    }
    tables.count(id, |counters| {
        counters.flows_created = counters.flows_created.wrapping_add(1);
        counters.syns = counters.syns.wrapping_add(u64::from(state == FlowState::HalfOpen));
    });
    store(place.bucket, way, marked(request, FlowEntry::new(place.tag, id, place.now, state)));
    Ok(id)
}

/// The target of a flow in a tracked slot for which there is no room: the one that its later packets find without an entry.
#[inline(always)]
fn not_kept<F: Frame, T: Tables>(request: &Request<F, T>, slot: Tracked, id: u32) -> u32 {
    let kept = if request.serves(slot.previous) { slot.previous } else { id };
    if kept != slot.current {
        request.tables.event(PathEvent::StrayLost);
    }
    kept
}

/// Instead of a way: none. Not an `Option`, whose number is left undefined where there is none: kernel 6.1 refuses a
/// program that copies such a number to its stack and back.
const NO_WAY: usize = WAYS;

/// A way's number among those of a bucket, counted from one that the tag says.
#[inline(always)]
const fn turn(way: usize, tag: u32) -> u32 {
    (way as u32).wrapping_add(tag) & (WAYS as u32 - 1)
}

/// The way of a turn, or of a score whose lowest bits are one.
#[inline(always)]
fn way(turn: u32, tag: u32) -> usize {
    // To the compiler the turn is any here, or it would find that it was made of the tag and a way it knows. The verifier then
    // doesn't know the way either, and has one case to look at instead of eight.
    (black_box(turn).wrapping_sub(tag) & (WAYS as u32 - 1)) as usize
}

#[cfg(test)]
mod tests;
