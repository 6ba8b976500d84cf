use std::time::Duration;

use super::*;
use crate::model::{Ask, Check, Route};

fn health(matching: Matching, names: &[&str]) -> Health {
    let check = |name: &&str| Check {
        name: (*name).into(),
        ask: Ask::Tcp,
        route: Route::Direct,
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
    };
    Health { checks: names.iter().map(check).collect(), matching }
}

/// Statuses as a word has them: `a+ b-`; the text is `passes` or `fails`.
fn results(word: &str) -> BTreeMap<Arc<str>, Status> {
    let status = |one: &str| {
        let (name, sign) = one.split_at(1);
        let last = if sign == "+" { "passes" } else { "fails" };
        (name.into(), Status { up: sign == "+", last: last.into(), ..Status::default() })
    };
    word.split_whitespace().map(status).collect()
}

fn decide(judge: &mut Judge, health: &Health, known: &str) -> Decision {
    let evidence = Evidence { checks: results(known), ..Evidence::default() };
    judge.decide(health, evidence, Instant::now(), SystemTime::UNIX_EPOCH)
}

#[test]
fn all_or_any_of_the_checks_decide_and_the_unknown_may_not_matter() {
    for (known, all, any) in [
        ("", None, None),
        ("a+", None, Some((true, "a: passes"))),
        ("a-", Some((false, "a: fails")), None),
        ("a+ b+", Some((true, "a: passes")), Some((true, "a: passes"))),
        ("a+ b-", Some((false, "b: fails")), Some((true, "a: passes"))),
        ("a- b+", Some((false, "a: fails")), Some((true, "b: passes"))),
        ("a- b-", Some((false, "a: fails")), Some((false, "a: fails"))),
    ] {
        for (matching, wanted) in [(Matching::All, all), (Matching::Any, any)] {
            let mut judge = Judge::default();
            decide(&mut judge, &health(matching, &["a", "b"]), known);
            let found = judge.standing().map(|standing| (standing.up, standing.reason.as_str()));
            assert_eq!(found, wanted, "{known:?}, {matching}");
        }
    }
}

#[test]
fn one_check_needs_no_name_in_the_reason_and_none_is_up() {
    let mut judge = Judge::default();
    decide(&mut judge, &health(Matching::All, &["a"]), "a-");
    assert_eq!(judge.standing().unwrap().reason, "fails");
    let mut judge = Judge::default();
    decide(&mut judge, &health(Matching::Any, &[]), "");
    assert!(judge.standing().unwrap().up);
}

#[test]
fn tells_what_changed_and_since_when() {
    let health = health(Matching::All, &["a", "b"]);
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let mut judge = Judge::default();
    let mut decide = |known: &str, seconds| {
        let evidence = Evidence { checks: results(known), ..Evidence::default() };
        let decision = judge.decide(&health, evidence, Instant::now(), at(seconds));
        let since = judge.standing().and_then(|standing| standing.since);
        (decision.transition.map(|transition| (transition.up, transition.first)), decision.visible, since)
    };
    assert_eq!(decide("a+", 1), (None, false, None));
    assert_eq!(decide("a+ b+", 2), (Some((true, true)), true, Some(at(2))));
    assert_eq!(decide("a+ b+", 3), (None, false, Some(at(2))));
    assert_eq!(decide("a+ b-", 4), (Some((false, false)), true, Some(at(4))));
    assert_eq!(decide("a- b-", 5), (None, true, Some(at(4))), "another reason");
    assert_eq!(decide("b-", 6), (None, true, Some(at(4))));
    assert_eq!(decide("a+", 7), (None, true, None), "not known any more");
}

#[test]
fn an_ejected_backend_is_down_until_its_time_whatever_its_checks_say() {
    let health = health(Matching::All, &["a"]);
    let (start, mut judge) = (Instant::now(), Judge::default());
    let ejected = Ejected { until: start + Duration::from_secs(10), reason: "3 of 100 handshakes completed".into() };
    let mut after = |seconds, checks: &str, ejected| {
        let (now, wall) = (start + Duration::from_secs(seconds), SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let decision = judge.decide(&health, Evidence { checks: results(checks), ejected }, now, wall);
        let standing = judge.standing().map(|standing| (standing.up, standing.reason.clone()));
        (decision.transition.map(|transition| transition.up), standing, judge.deadline())
    };
    let is = |up, reason: &str| Some((up, reason.to_owned()));
    let why = "3 of 100 handshakes completed";
    assert_eq!(after(0, "", Some(&ejected)), (Some(false), is(false, why), Some(ejected.until)), "before any result");
    assert_eq!(after(1, "a+", Some(&ejected)), (None, is(false, why), Some(ejected.until)));
    assert_eq!(after(9, "a-", Some(&ejected)), (None, is(false, why), Some(ejected.until)));
    assert_eq!(after(10, "a+", Some(&ejected)), (Some(true), is(true, "passes"), None));
    assert_eq!(after(11, "a+", None), (None, is(true, "passes"), None));
}
