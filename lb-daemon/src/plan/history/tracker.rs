//! When may a slot be untracked again?
//!
//! When all its flows are where the ring says. That is so once no entry of the flow table names another target for a flow of
//! this slot, and its last change is as long ago as a flow may be silent that is to stay: one that was not heard of since is
//! not remembered. Pure: clock and entries come in as values.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::{
    flow::{FlowEntry, TIME_SHIFT},
    ring::UNTRACKED,
};

/// For how long slots stay tracked after a change, in units of 2^[`TIME_SHIFT`] ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Of those whose flows may be at another target, though nobody has heard of them. A flow that is silent for longer
    /// counts as ended.
    pub silence: u32,
    /// Of those that lead to the same target as before again: as long as a handshake may take that began in between.
    pub handshake: u32,
}

impl Default for Hold {
    /// 2.5 h: Linux sends the first keep-alive after two hours, and gives up eleven minutes later. The entries' clock goes
    /// round in 4.9 h. 5 min: with all its repetitions a handshake takes a little over three.
    fn default() -> Self {
        let units = |seconds: u64| ((seconds * 1_000_000_000) >> TIME_SHIFT) as u32 + 1;
        Self { silence: units(9000), handshake: units(300) }
    }
}

/// Units (6.9 min) for which entries may still be there whose age is told wrong, after nobody swept them: a sweep takes 60.
const UNSWEPT: u32 = 96;

/// When the slots of one VIP's ring changed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    /// Of slots that are not in `since`.
    born: u32,
    since: BTreeMap<u32, u32>,
}

impl Tracker {
    /// Of slots of which nothing is known but that they are tracked at `now`, in units.
    ///
    /// Without a daemon entries may have become older than their clock tells. Those that did so before seem to be as old as
    /// the tracker, or older, ever after; those that do so before they are swept would seem younger, if it began at once.
    pub fn new(now: u32) -> Self {
        Self { born: now.saturating_add(UNSWEPT), since: BTreeMap::new() }
    }

    /// Another ring came into force, at `now` or a moment ago.
    pub fn changed(&mut self, before: &[u16], after: &[u16], now: u32) {
        if before.len() != after.len() {
            *self = Self::new(now);
            return;
        }
        let changed = (0..).zip(before.iter().zip(after)).filter(|(_, (before, after))| before != after);
        self.since.extend(changed.map(|(slot, _)| (slot, now)));
    }

    fn since(&self, slot: u32) -> u32 {
        self.since.get(&slot).copied().unwrap_or(self.born)
    }

    /// Slots that waited for long enough.
    fn due(&self, ring: &[u16], history: &[u16], now: u32, hold: Hold) -> BTreeSet<u32> {
        let is_due = |(slot, (current, previous)): &(u32, (&u16, &u16))| {
            let wait = if current == previous { hold.handshake } else { hold.silence };
            **previous != UNTRACKED && now.saturating_sub(self.since(*slot)) > wait
        };
        (0..).zip(ring.iter().zip(history)).filter(is_due).map(|(slot, _)| slot).collect()
    }

    fn forget(&mut self, slots: &BTreeSet<u32>) {
        self.since.retain(|slot, _| !slots.contains(slot));
    }
}

/// One look at the flow table on behalf of a VIP.
#[derive(Clone, Debug)]
pub struct Survey {
    /// First target of its range, and places.
    range: (u32, u32),
    ring: Vec<u16>,
    history: Vec<u16>,
    /// Slots that no entry has spoken against yet.
    clear: BTreeSet<u32>,
    now: u32,
    hold: Hold,
}

impl Survey {
    /// A look for slots that may be untracked; `None` if there can be none. `range` are the first target and the places of
    /// the VIP.
    pub fn begin(
        tracker: &Tracker,
        range: (u32, u32),
        ring: Vec<u16>,
        history: Vec<u16>,
        now: u32,
        hold: Hold,
    ) -> Option<Self> {
        let clear = tracker.due(&ring, &history, now, hold);
        (!clear.is_empty()).then_some(Self { range, ring, history, clear, now, hold })
    }

    /// Looks at an entry; `false` if it is of a flow of this VIP that is silent for longer than any that counts.
    pub fn meet(&mut self, entry: FlowEntry, tracker: &Tracker) -> bool {
        let (first, places) = self.range;
        let place = entry.target().wrapping_sub(first);
        if entry.is_empty() || place >= places {
            return true;
        }
        let age = entry.silence(self.now);
        if age > self.hold.silence {
            return false;
        }
        let (first, last) = slots(entry, self.ring.len());
        for slot in first..=last {
            let elsewhere = self.ring.get(slot as usize).is_some_and(|current| u32::from(*current) != place);
            // One that was not written since the slot changed does not know whether it is a stray.
            if elsewhere && (entry.is_stray() || age >= self.now.saturating_sub(tracker.since(slot))) {
                self.clear.remove(&slot);
            }
        }
        true
    }

    /// The slots to be untracked, each with its history.
    pub fn found(&self) -> impl Iterator<Item = (u32, u16)> {
        let previous = |slot: &u32| Some((*slot, *self.history.get(*slot as usize)?));
        self.clear.iter().filter_map(previous)
    }

