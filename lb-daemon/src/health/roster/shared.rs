//! A probe that several checks share.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    health::{
        CheckId, Heard, Hindrance, Kept, Member, Record, Records, Status, Way, Word,
        hindrance::Attempts,
        machine::{Machine, Pace},
        probe::{Outcome, Probe, Verdict, exec::tell},
    },
    model::{Ask, Check, Initial, Route},
};

/// What was kept of a check says nothing any more after so long a time, or after so many of its intervals, whichever is
/// longer.
const KEPT_FOR: Duration = Duration::from_mins(10);
const KEPT_INTERVALS: u32 = 10;

/// What a check says of a backend before its first result, if it says anything.
const NOT_CHECKED: &str = "not checked yet";

/// What checks must have in common to share a probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) probe: Arc<Probe>,
    pub(super) pace: Pace,
}

/// A probe and the checks that it answers for.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) key: Key,
    pub(super) machine: Machine,
    past: Past,
    latency: Option<Duration>,
    /// Those since the last probe that were none.
    vain: Option<Attempts>,
    /// Never empty.
    pub(super) checks: BTreeSet<CheckId>,
    /// By which way the probe went that is under way, if it is carried.
    pub(super) way: Option<Way>,
}

/// What is known of a check before the results of a probe, and from then on by these.
#[derive(Clone, Debug)]
pub(super) struct Past {
    up: Option<bool>,
    last: String,
    since: SystemTime,
    heard: Option<SystemTime>,
    transitions: Records,
    /// What the agent said, if one is asked.
    word: Word,
}

impl Past {
    /// Of a check that is new: what was kept of it, if that still says something.
    pub(super) fn of(check: &Check, kept: Option<Kept>, wall: SystemTime) -> Self {
        let (transitions, word) = (Records::default(), Word::default());
        let nothing = Self { up: None, last: String::new(), since: wall, heard: None, transitions, word };
        let longest = KEPT_FOR.max(check.interval.saturating_mul(KEPT_INTERVALS));
        // The clock may have been set back meanwhile.
        let age = |kept: &Kept| wall.duration_since(kept.heard).unwrap_or_else(|ahead| ahead.duration());
        match (check.initial, kept) {
            (Initial::Down, _) => Self { up: Some(false), last: NOT_CHECKED.to_owned(), ..nothing },
            (Initial::Up, _) => Self { up: Some(true), last: NOT_CHECKED.to_owned(), ..nothing },
            (Initial::Last, Some(kept)) if age(&kept) <= longest => {
                let Kept { up, last, since, heard, word } = kept;
                Self { up: Some(up), last, since, heard: Some(heard), word: word.unwrap_or_default(), ..nothing }
            }
            (Initial::Last, _) => nothing,
        }
    }

    /// Whether it tells of a result.
    pub(super) fn is_heard(&self) -> bool {
        self.heard.is_some()
    }
}

impl Shared {
    /// A probe without checks yet, whose results follow on those of `past`. `seed` sets the jitter.
    pub(super) fn new(key: Key, past: Past, seed: u64, now: Instant) -> Self {
        let machine = Machine::new(key.pace, past.up, seed, now);
        Self { key, machine, past, latency: None, vain: None, checks: BTreeSet::new(), way: None }
    }

    /// Before its first probe: has it follow on what another of its checks knows.
    pub(super) fn follow(&mut self, past: Past, seed: u64, now: Instant) {
        self.machine = Machine::new(self.key.pace, past.up, seed, now);
        self.past = past;
    }

    /// What a probe that takes its place has to know.
    pub(super) fn past(&self) -> Past {
        Past { up: self.machine.up(), ..self.past.clone() }
    }

    /// Whether the outcome says anything.
    ///
    /// A probe that could not be made, for want of descriptors here or of a way to the VIP, leaves all as it was, however long
    /// that goes on: it says nothing about the backend, and what is wrong here is wrong for all backends at once. Would they
    /// then count as unknown, a lack of this host would take a service down that works, and nobody would be better off; the
    /// one backend that dies meanwhile costs its share of new flows, which is what traffic itself can tell
    /// ([`crate::health::passive`]). So the state stays, and operators are told loudly: [`Self::hindrance`]. Where nothing was
    /// known before, nothing is known after it, and the tables say who serves ([`crate::controller::beliefs`]).
    pub(super) fn on_outcome(&mut self, outcome: Outcome, now: Instant, wall: SystemTime) -> bool {
        self.vain = Attempts::with(self.vain.as_ref(), &outcome, now, wall);
        let success = match outcome.result {
            Verdict::Success => true,
            Verdict::Failure | Verdict::Timeout => false,
            Verdict::Skipped => {
                self.machine.on_skip(now);
                return false;
            }
            Verdict::Impossible => {
                self.machine.on_skip(now);
                self.past.last = outcome.text;
                return true;
            }
        };
        if let Some(said) = &outcome.said {
            self.past.word.take(said);
        }
        let latency = Some(outcome.latency);
        if let Some(transition) = self.machine.on_result(success, now) {
            self.past.since = wall;
            let text = outcome.text.clone();
            self.past.transitions.push(Record { at: wall, up: transition.up, text, latency });
        }
        (self.past.last, self.past.heard, self.latency) = (outcome.text, Some(wall), latency);
        true
    }

    /// Why the probe cannot be made, or could not for so long that a backend that died would have been found by now.
    pub(super) fn hindrance(&self, now: Instant) -> Option<&Hindrance> {
        let unseen = self.key.pace.interval.saturating_mul(self.key.pace.fall);
        self.vain.as_ref()?.told(unseen, now)
    }

    pub(super) fn status(&self) -> Option<Status> {
        let Past { up: _, last, since, heard, transitions, word: _ } = self.past.clone();
        let up = self.machine.up();
        // Of one that could never be made nothing is known but that.
        let never = self.vain.as_ref().filter(|vain| vain.are_certain()).map(|_| false);
        Some(Status {
            up: up.or(never)?,
            last,
            since: Some(since),
            heard,
            latency: self.latency,
            successes: self.machine.successes(),
            failures: self.machine.failures(),
            transitions,
            unknown: up.is_none(),
        })
    }

    /// The same of an agent, with what it said.
    pub(super) fn of_agent(&self) -> Option<Heard> {
        Some(Heard { status: self.status()?, word: self.past.word.clone() })
    }
}

/// What is asked for this check, how often, and what follows from the answers.
pub(super) fn key(member: Member, check: &Check) -> Key {
    let mut ask = check.ask.of_vip(member.service.address);
    let carried_to = check.route.is_by_vip().then_some(member);
    let address = carried_to.map_or(member.backend, |member| member.service.some_address());
    let target = SocketAddr::new(address, check.port.unwrap_or(member.service.port));
    if let Ask::Exec(exec) = &mut ask {
        tell(exec, member, &check.name, target);
    }
    let else_directly = check.route == Route::VipIfPossible;
    Key {
        probe: Arc::new(Probe { target, carried_to, else_directly, timeout: check.timeout, ask }),
        pace: Pace::of(check),
    }
}
