use proptest::prelude::*;

use super::*;
use crate::model::Ask;

fn pace(rise: u32, fall: u32) -> Pace {
    Pace { rise, fall, ..Pace::of(&Check::of(Ask::Tcp)) }
}

fn machine(rise: u32, fall: u32, initial: Option<bool>) -> Machine {
    Machine::new(pace(rise, fall), initial, 1, Instant::now())
}

/// Feeds results (`+` and `-`) and shows what the machine made of each: `u`p, `d`own.
fn feed(machine: &mut Machine, results: &str) -> String {
    let now = Instant::now();
    let state = |result| {
        machine.on_start(now);
        machine.on_result(result == '+', now);
        if machine.up() == Some(true) { 'u' } else { 'd' }
    };
    results.chars().map(state).collect()
}

#[test]
fn the_first_result_alone_decides() {
    assert_eq!(machine(3, 3, None).up(), None);
    assert_eq!(feed(&mut machine(3, 3, None), "+"), "u");
    assert_eq!(feed(&mut machine(3, 3, None), "-"), "d");
}

#[test]
fn only_consecutive_results_count() {
    assert_eq!(feed(&mut machine(2, 3, None), "+--+--+---"), "uuuuuuuuud");
    assert_eq!(feed(&mut machine(3, 2, None), "-++-++-+++"), "dddddddddu");
}

#[test]
fn rise_and_fall_of_one_follow_each_result() {
    assert_eq!(feed(&mut machine(1, 1, None), "+-+-"), "udud");
}

#[test]
fn a_state_taken_over_stays_until_new_results_say_otherwise() {
    assert_eq!(feed(&mut machine(2, 3, Some(true)), "---"), "uud");
    assert_eq!(feed(&mut machine(2, 3, Some(false)), "++"), "du");
}

#[test]
fn a_transition_says_whether_anything_was_known_before() {
    let mut machine = machine(1, 1, None);
    let now = Instant::now();
    assert_eq!(machine.on_result(true, now), Some(Transition { up: true, first: true }));
    assert_eq!(machine.on_result(true, now), None);
    assert_eq!(machine.on_result(false, now), Some(Transition { up: false, first: false }));
    assert_eq!((machine.successes(), machine.failures()), (0, 1));
}

#[test]
fn the_first_probe_starts_at_an_instant_of_its_own_within_the_time_given() {
    let now = Instant::now();
    let start = |seed: u64| {
        let mut machine = Machine::new(pace(2, 3), None, seed << 20, now);
        machine.start_within(now + Duration::from_secs(1), Duration::from_millis(100));
        (machine.next_deadline().unwrap() - now).as_millis()
    };
    let starts: Vec<u128> = (0..1000).map(start).collect();
    assert!(starts.iter().all(|start| (1000..=1100).contains(start)));
    for tenth in 0..10 {
        let hits = starts.iter().filter(|start| (1000 + 10 * tenth..1010 + 10 * tenth).contains(*start)).count();
        assert!((60..140).contains(&hits), "{hits} of 1000 starts in tenth {tenth}");
    }
}

#[test]
fn probes_follow_faster_until_the_first_result_and_while_the_state_may_change() {
    let fast = Pace { fast_interval: Some(Duration::from_millis(200)), ..pace(2, 3) };
    let is_fast = |up, results: &str| {
        let mut machine = Machine::new(fast, up, 3, Instant::now());
        for result in results.chars() {
            let start = machine.next_deadline().unwrap();
            machine.on_start(start);
            match result {
                '?' => machine.on_skip(start),
                _ => drop(machine.on_result(result == '+', start)),
            }
        }
        let gap = |machine: &mut Machine| {
            let start = machine.next_deadline().unwrap();
            machine.on_start(start);
            machine.on_skip(start);
            machine.next_deadline().unwrap() - start
        };
        // The first may be cut short, the second is of the length that the state asks for.
        gap(&mut machine);
        gap(&mut machine) <= Duration::from_millis(220)
    };
    for (up, results, expected) in [
        (None, "?", true),
        (Some(true), "?", true),
        (Some(false), "?", true),
        (None, "+", false),
        (None, "-", false),
        (None, "+-", true),
        (None, "+--", true),
        (None, "+--+", false),
        (None, "+---", false),
        (None, "+----", false),
        (None, "-+", true),
        (None, "-+?", true),
        (None, "-+-", false),
        (None, "-++", false),
        (Some(true), "-", true),
        (Some(true), "+", false),
    ] {
        assert_eq!(is_fast(up, results), expected, "{up:?} {results}");
    }
}

