//! Step 3: is the flow known? And what is remembered of it.
//!
//! A new entry takes the place of, in this order: an empty way, a closing flow that fell silent, an expired UDP flow, the
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
    select::Request,
    wire::l4::{FIN, RST, SYN},
};

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
    let found = find(bucket, tag);
    // The clock is read after the entry, or one that another CPU has just written would seem to be a whole turn of the
    // clock old.
    let place = Place { bucket, tag, now: tables.now() };
    let step = if let Some((way, entry)) = found {
        known(request, place, way, entry)?
    } else {
        tables.event(match (packet.protocol, packet.opens_flow()) {
            (TCP, true) => PathEvent::MissSyn,
            (TCP, false) => PathEvent::MissTcp,
            _ => PathEvent::MissUdp,
        });
        Step::Create(None)
    };
    match step {
        Step::Stay(id) => Ok(id),
        Step::Move(way, entry) => moved(request, place, way, entry),
        Step::Create(former) => create(request, place, former),
    }
}

/// The remembered target of a flow, by the flow's hash, if it may be used. Changes nothing.
#[inline(always)]
pub fn peek<T: Tables>(hash: u64, vip: &Vip, tables: &T) -> Option<u32> {
    let bucket = tables.bucket(hash as u32 & tables.bucket_mask())?;
    let (_, entry) = find(bucket, tag(hash))?;
    let target = tables.target(entry.target())?;
    (target.serves == vip.id).then_some(entry.target())
}