    /// After a second look, once no packet goes by the history of the slots that were `found`: those that an entry spoke
    /// against only then, which are to be tracked again, as they were. The others' changes are forgotten.
    pub fn verified(&self, found: &[(u32, u16)], tracker: &mut Tracker) -> Vec<(u32, u16)> {
        tracker.forget(&self.clear);
        found.iter().filter(|(slot, _)| !self.clear.contains(slot)).copied().collect()
    }
}

/// The first and the last slot that an entry's flow can have in a ring of so many slots: of the 32 bits of the hash that the
/// ring goes by, the tag has the upper 16.
fn slots(entry: FlowEntry, count: usize) -> (u32, u32) {
    const LOW: u32 = 16;
    let upper = u64::from(entry.tag() & 0xffff);
    // Tag 1 stands for 0, too.
    let lowest = if entry.tag() == 1 { 0 } else { upper };
    let slot = |hash: u64| u32::try_from((hash * count as u64) >> 32).unwrap_or(u32::MAX);
    (slot(lowest << LOW), slot(((upper + 1) << LOW) - 1))
}

#[cfg(test)]
mod tests {
    use lb_common::layout::flow::FlowState;

    use super::*;

    const HOLD: Hold = Hold { silence: 2000, handshake: 70 };
    const U: u16 = UNTRACKED;

    fn look(tracker: &Tracker, entries: &[FlowEntry], now: u32) -> Vec<u32> {
        // Slot 1 had target 2 and has 0 now; slot 2 had target 1 and has it again.
        let survey = Survey::begin(tracker, (10, 3), vec![0, 0, 1, 0], vec![U, 2, 1, U], now, HOLD);
        survey.map_or(vec![], |mut survey| {
            for entry in entries {
                survey.meet(*entry, tracker);
            }
            survey.found().map(|(slot, _)| slot).collect()
        })
    }

    /// A flow in the middle of a slot of a ring of four.
    fn flow(slot: u32, place: u32, time: u32) -> FlowEntry {
        FlowEntry::new(0x10_0000 | slot << 14 | 0x2000, 10 + place, time, FlowState::Established)
    }

    #[test]
    fn slots_wait_for_silent_flows_or_for_handshakes() {
        let tracker = Tracker::new(5000 - UNSWEPT);
        assert_eq!(look(&tracker, &[], 5070), [0_u32; 0]);
        assert_eq!(look(&tracker, &[], 5071), [2]);
        assert_eq!(look(&tracker, &[], 7001), [1, 2]);
    }

    #[test]
    fn a_stray_keeps_its_slot_tracked_and_others_do_not() {
        let tracker = Tracker::new(5000 - UNSWEPT);
        let now = 7100;
        assert_eq!(look(&tracker, &[flow(1, 0, now)], now), [1, 2], "at the current target");
        assert_eq!(look(&tracker, &[flow(1, 2, now).stray(true)], now), [2]);
        assert_eq!(look(&tracker, &[flow(2, 0, now).stray(true)], now), [1]);
        assert_eq!(look(&tracker, &[flow(0, 2, now).stray(true)], now), [1, 2], "of another slot");
        // Of which slot it is, its tag does not tell at a border; written since, and no stray, it is the other's.
        assert_eq!(look(&tracker, &[flow(1, 2, now)], now), [1, 2]);
        assert_eq!(look(&tracker, &[flow(2, 0, 4999)], 5080), [0_u32; 0]);
    }

    #[test]
    fn what_is_silent_for_too_long_is_to_be_emptied() {
        let tracker = Tracker::new(5000 - UNSWEPT);
        let mut survey = Survey::begin(&tracker, (10, 3), vec![0], vec![1], 7100, HOLD).unwrap();
        assert!(!survey.meet(flow(0, 1, 5000), &tracker));
        assert!(survey.meet(flow(0, 1, 5100), &tracker));
        assert!(survey.meet(FlowEntry::new(1, 99, 5000, FlowState::Established), &tracker), "another VIP's");
    }

    #[test]
    fn what_comes_in_between_is_tracked_again() {
        let mut tracker = Tracker::new(5000 - UNSWEPT);
        let mut survey = Survey::begin(&tracker, (10, 3), vec![0, 0, 1, 0], vec![U, 2, 1, U], 7100, HOLD).unwrap();
        let found: Vec<_> = survey.found().collect();
        assert_eq!(found, [(1, 2), (2, 1)]);
        assert!(survey.meet(flow(1, 2, 7100).stray(true), &tracker));
        assert_eq!(survey.verified(&found, &mut tracker), [(1, 2)]);
    }

    #[test]
    fn a_slot_that_changes_again_waits_again() {
        let mut tracker = Tracker::new(5000 - UNSWEPT);
        tracker.changed(&[0, 1, 1, 0], &[0, 0, 1, 0], 6000);
        assert_eq!(look(&tracker, &[], 7500), [2]);
    }

    #[test]
    fn tags_tell_slots() {
        let of = |tag, count| slots(FlowEntry::new(tag, 1, 0, FlowState::Established), count);
        assert_eq!(of(0xabc_0000, 65_537), (0, 0));
        assert_eq!(of(0xabc_0100, 65_537), (256, 257));
        assert_eq!(of(0xabc_ffff, 65_537), (65_535, 65_536));
        assert_eq!(of(1, 251), (0, 0));
        assert_eq!(of(1, 65_537), (0, 2));
        assert_eq!(of(0x000_8000, 4), (2, 2));
    }
}
