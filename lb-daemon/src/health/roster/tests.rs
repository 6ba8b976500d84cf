use super::*;
use crate::{
    health::{Ejected, Record, Records, Status, probe::Verdict},
    model::{Ask, Http, Initial, Protocol, Service},
};

mod agents;
mod carried;
mod hindered;
mod pace;
mod simulation;

fn id(vip: &str, port: u16, backend: &str) -> Member {
    let service = Service::of(vip.parse().unwrap(), port, Protocol::Tcp);
    Member { service, backend: backend.parse().unwrap() }
}

fn tcp(port: Option<u16>) -> Check {
    Check { name: "one".into(), port, ..Check::of(Ask::Tcp) }
}

fn http(host: Option<&str>) -> Check {
    let http = Http { host: host.map(Into::into), ..Http::default() };
    Check { ask: Ask::Http(http), ..tcp(Some(8080)) }
}

fn outcome(result: Verdict) -> Outcome {
    Outcome { result, latency: Duration::from_millis(3), text: format!("{result:?}"), said: None }
}

/// A roster with a clock that the test turns.
struct Bench {
    roster: Roster,
    now: Instant,
    wall: SystemTime,
}

impl Bench {
    fn new(checks: &[(Member, Check)]) -> Self {
        let mut bench =
            Self { roster: Roster::new(BTreeMap::new(), 7), now: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        bench.set(checks);
        bench
    }

    fn set(&mut self, checks: &[(Member, Check)]) {
        let health = |check: &Check| Arc::new(Health { checks: vec![check.clone()], ..Health::default() });
        let checks = checks.iter().map(|(member, check)| (*member, health(check))).collect();
        self.roster.set(&checks, self.now, self.wall);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall += time;
    }

    /// Runs all probes that are due within the next interval; each ends at once. Returns what was asked.
    fn round(&mut self, result: Verdict) -> Vec<Arc<Probe>> {
        self.pass(Duration::from_millis(2300));
        let mut asked = Vec::new();
        let mut running = Vec::new();
        while let Some(Due { number, probe, .. }) = self.roster.start_next(self.now) {
            asked.push(probe);
            running.push(number);
        }
        for number in running {
            self.roster.on_outcome(number, outcome(result), self.now, self.wall);
        }
        asked
    }

    fn standing(&self, member: Member) -> Option<Standing> {
        self.roster.view().get(&member).cloned()
    }

    /// Of the only check.
    fn status(&self, member: Member) -> Option<Status> {
        self.standing(member)?.checks.get("one").cloned()
    }
}

#[test]
fn asks_the_vips_port_unless_the_check_names_one() {
    let (own, named) = (id("192.0.2.1", 80, "10.0.0.1"), id("2001:db8::1", 443, "10.0.0.2"));
    let mut bench = Bench::new(&[(own, tcp(None)), (named, http(None))]);
    let mut asked: Vec<Probe> = bench.round(Verdict::Success).iter().map(|probe| (**probe).clone()).collect();
    asked.sort();
    assert_eq!(
        asked.iter().map(|probe| probe.target.to_string()).collect::<Vec<_>>(),
        ["10.0.0.1:80", "10.0.0.2:8080"]
    );
    let Ask::Http(Http { host, .. }) = &asked[1].ask else { panic!("{asked:?}") };
    assert_eq!(host.as_deref(), Some("[2001:db8::1]"));
}

#[test]
fn checks_that_ask_the_same_share_a_probe_and_its_result() {
    let (one, two) = (id("192.0.2.1", 80, "10.0.0.1"), id("192.0.2.1", 443, "10.0.0.1"));
    let other_host = id("192.0.2.2", 80, "10.0.0.1");
    let mut bench = Bench::new(&[(one, http(None)), (two, http(None)), (other_host, http(None))]);
    assert_eq!(bench.round(Verdict::Success).len(), 2);
    assert_eq!(bench.status(one), bench.status(two));
    assert!(bench.status(one).unwrap().up);
    let mut apart = Bench::new(&[(one, tcp(None)), (two, tcp(None))]);
    assert_eq!(apart.round(Verdict::Success).len(), 2, "different ports");
}

#[test]
fn a_vip_that_changes_its_port_keeps_what_its_probes_know() {
    let mut bench = Bench::new(&[(id("192.0.2.1", 80, "10.0.0.1"), http(None))]);
    bench.round(Verdict::Success);
    let renamed = id("192.0.2.1", 443, "10.0.0.1");
    bench.set(&[(renamed, http(None))]);
    assert!(bench.status(renamed).is_some_and(|status| status.up && status.successes == 1));
}

#[test]
fn a_probe_that_goes_on_for_others_is_the_same_whatever_their_order() {
    let [one, two] = [80, 443].map(|port| id("192.0.2.1", port, "10.0.0.1"));
    // The first check leaves what the second one takes up, and the other way round.
    for (first, second) in [(81, 82), (82, 81)] {
        let mut bench = Bench::new(&[(one, tcp(Some(first)))]);
        bench.round(Verdict::Success);
        bench.set(&[(one, tcp(Some(second))), (two, tcp(Some(first)))]);
        assert_eq!(bench.status(two).unwrap().successes, 1);
    }
}

#[test]
fn a_new_probe_takes_over_what_any_of_its_checks_knows() {
    let [one, two] = [80, 443].map(|port| id("192.0.2.1", port, "10.0.0.1"));
    for (known, new) in [(one, two), (two, one)] {
        let mut bench = Bench::new(&[(known, tcp(Some(81)))]);
        bench.round(Verdict::Success);
        bench.set(&[(known, tcp(Some(82))), (new, tcp(Some(82)))]);
        assert!(bench.status(known).unwrap().up && bench.status(new).unwrap().up);
    }
}

#[test]
fn is_absent_from_the_view_until_the_first_result() {
    let check = id("192.0.2.1", 80, "10.0.0.1");
    let mut bench = Bench::new(&[(check, tcp(None))]);
    assert_eq!(bench.status(check), None);
    bench.round(Verdict::Timeout);
    let status = bench.status(check).unwrap();
    assert_eq!((status.up, status.last.as_str(), status.failures), (false, "Timeout", 1));
    assert_eq!((status.since, status.latency), (Some(bench.wall), Some(Duration::from_millis(3))));
}

#[test]
fn since_is_when_the_state_changed_not_when_it_was_last_confirmed() {
    let check = id("192.0.2.1", 80, "10.0.0.1");
    let mut bench = Bench::new(&[(check, tcp(None))]);
    bench.round(Verdict::Success);
    let up_since = bench.status(check).unwrap().since;
    bench.round(Verdict::Success);
    bench.round(Verdict::Failure);
    assert_eq!(bench.status(check).unwrap().since, up_since);
    bench.round(Verdict::Failure);
    bench.round(Verdict::Failure);
    assert_eq!(bench.status(check).unwrap().since, Some(bench.wall));
}

#[test]
fn a_check_that_stays_keeps_its_counts_and_its_deadline() {
    let (stays, goes) = (id("192.0.2.1", 80, "10.0.0.1"), id("192.0.2.1", 80, "10.0.0.2"));
    let mut bench = Bench::new(&[(stays, tcp(None)), (goes, tcp(None))]);
    bench.round(Verdict::Success);
    bench.round(Verdict::Failure);
    let before = bench.status(stays);
    bench.set(&[(stays, tcp(None)), (id("192.0.2.1", 80, "10.0.0.3"), tcp(None))]);
    assert_eq!(bench.status(stays), before);
    assert_eq!(bench.status(goes), None);
    bench.round(Verdict::Failure);
    bench.round(Verdict::Failure);
    assert!(!bench.status(stays).unwrap().up, "the failure before the reload counts");
}

#[test]
fn a_changed_check_keeps_its_state_and_counts_anew() {
    let check = id("192.0.2.1", 80, "10.0.0.1");
    let mut bench = Bench::new(&[(check, tcp(None))]);
    bench.round(Verdict::Success);
    bench.round(Verdict::Failure);
    bench.round(Verdict::Failure);
    bench.set(&[(check, tcp(Some(81)))]);
    let status = bench.status(check).unwrap();
    assert_eq!(
        (status.up, status.failures, status.since),
        (true, 0, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(2300)))
    );
    assert_eq!(bench.round(Verdict::Failure)[0].target.port(), 81);
    bench.round(Verdict::Failure);
    assert!(bench.status(check).unwrap().up);
    bench.round(Verdict::Failure);
    assert!(!bench.status(check).unwrap().up);
}

