use std::collections::BTreeSet;

use proptest::prelude::*;

use self::world::{World, member, rule};
use super::*;

mod world;

/// Durations of the ejections of an event list, in seconds.
fn lasting(events: &[Event]) -> Vec<u64> {
    let lasts = |event: &Event| match event {
        Event::Began { lasts, .. } => Some(lasts.as_secs()),
        Event::Ended { .. } => None,
    };
    events.iter().filter_map(lasts).collect()
}

#[test]
fn a_backend_that_dies_is_ejected_within_a_second_at_a_thousand_new_flows_per_second() {
    for backends in 2..=8 {
        for (seed, round_trip) in (0..20).zip([1, 20, 50, 100].into_iter().cycle()) {
            let mut world = World::new(seed, backends, Passive { max_ejected: 50, ..rule() });
            world.share_out(1_000);
            world.backends.iter_mut().for_each(|one| one.round_trip = Duration::from_millis(round_trip));
            let before = world.run(Duration::from_millis(12_000 + seed * 17));
            assert_eq!(before, [], "seed {seed}: all were healthy");
            world.backends[0].success = 0.0;
            let died = world.now;
            let found = world.until(Duration::from_secs(3), |event| matches!(event, Event::Began { .. }));
            assert!(matches!(found, Some(Event::Began { member: found, .. }) if found == member(0)), "{found:?}");
            let took = world.now - died;
            // What remains is for the tables to be written, some tens of milliseconds.
            assert!(took <= Duration::from_millis(900), "seed {seed}, {backends} backends: took {took:?}");
        }
    }
}

#[test]
fn one_that_lets_few_through_is_found_over_the_window() {
    let mut world = World::new(7, 4, rule());
    world.share_out(200);
    world.run(Duration::from_secs(20));
    world.backends[2].success = 0.25;
    let found = world.until(Duration::from_secs(11), |event| matches!(event, Event::Began { .. }));
    assert!(matches!(found, Some(Event::Began { member: found, .. }) if found == member(2)), "{found:?}");
}

#[test]
fn ejections_last_longer_each_time_and_begin_anew_after_a_quiet_time() {
    let mut world = World::new(1, 4, rule());
    world.share_out(400);
    world.backends[3].success = 0.0;
    let events = world.run(Duration::from_secs(1_300));
    assert_eq!(lasting(&events)[..6], [30, 60, 120, 240, 480, 480], "{events:?}");
    // Back in service, and well: for less than the quiet time, then for more.
    world
        .until(Duration::from_secs(500), |event| matches!(event, Event::Ended { .. }))
        .expect("the end of the last one");
    for (quiet, next) in [(290, 480), (310, 30)] {
        world.backends[3].success = 1.0;
        assert_eq!(world.run(Duration::from_secs(quiet)), []);
        world.backends[3].success = 0.0;
        assert_eq!(lasting(&world.run(Duration::from_secs(5))), [next], "after {quiet} s");
        world.until(Duration::from_secs(500), |event| matches!(event, Event::Ended { .. })).expect("its end");
    }
}

#[test]
fn what_befalls_all_is_nobodys_fault() {
    for success in [0.0, 0.05, 0.3, 0.6] {
        let mut world = World::new(11, 5, Passive { max_ejected: 100, ..rule() });
        world.share_out(2_000);
        world.run(Duration::from_secs(5));
        world.backends.iter_mut().for_each(|one| one.success = success);
        assert_eq!(world.run(Duration::from_mins(1)), [], "success {success}");
    }
}

#[test]
fn in_the_midst_of_a_flood_a_dead_backend_is_found_all_the_same() {
    let mut world = World::new(12, 5, rule());
    world.share_out(3_000);
    world.backends.iter_mut().for_each(|one| one.success = 0.3);
    world.run(Duration::from_secs(20));
    world.backends[1].success = 0.0;
    let found = world.until(Duration::from_secs(2), |event| matches!(event, Event::Began { .. }));
    assert!(matches!(found, Some(Event::Began { member: found, .. }) if found == member(1)), "{found:?}");
}

