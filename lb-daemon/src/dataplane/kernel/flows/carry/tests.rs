use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW: u32 = 2000;

fn entry(tag: u32, target: u32, time: u32, state: FlowState) -> FlowEntry {
    FlowEntry::new(tag, target, time, state)
}

fn flow(tag: u32) -> FlowEntry {
    entry(tag, tag, NOW - 5, FlowState::Established)
}

/// A table of so many buckets.
fn table(buckets: usize) -> Vec<AtomicU64> {
    (0..buckets * WAYS).map(|_| AtomicU64::new(0)).collect()
}

/// Puts an entry into a bucket, as a packet does.
fn put(table: &[AtomicU64], bucket: usize, entry: FlowEntry) {
    let ways = &table[bucket * WAYS..(bucket + 1) * WAYS];
    let known = ways.iter().find(|way| load(way).tag() == entry.tag());
    let way = known.or_else(|| ways.iter().find(|way| load(way).is_empty())).expect("room in the bucket");
    way.store(entry.0, Ordering::Relaxed);
}

fn bucket(table: &[AtomicU64], number: usize) -> Vec<FlowEntry> {
    table[number * WAYS..(number + 1) * WAYS].iter().map(load).filter(|entry| !entry.is_empty()).collect()
}

fn find(table: &[AtomicU64], number: usize, tag: u32) -> Option<FlowEntry> {
    bucket(table, number).into_iter().find(|entry| entry.tag() == tag)
}

fn carry<'a>(from: &'a [AtomicU64], to: &'a [AtomicU64]) -> Carry<'a> {
    Carry { from, to, reading: FlowEntry }
}

#[test]
fn each_entry_is_found_wherever_its_hash_may_lead_in_a_larger_table() {
    let (old, new) = (table(4), table(16));
    for tag in 1..=20 {
        put(&old, tag as usize % 4, flow(tag));
    }
    carry(&old, &new).copy(|| NOW);
    for hash in 0..16_usize {
        for tag in 1..=20 {
            let was_there = tag as usize % 4 == hash % 4;
            assert_eq!(find(&new, hash, tag), was_there.then(|| flow(tag)), "bucket {hash}, tag {tag}");
        }
    }
}

#[test]
fn in_a_smaller_table_flows_in_use_stay_and_of_these_the_younger_ones() {
    let (old, new) = (table(4), table(1));
    for age in 1..=6 {
        put(&old, 1, entry(age, age, NOW - age, FlowState::Established));
        put(&old, 2, entry(10 + age, age, NOW - 10 * age, FlowState::Datagram));
        put(&old, 3, entry(20 + age, age, NOW - 1, FlowState::HalfOpen));
    }
    carry(&old, &new).copy(|| NOW);
    let kept: BTreeSet<u32> = bucket(&new, 0).iter().map(|entry| entry.tag()).collect();
    assert_eq!(kept, BTreeSet::from([1, 2, 3, 4, 5, 6, 11, 12]));
}

#[test]
fn a_table_that_grew_and_shrank_is_the_one_it_was() {
    let (old, large, again) = (table(4), table(64), table(4));
    for tag in 1..=30 {
        put(&old, tag as usize % 4, flow(tag));
    }
    carry(&old, &large).copy(|| NOW);
    carry(&large, &again).copy(|| NOW);
    let sorted = |number| {
        let (mut one, mut other) = (bucket(&old, number), bucket(&again, number));
        one.sort_by_key(|entry| entry.0);
        other.sort_by_key(|entry| entry.0);
        (one, other)
    };
    for number in 0..4 {
        let (one, other) = sorted(number);
        assert_eq!(one, other);
    }
}

#[test]
fn what_changed_in_the_old_table_within_the_same_unit_of_time_is_brought_over() {
    let (old, new) = (table(1), table(2));
    let opened = entry(7, 3, NOW, FlowState::HalfOpen);
    put(&old, 0, opened);
    carry(&old, &new).copy(|| NOW);
    assert_eq!(find(&new, 1, 7), Some(opened.touched(NOW - 1, opened.state())), "older than whatever comes");
    let named = entry(7, 4, NOW, FlowState::Established);
    put(&old, 0, named);
    carry(&old, &new).catch_up(NOW);
    assert_eq!((find(&new, 0, 7), find(&new, 1, 7)), (Some(named), Some(named)));
}