#[test]
fn the_result_of_a_check_removed_meanwhile_is_dropped() {
    let check = id("192.0.2.1", 80, "10.0.0.1");
    let mut bench = Bench::new(&[(check, tcp(None))]);
    bench.pass(Duration::from_secs(1));
    let Due { number, .. } = bench.roster.start_next(bench.now).unwrap();
    bench.set(&[]);
    bench.set(&[(check, tcp(None))]);
    let effect = bench.roster.on_outcome(number, outcome(Verdict::Success), bench.now, bench.wall);
    assert_eq!(effect, Effect::default());
    assert_eq!(bench.status(check), None, "not the new check's result");
    bench.set(&[]);
    assert_eq!(bench.roster.next_deadline(), None);
}

#[test]
fn only_changes_of_state_or_text_are_visible() {
    let check = id("192.0.2.1", 80, "10.0.0.1");
    let mut bench = Bench::new(&[(check, tcp(None))]);
    let mut visible = Vec::new();
    for result in
        [Verdict::Success, Verdict::Success, Verdict::Failure, Verdict::Failure, Verdict::Failure, Verdict::Skipped]
    {
        bench.pass(Duration::from_secs(3));
        let Due { number, .. } = bench.roster.start_next(bench.now).unwrap();
        visible.push(bench.roster.on_outcome(number, outcome(result), bench.now, bench.wall).visible);
    }
    assert_eq!(visible, [true, false, true, false, true, false]);
    assert_eq!(bench.standing(check).unwrap().reason, "Failure", "a skipped probe says nothing");
}

