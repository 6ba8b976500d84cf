//! Checks that cannot be made.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use super::CheckId;

/// So long at least, and as long as a dead backend is not found by it besides, a check may not be made before that is told.
/// Shorter lacks, of a few descriptors say, come and go where thousands of probes are made, and do no harm.
const UNTOLD: Duration = Duration::from_mins(1);

/// Why a check was not made lately, although its time had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// Since when.
    pub since: SystemTime,
    /// Why the latest attempt was none, in words.
    pub why: String,
}

/// Checks that could not be made for so long that failures may have been missed. What they found before holds: see
/// [`super::roster`].
pub type Hindered = BTreeMap<CheckId, Hindrance>;

/// The attempts to make a probe that were none, since the last one that was.
#[derive(Debug)]
pub(super) struct Attempts {
    first: Instant,
    hindrance: Hindrance,
}

impl Attempts {
    /// One more, after those `before`, for this reason.
    pub(super) fn one_more(before: Option<Self>, why: &str, now: Instant, wall: SystemTime) -> Self {
        let (first, since) = before.map_or((now, wall), |before| (before.first, before.hindrance.since));
        Self { first, hindrance: Hindrance { since, why: why.to_owned() } }
    }

    /// What there is to tell, of a probe by which a dead backend is found within `unseen`.
    pub(super) fn told(&self, unseen: Duration, now: Instant) -> Option<&Hindrance> {
        (now.saturating_duration_since(self.first) >= unseen.max(UNTOLD)).then_some(&self.hindrance)
    }
}
