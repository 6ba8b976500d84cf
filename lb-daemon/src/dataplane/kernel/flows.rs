//! The flow table, walked in place while packets use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use lb_common::layout::flow::{FlowEntry, FlowState, MAX_TARGETS};

use crate::dataplane::FlowCount;

/// What becomes of a target's flows: nothing, to be forgotten, or the target's new number.
const KEEP: u32 = u32::MAX;
const FORGET: u32 = u32::MAX - 1;
const _: () = assert!(MAX_TARGETS < FORGET);

/// Empties the entries of some targets and renumbers those of others.
///
/// An entry that the program rewrites meanwhile is looked at again; one that it rewrites afterwards, having read it before,
/// is why a plan waits for packets under way before it sweeps.
pub(super) fn sweep(words: &[AtomicU64], forget: &BTreeSet<u32>, renumber: &BTreeMap<u32, u32>) {
    let highest = forget.last().into_iter().chain(renumber.keys().last()).max();
    let Some(highest) = highest else { return };
    // A table rather than look-ups in the sets: a million entries are walked.
    let mut fate = vec![KEEP; *highest as usize + 1];
    for (target, new) in renumber.iter().map(|(old, new)| (old, *new)).chain(forget.iter().map(|old| (old, FORGET))) {
        if let Some(place) = fate.get_mut(*target as usize) {
            *place = new;
        }
    }
    for word in words {
        let mut raw = word.load(Ordering::Relaxed);
        while let Some(new) = swept(FlowEntry(raw), &fate) {
            match word.compare_exchange_weak(raw, new.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => raw = now,
            }
        }
    }
}

/// What an entry becomes, if it changes.
fn swept(entry: FlowEntry, fate: &[u32]) -> Option<FlowEntry> {
    if entry.is_empty() {
        return None;
    }
    match fate.get(entry.target() as usize).copied().unwrap_or(KEEP) {
        KEEP => None,
        FORGET => Some(FlowEntry(0)),
        new if new == entry.target() => None,
        new => Some(entry.with_target(new)),
    }
}

/// Counts the entries by state and by target.
pub(super) fn count(words: &[AtomicU64]) -> FlowCount {
    let mut by_state = [0; FlowState::ALL.len()];
    let mut by_target = vec![0_u64; 0];
    for word in words {
        let entry = FlowEntry(word.load(Ordering::Relaxed));
        if entry.is_empty() {
            continue;
        }
        if let Some(count) = by_state.get_mut(entry.state() as usize) {
            *count += 1;
        }
        let target = entry.target() as usize;
        if target >= by_target.len() {
            by_target.resize(target + 1, 0);
        }
        by_target[target] += 1;
    }
    let by_target = (0..).zip(by_target).filter(|(_, flows)| *flows > 0).collect();
    FlowCount { capacity: words.len() as u64, by_state, by_target }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[FlowEntry]) -> Vec<AtomicU64> {
        entries.iter().map(|entry| AtomicU64::new(entry.0)).collect()
    }

    fn flow(target: u32) -> FlowEntry {
        FlowEntry::new(0xabc_def0, target, 77, FlowState::Established)
    }

    #[test]
    fn forgets_and_renumbers_and_leaves_the_rest() {
        let words = table(&[flow(1), FlowEntry(0), flow(2), flow(3), flow(900)]);
        // 2 to 3 and 3 to 4 at once: nothing may be renumbered twice.
        sweep(&words, &BTreeSet::from([1]), &BTreeMap::from([(2, 3), (3, 4)]));
        let after: Vec<_> = words.iter().map(|word| FlowEntry(word.load(Ordering::Relaxed))).collect();
        assert_eq!(after, [FlowEntry(0), FlowEntry(0), flow(3), flow(4), flow(900)]);
    }

    #[test]
    fn counts_by_state_and_target() {
        let half_open = FlowEntry::new(1, 2, 3, FlowState::HalfOpen);
        let counted = count(&table(&[flow(1), flow(1), half_open, FlowEntry(0)]));
        assert_eq!(counted.capacity, 4);
        assert_eq!(counted.by_state, [0, 1, 0, 2, 0, 0, 0]);
        assert_eq!(counted.by_target, BTreeMap::from([(1, 2), (2, 1)]));
    }
}