#[test]
fn probes_start_in_the_order_of_their_deadlines() {
    let checks: Vec<_> = (1..=50).map(|n| (id("192.0.2.1", 80, &format!("10.0.0.{n}")), tcp(None))).collect();
    let mut bench = Bench::new(&checks);
    assert_eq!(bench.roster.start_next(bench.now), None, "not before their time");
    let mut last = bench.now;
    for _ in 0..50 {
        let next = bench.roster.next_deadline().unwrap();
        assert!(next >= last);
        assert_eq!(bench.roster.start_next(next).unwrap().at, next);
        last = next;
    }
    assert_eq!(bench.roster.next_deadline(), None, "all on their way");
}

#[test]
fn an_ejection_ends_in_its_time_by_its_withdrawal_or_with_its_backend() {
    let (one, two) = (id("192.0.2.1", 80, "10.0.0.1"), id("192.0.2.1", 80, "10.0.0.2"));
    let mut bench = Bench::new(&[(one, tcp(None))]);
    bench.round(Verdict::Success);
    let until = bench.now + Duration::from_secs(5);
    let ejected = Ejected { until, reason: "no handshake".into() };
    let both = Arc::new(Ejections::from([(one, ejected.clone()), (two, ejected)]));
    let effect = bench.roster.eject(Arc::clone(&both), bench.now, bench.wall);
    assert!(effect.visible && effect.results.len() == 1);
    assert_eq!(bench.standing(one).unwrap().reason, "no handshake");
    assert_eq!(bench.roster.eject(Arc::clone(&both), bench.now, bench.wall), Effect::default(), "nothing new");
    bench.set(&[(one, tcp(None)), (two, tcp(None))]);
    assert_eq!(bench.standing(two).unwrap().reason, "no handshake", "it waited for its backend");
    bench.roster.eject(Arc::new(Ejections::from([(two, both[&two].clone())])), bench.now, bench.wall);
    assert!(bench.standing(one).unwrap().up);
    assert_eq!(bench.roster.next_session(), Some(until));
    bench.round(Verdict::Success);
    assert!(!bench.standing(two).unwrap().up);
    bench.pass(Duration::from_secs(5));
    let effect = bench.roster.hold_session(bench.now, bench.wall);
    assert_eq!(effect.results.iter().map(|judged| judged.member).collect::<Vec<_>>(), [two]);
    assert!(bench.standing(two).unwrap().up);
    assert_eq!(bench.roster.next_session(), None);
    bench.roster.eject(both, bench.now, bench.wall);
    assert!(bench.standing(one).unwrap().up, "its time is over");
    let until = bench.now + Duration::from_secs(5);
    let again = Ejections::from([(one, Ejected { until, reason: "again".into() })]);
    bench.roster.eject(again.into(), bench.now, bench.wall);
    assert_eq!(bench.roster.next_session(), Some(until));
    bench.set(&[]);
    assert_eq!(bench.roster.next_session(), None);
    bench.set(&[(one, tcp(None))]);
    assert!(!bench.standing(one).unwrap().up, "it is ejected still");
    let effect = bench.roster.eject(Arc::default(), bench.now, bench.wall);
    assert_eq!(effect.results, [Judged { member: one, standing: None, transition: None }], "nothing is known of it");
}

/// What a new roster makes of a check when this was kept of it, so long ago.
fn restarted(initial: Initial, age: Duration, kept: bool) -> (Bench, Member) {
    let member = id("192.0.2.1", 80, "10.0.0.1");
    let mut bench = Bench::new(&[]);
    bench.wall += Duration::from_hours(24);
    let heard = bench.wall - age;
    let since = bench.wall - Duration::from_hours(20);
    let of = CheckId { member, check: "one".into() };
    let kept = BTreeMap::from([(of, Kept { up: kept, last: "as before".into(), since, heard, word: None })]);
    bench.roster = Roster::new(kept, 7);
    bench.set(&[(member, Check { initial, ..tcp(None) })]);
    (bench, member)
}

