//! Who gives way when a bucket is full, against a model that reads like the module's first paragraph.

use lb_common::layout::{
    counter::PathEvent,
    flow::{FlowEntry, FlowState, WAYS},
};
use proptest::prelude::*;

use super::{NOW, Scene};
use crate::{
    fixture::frames::flags::SYN,
    flow::{STALE, tag},
};

const UDP_IDLE: u32 = 7;

/// Entries of other flows; tags are small, so they are not the new flow's.
fn fill(scene: &Scene, entries: &[(FlowState, u32); WAYS]) {
    for (way, (state, age)) in entries.iter().enumerate() {
        let entry = match state {
            FlowState::Empty => FlowEntry(0),
            state => FlowEntry::new(way as u32 + 2, 1, NOW.wrapping_sub(*age), *state),
        };
        scene.put(way, entry);
    }
}

/// The ways that may give way: the first free one, else the first of the module's list that there is one of, and in it the
/// oldest.
fn candidates(entries: &[(FlowState, u32); WAYS]) -> Vec<usize> {
    if let Some(free) = entries.iter().position(|(state, _)| *state == FlowState::Empty) {
        return vec![free];
    }
    let classes: [fn(FlowState, u32) -> bool; 4] = [
        |state, age| state == FlowState::Closing && age > 1,
        |state, age| matches!(state, FlowState::FirstDatagram | FlowState::Datagram) && age > UDP_IDLE,
        |state, _| {
            matches!(state, FlowState::HalfOpen | FlowState::PickedUp | FlowState::FirstDatagram | FlowState::Closing)
        },
        |_, age| age >= STALE,
    ];
    for class in classes {
        let members = entries.iter().enumerate().filter(|(_, (state, age))| class(*state, *age));
        let age = |way: usize| entries[way].1;
        let ways: Vec<usize> = members.map(|(way, _)| way).collect();
        if let Some(oldest) = ways.iter().map(|&way| age(way)).max() {
            return ways.into_iter().filter(|&way| age(way) == oldest).collect();
        }
    }
    Vec::new()
}

fn entry() -> impl Strategy<Value = (FlowState, u32)> {
    let state = prop::sample::select(FlowState::ALL.to_vec());
    let in_use = prop::sample::select(vec![FlowState::Established, FlowState::Datagram]);
    let age = prop_oneof![Just(0), 0..4_u32, 5..10_u32, 60..70_u32, 0..4096_u32];
    (prop_oneof![state, in_use], age)
}

proptest! {
    #[test]
    fn the_first_in_the_order_gives_way(entries in prop::array::uniform8(entry()), port in 1024..65_535_u16) {
        let scene = Scene::new();
        fill(&scene, &entries);
        let before = scene.ways();
        let syn = Scene::web().with_port(port).tcp(SYN);
        let target = scene.world.forward(&syn);
        prop_assert_eq!(target, scene.ring_target(&syn));

        let after = scene.ways();
        let changed: Vec<usize> = (0..WAYS).filter(|&way| before[way] != after[way]).collect();
        let candidates = candidates(&entries);
        if let [way] = changed[..] {
            prop_assert!(candidates.contains(&way), "way {} gave way, not one of {:?}", way, candidates);
            prop_assert_eq!(after[way], FlowEntry::new(scene.tag(&syn), target, NOW, FlowState::HalfOpen));
        } else {
            prop_assert_eq!((&changed, &candidates), (&vec![], &vec![]));
        }
        let evicted = !candidates.is_empty() && candidates.iter().all(|&way| entries[way].0 != FlowState::Empty);
        prop_assert_eq!(scene.world.event(PathEvent::Evicted), u64::from(evicted));
        prop_assert_eq!(scene.world.event(PathEvent::NotRemembered), u64::from(candidates.is_empty()));
        let created = scene.world.counters(target).flows_created;
        prop_assert_eq!(created, u64::from(!candidates.is_empty()), "only what is remembered is a flow");
    }
}

#[test]
fn a_flow_that_finds_no_room_is_steered_by_the_ring_packet_by_packet() {
    let mut scene = Scene::new();
    fill(&scene, &[(FlowState::Established, 0); WAYS]);
    let full = scene.ways();
    let syn = Scene::web().tcp(SYN);
    assert_eq!(scene.world.forward(&syn), scene.ring_target(&syn));
    let (new, _) = scene.change_rings();
    assert_eq!(scene.world.forward(&syn), new);
    assert_eq!(scene.ways(), full);
    assert_eq!(scene.world.events(), [(PathEvent::MissSyn, 2), (PathEvent::NotRemembered, 2)]);
}

#[test]
fn a_flow_in_use_gives_way_from_the_unit_on_in_which_it_counts_as_stale() {
    for state in [FlowState::Established, FlowState::Datagram] {
        for (age, gives_way) in [(0, false), (STALE - 1, false), (STALE, true), (4095, true)] {
            // A datagram flow is expired long before.
            let gives_way = gives_way || state == FlowState::Datagram && age > UDP_IDLE;
            let scene = Scene::new();
            let mut entries = [(FlowState::Established, 0); WAYS];
            entries[5] = (state, age);
            fill(&scene, &entries);
            scene.world.forward(&Scene::web().tcp(SYN));
            assert_eq!(scene.world.event(PathEvent::Evicted), u64::from(gives_way), "{state:?} after {age}");
            assert_eq!(scene.ways()[5].state() == FlowState::HalfOpen as u32, gives_way);
        }
    }
}

#[test]
fn no_flow_has_the_tag_of_an_empty_way() {
    for hash in [0, 1, u64::from(u32::MAX), (1 << 36) - 1] {
        assert_eq!(tag(hash), 1, "{hash:#x}");
    }
    assert_eq!((tag(1 << 36), tag(2 << 36), tag(u64::MAX)), (1, 2, (1 << 28) - 1));
}

#[test]
fn victims_of_equal_age_are_spread_over_the_ways() {
    let mut hits = [0_u32; WAYS];
    for port in 20_000..20_800 {
        let scene = Scene::new();
        fill(&scene, &[(FlowState::HalfOpen, 0); WAYS]);
        let before = scene.ways();
        scene.world.forward(&Scene::web().with_port(port).tcp(SYN));
        let after = scene.ways();
        for (hits, way) in hits.iter_mut().zip(0..) {
            *hits += u32::from(before[way] != after[way]);
        }
    }
    // 100 each, with a deviation of 9.4.
    assert!(hits.iter().all(|hits| (50..150).contains(hits)), "{hits:?}");
}
