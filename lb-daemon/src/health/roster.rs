//! All checks and what is known of them, without I/O.
//!
//! Checks that ask the same of the same address and port, as often and with the same thresholds, share one probe: the
//! answer would be the same. So a pool behind several VIPs is asked once if its check names a port and goes to the backends'
//! own addresses.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    CheckId, Checks, Ejections, HealthView, Member, Standing, Status, Way, Ways,
    judge::{Decision, Evidence, Judge},
    machine::{Machine, Transition},
    probe::{Outcome, Probe, Verdict},
};
use crate::model::{Check, Health, Route};

/// Name of a shared probe. Never used again, so that a late result of a removed one finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(u64);

/// What checks must have in common to share a probe: what is asked, how often, and what follows from the answers.
type Key = (Arc<Probe>, Duration, u32, u32);

/// A probe and the checks that it answers for.
#[derive(Debug)]
struct Shared {
    key: Key,
    machine: Machine,
    last: String,
    since: SystemTime,
    latency: Option<Duration>,
    checks: BTreeSet<CheckId>,
    /// By which way the probe went that is under way, if it is carried.
    way: Option<Way>,
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
    /// Whether [`Standing::up`] or [`Standing::reason`] of some of them changed.
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

/// All checks.
#[derive(Debug)]
pub struct Roster {
    seats: BTreeMap<Member, Seat>,
    probes: BTreeMap<Number, Shared>,
    numbers: BTreeMap<Key, Number>,
    checks: BTreeMap<CheckId, Number>,
    due: BTreeSet<(Instant, Number)>,
    ejections: Arc<Ejections>,
    /// When backends are to be judged anew although nothing was heard of them.
    sessions: BTreeSet<(Instant, Member)>,
    /// Ways of probes that are carried.
    ways: Arc<Ways>,
    /// Probes that are due and have none.
    waiting: BTreeSet<Number>,
    next: u64,
    seed: u64,
}

impl Roster {
    /// No checks. `seed` sets the jitter.
    pub fn new(seed: u64) -> Self {
        Self {
            seats: BTreeMap::new(),
            probes: BTreeMap::new(),
            numbers: BTreeMap::new(),
            checks: BTreeMap::new(),
            due: BTreeSet::new(),
            ejections: Arc::default(),
            sessions: BTreeSet::new(),
            ways: Arc::default(),
            waiting: BTreeSet::new(),
            next: 0,
            seed,
        }
    }

    /// Takes these checks from now on. Those that stay as they are keep all they know; changed ones keep their state, but
    /// begin to count anew.
    pub fn set(&mut self, wanted: &Checks, now: Instant, wall: SystemTime) {
        let mut changed = Vec::new();
        for (&member, health) in wanted {
            if self.seats.get(&member).is_none_or(|seat| seat.health != *health) {
                changed.push(member);
                self.seats.entry(member).or_default().health = Arc::clone(health);
                for check in &health.checks {
                    self.join(&CheckId { member, check: Arc::clone(&check.name) }, check, now, wall);
                }
            }
        }
        // Last, so that a probe lives on that passes from one check to another: a VIP that changed its port, say.
        self.seats.retain(|member, _| wanted.contains_key(member));
        self.sessions.retain(|(_, member)| wanted.contains_key(member));
        let stays = |id: &CheckId| {
            let seat = self.seats.get(&id.member);
            seat.is_some_and(|seat| seat.health.checks.iter().any(|check| check.name == id.check))
        };
        let removed: Vec<CheckId> = self.checks.keys().filter(|id| !stays(id)).cloned().collect();
        for id in &removed {
            self.leave(id);
        }
        for member in changed {
            self.decide(member, now, wall);
        }
    }

    /// The earliest instant at which a probe is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// Takes these ways from now on. Probes that waited for theirs become due, and what comes back by another is not believed.
    pub fn set_ways(&mut self, ways: Arc<Ways>, now: Instant) {
        self.ways = ways;
        for number in std::mem::take(&mut self.waiting) {
            if let Some(shared) = self.probes.get_mut(&number) {
                // Not all at once.
                shared.machine.start_anew(now);
                self.due.extend(shared.machine.next_deadline().map(|at| (at, number)));
            }
        }
    }

    /// Takes one probe that is due by now, the longest waiting first, with the way that it is carried by; it counts as
    /// started. One that has no way yet waits for it.
    pub fn start_next(&mut self, now: Instant) -> Option<(Number, Arc<Probe>, Option<Way>)> {
        loop {
            let &(at, number) = self.due.first().filter(|(at, _)| *at <= now)?;
            self.due.remove(&(at, number));
            let Some(shared) = self.probes.get_mut(&number) else { continue };
            let probe = &shared.key.0;
            let way = probe.carried_to.and_then(|member| self.ways.get(&member)).copied();
            if probe.carried_to.is_some() && way.is_none() {
                self.waiting.insert(number);
                continue;
            }
            shared.way = way;
            shared.machine.on_start(now);
            return Some((number, Arc::clone(probe), way));
        }
    }

