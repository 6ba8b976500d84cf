//! Histories of the rings of adaptive VIPs: what slots had before, while flows may still go by that.
//!
//! A slot is *untracked* while all its flows are where the ring says; nothing is remembered of them. When its target changes it
//! becomes *tracked*: the history keeps the target of before, where flows are that are not remembered, and all others are
//! remembered. [`next`] makes the history of a new ring, [`tracker`] tells when a slot may be untracked again.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{ring::UNTRACKED, vip::Vip};

pub mod tracker;

/// The ring that a new one replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before<'a> {
    /// Its slots; none if there was no ring.
    pub ring: &'a [u16],
    /// Its history; none if no slot was tracked.
    pub history: &'a [u16],
    /// Whether all flows were remembered: those of a VIP that was not adaptive.
    pub remembers_all: bool,
}

impl Before<'_> {
    /// Where flows of a slot are that are not remembered.
    fn target(&self, slot: usize) -> u16 {
        match self.history.get(slot) {
            Some(&previous) if previous != UNTRACKED => previous,
            _ => self.ring.get(slot).copied().unwrap_or(UNTRACKED),
        }
    }

    fn is_tracked(&self, slot: usize) -> bool {
        self.remembers_all || self.history.get(slot).is_some_and(|previous| *previous != UNTRACKED)
    }
}

/// The history of the ring `after`, as long as that. `gone` are places whose backends left: nothing is at them.
///
/// Whatever changes meanwhile, the previous target of a slot stays that of the last time when it was untracked: all that came
/// later is remembered. A ring of another length takes over what it can: flows of a new slot that came from several old ones
/// with different targets are looked for at the target of the one in their middle.
pub fn next(before: &Before, after: &[u16], gone: &BTreeSet<u16>) -> Vec<u16> {
    if before.ring.is_empty() {
        // What is remembered was steered without a ring.
        return after.to_vec();
    }
    let slot = |(slot, &now): (usize, &u16)| {
        let (first, last) = overlapping(slot, after.len(), before.ring.len());
        let moves = |old: usize| {
            let target = before.target(old);
            before.is_tracked(old) || target != now && !gone.contains(&target)
        };
        if !(first..=last).any(moves) {
            return UNTRACKED;
        }
        let previous = before.target(usize::midpoint(first, last));
        if gone.contains(&previous) { now } else { previous }
    };
    after.iter().enumerate().map(slot).collect()
}

/// The same history where it names none of `gone`: those slots have their current target for the one before, too.
pub fn without(history: &[u16], ring: &[u16], gone: &BTreeSet<u16>) -> Vec<(u32, u16)> {
    let named = (0..).zip(history).zip(ring).filter(|((_, previous), _)| gone.contains(previous));
    named.map(|((slot, _), now)| (slot, *now)).collect()
}

/// How many slots are tracked of each VIP that has a history, by the first block of that. `of` tells the history of one.
pub fn counts<'v>(vips: impl IntoIterator<Item = &'v Vip>, of: impl Fn(&Vip) -> Vec<u16>) -> BTreeMap<u32, u32> {
    let with_history = vips.into_iter().filter(|vip| vip.has_history());
    with_history.map(|vip| (vip.history_base, tracked(&of(vip)))).collect()
}

fn tracked(history: &[u16]) -> u32 {
    u32::try_from(history.iter().filter(|previous| **previous != UNTRACKED).count()).unwrap_or(u32::MAX)
}

/// The first and the last slot of a ring of `old` slots in which flows of a slot of a ring of `new` slots are.
fn overlapping(slot: usize, new: usize, old: usize) -> (usize, usize) {
    if new == old {
        return (slot, slot);
    }
    let (slot, new, old) = (slot as u64, new as u64, old as u64);
    let first = (slot << 32).div_ceil(new);
    let last = ((slot + 1) << 32).div_ceil(new).saturating_sub(1).max(first);
    let position = |hash: u64| usize::try_from((hash * old) >> 32).unwrap_or_default();
    (position(first), position(last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const U: u16 = UNTRACKED;

    fn of(ring: &[u16], history: &[u16], after: &[u16]) -> Vec<u16> {
        next(&Before { ring, history, remembers_all: false }, after, &BTreeSet::new())
    }

    #[test]
    fn slots_that_change_keep_the_target_of_when_they_were_untracked() {
        let first = of(&[0, 1, 2], &[], &[0, 2, 2]);
        assert_eq!(first, [U, 1, U]);
        let second = of(&[0, 2, 2], &first, &[1, 0, 2]);
        assert_eq!(second, [0, 1, U]);
        // Back again, they are tracked still: some flows are elsewhere.
        assert_eq!(of(&[1, 0, 2], &second, &[0, 1, 2]), [0, 1, U]);
        assert_eq!(tracked(&second), 2);
    }

    #[test]
    fn who_remembered_all_has_all_slots_tracked() {
        let before = Before { ring: &[0, 1], history: &[], remembers_all: true };
        assert_eq!(next(&before, &[0, 2], &BTreeSet::new()), [0, 1]);
        assert_eq!(of(&[], &[], &[3, 4]), [3, 4], "without a ring, too");
    }

    #[test]
    fn nothing_is_at_a_backend_that_left() {
        let before = Before { ring: &[0, 1, 0, 2], history: &[U, U, 1, 1], remembers_all: false };
        assert_eq!(next(&before, &[0, 2, 0, 3], &BTreeSet::from([1])), [U, U, 0, 3]);
        assert_eq!(without(&[U, 1, 2], &[5, 6, 7], &BTreeSet::from([1])), [(1, 6)]);
    }

    proptest! {
        /// Flows of any hash find their target by the new history, unless their slot was cut.
        #[test]
        fn a_ring_of_another_length_keeps_all_flows_but_those_at_cuts(
            old in prop::collection::vec(0_u16..5, 1..40),
            new in prop::collection::vec(0_u16..5, 1..40),
            hashes in prop::collection::vec(any::<u32>(), 50),
        ) {
            let history = of(&old, &[], &new);
            for hash in hashes {
                let slot = |length: usize| ((u64::from(hash) * length as u64) >> 32) as usize;
                let (was, now) = (slot(old.len()), slot(new.len()));
                let (first, last) = overlapping(now, new.len(), old.len());
                prop_assert!(first <= was && was <= last);
                let found = if history[now] == U { new[now] } else { history[now] };
                let is_cut = (first..=last).any(|other| old[other] != old[was]);
                prop_assert!(is_cut || found == old[was]);
            }
        }
    }
}
