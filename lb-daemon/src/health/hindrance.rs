//! Checks that cannot be made.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use super::{
    CheckId,
    probe::{Outcome, Verdict},
};

/// So long at least, and as long as a dead backend is not found by it besides, a check may not be made before that is told,
/// unless it is certain to last. Shorter lacks, of a few descriptors say, come and go where thousands of probes are made, and do no
/// harm.
const UNTOLD: Duration = Duration::from_mins(1);

/// Why a check was not made lately, although its time had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// Since when.
    pub since: SystemTime,
    /// Why the latest attempt was none, in words.
    pub why: String,
}

/// Checks that cannot be made as things are, or could not for so long that failures may have been missed. All stays as it was:
/// see [`super::roster`].
pub type Hindered = BTreeMap<CheckId, Hindrance>;

/// The attempts to make a probe that were none, since the last one that was.
#[derive(Debug)]
pub(super) struct Attempts {
    first: Instant,
    /// Whether one of them said that there will be no other until somebody mends that.
    certain: bool,
    hindrance: Hindrance,
}

impl Attempts {
    /// Those `before` and one more, if this outcome is that of such an attempt.
    pub(super) fn with(before: Option<&Self>, outcome: &Outcome, now: Instant, wall: SystemTime) -> Option<Self> {
        let certain = match outcome.result {
            Verdict::Success | Verdict::Failure | Verdict::Timeout => return None,
            Verdict::Skipped => false,
            Verdict::Impossible => true,
        };
        let (first, since) = before.map_or((now, wall), |before| (before.first, before.hindrance.since));
        let certain = certain || before.is_some_and(|before| before.certain);
        Some(Self { first, certain, hindrance: Hindrance { since, why: outcome.text.clone() } })
    }

    /// Whether it is certain that there will be no other until somebody mends that.
    pub(super) fn are_certain(&self) -> bool {
        self.certain
    }

    /// What there is to tell, of a probe by which a dead backend is found within `unseen`.
    pub(super) fn told(&self, unseen: Duration, now: Instant) -> Option<&Hindrance> {
        let lasts = now.saturating_duration_since(self.first) >= unseen.max(UNTOLD);
        (self.certain || lasts).then_some(&self.hindrance)
    }
}