#[test]
fn one_that_is_flooded_alone_does_not_hide_a_dead_one() {
    let mut world = World::new(13, 6, Passive { max_ejected: 34, ..rule() });
    world.share_out(600);
    world.backends[0].rate = 50_000.0;
    world.backends[0].success = 0.01;
    world.backends[1].success = 0.0;
    let events = world.run(Duration::from_secs(10));
    let found = events.iter().any(|event| matches!(event, Event::Began { member: found, .. } if *found == member(1)));
    // The flooded one looks the same from here: that is what `max_ejected` is for.
    assert_eq!(lasting(&events).len(), 2, "{events:?}");
    assert!(found, "{events:?}");
}

#[test]
fn the_last_one_and_a_share_of_none_stay() {
    for (backends, max_ejected, most) in [(1, 100, 0), (2, 30, 0), (3, 33, 0), (3, 34, 1), (2, 50, 1), (4, 100, 3)] {
        let mut world = World::new(3, backends, Passive { max_ejected, ..rule() });
        world.share_out(1_000);
        world.run(Duration::from_secs(2));
        // One after the other, as all at once would be nobody's fault.
        for index in 0..backends {
            world.backends[index].success = 0.0;
            world.run(Duration::from_secs(3));
        }
        assert_eq!(world.observer.ejections().len(), most, "{backends} backends, {max_ejected} %");
    }
}

#[test]
fn those_that_are_down_by_their_checks_count() {
    let mut world = World::new(5, 4, Passive { max_ejected: 50, ..rule() });
    world.share_out(1_000);
    world.down = [member(0), member(1)].into();
    world.run(Duration::from_secs(2));
    world.backends[2].success = 0.0;
    assert_eq!(world.run(Duration::from_secs(5)), [], "two of four are out already");
    world.down = [member(0)].into();
    assert_eq!(lasting(&world.run(Duration::from_secs(5))).len(), 1);
    // An ejection stays when checks take others down, but none is added.
    world.down = [member(0), member(1)].into();
    assert_eq!(world.run(Duration::from_secs(5)), []);
    assert_eq!(world.observer.ejections().keys().copied().collect::<Vec<_>>(), [member(2)]);
}

#[test]
fn a_group_that_shrinks_takes_back_the_newest() {
    let mut world = World::new(6, 6, Passive { max_ejected: 34, ..rule() });
    world.share_out(1_200);
    world.run(Duration::from_secs(2));
    for index in [4, 1] {
        world.backends[index].success = 0.0;
        world.run(Duration::from_secs(3));
    }
    assert_eq!(world.observer.ejections().len(), 2);
    let mut groups = world.groups();
    for group in groups.values_mut() {
        group.members.retain(|one| ![member(0), member(5)].contains(one));
    }
    world.observer.set(&groups);
    let events = world.run(Duration::from_millis(200));
    assert_eq!(events, [Event::Ended { member: member(1) }]);
    assert_eq!(world.observer.ejections().keys().copied().collect::<Vec<_>>(), [member(4)]);
    world.observer.set(&Groups::new());
    assert!(world.observer.is_idle() && world.observer.ejections().is_empty());
}

#[test]
fn the_reason_tells_figures_and_the_time_of_day() {
    let mut world = World::new(8, 4, rule());
    world.share_out(1_000);
    world.backends[0].success = 0.0;
    let found = world.until(Duration::from_secs(5), |event| matches!(event, Event::Began { .. }));
    let Some(Event::Began { lasts, number, reason, .. }) = found else { panic!("{found:?}") };
    assert_eq!((lasts, number), (Duration::from_secs(30), 1));
    assert!(
        reason.starts_with("ejected: 0 of ") && reason.contains(" handshakes completed, until 00:00:3"),
        "{reason}"
    );
    assert_eq!(world.observer.ejections()[&member(0)].reason, reason);
    assert_eq!(time_of_day(UNIX_EPOCH + Duration::from_secs(86_400 * 3 + 43_390)), "12:03:10 UTC");
}

