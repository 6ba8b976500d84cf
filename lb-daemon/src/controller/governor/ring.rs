//! One ring on its way from what is in force to what health asks for. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    budget::Moves,
    shares::{self, Part, approach, moved, weights},
    steps::{STEP, STEPS, When, beginning, level, tick},
};
use crate::model::RingChange;

/// How often a smaller change is tried when one turned out to move more slots than are left. Each takes the time of a ring,
/// 1.3 ms with the default size.
const TRIES: usize = 8;

/// What a ring should become, by what is known now.
#[derive(Clone, Debug, Default)]
pub(super) struct Aim {
    /// Its slots.
    pub(super) size: u32,
    /// Weights of those that would take new flows if health had nothing against them.
    pub(super) eligible: BTreeMap<IpAddr, u32>,
    /// What health leaves of these.
    pub(super) plain: BTreeMap<IpAddr, u32>,
    /// All are used since few are up.
    pub(super) panics: bool,
    pub(super) slow_start: Option<Duration>,
    pub(super) limit: Option<RingChange>,
}

/// Why a backend has less of the ring, or more, than health alone would give it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Held {
    /// The budget is used up until then.
    Budget(Instant),
    /// It should be gone, and nobody may take over.
    Kept,
    /// It starts slowly, with so many percent of its weight.
    Starts(u32),
}

/// A backend of the ring.
#[derive(Clone, Debug, Default)]
struct Seat {
    /// What its weight would be if health had nothing against it.
    weight: u32,
    /// How much of its weight is in force.
    factor: f64,
    /// How much should be: what health says, and where it starts slowly a part of that.
    goal: f64,
    /// The step at which its slow start begins.
    start: Option<u64>,
    /// Since when it is in the ring although it should not be.
    stale: Option<Instant>,
}

/// A change of a ring that is thought of.
struct Change {
    factors: BTreeMap<IpAddr, f64>,
    weights: BTreeMap<IpAddr, u32>,
    /// Slots that it moves.
    slots: u32,
}

/// A ring.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    seats: BTreeMap<IpAddr, Seat>,
    /// Nobody served before first results were waited for: all of these come at once.
    young: bool,
    /// It was found in the tables, and first results are waited for: until then nobody gets more than he was found with.
    adopted: bool,
    moves: Moves,
    /// The weights in force.
    weights: BTreeMap<IpAddr, u32>,
    /// When the budget has more, if that is waited for.
    waits: Option<Instant>,
    /// `max_ring_change_per`, if it is that budget, and not the step of a slow start.
    per: Option<Duration>,
    /// It is planned that slots move, as noted at this time.
    planned: Option<Instant>,
    next: Option<Instant>,
}

impl Ring {
    /// A ring that goes on from what was found in the tables: slots of each backend.
    pub(super) fn found(slots: &BTreeMap<IpAddr, u32>, eligible: &BTreeMap<IpAddr, u32>) -> Self {
        let known = slots.iter().filter_map(|(address, slots)| {
            let weight = eligible.get(address).filter(|_| *slots > 0)?;
            Some((*address, f64::from(*slots), f64::from(*weight)))
        });
        let known: Vec<(IpAddr, f64, f64)> = known.collect();
        let (all, whole) =
            known.iter().fold((0.0, 0.0), |(all, whole), (_, slots, weight)| (all + slots, whole + weight));
        // Quotas are rounded.
        let is_plain = known.iter().all(|(_, slots, weight)| (slots - all * weight / whole).abs() <= 1.0);
        let highest = known.iter().map(|(_, slots, weight)| slots / weight).fold(0.0, f64::max);
        let seat = |(address, weight): (&IpAddr, &u32)| (*address, Seat { weight: *weight, ..Seat::default() });
        let mut seats: BTreeMap<IpAddr, Seat> = eligible.iter().map(seat).collect();
        for (address, slots, weight) in known {
            seats.entry(address).or_default().factor = if is_plain { 1.0 } else { slots / weight / highest };
        }
        let young = seats.values().all(|seat| seat.factor <= 0.0);
        let weights = weights(&parts(&seats), |_, part| part.factor);
        Self {
            seats,
            young,
            adopted: !young,
            moves: Moves::default(),
            weights,
            waits: None,
            per: None,
            planned: None,
            next: None,
        }
    }

