//! What traffic tells of backends: those whose clients' handshakes don't complete are ejected for a while. Pure.
//!
//! Replies never pass here, but the client's ACK does: a flow whose SYN is followed by a packet without SYN was answered.
//! A backend that is silent, or answers by RST, leaves its flows half-open. So a backend's share of success is handshakes
//! over SYNs of new flows, and it is told from sums that the tables keep, looked at every [`SAMPLE`].
//!
//! * A handshake completes a round trip after its SYN. Flows count [`ALLOWANCE`] after they began, and every handshake since
//!   counts for them: the share is never told too low for round trips that are shorter, and too high by little where it is
//!   told of many moments.
//! * To be quick, the shortest time with enough flows decides, up to the whole window: a backend that died has the successes
//!   of the time before in the longer ones.
//! * Few flows fail by chance. The successes have to be three standard deviations fewer than `success_below` asks for.
//! * What befalls all is not the backend's: a flood of SYNs from forged addresses, clients that are far away, a return path
//!   that is broken. `success_below` is a share of what the others of the group reach. Each of them has a voice of at most
//!   `min_new_flows`, or one that is flooded would speak for all.
//! * Of a group no more than `max_ejected` are out of service when one is ejected, those included that are down by their
//!   checks; and no more are ejected, ever.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Ejected, Ejections, Member};
use crate::model::{Passive, Service};

mod window;

use self::window::{Share, Window};

/// How often the counters are looked at.
pub const SAMPLE: Duration = Duration::from_millis(125);
/// How long a handshake may take.
pub const ALLOWANCE: Duration = Duration::from_millis(375);
/// An ejection lasts twice as long as the one before it, but no longer than so many times doubled.
const DOUBLINGS: u32 = 4;
/// A backend that stayed in service for so many times `eject_for` begins anew.
const QUIET: u32 = 10;
/// Standard deviations that chance is given.
const CHANCE: f64 = 3.0;

/// What the tables count of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its number.
    pub target: u32,
    /// SYNs of new flows.
    pub syns: u64,
    /// Handshakes that completed.
    pub handshakes: u64,
}

/// Backends that are compared with each other: those of a VIP from one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The pool's rule.
    pub rule: Passive,
    /// Those that may take new flows, by the configuration.
    pub members: BTreeSet<Member>,
}

/// All groups, by VIP and pool.
pub type Groups = BTreeMap<(Service, String), Group>;

/// What came of a look at the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A backend is ejected.
    Began {
        /// The backend.
        member: Member,
        /// How long.
        lasts: Duration,
        /// Its how manieth ejection in a row that is.
        number: u32,
        /// Why, in words for operators.
        reason: String,
    },
    /// An ejection is over.
    Ended {
        /// The backend.
        member: Member,
    },
}

/// Looks at all groups.
#[derive(Debug, Default)]
pub struct Observer {
    groups: BTreeMap<(Service, String), Watched>,
}

/// A group and what is known of it.
#[derive(Debug)]
struct Watched {
    rule: Passive,
    /// When it was looked at, the latest last: no longer ago than a flow can matter.
    moments: VecDeque<Instant>,
    seats: BTreeMap<Member, Seat>,
}

/// A backend and what is known of it.
#[derive(Debug, Default)]
struct Seat {
    window: Window,
    ejected: Option<Ejection>,
    /// Ejections in a row.
    number: u32,
    /// When the last one ended.
    returned: Option<Instant>,
}

#[derive(Debug)]
struct Ejection {
    since: Instant,
    told: Ejected,
}

impl Observer {
    /// Looks at these groups from now on. Backends that stay keep all that is known of them.
    pub fn set(&mut self, groups: &Groups) {
        self.groups.retain(|key, _| groups.contains_key(key));
        for (key, group) in groups {
            let watched = self.groups.entry(key.clone()).or_insert_with(|| Watched::new(group.rule));
            watched.rule = group.rule;
            watched.seats.retain(|member, _| group.members.contains(member));
            for member in &group.members {
                watched.seats.entry(*member).or_default();
            }
        }
    }

    /// Whether there is nothing to look at.
    pub fn is_idle(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes what is counted now: backends that are not there yet are absent. `is_down` says of a backend that is not
    /// ejected whether it is out of service for other reasons.
    pub fn sample(
        &mut self,
        counted: &BTreeMap<Member, Counted>,
        is_down: impl Fn(&Member) -> bool,
        now: Instant,
        wall: SystemTime,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for watched in self.groups.values_mut() {
            watched.note(counted, now);
            watched.release(now, &mut events);
            watched.eject(&is_down, now, wall, &mut events);
        }
        events
    }

    /// All that are ejected.
    pub fn ejections(&self) -> Ejections {
        let seats = self.groups.values().flat_map(|watched| &watched.seats);
        seats.filter_map(|(member, seat)| Some((*member, seat.ejected.as_ref()?.told.clone()))).collect()
    }
}

impl Watched {
    fn new(rule: Passive) -> Self {
        Self { rule, moments: VecDeque::new(), seats: BTreeMap::new() }
    }

    fn note(&mut self, counted: &BTreeMap<Member, Counted>, now: Instant) {
        self.moments.push_back(now);
        let since = self.rule.window + ALLOWANCE;
        while self.moments.front().is_some_and(|first| now.duration_since(*first) > since) {
            self.moments.pop_front();
        }
        for (member, seat) in &mut self.seats {
            if seat.ejected.is_some() {
                // What it does afterwards is judged afterwards.
                seat.window = Window::default();
            } else {
                seat.window.note(counted.get(member).copied());
                seat.window.keep(self.moments.len());
            }
        }
    }

