//! What each packet gets, case by case: on the host, in the kernel, and as expected, byte for byte.

use std::collections::BTreeSet;

use lb_common::{layout::counter::PathEvent, maps::feature, verdict::Verdict};
use netns_tests::packet::{Case, check::check, decap};

mod packet_path {
    pub(crate) mod access;
    pub(crate) mod adaptive;
    pub(crate) mod arrivals;
    pub(crate) mod backends;
    pub(crate) mod bystanders;
    pub(crate) mod errors;
    pub(crate) mod extensions;
    pub(crate) mod faults;
    pub(crate) mod flows;
    pub(crate) mod fragments;
    pub(crate) mod hashing;
    pub(crate) mod icmp;
    pub(crate) mod jumbo;
    pub(crate) mod limits;
    pub(crate) mod prefixes;
    pub(crate) mod quic;
    pub(crate) mod room;
    pub(crate) mod routes;
    pub(crate) mod server_ids;
    pub(crate) mod site;
    pub(crate) mod steering;
    pub(crate) mod too_big;
    pub(crate) mod tunnels;
    pub(crate) mod vlan;
    pub(crate) mod wrappings;
}

use packet_path::{
    access, adaptive, arrivals, backends, bystanders, errors, extensions, faults, flows, fragments, hashing, icmp,
    jumbo, limits, prefixes, quic, room, routes, server_ids, steering, too_big, tunnels, vlan, wrappings,
};

/// Both the program with every feature and the plain one, with VIPs of any port, must do this.
fn check_both(cases: &[Case]) {
    check(cases);
    let plain: Vec<Case> = cases.iter().map(|case| case.clone().with_features(feature::ANY_PORT)).collect();
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
fn an_adaptive_vip_remembers_flows_where_its_ring_changed() {
    check(&adaptive::cases());
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
fn echo_requests_are_answered_while_the_daemon_lives() {
    check(&icmp::silences());
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
fn tags_are_read_and_set_as_the_next_hop_wants_them() {
    check_both(&vlan::cases());
    check(&vlan::unwrapped());
}

#[test]
fn fragments_follow_their_first() {
    check_both(&fragments::cases());
}

#[test]
fn extension_headers_are_walked() {
    check_both(&extensions::cases());
}

#[test]
fn errors_go_to_the_backend_of_their_flow() {
    check_both(&errors::cases());
}

#[test]
fn senders_are_told_what_fits() {
    check_both(&too_big::cases());
}

#[test]
fn prefixes_are_served_and_unknown_ports_dropped() {
    check(&prefixes::cases());
}

#[test]
fn the_ring_goes_by_what_the_vip_says() {
    check(&hashing::cases());
}

#[test]
fn packets_are_wrapped_in_every_way() {
    check(&wrappings::cases());
}

#[test]
fn server_ids_of_tcp_and_udp_name_the_backend() {
    check(&server_ids::cases());
}

#[test]
fn connection_ids_name_the_backend() {
    check(&quic::cases());
}

#[test]
fn source_prefixes_choose_the_backends() {
    check(&routes::cases());
}

#[test]
fn access_lists_keep_sources_out() {
    check(&access::cases());
}

#[test]
fn limits_hold_and_touch_nothing_else() {
    check(&limits::cases());
}

#[test]
fn tunnels_of_other_lbs_are_steered_once_more() {
    check(&tunnels::cases());
}

#[test]
fn frames_in_several_buffers_are_balanced() {
    check(&jumbo::cases());
}

#[test]
fn backends_unwrap_what_is_for_them() {
    decap::check(&arrivals::backend(), &arrivals::cases());
}

#[test]
fn backends_unwrap_gue_behind_tags_too() {
    decap::check(&arrivals::backend(), &backends::cases());
}

#[test]
fn backends_drop_tunnel_packets_of_others() {
    decap::check(&backends::choosy(), &backends::from_others());
}

/// All cases.
fn all() -> Vec<Case> {
    [
        access::cases(),
        adaptive::cases(),
        bystanders::cases(),
        errors::cases(),
        extensions::cases(),
        faults::cases(),
        flows::cases(),
        fragments::cases(),
        hashing::cases(),
        icmp::cases(),
        icmp::silences(),
        jumbo::cases(),
        limits::cases(),
        prefixes::cases(),
        quic::cases(),
        room::cases(),
        routes::cases(),
        server_ids::cases(),
        steering::cases(),
        too_big::cases(),
        tunnels::cases(),
        vlan::cases(),
        vlan::unwrapped(),
        wrappings::cases(),
    ]
    .concat()
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
fn every_event_is_expected_by_a_case() {
    let expected: BTreeSet<PathEvent> = all().iter().flat_map(|case| case.events().collect::<Vec<_>>()).collect();
    let missing: Vec<&str> =
        PathEvent::ALL.iter().filter(|event| !expected.contains(event)).map(|event| event.name()).collect();
    assert_eq!(missing, [""; 0], "add a case");
}

#[test]
fn names_of_cases_differ() {
    let all = all();
    let names: Vec<&str> = all.iter().map(Case::name).collect();
    let twice: Vec<&&str> =
        names.iter().enumerate().filter(|(at, name)| names[..*at].contains(name)).map(|(_, name)| name).collect();
    assert_eq!(twice, [&""; 0]);
}
