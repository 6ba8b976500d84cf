//! The flow table, walked in place while packets use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use lb_common::layout::flow::{FlowEntry, MAX_TARGETS};

use crate::dataplane::{
    FlowCount,
    flows::{Liveness, PARTS},
};

pub(super) mod carry;

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

/// Counts the entries.
pub(super) fn count(words: &[AtomicU64], rule: Liveness) -> FlowCount {
    FlowCount::of(words.iter().map(|word| FlowEntry(word.load(Ordering::Relaxed))), rule)
}

/// Empties the entries of flows that ended, in one part of the table.
pub(super) fn forget_ended(words: &[AtomicU64], rule: Liveness, part: u32) -> u64 {
    let length = words.len().div_ceil(PARTS as usize).max(1);
    let part = words.chunks(length).nth(part as usize).unwrap_or_default();
    retain(part, &mut |entry| !rule.is_to_be_forgotten(entry))
}

/// Looks at all entries that are in use, and empties those that are not to be kept; tells how many.
pub(super) fn retain(words: &[AtomicU64], keep: &mut dyn FnMut(FlowEntry) -> bool) -> u64 {
    let mut emptied = 0;
    for word in words {
        let raw = word.load(Ordering::Relaxed);
        // One that a packet has just written is of a flow that goes on.
        if raw != 0
            && !keep(FlowEntry(raw))
            && word.compare_exchange(raw, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            emptied += 1;
        }
    }
    emptied
}

#[cfg(test)]
mod tests {
    use lb_common::layout::flow::FlowState;

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
    fn every_part_of_a_table_is_swept_and_no_other() {
        const SIZES: [u32; 5] = [8, 64, 256, 1024, 4096];
        let rule = Liveness { now: 1077, udp_idle: 7 };
        let closed = FlowEntry::new(1, 2, 77, FlowState::Closing);
        for size in SIZES {
            let words = table(&vec![closed; size as usize]);
            for part in 0..PARTS {
                let full = |words: &[AtomicU64]| words.iter().filter(|word| word.load(Ordering::Relaxed) != 0).count();
                let before = full(&words);
                let forgotten = forget_ended(&words, rule, part);
                assert_eq!(before - full(&words), usize::try_from(forgotten).unwrap());
                assert!(forgotten <= u64::from(size.div_ceil(PARTS)), "{size}");
            }
            assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0), "{size}");
        }
        let words = table(&[flow(1), closed]);
        assert_eq!((0..PARTS).map(|part| forget_ended(&words, rule, part)).sum::<u64>(), 1);
        assert_eq!(words[0].load(Ordering::Relaxed), flow(1).0);
    }
}