#[test]
fn spans_grow_and_end_with_the_whole_window() {
    let found: Vec<usize> = spans(3, 84).collect();
    assert_eq!(found, [4, 5, 6, 7, 8, 9, 11, 13, 16, 20, 25, 32, 41, 53, 69, 83]);
    assert_eq!(spans(3, 5).collect::<Vec<_>>(), [4]);
    assert_eq!(spans(3, 4).collect::<Vec<_>>(), [0; 0]);
    assert_eq!(spans(1, 0).collect::<Vec<_>>(), [0; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn healthy_backends_stay_whatever_the_rates_and_round_trips_and_bursts(
        seed: u64,
        traffic in prop::collection::vec((1_u32..2_000, 0_u64..370, 0_u64..3_000, 0_u64..3_000), 2..6),
    ) {
        let mut world = World::new(seed, traffic.len(), Passive { max_ejected: 100, ..rule() });
        for (one, (rate, round_trip, on, off)) in world.backends.iter_mut().zip(traffic) {
            one.rate = f64::from(rate);
            one.round_trip = Duration::from_millis(round_trip);
            one.pause = (Duration::from_millis(on), Duration::from_millis(off));
        }
        prop_assert_eq!(world.run(Duration::from_secs(20)), []);
    }

    #[test]
    fn never_more_are_ejected_than_may_be(
        max_ejected in 0_u8..=100,
        steps in prop::collection::vec(
            (1_u64..2_000, prop::collection::vec((0_u32..3, 0_u64..300, 0_u64..300), 8), 0_u16..256, 0_u16..256, 0_u8..8),
            1..200,
        ),
    ) {
        let rule = Passive { max_ejected, eject_for: Duration::from_secs(2), ..rule() };
        let mut observer = Observer::default();
        let mut sums = [(0_u64, 0_u64); 8];
        let mut now = Instant::now();
        let all: Vec<Member> = (0..8).map(member).collect();
        let some = |mask: u16| -> BTreeSet<Member> {
            (0..).zip(&all).filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, member)| *member).collect()
        };
        let mut members = some(255);
        for (pass, counts, down, kept, change) in steps {
            now += Duration::from_millis(pass);
            if change == 0 {
                members = some(kept);
            }
            let group = Group { rule, members: members.clone() };
            observer.set(&[((member(0).service, "web".into()), group)].into());
            let mut counted = BTreeMap::new();
            for ((member, (kind, syns, handshakes)), sum) in all.iter().zip(counts).zip(&mut sums) {
                // Some fall, or are another target's.
                *sum = if kind == 2 && syns < 9 { (syns, handshakes) } else { (sum.0 + syns, sum.1 + handshakes / 3) };
                if kind != 1 || syns > 9 {
                    counted.insert(*member, Counted { target: u32::from(change == 1), syns: sum.0, handshakes: sum.1 });
                }
            }
            let down = some(down & kept);
            let before: BTreeSet<Member> = observer.ejections().into_keys().collect();
            let events = observer.sample(&counted, |member| down.contains(member), now, UNIX_EPOCH);
            let ejected: BTreeSet<Member> = observer.ejections().into_keys().collect();
            let most = members.len() * usize::from(max_ejected) / 100;
            prop_assert!(ejected.len() <= most, "{} of {} ejected", ejected.len(), members.len());
            prop_assert!(ejected.is_subset(&members));
            if !ejected.is_subset(&before) {
                let out = members.iter().filter(|one| ejected.contains(one) || down.contains(one)).count();
                prop_assert!(out <= most, "{out} of {} out of service", members.len());
            }
            for event in events {
                match event {
                    Event::Began { member, .. } => prop_assert!(ejected.contains(&member) && !down.contains(&member)),
                    Event::Ended { member } => prop_assert!(before.contains(&member)),
                }
            }
        }
    }
}
