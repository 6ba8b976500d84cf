//! All checks and what is known of them, without I/O.
//!
//! Checks that ask the same of the same address and port, as often and with the same thresholds, share one probe: the
//! answer would be the same. So a pool behind several VIPs is asked once if its check names a port.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    CheckId, HealthView, Status,
    machine::{Machine, Transition},
    probe::{Ask, Outcome, Probe, Verdict},
};
use crate::model::{Check, Health};

/// Name of a shared probe. Never used again, so that a late result of a removed one finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(u64);

/// What checks must have in common to share a probe; `None` asks nothing.
type Key = Option<(Probe, Duration, u32, u32)>;

/// A probe and the checks that it answers for.
#[derive(Debug)]
struct Shared {
    key: Key,
    probe: Option<Arc<Probe>>,
    machine: Machine,
    last: String,
    since: SystemTime,
    latency: Option<Duration>,
    checks: BTreeSet<CheckId>,
}

/// What a result brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The change of state, if there was one.
    pub transition: Option<Transition>,
    /// Whether [`Status::up`] or [`Status::last`] of some check changed.
    pub visible: bool,
    /// The checks that it is about, in their new state.
    pub statuses: Vec<(CheckId, Status)>,
}

/// All checks.
#[derive(Debug)]
pub struct Roster {
    probes: BTreeMap<Number, Shared>,
    numbers: BTreeMap<Key, Number>,
    checks: BTreeMap<CheckId, Number>,
    due: BTreeSet<(Instant, Number)>,
    next: u64,
    seed: u64,
}

impl Roster {
    /// No checks. `seed` sets the jitter.
    pub fn new(seed: u64) -> Self {
        let (probes, numbers, checks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { probes, numbers, checks, due: BTreeSet::new(), next: 0, seed }
    }

    /// Takes these checks from now on. Those that stay as they are keep all they know; changed ones keep their state, but
    /// begin to count anew.
    pub fn set(&mut self, wanted: &BTreeMap<CheckId, Health>, now: Instant, wall: SystemTime) {
        for (&id, health) in wanted {
            self.join(id, health, now, wall);
        }
        // Last, so that a probe lives on that passes from one check to another: a VIP that changed its port, say.
        let removed: Vec<CheckId> = self.checks.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
        for id in removed {
            self.leave(id);
        }
    }

    /// The earliest instant at which a probe is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// Takes one probe that is due by now, the longest waiting first; it counts as started.
    pub fn start_next(&mut self, now: Instant) -> Option<(Number, Arc<Probe>)> {
        let &(at, number) = self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, number));
        let shared = self.probes.get_mut(&number)?;
        shared.machine.on_start(now);
        Some((number, shared.probe.clone()?))
    }

    /// Takes the outcome of a probe. Does nothing if its checks are gone.
    pub fn on_outcome(&mut self, number: Number, outcome: Outcome, now: Instant, wall: SystemTime) -> Effect {
        let Some(shared) = self.probes.get_mut(&number) else { return Effect::default() };
        let effect = shared.on_outcome(outcome, now, wall);
        if let Some(at) = shared.machine.next_deadline() {
            self.due.insert((at, number));
        }
        effect
    }

    /// What is known of all checks; those without a result are absent.
    pub fn view(&self) -> HealthView {
        let status = |(&id, number): (&CheckId, &Number)| Some((id, self.probes.get(number)?.status()?));
        self.checks.iter().filter_map(status).collect()
    }

    fn join(&mut self, id: CheckId, health: &Health, now: Instant, wall: SystemTime) {
        let key = key(id, health);
        let before = self.checks.get(&id).and_then(|number| self.probes.get(number));
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
                let machine = Machine::new(health.clone(), up, self.seed.wrapping_add(number.0 << 20), now);
                self.due.extend(machine.next_deadline().map(|at| (at, number)));
                let last = if key.is_none() { "no check configured".into() } else { last };
                let since = if machine.up() == up { since } else { wall };
                let probe = key.as_ref().map(|(probe, ..)| Arc::new(probe.clone()));
                let checks = BTreeSet::new();
                self.probes.insert(number, Shared { key, probe, machine, last, since, latency: None, checks });
                number
            }
        };
        self.checks.insert(id, number);
        if let Some(shared) = self.probes.get_mut(&number) {
            shared.checks.insert(id);
        }
    }

    fn leave(&mut self, id: CheckId) {
        let Some(number) = self.checks.remove(&id) else { return };
        let Some(shared) = self.probes.get_mut(&number) else { return };
        shared.checks.remove(&id);
        if shared.checks.is_empty() {
            self.numbers.remove(&shared.key);
            if let Some(at) = shared.machine.next_deadline() {
                self.due.remove(&(at, number));
            }
            self.probes.remove(&number);
        }
    }
}

impl Shared {
    fn on_outcome(&mut self, outcome: Outcome, now: Instant, wall: SystemTime) -> Effect {
        let success = match outcome.result {
            Verdict::Success => true,
            Verdict::Failure | Verdict::Timeout => false,
            Verdict::Skipped => {
                self.machine.on_skip(now);
                return Effect::default();
            }
        };
        let transition = self.machine.on_result(success, now);
        if transition.is_some() {
            self.since = wall;
        }
        let visible = transition.is_some() || self.last != outcome.text;
        self.last = outcome.text;
        self.latency = Some(outcome.latency);
        let status = self.status();
        let statuses = status.map(|status| self.checks.iter().map(|&id| (id, status.clone())).collect());
        Effect { transition, visible, statuses: statuses.unwrap_or_default() }
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

/// What is asked for this check, and how often.
fn key(id: CheckId, health: &Health) -> Key {
    let ask = match &health.check {
        Check::None => return None,
        Check::Tcp => Ask::Tcp,
        Check::Http { path, host, expect_status } => Ask::Http {
            path: path.clone(),
            host: host.clone().unwrap_or_else(|| host_of(id.service.address)),
            expect_status: expect_status.clone(),
        },
    };
    let target = SocketAddr::new(id.backend, health.port.unwrap_or(id.service.port));
    Some((Probe { target, timeout: health.timeout, ask }, health.interval, health.rise, health.fall))
}

/// An address as a `Host` header has it.
fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests;
