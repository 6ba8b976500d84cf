//! Whether a backend is up, from all that is known of it. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{Ejected, Heard, Record, Records, Standing, Status, WHOLE, agent::Mode, machine::Transition};
use crate::model::{Damping, Health, Matching};

/// What is decided of one backend.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    standing: Option<Standing>,
    transitions: Records,
    /// When its checks or its agent took it down lately, [`Damping::MOST_FLAPS`] times at most.
    falls: VecDeque<Instant>,
    held: Option<Held>,
    deadline: Option<Instant>,
}

/// A backend went up and down too often.
#[derive(Clone, Debug)]
struct Held {
    until: Instant,
    reason: String,
}

/// What is known of a backend when it is judged.
#[derive(Clone, Debug, Default)]
pub struct Evidence<'a> {
    /// Its checks that have a result.
    pub checks: BTreeMap<Arc<str>, Status>,
    /// Its agent, once that answered, or did not answer.
    pub agent: Option<Heard>,
    /// What its traffic tells against it.
    pub ejected: Option<&'a Ejected>,
}

/// What is found of a backend.
struct Finding {
    up: bool,
    reason: String,
    /// The check that decided.
    by: Option<Arc<str>>,
}

impl Judge {
    /// What was decided last; `None` while too little is known.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// When to decide anew, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Decides anew.
    pub fn decide(&mut self, health: &Health, evidence: Evidence<'_>, now: Instant, wall: SystemTime) -> Decision {
        let before = self.standing.take();
        let was_up = before.as_ref().is_some_and(|before| before.up);
        // The first that an agent says may be that nothing should come.
        let waits = before.is_none() && health.agent.is_some() && evidence.agent.is_none();
        let found = self.find(health, &evidence, was_up, (now, wall));
        let Some(Finding { up, reason, by }) = found.filter(|found| !waits || !found.up) else {
            return Decision { transition: None, visible: before.is_some() };
        };
        let Evidence { checks, agent, .. } = evidence;
        let status = by.and_then(|name| checks.get(&name));
        let latency = status.and_then(|status| status.latency);
        // What was known before the daemon was started has been so for longer than the daemon knows.
        let found = status.and_then(|status| status.since).filter(|_| before.is_none());
        let kept = before.as_ref().filter(|before| before.up == up);
        let since = kept.map_or(found.or(Some(wall)), |before| before.since);
        let transition = kept.is_none().then_some(Transition { up, first: before.is_none() });
        if transition.is_some() {
            self.transitions.push(Record { at: wall, up, text: reason.clone(), latency });
        }
        let permille = agent.as_ref().map_or(WHOLE, |agent| agent.word.permille());
        let transitions = self.transitions.clone();
        let standing = self.standing.insert(Standing { up, permille, reason, since, transitions, checks, agent });
        Decision { transition, visible: before.is_none_or(|before| !before.is_alike(standing)) }
    }

    /// What to think of a backend that was up, or was not: first by what its traffic tells, then by whether its agent wants
    /// nothing to come, then by how often it went down, then by its agent and its checks.
    fn find(
        &mut self,
        health: &Health,
        evidence: &Evidence<'_>,
        was_up: bool,
        (now, wall): (Instant, SystemTime),
    ) -> Option<Finding> {
        if health.damping.is_none() {
            (self.held, self.falls) = (None, VecDeque::new());
        }
        self.held = self.held.take().filter(|held| now < held.until);
        let ejected = evidence.ejected.filter(|ejected| now < ejected.until);
        let agent = evidence.agent.as_ref().filter(|agent| agent.word.takes_down());
        let by_agent = agent.map(Heard::told);
        let maint = agent.filter(|agent| agent.word.mode == Mode::Maint).map(Heard::told);
        let held = || self.held.as_ref().map(|held| held.reason.clone());
        let down = |reason| Finding { up: false, reason, by: None };
        let certain = ejected.map(|ejected| ejected.reason.clone()).or(maint).or_else(held).map(down);
        let finding = certain.or_else(|| {
            let checks = &evidence.checks;
            let finding = by_agent.map(down).or_else(|| Some(reason(health, checks, verdict(health, checks)?)));
            let damping = health.damping.filter(|_| was_up && finding.as_ref().is_some_and(|found| !found.up));
            self.held = damping.and_then(|damping| self.fall(damping, now, wall));
            self.held.as_ref().map_or(finding, |held| Some(down(held.reason.clone())))
        });
        self.deadline = ejected.map(|ejected| ejected.until).or(self.held.as_ref().map(|held| held.until));
        finding
    }

    /// A backend goes down by its checks or its agent. If that has happened too often, it is to stay down.
    fn fall(&mut self, damping: Damping, now: Instant, wall: SystemTime) -> Option<Held> {
        let Damping { flaps, within, hold_for } = damping;
        if self.falls.len() == usize::try_from(Damping::MOST_FLAPS).unwrap_or(usize::MAX) {
            self.falls.pop_front();
        }
        self.falls.push_back(now);
        let lately = self.falls.iter().filter(|at| now.duration_since(**at) <= within).count();
        if lately < usize::try_from(flaps).unwrap_or(usize::MAX) {
            return None;
        }
        let mut reason = format!("went down {flaps} times within {within:?}, held down");
        let until = wall.checked_add(hold_for).map(humantime::format_rfc3339_seconds);
        // A clock that is off by ages has no such form.
        if until.is_none_or(|until| write!(reason, " until {until}").is_err()) {
            reason = format!("went down {flaps} times within {within:?}, held down for {hold_for:?}");
        }
        Some(Held { until: now + hold_for, reason })
    }
}

/// What a decision changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The change of state, if there was one.
    pub transition: Option<Transition>,
    /// Whether those who wait for changes should know: the state or its reason is another.
    pub visible: bool,
}

/// Whether the backend is up; `None` if that depends on checks without a result. Without checks it is.
fn verdict(health: &Health, checks: &BTreeMap<Arc<str>, Status>) -> Option<bool> {
    let decisive = match health.matching {
        Matching::All => false,
        Matching::Any => true,
    };
    let mut all_known = true;
    for check in &health.checks {
        match checks.get(&check.name) {
            Some(status) if status.up == decisive => return Some(decisive),
            Some(_) => {}
            None => all_known = false,
        }
    }
    let otherwise = if health.checks.is_empty() { true } else { !decisive };
    all_known.then_some(otherwise)
}

/// The result that decides: the first one, in the order of the file, that says what the verdict says.
fn reason(health: &Health, checks: &BTreeMap<Arc<str>, Status>, up: bool) -> Finding {
    let mut known = health.checks.iter().filter_map(|check| checks.get_key_value(&check.name));
    let found = known.find(|(_, status)| status.up == up);
    let reason = match found {
        None => "nothing is checked".into(),
        Some((_, status)) if health.checks.len() == 1 => status.last.clone(),
        Some((name, status)) => format!("{name}: {}", status.last),
    };
    Finding { up, reason, by: found.map(|(name, _)| Arc::clone(name)) }
}

#[cfg(test)]
mod tests;