    /// Brings the ring as near to `aim` as is allowed now.
    pub(super) fn step(&mut self, aim: &Aim, when: When) {
        self.young |= when.settling && self.is_empty();
        self.adopted &= when.settling;
        let (came, changed) = self.admit(aim);
        self.set_goals(aim, when);
        for address in &came {
            // That it is here at all is nothing that health did.
            if let Some(seat) = self.seats.get_mut(address) {
                seat.factor = seat.goal;
            }
        }
        self.waits = None;
        let (limit, lost) = match aim.limit {
            Some(limit) => (Some(limit), false),
            None => self.start_by_steps(aim),
        };
        (self.per, self.planned) = (aim.limit.map(|limit| limit.per), None);
        match limit {
            Some(limit) if !self.young && !self.is_empty() => {
                let now = if self.per.is_some() { when.now } else { beginning(limit.per, tick(limit.per, when), when) };
                self.approach(aim, limit, changed || lost, now);
            }
            _ => {
                self.seats.values_mut().for_each(|seat| seat.factor = seat.goal);
                self.weights = self.of_goals(aim);
            }
        }
        for seat in self.seats.values_mut().filter(|seat| seat.factor <= 0.0) {
            // It starts once it gets something.
            seat.start = None;
        }
        self.young &= when.settling;
        self.next = self.next_tick(aim, when).into_iter().chain(self.waits.filter(|_| self.per.is_some())).min();
    }

    /// What was planned is in the tables by `now`: planning and writing take a while, and slots count from when they have moved.
    pub(super) fn applied(&mut self, now: Instant) {
        if let (Some(per), Some(planned)) = (self.per, self.planned.take()) {
            self.moves.put_off(planned, now);
            let waits = self.waits.and_then(|_| self.moves.more_at(per));
            if self.next == self.waits {
                self.next = waits;
            }
            self.waits = waits;
        }
    }

    /// What was planned is not in the tables, or perhaps it is: others may be what failed. The ring goes on from its `slots`
    /// there, and what moved before stays noted: a table that cannot be written must not be what lets more move.
    pub(super) fn failed(&mut self, slots: &BTreeMap<IpAddr, u32>, now: Instant) {
        if let (Some(_), Some(planned)) = (self.per, self.planned.take()) {
            if shares::counted(&self.weights, slots.values().sum()) == *slots {
                self.moves.put_off(planned, now);
            } else {
                self.moves.take_back(planned);
            }
        }
        let eligible = self.seats.iter().map(|(address, seat)| (*address, seat.weight)).collect();
        let found = Self::found(slots, &eligible);
        for (address, seat) in &mut self.seats {
            seat.factor = found.seats.get(address).map_or(0.0, |found| found.factor);
        }
        (self.weights, self.young, self.adopted) = (found.weights, found.young, found.adopted);
        // The next attempt comes when tables are tried again.
        self.next = None;
    }

    /// When there is another step to make.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The weights in force.
    pub(super) fn weights(&self) -> &BTreeMap<IpAddr, u32> {
        &self.weights
    }

    /// Those of whom [`Self::held`] has to tell something.
    pub(super) fn all_held(&self) -> BTreeSet<IpAddr> {
        self.seats.keys().filter(|address| self.held(**address).is_some()).copied().collect()
    }

