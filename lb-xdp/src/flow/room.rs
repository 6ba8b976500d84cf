//! Who gives way to a new flow in a full bucket.

use core::sync::atomic::Ordering::Relaxed;

use lb_common::{
    layout::{
        counter::PathEvent,
        flow::{FlowEntry, FlowState, WAYS},
    },
    maps::feature,
};

use super::{NO_WAY, Place, STALE, turn, way};
use crate::path::Tables;

// Ranks of what may give way, from the last resort to the first choice; 0 may not.
const IDLE_IN_USE: u64 = 1;
const ONE_PACKET: u64 = 2;
const EXPIRED: u64 = 3;
const CLOSED: u64 = 4;
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
    (FlowState::HalfOpen, ONE_PACKET),
    (FlowState::PickedUp, ONE_PACKET),
    (FlowState::Closing, ONE_PACKET),
    (FlowState::FirstDatagram, ONE_PACKET),
]);
/// The same after [`STALE`], of UDP flows whose idle time is longer.
const STALE_UDP: ByState<RANK_BITS> = YOUNG.with(&[(FlowState::Datagram, IDLE_IN_USE)]);
/// Ranks from then on.
const OLD: ByState<RANK_BITS> = ByState::new(&[
    (FlowState::HalfOpen, ONE_PACKET),
    (FlowState::PickedUp, ONE_PACKET),
    (FlowState::Established, IDLE_IN_USE),
    (FlowState::Closing, CLOSED),
    (FlowState::FirstDatagram, EXPIRED),
    (FlowState::Datagram, EXPIRED),
]);

/// The lowest score that gives way.
pub(super) const LEAST: u32 = (IDLE_IN_USE as u32) << 16;
/// The same to a flow in a tracked slot, which finds its target without an entry: nothing in use, however long idle, nor
/// what came within the last 4 s, of whose handshake no second packet may be here yet.
pub(super) const LEAST_FOR_TRACKED: u32 = (ONE_PACKET as u32) << 16 | 2 << 3;

/// The way that a new entry takes; [`NO_WAY`] if none may give way to one of this kind.
#[inline(always)]
pub(super) fn make<T: Tables>(place: Place, least: u32, tables: &T) -> usize {
    // The first free way, not any: while most buckets hold few flows, a look-up then nearly always ends at the way that the
    // processor expects.
    for (at, entry) in place.bucket.entries.iter().enumerate() {
        if FlowEntry(entry.load(Relaxed)).is_empty() {
            return way(turn(at, place.tag), place.tag);
        }
    }
    let udp_idle = tables.udp_idle();
    // An entry that another CPU used for the first time in the next unit, since this one read the clock, seems to be the oldest
    // and gives way. That is some nanoseconds in 4 s; a comparison for each way would cost every new flow more.
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
    if best < least {
        return NO_WAY;
    }
    let way = way(best, place.tag);
    tables.event(PathEvent::Evicted);
    if tables.has(feature::ADAPTIVE)
        && let Some(entry) = place.bucket.entries.get(way & (WAYS - 1))
        && FlowEntry(entry.load(Relaxed)).is_stray()
    {
        tables.event(PathEvent::StrayLost);
    }
    way
}
