//! Probes that cannot be made: what is known stays, and that they cannot is told.

use super::*;
use crate::health::Hindrance;

/// What is told of the checks, by VIP.
fn told(bench: &Bench) -> Vec<(u16, Duration, String)> {
    let hindered = bench.roster.hindered(bench.now);
    let told = |(id, Hindrance { since, why }): (&CheckId, &Hindrance)| {
        (id.member.service.port, since.duration_since(SystemTime::UNIX_EPOCH).unwrap(), why.clone())
    };
    hindered.iter().map(told).collect()
}

#[test]
fn what_was_found_holds_for_days_and_it_is_told_that_nobody_looks() {
    let [one, two] = [80, 443].map(|port| id("192.0.2.1", port, "10.0.0.1"));
    let mut bench = Bench::new(&[(one, http(None)), (two, http(None))]);
    bench.round(Verdict::Success);
    let heard = bench.status(one).unwrap().heard;
    let began = bench.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_millis(2300);
    for _ in 0..27 {
        bench.round(Verdict::Skipped);
        assert_eq!(told(&bench), [], "not within the first minute");
    }
    bench.round(Verdict::Skipped);
    let all = |why: &str| [80, 443].map(|port| (port, began, why.to_owned()));
    assert_eq!(told(&bench), all("Skipped"), "both checks of the probe");
    bench.round(Verdict::Impossible);
    assert_eq!(told(&bench), all("Impossible"), "the latest reason");
    bench.pass(Duration::from_hours(72));
    bench.round(Verdict::Skipped);
    let status = bench.status(one).unwrap();
    assert_eq!((status.up, status.heard, status.failures), (true, heard, 0));
    assert!(bench.standing(two).unwrap().up);
    // A result, even a bad one, ends it.
    bench.round(Verdict::Timeout);
    assert_eq!(told(&bench), []);
    bench.round(Verdict::Skipped);
    assert_eq!(told(&bench), [], "the time begins anew");
    // What is certain to last is told at once, and until a probe can be made.
    for (result, is_told) in [(Verdict::Impossible, true), (Verdict::Skipped, true), (Verdict::Success, false)] {
        bench.round(result);
        assert_eq!(!told(&bench).is_empty(), is_told, "{result:?}");
    }
}

#[test]
fn slow_checks_are_told_of_when_a_dead_backend_would_have_been_found() {
    let member = id("192.0.2.1", 80, "10.0.0.1");
    let slow = Check { interval: Duration::from_mins(2), fall: 3, ..tcp(None) };
    let mut bench = Bench::new(&[(member, slow)]);
    for minute in 0..9 {
        bench.round(Verdict::Skipped);
        assert_eq!(told(&bench).is_empty(), minute < 6, "{minute}");
        bench.pass(Duration::from_mins(1));
    }
    assert_eq!(bench.standing(member), None, "nothing was ever heard");
    // Who is not checked any more is not told of.
    bench.set(&[]);
    assert_eq!(told(&bench), []);
}
