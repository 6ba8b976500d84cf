use std::time::Duration;

use super::*;
use crate::{
    health::agent::Said,
    model::{Ask, Check},
};

fn health(matching: Matching, names: &[&str]) -> Health {
    let check = |name: &&str| Check { name: (*name).into(), ..Check::of(Ask::Tcp) };
    Health { checks: names.iter().map(check).collect(), matching, ..Health::default() }
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
        let decision =
            judge.decide(&health, Evidence { checks: results(checks), ejected, ..Evidence::default() }, now, wall);
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

/// A judge with damping, and a clock in seconds.
struct Bench {
    health: Health,
    judge: Judge,
    start: Instant,
}

impl Bench {
    fn new(flaps: u32, within: u64, hold_for: u64) -> Self {
        let [within, hold_for] = [within, hold_for].map(Duration::from_secs);
        let health = Health { damping: Some(Damping { flaps, within, hold_for }), ..health(Matching::All, &["a"]) };
        Self { health, judge: Judge::default(), start: Instant::now() }
    }

    /// What is decided then: up or down, and the deadline in seconds.
    fn at(&mut self, seconds: u64, checks: &str) -> (bool, Option<u64>) {
        let now = self.start + Duration::from_secs(seconds);
        let evidence = Evidence { checks: results(checks), ..Evidence::default() };
        self.judge.decide(&self.health, evidence, now, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let deadline = self.judge.deadline().map(|at| (at - self.start).as_secs());
        (self.judge.standing().unwrap().up, deadline)
    }
}

#[test]
fn a_backend_that_goes_down_too_often_is_held_down() {
    let mut bench = Bench::new(3, 60, 100);
    assert_eq!(bench.at(0, "a-"), (false, None), "nothing was known: that is no fall");
    for (seconds, checks, expected) in [
        (1, "a+", (true, None)),
        (2, "a-", (false, None)),
        (3, "a+", (true, None)),
        (10, "a-", (false, None)),
        (11, "a+", (true, None)),
        (62, "a-", (false, Some(162))),
        (63, "a+", (false, Some(162))),
        (70, "a-", (false, Some(162))),
        (71, "a+", (false, Some(162))),
        (161, "a+", (false, Some(162))),
        (162, "a+", (true, None)),
        // Those at 10 and 62 do not count any more.
        (163, "a-", (false, None)),
        (164, "a+", (true, None)),
        (165, "a-", (false, None)),
        (166, "a+", (true, None)),
        (223, "a-", (false, Some(323))),
    ] {
        assert_eq!(bench.at(seconds, checks), expected, "at {seconds} s");
    }
    let reason = "went down 3 times within 60s, held down until 1970-01-01T00:05:23Z";
    assert_eq!(bench.judge.standing().unwrap().reason, reason);
    bench.health.damping = None;
    assert_eq!(bench.at(224, "a+"), (true, None), "a file without damping ends what it brought about");
}

#[test]
fn a_hold_that_is_over_before_its_falls_are_is_followed_by_another() {
    let mut bench = Bench::new(2, 60, 10);
    for (seconds, checks, expected) in [
        (0, "a+", (true, None)),
        (1, "a-", (false, None)),
        (2, "a+", (true, None)),
        (3, "a-", (false, Some(13))),
        (13, "a-", (false, None)),
        (14, "a+", (true, None)),
        (15, "a-", (false, Some(25))),
    ] {
        assert_eq!(bench.at(seconds, checks), expected, "at {seconds} s");
    }
}

#[test]
fn an_ejection_is_no_fall_and_hides_a_hold_that_lasts_longer() {
    let mut bench = Bench::new(2, 60, 10);
    bench.at(0, "a+");
    bench.at(1, "a-");
    bench.at(2, "a+");
    let start = bench.start;
    let ejected = Ejected { until: start + Duration::from_secs(5), reason: "no handshake".into() };
    let ejected_at = |bench: &mut Bench, seconds, checks: &str| {
        let now = start + Duration::from_secs(seconds);
        let evidence = Evidence { checks: results(checks), ejected: Some(&ejected), ..Evidence::default() };
        bench.judge.decide(&bench.health, evidence, now, SystemTime::UNIX_EPOCH);
        bench.judge.standing().unwrap().reason.clone()
    };
    assert_eq!(ejected_at(&mut bench, 3, "a+"), "no handshake");
    assert_eq!(bench.at(4, "a+"), (true, None));
    assert_eq!(bench.at(4, "a-"), (false, Some(14)));
    assert_eq!(ejected_at(&mut bench, 4, "a-"), "no handshake");
    assert_eq!(bench.judge.deadline(), Some(ejected.until));
    assert!(ejected_at(&mut bench, 5, "a+").starts_with("went down 2 times within 60s"));
    assert_eq!(bench.at(14, "a+"), (true, None));
}

#[test]
fn remembers_its_last_transitions_over_times_of_which_nothing_is_known() {
    let mut bench = Bench::new(100, 60, 10);
    for seconds in 0..25 {
        bench.at(seconds, if seconds % 2 == 0 { "a+" } else { "a-" });
        bench.at(seconds, if seconds % 2 == 0 { "a+" } else { "a-" });
    }
    let now = bench.start + Duration::from_secs(25);
    bench.judge.decide(&bench.health, Evidence::default(), now, SystemTime::UNIX_EPOCH);
    assert_eq!(bench.judge.standing(), None);
    bench.at(26, "a-");
    let transitions = &bench.judge.standing().unwrap().transitions;
    let told = |record: &Record| (record.at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), record.up);
    let expected: Vec<(u64, bool)> = (6..25).map(|at| (at, at % 2 == 0)).chain([(26, false)]).collect();
    assert_eq!(transitions.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(transitions.iter().next_back().unwrap().text, "fails");
}

/// An agent that said these lines.
fn heard(line: &str) -> Heard {
    let mut heard = Heard { status: Status { up: true, ..Status::default() }, ..Heard::default() };
    line.split(';').for_each(|line| heard.word.take(&Said::read(line.as_bytes()).unwrap()));
    heard
}

#[test]
fn an_agent_takes_down_what_passes_and_its_up_takes_up_only_what_it_took_down() {
    let health = Health { agent: Some(Check::of_agent(9, None)), ..health(Matching::Any, &["a", "b"]) };
    let mut judge = Judge::default();
    let mut told = |checks: &str, agent: Option<Heard>| {
        let evidence = Evidence { checks: results(checks), agent, ejected: None };
        let decision = judge.decide(&health, evidence, Instant::now(), SystemTime::UNIX_EPOCH);
        let standing = judge.standing().map(|one| (one.up, one.permille, one.reason.clone(), one.advice()));
        (standing, decision.visible)
    };
    let is = |up, permille, reason: &str, advice: Option<&str>| {
        Some((up, permille, reason.to_owned(), advice.map(str::to_owned)))
    };
    assert_eq!(told("a+", None), (None, false), "the first that it says may be that nothing should come");
    assert_eq!(told("a- b-", None), (is(false, 1000, "a: fails", None), true), "which makes no difference here");
    assert_eq!(told("a+", Some(heard("ready"))), (is(true, 1000, "a: passes", None), true));
    assert_eq!(told("a+", Some(heard("75%"))), (is(true, 750, "a: passes", Some("agent: 75%")), true));
    assert_eq!(told("a+", Some(heard("75%"))), (is(true, 750, "a: passes", Some("agent: 75%")), false));
    assert_eq!(told("a+", Some(heard("0%"))), (is(true, 0, "a: passes", Some("agent: 0%")), true));
    assert_eq!(told("a+", Some(heard("drain"))), (is(true, 0, "a: passes", Some("agent: drain")), true));
    let down = "agent: down (#no disk)";
    assert_eq!(told("a+ b+", Some(heard("down #no disk"))), (is(false, 1000, down, Some(down)), true));
    assert_eq!(told("a- b-", Some(heard("down;up"))), (is(false, 1000, "a: fails", None), true));
    assert_eq!(told("a+", Some(heard("maint"))), (is(false, 0, "agent: maint", Some("agent: maint")), true));
    assert_eq!(told("a+", None), (is(true, 1000, "a: passes", None), true), "it is asked no more, or anew");
}

#[test]
fn an_agent_alone_decides_and_is_damped_but_for_maintenance() {
    let mut bench = Bench::new(2, 60, 10);
    (bench.health.checks, bench.health.agent) = (Vec::new(), Some(Check::of_agent(9, None)));
    let mut at = |seconds, line: &str| {
        let now = bench.start + Duration::from_secs(seconds);
        let evidence = Evidence { agent: Some(heard(line)), ..Evidence::default() };
        bench.judge.decide(&bench.health, evidence, now, SystemTime::UNIX_EPOCH);
        bench.judge.standing().map(|one| (one.up, one.reason.clone())).unwrap()
    };
    assert_eq!(at(0, "up"), (true, "nothing is checked".into()));
    for seconds in [1, 3, 5] {
        assert_eq!(at(seconds, "maint"), (false, "agent: maint".into()), "a rolling restart is no flapping");
        assert!(at(seconds + 1, "ready").0);
    }
    assert_eq!(at(7, "failed"), (false, "agent: failed".into()));
    assert!(at(8, "up").0);
    let (up, reason) = at(9, "down");
    assert!(!up && reason.starts_with("went down 2 times within 60s"), "{reason}");
    assert_eq!(at(10, "maint"), (false, "agent: maint".into()));
    assert!(!at(18, "up").0 && at(19, "up").0, "held until then");
}
