//! What each packet gets, case by case: on the host, in the kernel, and as expected, byte for byte.

use std::collections::BTreeSet;

use lb_common::verdict::Verdict;
use netns_tests::packet::{Case, check::check, decap};

mod packet_path {
    pub(crate) mod arrivals;
    pub(crate) mod bystanders;
    pub(crate) mod faults;
    pub(crate) mod flows;
    pub(crate) mod icmp;
    pub(crate) mod room;
    pub(crate) mod site;
    pub(crate) mod steering;
}

use packet_path::{arrivals, bystanders, faults, flows, icmp, room, steering};

/// Both the program with every feature and the plain one must do this.
fn check_both(cases: &[Case]) {
    check(cases);
    let plain: Vec<Case> = cases.iter().map(|case| case.clone().with_features(0)).collect();
    check(&plain);
}

#[test]
fn packets_to_vips_are_steered_and_wrapped() {
    check_both(&steering::cases());
}

#[test]
fn flows_are_remembered_and_counted() {
    check_both(&flows::cases());
}

#[test]
fn full_buckets_make_room_in_order() {
    check_both(&room::cases());
}

#[test]
fn echo_requests_to_vips_are_answered() {
    check_both(&icmp::cases());
}

#[test]
fn what_is_not_for_a_vip_passes_untouched() {
    check_both(&bystanders::cases());
}

#[test]
fn what_is_broken_gets_its_own_verdict() {
    check_both(&faults::cases());
}

#[test]
fn backends_unwrap_what_is_for_them() {
    decap::check(&arrivals::tunnel_addresses(), &arrivals::cases());
}

/// All cases.
fn all() -> Vec<Case> {
    [steering::cases(), flows::cases(), room::cases(), icmp::cases(), bystanders::cases(), faults::cases()].concat()
}

/// Verdicts that no packet can bring about, with the reason. None so far.
const BEYOND_PACKETS: [(Verdict, &str); 0] = [];

#[test]
fn every_verdict_is_expected_by_a_case() {
    let expected: BTreeSet<Verdict> = all().iter().flat_map(|case| case.verdicts().collect::<Vec<_>>()).collect();
    for (verdict, reason) in BEYOND_PACKETS {
        assert!(!expected.contains(&verdict), "{} has a case, though {reason}", verdict.label());
    }
    let beyond = |verdict: &Verdict| BEYOND_PACKETS.iter().any(|(one, _)| one == verdict);
    let missing = Verdict::ALL.iter().filter(|verdict| !expected.contains(verdict) && !beyond(verdict));
    let missing: Vec<&str> = missing.map(|verdict| verdict.label()).collect();
    assert_eq!(missing, [""; 0], "add a case");
}

#[test]
fn names_of_cases_differ() {
    let all = all();
    let names: Vec<&str> = all.iter().map(Case::name).collect();
    let different: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(different.len(), names.len());
}
