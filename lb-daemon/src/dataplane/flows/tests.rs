use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const UDP_IDLE: u32 = 7;

fn rule(now: u32) -> Liveness {
    Liveness { now, udp_idle: UDP_IDLE }
}

/// An entry last used so many units ago.
fn aged(state: FlowState, age: u32, now: u32) -> FlowEntry {
    FlowEntry::new(1, 3, now.wrapping_sub(age), state)
}

/// The oldest age at which a flow in each state goes on.
const LAST: [(FlowState, u32); 6] = [
    (FlowState::HalfOpen, 15),
    (FlowState::PickedUp, 15),
    (FlowState::Established, 3352),
    (FlowState::Closing, 3),
    (FlowState::FirstDatagram, UDP_IDLE),
    (FlowState::Datagram, UDP_IDLE),
];

#[test]
fn a_flow_goes_on_for_as_long_as_its_state_may_be_silent() {
    for now in [0, 5, 4095, 4096, 1_000_003] {
        for (state, last) in LAST {
            assert!(rule(now).is_live(aged(state, 0, now)), "{state:?}");
            assert!(rule(now).is_live(aged(state, last, now)), "{state:?} at {last}");
            assert!(!rule(now).is_live(aged(state, last + 1, now)), "{state:?} after {last}");
        }
        assert!(!rule(now).is_live(FlowEntry(0)));
        assert!(!rule(now).is_live(FlowEntry(0xf)), "a state that nobody writes");
    }
}

#[test]
fn an_entry_used_after_the_clock_was_read_is_not_a_turn_old() {
    for (state, _) in LAST {
        for ahead in 1..16 {
            let entry = FlowEntry::new(1, 3, 100 + ahead, state);
            assert!(rule(100).is_live(entry), "{state:?}");
            assert!(!rule(100).is_to_be_forgotten(entry), "{state:?}");
        }
    }
}

#[test]
fn what_has_ended_is_forgotten_after_a_minute_and_long_before_the_clock_turns() {
    for (state, last) in LAST {
        let first = last.max(15) + 1;
        assert!(!rule(9).is_to_be_forgotten(aged(state, first - 1, 9)), "{state:?}");
        for age in first..TIME_MASK - AHEAD {
            assert!(rule(9).is_to_be_forgotten(aged(state, age, 9)), "{state:?} at {age}");
        }
        // A whole pass takes 256 s, or 60 units.
        assert!(TIME_MASK - AHEAD - first > 10 * 60, "{state:?}");
    }
    assert!(!rule(9).is_to_be_forgotten(FlowEntry(0)));
}

#[test]
fn counts_by_state_and_target_and_those_that_go_on() {
    let closed = aged(FlowState::Closing, 4, 50);
    let live = aged(FlowState::Established, 4, 50);
    let other = FlowEntry::new(7, 5, 50, FlowState::HalfOpen);
    let count = FlowCount::of([live, FlowEntry(0), live, closed, other].into_iter(), rule(50));
    assert_eq!((count.capacity, count.live), (5, 3));
    assert_eq!(count.by_state, [0, 1, 0, 2, 1, 0, 0]);
    assert_eq!(count.by_target, BTreeMap::from([(3, 3), (5, 1)]));
    assert_eq!(count.live_by_target, BTreeMap::from([(3, 2), (5, 1)]));
    let later = FlowCount::of([closed].into_iter(), rule(51));
    assert_eq!((later.live, later.live_by_target), (0, BTreeMap::new()));
}

#[test]
fn the_clock_is_that_of_the_program() {
    let now = Liveness::now(UDP_IDLE);
    // `bpf_ktime_get_coarse_ns` is CLOCK_MONOTONIC_COARSE.
    let reference = std::time::Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap();
    let unit = u32::try_from(reference.as_nanos() >> 32).unwrap();
    assert!(now.now == unit || now.now + 1 == unit, "{} is not {unit}", now.now);
    assert_eq!(now.udp_idle, UDP_IDLE);
}

proptest! {
    #[test]
    fn only_what_has_ended_is_forgotten(raw: u64, now: u32, udp_idle in 1_u32..3353) {
        let (entry, rule) = (FlowEntry(raw), Liveness { now, udp_idle });
        prop_assert!(!(rule.is_live(entry) && rule.is_to_be_forgotten(entry)));
        // Nothing but the time since the last use matters.
        let later = Liveness { now: now.wrapping_add(77), udp_idle };
        let touched = entry.touched(entry.time().wrapping_add(77), entry.state()).stray(entry.is_stray());
        prop_assert_eq!(rule.is_live(entry), later.is_live(touched));
    }
}
