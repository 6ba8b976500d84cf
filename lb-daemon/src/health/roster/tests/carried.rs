//! Probes that are carried to their backends by ways that come and go.

use super::*;
use crate::{
    health::{Way, Ways},
    model::Route,
};

fn carried(port: Option<u16>) -> Check {
    Check { route: Route::Vip, ..tcp(port) }
}

fn way(number: u32) -> Way {
    Way::Carried { mark: 0x1b00_0000 | number, source: None }
}

fn ways(of: &[(Member, Way)]) -> Arc<Ways> {
    Arc::new(Ways { of: of.iter().copied().collect(), ..Ways::default() })
}

#[test]
fn a_probe_by_the_vip_waits_for_its_way_and_has_no_other_members_answer() {
    let (one, two) = (id("192.0.2.1", 80, "10.0.0.1"), id("192.0.2.2", 80, "10.0.0.1"));
    let mut bench = Bench::new(&[(one, carried(Some(8080))), (two, carried(Some(8080)))]);
    assert!(bench.round(Verdict::Success).is_empty());
    bench.roster.set_ways(ways(&[(one, way(7))]), bench.now);
    let asked = bench.round(Verdict::Success);
    let [probe] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((probe.target.to_string().as_str(), probe.carried_to), ("192.0.2.1:8080", Some(one)));
    assert!(bench.standing(one).unwrap().up && bench.standing(two).is_none());
    // Now the other one too; the first goes on as before.
    bench.roster.set_ways(ways(&[(one, way(7)), (two, way(8))]), bench.now);
    assert_eq!(bench.round(Verdict::Success).len(), 2);
    assert!(bench.standing(two).unwrap().up);
}

#[test]
fn an_answer_by_another_way_than_the_present_one_is_not_believed() {
    let member = id("192.0.2.1", 80, "10.0.0.1");
    let mut bench = Bench::new(&[(member, carried(None))]);
    bench.roster.set_ways(ways(&[(member, way(7))]), bench.now);
    bench.pass(Duration::from_millis(300));
    let Due { number, way: by, .. } = bench.roster.start_next(bench.now).unwrap();
    assert_eq!(by, Some(way(7)));
    bench.roster.set_ways(ways(&[(member, way(9))]), bench.now);
    let effect = bench.roster.on_outcome(number, outcome(Verdict::Success), bench.now, bench.wall);
    assert_eq!((effect, bench.standing(member)), (Effect::default(), None));
    // It is asked again soon, by the new way.
    bench.pass(Duration::from_millis(300));
    let Due { number, way: by, .. } = bench.roster.start_next(bench.now).unwrap();
    assert_eq!(by, Some(way(9)));
    bench.roster.on_outcome(number, outcome(Verdict::Success), bench.now, bench.wall);
    assert!(bench.standing(member).unwrap().up);
}

#[test]
fn of_what_cannot_be_asked_that_is_told_unless_more_is_known() {
    let (known, unknown) = (id("192.0.2.1", 80, "10.0.0.1"), id("192.0.2.1", 80, "10.0.0.2"));
    let mut bench = Bench::new(&[(known, tcp(None))]);
    bench.round(Verdict::Success);
    bench.set(&[(known, tcp(None)), (unknown, tcp(None))]);
    for _ in 0..5 {
        bench.round(Verdict::Impossible);
    }
    let (one, other) = (bench.status(known).unwrap(), bench.status(unknown).unwrap());
    assert_eq!((one.up, one.last.as_str()), (true, "Impossible"));
    assert_eq!((other.up, other.last.as_str(), other.heard), (false, "Impossible", None));
    assert!(bench.standing(known).is_some_and(|standing| !standing.is_unknown()));
    assert!(bench.standing(unknown).is_some_and(|standing| standing.is_unknown()));
    // The first answer decides then.
    bench.round(Verdict::Success);
    assert!(bench.standing(unknown).unwrap().up);
}

#[test]
fn a_prefix_is_asked_at_an_address_that_a_client_would_use() {
    let of = |net: &str| {
        let service = Service::of_prefix(net.parse().unwrap(), 80, Protocol::Tcp);
        key(Member { service, backend: "10.0.0.1".parse().unwrap() }, &carried(None)).probe.target.to_string()
    };
    assert_eq!(of("192.0.2.0/24"), "192.0.2.1:80");
    assert_eq!(of("192.0.2.4/31"), "192.0.2.4:80");
    assert_eq!(of("2001:db8::/64"), "[2001:db8::1]:80");
}
