//! Who is up: probes, the counting of their results, and what follows from them.
//!
//! The controller says which backends are to be checked; [`driver`] does it and publishes a [`HealthView`]. What follows
//! from a result is decided without I/O: by [`machine`] for one probe, by [`judge`] for one backend with all its checks,
//! and by [`roster`] for all of them; [`probe`] makes one attempt.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::model::{Health, Service};

pub mod agent;
pub mod driver;
mod hindrance;
pub mod judge;
pub mod machine;
pub mod passive;
pub mod probe;
mod record;
pub mod roster;
mod stats;
mod way;

pub use self::{
    agent::Word,
    hindrance::{Hindered, Hindrance},
    record::{Record, Records},
    stats::Stats,
    way::{Way, Ways},
};

/// A backend as a VIP has it: what is up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The VIP.
    pub service: Service,
    /// The backend.
    pub backend: IpAddr,
}

/// One of a backend's checks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId {
    /// The backend, for this VIP.
    pub member: Member,
    /// The check's name.
    pub check: Arc<str>,
}

/// What is to be checked, and how: backends of pools without checks are absent.
pub type Checks = BTreeMap<Member, Arc<Health>>;

/// What was known of a check when the daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whether it passed.
    pub up: bool,
    /// The last result in words.
    pub last: String,
    /// Since when it was up, or down.
    pub since: SystemTime,
    /// When the last result came.
    pub heard: SystemTime,
    /// Of an agent, what it said.
    pub word: Option<Word>,
}

/// Backends that the traffic itself tells against.
pub type Ejections = BTreeMap<Member, Ejected>;

/// A backend is down for a while, whatever its checks say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// When its checks alone decide again.
    pub until: Instant,
    /// Why, in words for operators.
    pub reason: String,
}

/// What is known of each backend that is checked; one that is absent has no result yet: it takes nothing, and is not one of
/// those that were found to be down.
pub type HealthView = BTreeMap<Member, Standing>;

/// A whole weight, in the parts of one that a backend may be given.
pub const WHOLE: u16 = 1000;

/// How it is with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it may take traffic.
    pub up: bool,
    /// The part of its weight that it is to have, of [`WHOLE`]; with none of it, it takes known flows alone.
    pub permille: u16,
    /// Why: the result of the check that decides, such as `200 OK` or `connection refused`, behind the check's name if the
    /// backend has several.
    pub reason: String,
    /// Since when it is up, or down; `None` if nobody looked at a clock.
    pub since: Option<SystemTime>,
    /// When it went up or down.
    pub transitions: Records,
    /// Its checks that have a result, by name.
    pub checks: BTreeMap<Arc<str>, Status>,
    /// Its agent, if one is asked that answered, or did not answer, already.
    pub agent: Option<Heard>,
}

impl Standing {
    /// Whether it may take new flows.
    pub fn takes_new_flows(&self) -> bool {
        self.up && self.permille > 0
    }

    /// Why it has not its whole weight, or nothing at all, if its agent wants it so: `agent: 75%`.
    pub fn advice(&self) -> Option<String> {
        let agent = self.agent.as_ref()?;
        (agent.word.permille() < WHOLE || agent.word.takes_down()).then(|| agent.told())
    }

    /// Whether it is down for no other reason than that its checks begin so: those that fail were not asked yet.
    pub fn is_presumed(&self) -> bool {
        let mut failing = self.checks.values().filter(|status| !status.up).peekable();
        let by_agent = self.agent.as_ref().is_some_and(|agent| agent.word.takes_down());
        !self.up && !by_agent && failing.peek().is_some() && failing.all(|status| status.heard.is_none())
    }

    /// Whether it is down for no other reason than that checks could never be made: nobody knows how it is with it.
    pub fn is_unknown(&self) -> bool {
        self.is_presumed() && self.checks.values().all(|status| status.up || status.unknown)
    }

    /// All that plans go by.
    pub fn counts(&self) -> (bool, u16, bool, bool) {
        (self.up, self.permille, self.is_presumed(), self.is_unknown())
    }

    /// Whether the same follows from both, for traffic and for those who look on.
    pub fn is_alike(&self, other: &Self) -> bool {
        let same_agent = match (&self.agent, &other.agent) {
            (Some(one), Some(other)) => (one.status.up, &one.word) == (other.status.up, &other.word),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.counts() == other.counts() && self.reason == other.reason && same_agent
    }
}

impl Default for Standing {
    /// Of a backend that is down, for no reason that is known.
    fn default() -> Self {
        Self {
            up: false,
            permille: WHOLE,
            reason: String::new(),
            since: None,
            transitions: Records::default(),
            checks: BTreeMap::new(),
            agent: None,
        }
    }
}

/// An agent, and what it said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Whether it says what is understood, and its last answer.
    pub status: Status,
    /// What it said, as far as it did not say otherwise since.
    pub word: Word,
}

impl Heard {
    /// What it wants, and whether that is only not taken back: `agent: drain`, `agent: drain, silent`.
    pub fn told(&self) -> String {
        let silent = if self.status.up { "" } else { ", silent" };
        format!("agent: {}{silent}", self.word)
    }
}

/// Results of a check so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it passes.
    pub up: bool,
    /// The last result in words, such as `200 OK` or `connection refused`.
    pub last: String,
    /// Since when it is up, or down; `None` if nobody looked at a clock.
    pub since: Option<SystemTime>,
    /// When the last result came; `None` before the first one.
    pub heard: Option<SystemTime>,
    /// How long the last probe took; `None` when nothing is probed.
    pub latency: Option<Duration>,
    /// Successes in a row up to now.
    pub successes: u32,
    /// Failures in a row up to now.
    pub failures: u32,
    /// When it began to pass or to fail.
    pub transitions: Records,
    /// Whether it never could be made: nothing is known then, `up` is not what was found, and the last result says why.
    pub unknown: bool,
}