#[test]
fn what_packets_wrote_to_the_new_table_stays() {
    let (old, new) = (table(1), table(1));
    put(&old, 0, entry(7, 3, NOW, FlowState::Established));
    carry(&old, &new).copy(|| NOW);
    let closed = entry(7, 9, NOW, FlowState::Closing);
    put(&new, 0, closed);
    // Also where the clock went on since this daemon read it.
    let later = entry(8, 9, NOW + 1, FlowState::Established);
    put(&old, 0, entry(8, 3, NOW, FlowState::Established));
    put(&new, 0, later);
    carry(&old, &new).catch_up(NOW);
    assert_eq!((find(&new, 0, 7), find(&new, 0, 8)), (Some(closed), Some(later)));
}

#[test]
fn a_flow_that_appeared_takes_an_empty_way_or_that_of_one_that_left() {
    let (old, new) = (table(1), table(1));
    for tag in 1..=8 {
        put(&old, 0, entry(tag, 1, NOW - 3, FlowState::HalfOpen));
    }
    carry(&old, &new).copy(|| NOW);
    // In the old table 21 takes the place of 1. In the new one 22 has taken that of 2.
    old[0].store(entry(21, 1, NOW, FlowState::HalfOpen).0, Ordering::Relaxed);
    let written = entry(22, 1, NOW, FlowState::HalfOpen);
    let second = new.iter().find(|way| load(way).tag() == 2).unwrap();
    second.store(written.0, Ordering::Relaxed);
    carry(&old, &new).catch_up(NOW);
    assert!(find(&new, 0, 21).is_some() && find(&new, 0, 1).is_none());
    assert_eq!(find(&new, 0, 22), Some(written));
    // Nothing left that may give way: 2 is not remembered, and the ring decides for it as it did before.
    assert_eq!(find(&new, 0, 2), None);
    assert_eq!(bucket(&new, 0).len(), WAYS);
}

proptest! {
    /// Whatever packets do to both tables, each flow's newest entry is found afterwards, unless its bucket was full.
    #[test]
    fn the_newest_entry_of_each_flow_survives(
        sizes in (0_u32..4, 0_u32..4),
        first in prop::collection::vec((1_u32..12, 0_u64..8, 0_u32..40, 1_u32..7), 0..6),
        between in prop::collection::vec((1_u32..12, 0_u64..8, 1_u32..7), 0..6),
        after in prop::collection::vec((1_u32..12, 0_u64..8, 1_u32..7), 0..6),
    ) {
        let (old, new) = (table(1 << sizes.0), table(1 << sizes.1));
        let state = |number: u32| FlowState::ALL[number as usize];
        // The tag says the bucket, so that a flow has one place in each table.
        let hash = |tag: u32| tag as usize;
        let mut newest = std::collections::BTreeMap::new();
        for (tag, target, age, number) in first {
            let entry = entry(tag, u32::try_from(target).unwrap(), NOW - age, state(number));
            put(&old, hash(tag) % (1 << sizes.0), entry);
            newest.insert(tag, entry);
        }
        carry(&old, &new).copy(|| NOW);
        // A flow that finds no room is not remembered.
        let takes = |table: &[AtomicU64], place: usize, tag: u32| {
            find(table, place, tag).is_some() || bucket(table, place).len() < WAYS
        };
        for (tag, target, number) in between {
            let place = hash(tag) % (1 << sizes.0);
            if takes(&old, place, tag) {
                let entry = entry(tag, u32::try_from(target).unwrap(), NOW, state(number));
                put(&old, place, entry);
                newest.insert(tag, entry);
            }
        }
        for (tag, target, number) in after {
            let place = hash(tag) % (1 << sizes.1);
            if takes(&new, place, tag) {
                let entry = entry(tag, u32::try_from(target).unwrap(), NOW + 1, state(number));
                put(&new, place, entry);
                newest.insert(tag, entry);
            }
        }
        carry(&old, &new).catch_up(NOW + 1);
        for (tag, entry) in newest {
            let place = hash(tag) % (1 << sizes.1);
            let found = find(&new, place, tag);
            prop_assert!(found == Some(entry) || !takes(&new, place, tag), "{tag}: {found:?}, not {entry:?}");
        }
    }
}
