//! All checks and what is known of them, without I/O.
//!
//! Checks that ask the same of the same address and port, as often and with the same thresholds, share one probe: the
//! answer would be the same. So a pool behind several VIPs is asked once if its check names a port and goes to the backends'
//! own addresses.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    CheckId, Checks, Ejections, HealthView, Hindered, Kept, Member, Standing, Way, Ways,
    judge::{Decision, Evidence, Judge},
    machine::Transition,
    probe::{Outcome, Probe},
};
use crate::model::{Check, Health};

mod queue;
mod shared;

use self::{
    queue::Queue,
    shared::{Key, Past, Shared, key},
};

/// Name of a shared probe. Never used again, so that a late result of a removed one finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(u64);

/// First probes start within this time, or within the interval, if that is shorter: soon, since traffic waits for them, but
/// not all at once.
const START_SPREAD: Duration = Duration::from_millis(300);
/// Of very many first probes that time is longer, so that it has one for each of these.
const START_GAP: Duration = Duration::from_micros(100);

/// The time over which so many first probes are spread.
pub fn start_spread(probes: usize) -> Duration {
    START_SPREAD.max(START_GAP.saturating_mul(u32::try_from(probes).unwrap_or(u32::MAX)))
}

/// A backend with its checks.
#[derive(Debug, Default)]
struct Seat {
    health: Arc<Health>,
    judge: Judge,
}

/// What a result, or the time, brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The backends that it is about.
    pub results: Vec<Judged>,
    /// Whether some of them are not [alike](Standing::is_alike) what they were.
    pub visible: bool,
}

/// A backend after it was judged anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The backend.
    pub member: Member,
    /// How it is with it now; `None` if too little is known.
    pub standing: Option<Standing>,
    /// Whether it went up or down by this.
    pub transition: Option<Transition>,
}

/// A probe whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its name.
    pub number: Number,
    /// What to ask of whom.
    pub probe: Arc<Probe>,
    /// By which way, if it is carried.
    pub way: Option<Way>,
    /// When it was to start.
    pub at: Instant,
}

/// All checks.
#[derive(Debug)]
pub struct Roster {
    seats: BTreeMap<Member, Seat>,
    probes: BTreeMap<Number, Shared>,
    numbers: BTreeMap<Key, Number>,
    checks: BTreeMap<CheckId, Number>,
    due: Queue,
    ejections: Arc<Ejections>,
    /// When backends are to be judged anew although nothing was heard of them.
    sessions: BTreeSet<(Instant, Member)>,
    /// Ways of probes that are carried.
    ways: Arc<Ways>,
    /// Probes that are due and have none.
    waiting: BTreeSet<Number>,
    /// What is known of checks that were not asked for yet.
    kept: BTreeMap<CheckId, Kept>,
    next: u64,
    seed: u64,
}

impl Roster {
    /// No checks. `kept` is what was known of some when the daemon ended; `seed` sets the jitter.
    pub fn new(kept: BTreeMap<CheckId, Kept>, seed: u64) -> Self {
        Self {
            seats: BTreeMap::new(),
            probes: BTreeMap::new(),
            numbers: BTreeMap::new(),
            checks: BTreeMap::new(),
            due: Queue::default(),
            ejections: Arc::default(),
            sessions: BTreeSet::new(),
            ways: Arc::default(),
            waiting: BTreeSet::new(),
            kept,
            next: 0,
            seed,
        }
    }

    /// Takes these checks from now on. Those that stay as they are keep all they know; changed ones keep their state, but
    /// begin to count anew.
    pub fn set(&mut self, wanted: &Checks, now: Instant, wall: SystemTime) {
        let first_new = Number(self.next);
        let (mut changed, mut left) = (Vec::new(), Vec::new());
        for (&member, health) in wanted {
            if self.seats.get(&member).is_none_or(|seat| seat.health != *health) {
                changed.push(member);
                self.seats.entry(member).or_default().health = Arc::clone(health);
                for check in health.asked() {
                    let id = CheckId { member, check: Arc::clone(&check.name) };
                    left.extend(self.join(&id, check, first_new, (now, wall)).map(|number| (id, number)));
                }
            }
        }
        self.seats.retain(|member, _| wanted.contains_key(member));
        self.sessions.retain(|(_, member)| wanted.contains_key(member));
        let stays = |id: &CheckId| {
            let seat = self.seats.get(&id.member);
            seat.is_some_and(|seat| seat.health.asked().any(|check| check.name == id.check))
        };
        left.extend(self.checks.extract_if(.., |id, _| !stays(id)));
        // Last, so that a probe lives on that passes from one check to another: a VIP that changed its port, say.
        for (id, number) in left {
            self.leave(&id, number);
        }
        let new: BTreeSet<Number> = self.probes.range(first_new..).map(|(number, _)| *number).collect();
        self.spread(&new, now);
        for member in changed {
            self.decide(member, now, wall);
        }
    }