    /// Why a backend has not what health alone would give it, if so.
    pub(super) fn held(&self, address: IpAddr) -> Option<Held> {
        let seat = self.seats.get(&address)?;
        // Of those that get more as others go, nobody needs to hear.
        let waits = if seat.goal > 0.0 { seat.factor < seat.goal * 0.99 } else { seat.factor > 0.0 };
        match self.waits {
            Some(until) if waits && self.per.is_some() => Some(Held::Budget(until)),
            None if seat.goal <= 0.0 && seat.factor > 0.0 => Some(Held::Kept),
            _ if seat.start.is_some() || waits => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
                let percent = (seat.factor * 100.0).round() as u32;
                Some(Held::Starts(percent))
            }
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.seats.values().all(|seat| seat.factor <= 0.0)
    }

    /// Has a seat for each that is eligible, and for nobody else. Returns those that are new, and whether anything is other
    /// than before.
    fn admit(&mut self, aim: &Aim) -> (Vec<IpAddr>, bool) {
        let before = self.seats.len();
        self.seats.retain(|address, _| aim.eligible.contains_key(address));
        let (mut new, mut changed) = (Vec::new(), self.seats.len() < before);
        for (address, weight) in &aim.eligible {
            let seat = self.seats.entry(*address).or_insert_with(|| {
                new.push(*address);
                Seat::default()
            });
            changed |= seat.weight != *weight;
            seat.weight = *weight;
        }
        (new, changed)
    }

    /// Says what each should have, and who starts slowly.
    fn set_goals(&mut self, aim: &Aim, when: When) {
        let serving = self.seats.values().filter(|seat| seat.factor > 0.0).count();
        let slowly = aim.slow_start.filter(|_| !self.young && !aim.panics).map(|all| tick(all / STEPS, when));
        for (address, seat) in &mut self.seats {
            let weight = seat.weight.max(1);
            let health = f64::from(aim.plain.get(address).copied().unwrap_or(0).min(weight)) / f64::from(weight);
            let others = serving > usize::from(seat.factor > 0.0);
            seat.start = match (slowly, seat.start) {
                (Some(tick), None) if health > 0.0 && seat.factor <= 0.0 && others => Some(tick + 1),
                (Some(tick), Some(start)) if health > 0.0 && level(start, tick) < STEPS => Some(start),
                _ => None,
            };
            let level = seat.start.zip(slowly).map_or(STEPS, |(start, tick)| level(start, tick));
            seat.goal = health * f64::from(level) / f64::from(STEPS);
            if self.adopted {
                seat.goal = seat.goal.min(seat.factor);
            }
            seat.stale = if seat.goal > 0.0 || seat.factor <= 0.0 { None } else { seat.stale.or(Some(when.now)) };
        }
    }

    /// How slow starts go on where nothing else is limited: who is to have less has it at once, and what others get besides is
    /// limited by the step. Returns that limit, and whether somebody has less.
    fn start_by_steps(&mut self, aim: &Aim) -> (Option<RingChange>, bool) {
        let Some(all) = aim.slow_start.filter(|_| !aim.panics) else { return (None, false) };
        let (mut more, mut less) = (false, false);
        for seat in self.seats.values_mut() {
            more |= seat.factor < seat.goal;
            less |= seat.factor > seat.goal;
            seat.factor = seat.factor.min(seat.goal);
        }
        (more.then(|| RingChange { percent: STEP, per: all / STEPS }), less)
    }

    /// The weights once each has what it should have.
    fn of_goals(&self, aim: &Aim) -> BTreeMap<IpAddr, u32> {
        if self.adopted || self.seats.values().any(|seat| seat.start.is_some()) {
            return weights(&parts(&self.seats), |_, part| part.goal);
        }
        aim.plain.clone()
    }