/// What becomes of a flow.
#[derive(Clone, Copy)]
enum Step {
    /// It stays with this target.
    Stay(u32),
    /// It has an entry, in this way, whose target cannot be used.
    Move(usize, FlowEntry),
    /// It is new; the way is that of the tuple's former flow, if there was one.
    Create(Option<usize>),
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
pub const fn tag(hash: u64) -> u32 {
    let tag = (hash >> (u64::BITS - TAG_BITS)) as u32;
    if tag == 0 { 1 } else { tag }
}

/// The entry of a bucket with this tag.
#[inline(always)]
pub(crate) fn find(bucket: &Bucket, tag: u32) -> Option<(usize, FlowEntry)> {
    for (at, entry) in bucket.entries.iter().enumerate() {
        let entry = FlowEntry(entry.load(Relaxed));
        if entry.tag() == tag {
            return Some((way(turn(at, tag), tag), entry));
        }
    }
    None
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
fn known<F: Frame, T: Tables>(
    request: &Request<F, T>,
    place: Place,
    way: usize,
    found: FlowEntry,
) -> Result<Step, Verdict> {
    let Request { packet, vip, tables, named, .. } = *request;
    let mut entry = found;
    if named != 0 && named != entry.target() {
        entry = entry.with_target(named);
        store(place.bucket, way, entry);
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
            store(place.bucket, way, entry.touched(place.now, entry.state()));
            return Ok(Step::Stay(entry.target()));
        }
    }
    if is_expired(entry, age, tables.udp_idle()) {
        tables.event(PathEvent::Expired);
        return Ok(Step::Create(Some(way)));
    }
    if !usable {
        let step = if packet.opens_flow() { Step::Create(Some(way)) } else { Step::Move(way, entry) };
        return Ok(step);
    }
    Ok(match advance(packet, target, entry, tables) {
        Some(state) => {
            store(place.bucket, way, entry.touched(place.now, state as u32));
            Step::Stay(entry.target())
        }
        None => Step::Create(Some(way)),
    })
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
fn moved<F: Frame, T: Tables>(
    request: &Request<F, T>,
    place: Place,
    way: usize,
    entry: FlowEntry,
) -> Result<u32, Verdict> {
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
    store(place.bucket, way, entry.with_target(id).touched(place.now, state));
    Ok(id)
}

/// A new flow: takes a target and remembers it, in the way of the tuple's former flow if there was one.
#[inline(always)]
fn create<F: Frame, T: Tables>(request: &Request<F, T>, place: Place, former: Option<usize>) -> Result<u32, Verdict> {
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
    let way = if is_remembered { former.or_else(|| make_room(place, tables)) } else { None };
    let Some(way) = way else {
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
const IDLE_IN_USE: u64 = 1;
const ONE_PACKET: u64 = 2;
const EXPIRED: u64 = 3;
const CLOSED: u64 = 4;
const FREE: u64 = 5;
/// Bits of a rank.
const RANK_BITS: u32 = 4;

/// A table of numbers by state, of `BITS` bits each. As the shift by an entry's state is unknown to the verifier, so is
/// what it gives; were it told by branches, the verifier would go through all that follows once for each.
#[derive(Clone, Copy)]
struct ByState<const BITS: u32>(u64);

impl<const BITS: u32> ByState<BITS> {
    const fn new(of: &[(FlowState, u64)]) -> Self {
        Self(0).with(of)
    }

    /// The same with numbers for states that had none.
    const fn with(self, mut of: &[(FlowState, u64)]) -> Self {
        let Self(mut table) = self;
        while let [(state, number), rest @ ..] = of {
            table |= *number << (*state as u32 * BITS);
            of = rest;
        }
        Self(table)
    }

    #[inline(always)]
    const fn of(self, entry: FlowEntry) -> u32 {
        (self.0 >> (entry.state() * BITS)) as u32 & ((1 << BITS) - 1)
    }
}

/// Ages, in units, after which the rank of an entry is another one; those of UDP flows start at their idle time. A
/// half-closed flow may go on for long: it counts as closed only when it fell silent, for a whole unit at least.
const YOUNG_UNTIL: ByState<8> = ByState::new(&[(FlowState::Established, STALE as u64 - 1), (FlowState::Closing, 1)]);
/// 1 for the states of UDP flows.
const IS_UDP: ByState<8> = ByState::new(&[(FlowState::FirstDatagram, 1), (FlowState::Datagram, 1)]);
/// Ranks until then.
const YOUNG: ByState<RANK_BITS> = ByState::new(&[
    (FlowState::Empty, FREE),
    (FlowState::HalfOpen, ONE_PACKET),
    (FlowState::PickedUp, ONE_PACKET),
    (FlowState::Closing, ONE_PACKET),
    (FlowState::FirstDatagram, ONE_PACKET),
]);
/// The same after [`STALE`], of UDP flows whose idle time is longer.
const STALE_UDP: ByState<RANK_BITS> = YOUNG.with(&[(FlowState::Datagram, IDLE_IN_USE)]);
/// Ranks from then on.
const OLD: ByState<RANK_BITS> = ByState::new(&[
    (FlowState::Empty, FREE),
    (FlowState::HalfOpen, ONE_PACKET),
    (FlowState::PickedUp, ONE_PACKET),
    (FlowState::Established, IDLE_IN_USE),
    (FlowState::Closing, CLOSED),
    (FlowState::FirstDatagram, EXPIRED),
    (FlowState::Datagram, EXPIRED),
]);

/// The way that a new entry takes, if any may give way.
#[inline(always)]
fn make_room<T: Tables>(place: Place, tables: &T) -> Option<usize> {
    let udp_idle = tables.udp_idle();
    let mut best = 0;
    for (way, entry) in place.bucket.entries.iter().enumerate() {
        let entry = FlowEntry(entry.load(Relaxed));
        let age = entry.age(place.now);
        let young_until = YOUNG_UNTIL.of(entry).wrapping_add(IS_UDP.of(entry).wrapping_mul(udp_idle));
        let ranks = if age > young_until {
            OLD
        } else if age >= STALE {
            STALE_UDP
        } else {
            YOUNG
        };
        // Among equals the tag decides, or a flood would always hit the same way, and with it whoever came just before.
        let score = (ranks.of(entry) << 16) | (age << 3) | turn(way, place.tag);
        best = best.max(score);
    }
    if best < (IDLE_IN_USE as u32) << 16 {
        return None;
    }
    if best < (FREE as u32) << 16 {
        tables.event(PathEvent::Evicted);
    }
    Some(way(best, place.tag))
}

/// A way's number among those of a bucket, counted from one that the tag says.
#[inline(always)]
const fn turn(way: usize, tag: u32) -> u32 {
    (way as u32).wrapping_add(tag) & (WAYS as u32 - 1)
}

/// The way of a turn, or of a score whose lowest bits are one.
#[inline(always)]
fn way(turn: u32, tag: u32) -> usize {
    // To the compiler the tag is another one here, or it would find that the turn was made of it. The verifier then doesn't
    // know the way either, and has one case to look at instead of eight.
    (turn.wrapping_sub(black_box(tag)) & (WAYS as u32 - 1)) as usize
}

#[cfg(test)]
mod tests;