#[test]
fn the_first_interval_after_fast_ones_is_cut_short() {
    let now = Instant::now();
    let gap = |seed: u64| {
        let fast = Pace { fast_interval: Some(Duration::from_millis(200)), ..pace(2, 3) };
        let mut machine = Machine::new(fast, Some(true), seed << 20, now);
        feed(&mut machine, "++-+");
        let start = machine.next_deadline().unwrap();
        machine.on_start(start);
        machine.on_result(true, start);
        (start - now, machine.next_deadline().unwrap() - start)
    };
    let gaps: Vec<(Duration, Duration)> = (0..1000).map(gap).collect();
    let short = gaps.iter().filter(|(first, _)| *first < Duration::from_secs(1)).count();
    assert!((350..500).contains(&short), "{short} of 1000 in the first half");
    assert!(gaps.iter().all(|(_, second)| *second >= Duration::from_millis(1800)));
}

#[test]
fn the_interval_is_counted_from_start_to_start_and_varies_by_a_tenth() {
    let mut machine = machine(2, 3, None);
    feed(&mut machine, "+");
    let mut shortest = Duration::MAX;
    let mut longest = Duration::ZERO;
    for _ in 0..1000 {
        let start = machine.next_deadline().unwrap();
        machine.on_start(start);
        assert_eq!(machine.next_deadline(), None, "one probe at a time");
        machine.on_result(true, start + Duration::from_millis(700));
        let gap = machine.next_deadline().unwrap() - start;
        (shortest, longest) = (shortest.min(gap), longest.max(gap));
    }
    assert!((1800..1830).contains(&shortest.as_millis()), "{shortest:?}");
    assert!((2170..=2200).contains(&longest.as_millis()), "{longest:?}");
}

#[test]
fn the_first_interval_is_cut_short_so_that_checks_spread_over_the_whole() {
    let now = Instant::now();
    let gap = |seed: u64| {
        let mut machine = Machine::new(pace(2, 3), None, seed << 20, now);
        machine.on_start(now);
        machine.on_result(true, now);
        (machine.next_deadline().unwrap() - now).as_millis()
    };
    let gaps: Vec<u128> = (0..1000).map(gap).collect();
    assert!(gaps.iter().all(|gap| (200..=2000).contains(gap)));
    for quarter in 0..4 {
        let from = 200 + 450 * quarter;
        let hits = gaps.iter().filter(|gap| (from..from + 450).contains(*gap)).count();
        assert!((190..310).contains(&hits), "{hits} of 1000 in quarter {quarter}");
    }
}

#[test]
fn a_probe_that_outlasts_the_interval_is_followed_by_the_next_at_once() {
    let mut machine = machine(2, 3, None);
    let start = machine.next_deadline().unwrap();
    machine.on_start(start);
    let end = start + Duration::from_secs(10);
    machine.on_result(false, end);
    assert_eq!(machine.next_deadline(), Some(end));
}

#[test]
fn a_skipped_probe_changes_no_count_and_is_made_up_for_next_time() {
    let mut machine = machine(2, 2, None);
    feed(&mut machine, "+-");
    let start = machine.next_deadline().unwrap();
    machine.on_start(start);
    machine.on_skip(start);
    assert_eq!((machine.up(), machine.failures()), (Some(true), 1));
    assert!(machine.next_deadline().unwrap() > start);
    assert_eq!(feed(&mut machine, "-"), "d");
}

/// The same rules said in another way: look at all results since the beginning.
fn naive(rise: usize, fall: usize, initial: Option<bool>, results: &[bool]) -> Option<bool> {
    let mut up = initial;
    let mut since_change = 0;
    for end in 1..=results.len() {
        let Some(state) = up else {
            (up, since_change) = (Some(results[0]), 0);
            continue;
        };
        let limit = if state { fall } else { rise };
        let window = &results[since_change..end];
        if window.len() >= limit && window[window.len() - limit..].iter().all(|result| *result != state) {
            (up, since_change) = (Some(!state), end);
        }
    }
    up
}

proptest! {
    #[test]
    fn agrees_with_a_naive_model(
        rise in 1_u32..5,
        fall in 1_u32..5,
        initial in any::<Option<bool>>(),
        results in prop::collection::vec(any::<bool>(), 0..60),
    ) {
        let mut machine = machine(rise, fall, initial);
        let now = Instant::now();
        for (index, result) in results.iter().enumerate() {
            machine.on_start(now);
            machine.on_result(*result, now);
            prop_assert_eq!(machine.up(), naive(rise as usize, fall as usize, initial, &results[..=index]));
        }
    }

    #[test]
    fn never_changes_before_enough_results_in_a_row(
        rise in 2_u32..6,
        fall in 2_u32..6,
        results in prop::collection::vec(any::<bool>(), 1..200),
    ) {
        let mut machine = machine(rise, fall, Some(true));
        let now = Instant::now();
        for (index, result) in results.iter().enumerate() {
            let before = machine.up();
            let transition = machine.on_result(*result, now);
            prop_assert_eq!(transition.is_some(), before != machine.up());
            if let Some(Transition { up, first }) = transition {
                let limit = if up { rise } else { fall } as usize;
                prop_assert!(!first && index + 1 >= limit);
                prop_assert!(results[index + 1 - limit..=index].iter().all(|result| *result == up));
            }
        }
    }
}