    /// Moves as many slots as the budget has. What the configuration, an operator or the kernel changed, changes `at_once`.
    fn approach(&mut self, aim: &Aim, limit: RingChange, at_once: bool, now: Instant) {
        let parts = parts(&self.seats);
        if at_once {
            self.weights = weights(&parts, |_, part| part.factor);
        }
        if parts.values().all(|part| part.goal <= 0.0) {
            // Nobody is left who could take over.
            return;
        }
        let goal = self.of_goals(aim);
        if self.seats.values().all(|seat| (seat.factor - seat.goal).abs() < f64::EPSILON) {
            self.weights = goal;
            return;
        }
        self.moves.forget(limit.per, now);
        let budget = limit.slots(aim.size);
        let left = self.moves.left(budget);
        if left == 0 {
            self.waits = self.moves.more_at(limit.per);
            return;
        }
        let before = shares::ring(&self.weights, aim.size);
        let moves = |weights: &BTreeMap<IpAddr, u32>| moved(&before, &shares::ring(weights, aim.size));
        let all = moves(&goal);
        if all <= left {
            self.note(all, now);
            self.seats.values_mut().for_each(|seat| seat.factor = seat.goal);
            self.weights = goal;
            return;
        }
        if let Some(change) = self.within(aim, &parts, (left, left == budget), moves) {
            self.note(change.slots, now);
            for (address, factor) in change.factors {
                self.seats.entry(address).or_default().factor = factor;
            }
            self.weights = change.weights;
        }
        self.waits = Some(self.moves.more_at(limit.per).unwrap_or(now + limit.per));
    }

    fn note(&mut self, slots: u32, now: Instant) {
        self.moves.note(slots, now);
        self.planned = Some(now);
    }

    /// The largest change found that moves at most `left` slots. Where that is the `whole` budget and even the smallest
    /// change moves more, that one: who is down must not stay for ever.
    fn within(
        &self,
        aim: &Aim,
        parts: &BTreeMap<IpAddr, Part>,
        (left, whole): (u32, bool),
        moves: impl Fn(&BTreeMap<IpAddr, u32>) -> u32,
    ) -> Option<Change> {
        let mut stale: Vec<(Instant, IpAddr)> =
            self.seats.iter().filter_map(|(address, seat)| Some((seat.stale?, *address))).collect();
        stale.sort_unstable();
        let first: Vec<IpAddr> = stale.into_iter().map(|(_, address)| address).collect();
        let slot = 1.0 / f64::from(aim.size);
        let (mut fits, mut too_much) = (0.0, f64::from(left) * slot);
        let mut amount = too_much;
        let (mut best, mut smallest) = (None, None);
        let mut missed = false;
        for _ in 0..TRIES {
            let factors = approach(parts, &first, amount);
            let weights = weights(parts, |address, _| factors.get(address).copied().unwrap_or(0.0));
            let change = Change { slots: moves(&weights), factors, weights };
            let slots = change.slots;
            if slots <= left {
                best = Some(change);
                fits = amount;
                if slots >= left - left / 10 {
                    break;
                }
            } else {
                smallest = Some(change);
                too_much = amount;
            }
            // Maglev moves some slots besides those that have to, about as many for a smaller change.
            let besides = f64::from(slots) * slot - amount;
            let guess = f64::from(left) * slot * 0.98 - besides;
            let halfway = f64::midpoint(fits, too_much);
            // Where a smaller amount changes nothing, as all that is left is less, guesses would creep down.
            let guesses = !missed && fits < guess && guess < too_much;
            missed = slots > left;
            amount = if guesses { guess } else { halfway }.max(slot);
        }
        best.or(smallest.filter(|_| whole))
    }

    fn next_tick(&self, aim: &Aim, when: When) -> Option<Instant> {
        let starts = self.seats.values().any(|seat| seat.start.is_some()) || self.waits.is_some() && self.per.is_none();
        let all = aim.slow_start.filter(|_| starts)?;
        let step = all / STEPS;
        Some(beginning(step, tick(step, when) + 1, when))
    }
}

fn parts(seats: &BTreeMap<IpAddr, Seat>) -> BTreeMap<IpAddr, Part> {
    let part = |seat: &Seat| Part { weight: f64::from(seat.weight), factor: seat.factor, goal: seat.goal };
    seats.iter().map(|(address, seat)| (*address, part(seat))).collect()
}

#[cfg(test)]
mod tests;
