//! Whether a backend is up, from all that is known of it. Pure.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{Ejected, Standing, Status, machine::Transition};
use crate::model::{Health, Matching};

/// What is decided of one backend.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    standing: Option<Standing>,
    deadline: Option<Instant>,
}

/// What is known of a backend when it is judged.
#[derive(Clone, Debug, Default)]
pub struct Evidence<'a> {
    /// Its checks that have a result.
    pub checks: BTreeMap<Arc<str>, Status>,
    /// What its traffic tells against it.
    pub ejected: Option<&'a Ejected>,
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
        let Evidence { checks, ejected } = evidence;
        let ejected = ejected.filter(|ejected| now < ejected.until);
        self.deadline = ejected.map(|ejected| ejected.until);
        let before = self.standing.take();
        let verdict = match ejected {
            Some(ejected) => Some((false, ejected.reason.clone())),
            None => verdict(health, &checks).map(|up| (up, reason(health, &checks, up))),
        };
        let Some((up, reason)) = verdict else {
            return Decision { transition: None, visible: before.is_some() };
        };
        let first = before.is_none();
        let kept = before.filter(|before| before.up == up);
        let decision = Decision {
            transition: kept.is_none().then_some(Transition { up, first }),
            visible: kept.as_ref().is_none_or(|before| before.reason != reason),
        };
        let since = kept.map_or(Some(wall), |before| before.since);
        self.standing = Some(Standing { up, reason, since, checks });
        decision
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
fn reason(health: &Health, checks: &BTreeMap<Arc<str>, Status>, up: bool) -> String {
    let mut known = health.checks.iter().filter_map(|check| checks.get_key_value(&check.name));
    match known.find(|(_, status)| status.up == up) {
        None => "nothing is checked".into(),
        Some((_, status)) if health.checks.len() == 1 => status.last.clone(),
        Some((name, status)) => format!("{name}: {}", status.last),
    }
}

#[cfg(test)]
mod tests;