    /// The earliest instant at which a probe is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.first(false).map(|(at, _)| at)
    }

    /// The same of those that run programs.
    pub fn next_program(&self) -> Option<Instant> {
        self.due.first(true).map(|(at, _)| at)
    }

    /// Takes these ways from now on. Probes that waited for theirs become due, and what comes back by another is not believed.
    pub fn set_ways(&mut self, ways: Arc<Ways>, now: Instant) {
        self.ways = ways;
        let waited = std::mem::take(&mut self.waiting);
        self.spread(&waited, now);
    }

    /// Takes one probe that is due by now, the longest waiting first, with the way that it is carried by; it counts as
    /// started. One that has no way yet waits for it.
    pub fn start_next(&mut self, now: Instant) -> Option<Due> {
        self.start(now, false)
    }

    /// The same of those that run programs.
    pub fn start_program(&mut self, now: Instant) -> Option<Due> {
        self.start(now, true)
    }

    fn start(&mut self, now: Instant, programs_alone: bool) -> Option<Due> {
        loop {
            let (at, number) = self.due.first(programs_alone).filter(|(at, _)| *at <= now)?;
            self.due.remove(at, number);
            let Some(shared) = self.probes.get_mut(&number) else { continue };
            let probe = &shared.key.probe;
            let way = probe.carried_to.and_then(|member| self.ways.of.get(&member)).copied();
            if probe.carried_to.is_some() && way.is_none() {
                self.waiting.insert(number);
                continue;
            }
            shared.way = way;
            shared.machine.on_start(now);
            return Some(Due { number, probe: Arc::clone(probe), way, at });
        }
    }

    /// Takes the outcome of a probe. Does nothing if its checks are gone.
    pub fn on_outcome(&mut self, number: Number, outcome: Outcome, now: Instant, wall: SystemTime) -> Effect {
        let Some(shared) = self.probes.get_mut(&number) else { return Effect::default() };
        let way = shared.key.probe.carried_to.and_then(|member| self.ways.of.get(&member)).copied();
        let heard = if shared.way == way {
            shared.on_outcome(outcome, now, wall)
        } else {
            // Who answered is another one perhaps.
            shared.machine.start_within(now, START_SPREAD.min(shared.key.pace.interval));
            false
        };
        if let Some(at) = shared.machine.next_deadline() {
            self.due.insert(&shared.key.probe, at, number);
        }
        let members: BTreeSet<Member> = shared.checks.iter().filter(|_| heard).map(|id| id.member).collect();
        self.judge(members, now, wall)
    }

    /// Takes these ejections, in place of those before. One of a backend that is not checked waits until it is.
    pub fn eject(&mut self, ejections: Arc<Ejections>, now: Instant, wall: SystemTime) -> Effect {
        let before = std::mem::replace(&mut self.ejections, ejections);
        let differs = |member: &&Member| before.get(member) != self.ejections.get(member);
        let members: BTreeSet<Member> = before.keys().chain(self.ejections.keys()).filter(differs).copied().collect();
        self.judge(members, now, wall)
    }

    /// The earliest instant at which a backend is to be judged anew although nothing was heard of it.
    pub fn next_session(&self) -> Option<Instant> {
        self.sessions.first().map(|&(at, _)| at)
    }

    /// Judges the backends anew whose time has come.
    pub fn hold_session(&mut self, now: Instant, wall: SystemTime) -> Effect {
        let due = self.sessions.iter().take_while(|(at, _)| *at <= now);
        let members: Vec<Member> = due.map(|(_, member)| *member).collect();
        self.judge(members, now, wall)
    }

    /// What is known of all backends; those of which too little is known are absent.
    pub fn view(&self) -> HealthView {
        let standing = |(&member, seat): (&Member, &Seat)| Some((member, seat.judge.standing()?.clone()));
        self.seats.iter().filter_map(standing).collect()
    }

    /// The checks that could not be made for a while.
    pub fn hindered(&self, now: Instant) -> Hindered {
        let told = self.probes.values().filter_map(|shared| Some((shared, shared.hindrance(now)?)));
        told.flat_map(|(shared, why)| shared.checks.iter().map(|id| (id.clone(), why.clone()))).collect()
    }

    fn judge(&mut self, members: impl IntoIterator<Item = Member>, now: Instant, wall: SystemTime) -> Effect {
        let mut effect = Effect::default();
        for member in members {
            let decision = self.decide(member, now, wall);
            effect.visible |= decision.visible;
            let standing = self.seats.get(&member).and_then(|seat| seat.judge.standing()).cloned();
            if standing.is_some() || decision.visible {
                effect.results.push(Judged { member, standing, transition: decision.transition });
            }
        }
        effect
    }

    /// Judges a backend by what is known of it now.
    fn decide(&mut self, member: Member, now: Instant, wall: SystemTime) -> Decision {
        let Some(seat) = self.seats.get_mut(&member) else { return Decision::default() };
        let probe = |check: &Check| {
            let number = self.checks.get(&CheckId { member, check: Arc::clone(&check.name) })?;
            self.probes.get(number)
        };
        let status = |check: &Check| Some((Arc::clone(&check.name), probe(check)?.status()?));
        let checks = seat.health.checks.iter().filter_map(status).collect();
        let agent = seat.health.agent.as_ref().and_then(|agent| probe(agent)?.of_agent());
        let evidence = Evidence { checks, agent, ejected: self.ejections.get(&member) };
        let before = seat.judge.deadline();
        let decision = seat.judge.decide(&seat.health, evidence, now, wall);
        if before != seat.judge.deadline() {
            before.map(|at| self.sessions.remove(&(at, member)));
            self.sessions.extend(seat.judge.deadline().map(|at| (at, member)));
        }
        decision
    }

    /// Has a check share the probe that asks what it asks, from `first_new` on a new one. Returns the probe that it shared
    /// before, if that was another.
    fn join(
        &mut self,
        id: &CheckId,
        check: &Check,
        first_new: Number,
        (now, wall): (Instant, SystemTime),
    ) -> Option<Number> {
        let key = key(id.member, check);
        let before = self.checks.get(id).and_then(|number| self.probes.get(number));
        if before.is_some_and(|shared| shared.key == key) {
            return None;
        }
        let kept = self.kept.remove(id);
        let past = before.map(Shared::past).filter(Past::is_heard).unwrap_or_else(|| Past::of(check, kept, wall));
        let number = *self.numbers.entry(key.clone()).or_insert(Number(self.next));
        let seed = self.seed.wrapping_add(number.0 << 20);
        match self.probes.entry(number) {
            Entry::Vacant(free) => {
                self.next += 1;
                free.insert(Shared::new(key, past, seed, now)).checks.insert(id.clone());
            }
            Entry::Occupied(mut found) => {
                let shared = found.get_mut();
                if number >= first_new && past.is_heard() && !shared.past().is_heard() {
                    shared.follow(past, seed, now);
                }
                shared.checks.insert(id.clone());
            }
        }
        self.checks.insert(id.clone(), number)
    }

    /// Has these probes start soon, one after the other. None of them is due or under way.
    fn spread(&mut self, probes: &BTreeSet<Number>, now: Instant) {
        let spread = start_spread(probes.len());
        let part = 1.0 / f64::from(u32::try_from(probes.len()).unwrap_or(u32::MAX));
        for (nth, number) in (0_u32..).zip(probes) {
            let Some(shared) = self.probes.get_mut(number) else { continue };
            let length = spread.min(shared.key.pace.interval);
            shared.machine.start_within(now + length.mul_f64(part * f64::from(nth)), length.mul_f64(part));
            if let Some(at) = shared.machine.next_deadline() {
                self.due.insert(&shared.key.probe, at, *number);
            }
        }
    }

    fn leave(&mut self, id: &CheckId, number: Number) {
        let Some(shared) = self.probes.get_mut(&number) else { return };
        shared.checks.remove(id);
        if shared.checks.is_empty() {
            self.numbers.remove(&shared.key);
            if let Some(at) = shared.machine.next_deadline() {
                self.due.remove(at, number);
            }
            self.waiting.remove(&number);
            self.probes.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests;