#[test]
fn what_was_kept_holds_until_results_say_otherwise() {
    let (mut bench, member) = restarted(Initial::Last, Duration::from_mins(10), true);
    let standing = bench.standing(member).unwrap();
    assert_eq!((standing.up, standing.reason.as_str()), (true, "as before"));
    assert_eq!(standing.since, Some(bench.wall - Duration::from_hours(20)));
    let heard = |bench: &Bench| bench.status(member).unwrap().heard;
    assert_eq!(heard(&bench), Some(bench.wall - Duration::from_mins(10)), "it is not heard of again by being kept");
    bench.round(Verdict::Failure);
    bench.round(Verdict::Failure);
    assert!(bench.standing(member).unwrap().up && heard(&bench) == Some(bench.wall));
    bench.round(Verdict::Failure);
    assert!(!bench.standing(member).unwrap().up);
    let (mut bench, member) = restarted(Initial::Last, Duration::from_secs(5), false);
    bench.round(Verdict::Success);
    assert!(!bench.standing(member).unwrap().up);
    bench.round(Verdict::Success);
    assert!(bench.standing(member).unwrap().up);
}

#[test]
fn what_was_kept_too_long_ago_or_is_from_the_future_says_nothing() {
    let over = Duration::from_mins(10) + Duration::from_secs(1);
    let (mut bench, member) = restarted(Initial::Last, over, true);
    assert_eq!(bench.standing(member), None);
    bench.round(Verdict::Failure);
    assert!(!bench.standing(member).unwrap().up, "the first result alone decides");
    let (mut bench, member) = restarted(Initial::Last, Duration::ZERO, true);
    bench.set(&[]);
    bench.set(&[(member, tcp(None))]);
    assert_eq!(bench.standing(member), None, "a check that was removed meanwhile");
    let of = CheckId { member, check: "one".into() };
    let slow = Check { interval: Duration::from_mins(2), ..tcp(None) };
    for (heard, known) in [
        (bench.wall + over, false),
        (bench.wall + Duration::from_mins(9), true),
        (bench.wall - Duration::from_mins(20), false),
    ] {
        let kept = Kept { up: true, last: String::new(), since: heard, heard, word: None };
        bench.roster = Roster::new(BTreeMap::from([(of.clone(), kept.clone())]), 7);
        bench.set(&[(member, tcp(None))]);
        assert_eq!(bench.standing(member).is_some(), known);
        bench.roster = Roster::new(BTreeMap::from([(of.clone(), kept)]), 7);
        bench.set(&[(member, slow.clone())]);
        assert!(bench.standing(member).is_some(), "ten intervals are longer than ten minutes");
    }
}

#[test]
fn an_initial_state_of_its_own_holds_until_enough_results_and_at_a_restart_too() {
    for (initial, result, needed) in [(Initial::Down, Verdict::Success, 2), (Initial::Up, Verdict::Failure, 3)] {
        let (mut bench, member) = restarted(initial, Duration::ZERO, initial == Initial::Down);
        let begun = initial == Initial::Up;
        let standing = bench.standing(member).unwrap();
        assert_eq!(
            (standing.up, standing.reason.as_str(), standing.since),
            (begun, "not checked yet", Some(bench.wall))
        );
        assert_eq!(bench.status(member).unwrap().heard, None);
        for nth in 1..=needed {
            bench.round(result);
            assert_eq!(bench.standing(member).unwrap().up == begun, nth < needed, "{initial}, {nth}");
        }
        // A reload that changes the check does not begin anew.
        bench.set(&[(member, Check { initial, ..tcp(Some(81)) })]);
        assert_ne!(bench.standing(member).unwrap().up, begun);
    }
}

#[test]
fn a_check_remembers_its_transitions_over_a_reload() {
    let check = id("192.0.2.1", 80, "10.0.0.1");
    let mut bench = Bench::new(&[(check, tcp(None))]);
    for result in [Verdict::Success, Verdict::Failure, Verdict::Timeout, Verdict::Skipped, Verdict::Failure] {
        bench.round(result);
    }
    bench.set(&[(check, tcp(Some(81)))]);
    bench.round(Verdict::Success);
    bench.round(Verdict::Success);
    let records = |records: &Records| {
        let told = |record: &Record| (record.up, record.text.clone(), record.latency.is_some());
        records.iter().map(told).collect::<Vec<_>>()
    };
    let expected =
        [(true, "Success".to_owned(), true), (false, "Failure".into(), true), (true, "Success".into(), true)];
    assert_eq!(records(&bench.status(check).unwrap().transitions), expected);
    assert_eq!(records(&bench.standing(check).unwrap().transitions), expected);
}