    /// Ends ejections whose time is over, and the newest of those that are more than may be.
    fn release(&mut self, now: Instant, events: &mut Vec<Event>) {
        let eject_for = self.rule.eject_for;
        let mut held: Vec<(Instant, Member)> = Vec::new();
        for (member, seat) in &mut self.seats {
            match &seat.ejected {
                Some(ejection) if ejection.told.until <= now => events.push(seat.release(*member, now)),
                Some(ejection) => held.push((ejection.since, *member)),
                None => {
                    if seat.returned.is_some_and(|at| now.duration_since(at) >= eject_for * QUIET) {
                        (seat.number, seat.returned) = (0, None);
                    }
                }
            }
        }
        held.sort_unstable();
        for (_, member) in held.into_iter().skip(self.most()) {
            events.extend(self.seats.get_mut(&member).map(|seat| seat.release(member, now)));
        }
    }

    /// How many of the group may be out of service by ejections: never more than the share allowed.
    fn most(&self) -> usize {
        self.seats.len() * usize::from(self.rule.max_ejected) / 100
    }

    fn eject(&mut self, is_down: &impl Fn(&Member) -> bool, now: Instant, wall: SystemTime, events: &mut Vec<Event>) {
        let serves = |(member, seat): &(&Member, &Seat)| seat.ejected.is_none() && !is_down(member);
        let serving: Vec<(&Member, &Seat)> = self.seats.iter().filter(serves).collect();
        let free = self.most().saturating_sub(self.seats.len() - serving.len());
        if free == 0 {
            return;
        }
        let mut failing = self.failing(&serving, now);
        failing.sort_by(|(one, a), (other, b)| {
            a.ratio().total_cmp(&b.ratio()).then(b.flows.cmp(&a.flows)).then(one.cmp(other))
        });
        failing.truncate(free);
        for (member, share) in failing {
            let Some(seat) = self.seats.get_mut(&member) else { continue };
            let lasts = self.rule.eject_for * (1 << seat.number.min(DOUBLINGS));
            seat.number += 1;
            let Share { completed, flows } = share;
            let until = time_of_day(wall + lasts);
            let reason = format!("ejected: {completed} of {flows} handshakes completed, until {until}");
            seat.window = Window::default();
            seat.ejected = Some(Ejection { since: now, told: Ejected { until: now + lasts, reason: reason.clone() } });
            events.push(Event::Began { member, lasts, number: seat.number, reason });
        }
    }

    /// Backends too few of whose handshakes complete, and the share of the shortest time that shows it.
    fn failing(&self, serving: &[(&Member, &Seat)], now: Instant) -> Vec<(Member, Share)> {
        let recent = self.moments.iter().rev().take_while(|at| now.duration_since(**at) < ALLOWANCE).count();
        let spans: Vec<usize> = spans(recent, self.moments.len()).collect();
        let mut choirs: BTreeMap<usize, Choir> = BTreeMap::new();
        let mut failing = Vec::new();
        for &(member, seat) in serving {
            for &from in &spans {
                let Some(share) = seat.window.share(from, recent) else { break };
                if share.flows < self.rule.min_new_flows || !self.fails(share, 1.0) {
                    continue;
                }
                let choir = choirs.entry(from).or_insert_with(|| Choir::of(serving, from, recent, &self.rule));
                if choir.without(share).is_some_and(|others| self.fails(share, others)) {
                    failing.push((*member, share));
                    break;
                }
            }
        }
        failing
    }

    /// Whether a share is lower than it may be where the others reach `others`, and not by chance.
    fn fails(&self, share: Share, others: f64) -> bool {
        let wanted = others * f64::from(self.rule.success_below) / 100.0;
        let flows = f64::from(share.flows);
        let deviation = (flows * wanted * (1.0 - wanted)).sqrt();
        f64::from(share.completed) + CHANCE * deviation < flows * wanted
    }
}

impl Seat {
    fn release(&mut self, member: Member, now: Instant) -> Event {
        self.ejected = None;
        self.returned = Some(now);
        Event::Ended { member }
    }
}

/// What those of a group reach together, each with a voice of as many flows as it had, at most `most`.
#[derive(Clone, Copy, Debug)]
struct Choir {
    voices: f64,
    sum: f64,
    most: u32,
}

impl Choir {
    fn of(serving: &[(&Member, &Seat)], from: usize, to: usize, rule: &Passive) -> Self {
        let mut choir = Self { voices: 0.0, sum: 0.0, most: rule.min_new_flows };
        for share in serving.iter().filter_map(|(_, seat)| seat.window.share(from, to)) {
            let voice = choir.voice(share);
            choir.voices += voice;
            choir.sum += voice * share.ratio();
        }
        choir
    }

    fn voice(&self, share: Share) -> f64 {
        f64::from(share.flows.min(self.most))
    }

    /// What the others reach without one of them; `None` if they had too few flows to tell.
    fn without(&self, share: Share) -> Option<f64> {
        let voice = self.voice(share);
        let voices = self.voices - voice;
        (voices >= f64::from(self.most)).then(|| (self.sum - voice * share.ratio()) / voices)
    }
}

/// Where the times begin that are looked at, counted back from the latest moment: each is longer than the one before by
/// about a third, and the last one goes back to the oldest moment.
fn spans(recent: usize, moments: usize) -> impl Iterator<Item = usize> {
    let oldest = moments.saturating_sub(1);
    let grown = |length: &usize| Some(length + (length / 3).max(1));
    let lengths = std::iter::successors(Some(1), grown).map(move |length| recent + length);
    let last = (oldest > recent).then_some(oldest);
    lengths.take_while(move |from| *from < oldest).chain(last)
}

/// Hours, minutes and seconds of the day, in UTC.
fn time_of_day(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests;