    /// Takes the outcome of a probe. Does nothing if its checks are gone.
    pub fn on_outcome(&mut self, number: Number, outcome: Outcome, now: Instant, wall: SystemTime) -> Effect {
        let Some(shared) = self.probes.get_mut(&number) else { return Effect::default() };
        let way = shared.key.0.carried_to.and_then(|member| self.ways.get(&member)).copied();
        let heard = if shared.way == way {
            shared.on_outcome(outcome, now, wall)
        } else {
            // Who answered is another one perhaps.
            shared.machine.start_anew(now);
            false
        };
        if let Some(at) = shared.machine.next_deadline() {
            self.due.insert((at, number));
        }
        let members: Vec<Member> = if heard { shared.checks.iter().map(|id| id.member).collect() } else { Vec::new() };
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
        let status = |check: &Check| {
            let number = self.checks.get(&CheckId { member, check: Arc::clone(&check.name) })?;
            Some((Arc::clone(&check.name), self.probes.get(number)?.status()?))
        };
        let checks = seat.health.checks.iter().filter_map(status).collect();
        let evidence = Evidence { checks, ejected: self.ejections.get(&member) };
        let before = seat.judge.deadline();
        let decision = seat.judge.decide(&seat.health, evidence, now, wall);
        if before != seat.judge.deadline() {
            before.map(|at| self.sessions.remove(&(at, member)));
            self.sessions.extend(seat.judge.deadline().map(|at| (at, member)));
        }
        decision
    }

    fn join(&mut self, id: &CheckId, check: &Check, now: Instant, wall: SystemTime) {
        let key = key(id.member, check);
        let before = self.checks.get(id).and_then(|number| self.probes.get(number));
        if before.is_some_and(|shared| shared.key == key) {
            return;
        }
        let before = before.map(|shared| (shared.machine.up(), shared.last.clone(), shared.since));
        self.leave(id);
        let number = match self.numbers.entry(key.clone()) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(free) => {
                let number = *free.insert(Number(self.next));
                self.next += 1;
                let (up, last, since) = before.unwrap_or((None, String::new(), wall));
                let machine = Machine::new(check.clone(), up, self.seed.wrapping_add(number.0 << 20), now);
                self.due.extend(machine.next_deadline().map(|at| (at, number)));
                let checks = BTreeSet::new();
                self.probes.insert(number, Shared { key, machine, last, since, latency: None, checks, way: None });
                number
            }
        };
        self.checks.insert(id.clone(), number);
        if let Some(shared) = self.probes.get_mut(&number) {
            shared.checks.insert(id.clone());
        }
    }

    fn leave(&mut self, id: &CheckId) {
        let Some(number) = self.checks.remove(id) else { return };
        let Some(shared) = self.probes.get_mut(&number) else { return };
        shared.checks.remove(id);
        if shared.checks.is_empty() {
            self.numbers.remove(&shared.key);
            if let Some(at) = shared.machine.next_deadline() {
                self.due.remove(&(at, number));
            }
            self.waiting.remove(&number);
            self.probes.remove(&number);
        }
    }
}

impl Shared {
    /// Whether the outcome says anything.
    fn on_outcome(&mut self, outcome: Outcome, now: Instant, wall: SystemTime) -> bool {
        let success = match outcome.result {
            Verdict::Success => true,
            Verdict::Failure | Verdict::Timeout => false,
            Verdict::Impossible if self.machine.up().is_none() => false,
            Verdict::Skipped => {
                self.machine.on_skip(now);
                return false;
            }
            Verdict::Impossible => {
                self.machine.on_skip(now);
                self.last = outcome.text;
                return true;
            }
        };
        if self.machine.on_result(success, now).is_some() {
            self.since = wall;
        }
        self.last = outcome.text;
        self.latency = Some(outcome.latency);
        true
    }

    fn status(&self) -> Option<Status> {
        Some(Status {
            up: self.machine.up()?,
            last: self.last.clone(),
            since: Some(self.since),
            latency: self.latency,
            successes: self.machine.successes(),
            failures: self.machine.failures(),
        })
    }
}

/// What is asked for this check, how often, and what follows from the answers.
fn key(member: Member, check: &Check) -> Key {
    let ask = check.ask.of_vip(member.service.address);
    let (address, carried_to) = match check.route {
        Route::Direct => (member.backend, None),
        Route::Vip => (member.service.some_address(), Some(member)),
    };
    let target = SocketAddr::new(address, check.port.unwrap_or(member.service.port));
    (Arc::new(Probe { target, carried_to, timeout: check.timeout, ask }), check.interval, check.rise, check.fall)
}

#[cfg(test)]
mod tests;
