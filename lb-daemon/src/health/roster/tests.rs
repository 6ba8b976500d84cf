mod carried;

use super::*;
use crate::{
    health::Ejected,
    model::{Ask, Http, Protocol, Service},
};

fn id(vip: &str, port: u16, backend: &str) -> Member {
    let service = Service::of(vip.parse().unwrap(), port, Protocol::Tcp);
    Member { service, backend: backend.parse().unwrap() }
}

fn tcp(port: Option<u16>) -> Check {
    let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
    Check { name: "one".into(), ask: Ask::Tcp, route: Route::Direct, port, interval, timeout, rise: 2, fall: 3 }
}

fn http(host: Option<&str>) -> Check {
    let http = Http { host: host.map(Into::into), ..Http::default() };
    Check { ask: Ask::Http(http), ..tcp(Some(8080)) }
}

fn outcome(result: Verdict) -> Outcome {
    Outcome { result, latency: Duration::from_millis(3), text: format!("{result:?}") }
}

/// A roster with a clock that the test turns.
struct Bench {
    roster: Roster,
    now: Instant,
    wall: SystemTime,
}

impl Bench {
    fn new(checks: &[(Member, Check)]) -> Self {
        let mut bench = Self { roster: Roster::new(7), now: Instant::now(), wall: SystemTime::UNIX_EPOCH };
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
        while let Some((number, probe, _)) = self.roster.start_next(self.now) {
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
    let (number, ..) = bench.roster.start_next(bench.now).unwrap();
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
        let (number, ..) = bench.roster.start_next(bench.now).unwrap();
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
        assert!(bench.roster.start_next(next).is_some());
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
