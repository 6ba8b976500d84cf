//! Steering and wrapping.

use lb_common::layout::counter::{PathEvent, TargetCounters};
use netns_tests::packet::{
    Case, Frame,
    case::INGRESS,
    frame::flags::{ACK, SYN},
    given::Given,
};

use super::site::{BACKEND, BACKEND_V6, CLIENT, WEB, datagram, datagram_v6, segment, segment_v6, site, site_with};

/// A SYN's case: a flow is created.
fn syn(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    created(Case::forwarded(name, given, frame, target), target).event(PathEvent::MissSyn)
}

fn created(case: Case, target: u32) -> Case {
    let syn = |counters: &mut TargetCounters| (counters.flows_created, counters.syns) = (1, 1);
    case.counts(target, syn)
}

fn first_datagram(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    let case = Case::forwarded(name, given, frame, target).event(PathEvent::MissUdp);
    case.counts(target, |counters| counters.flows_created = 1)
}

fn picked_up(name: &'static str, given: &Given, frame: &Frame, target: u32, class: u8) -> Case {
    let case = Case::forwarded_as(name, given, frame, target, class).event(PathEvent::MissTcp);
    case.counts(target, |counters| counters.flows_created = 1)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = families();
    cases.extend(headers());
    cases.extend(ways_out());
    cases.extend(ports());
    cases
}

fn families() -> Vec<Case> {
    let crossed = site_with(BACKEND_V6, BACKEND);
    vec![
        syn("IPv4 in IPv4, TCP", &site(), &segment(SYN), 1),
        syn("IPv6 in IPv6, TCP", &site(), &segment_v6(SYN), 2),
        syn("IPv4 in IPv6, TCP", &crossed, &segment(SYN), 1),
        syn("IPv6 in IPv4, TCP", &crossed, &segment_v6(SYN), 2),
        first_datagram("IPv4 in IPv4, UDP", &site(), &datagram(), 3),
        first_datagram("IPv6 in IPv6, UDP", &site(), &datagram_v6(), 4),
        first_datagram("IPv4 in IPv6, UDP", &crossed, &datagram(), 3),
        first_datagram("IPv6 in IPv4, UDP", &crossed, &datagram_v6(), 4),
    ]
}

fn headers() -> Vec<Case> {
    let crossed = site_with(BACKEND_V6, BACKEND);
    let with_options = |bytes: usize| segment(ACK).options(&vec![1; bytes]);
    vec![
        picked_up("DSCP and ECN in IPv4", &site(), &segment(ACK), 1, 0xb9),
        picked_up("DSCP and ECN in IPv6", &site(), &segment_v6(ACK), 2, 0xb9),
        picked_up("DSCP and ECN from IPv4 to IPv6", &crossed, &segment(ACK), 1, 0x2a),
        picked_up("DSCP and ECN from IPv6 to IPv4", &crossed, &segment_v6(ACK), 2, 0xff),
        picked_up("one word of IPv4 options", &site(), &with_options(4), 1, 0),
        picked_up("IPv4 options in IPv6", &crossed, &with_options(20), 1, 0),
        picked_up("ten words of IPv4 options", &site(), &with_options(40), 1, 0),
        picked_up("an inner time to live of 1", &site(), &segment(ACK).ttl(1), 1, 0),
        picked_up("no payload, and padding", &site(), &segment(ACK).payload(b"").padded(6), 1, 0),
        picked_up("much padding in IPv6", &site(), &segment_v6(ACK).padded(99), 2, 0),
        picked_up("a full frame", &site(), &segment(ACK).payload(&[0xa5; 1460]), 1, 0),
        picked_up("a jumbo frame", &site(), &segment_v6(ACK).payload(&[0x5a; 3400]), 2, 0),
        first_datagram("a datagram of nothing", &site(), &datagram().payload(b"").padded(18), 3),
        picked_up("payload of zeros", &site(), &segment(ACK).payload(&[0; 64]), 1, 0),
    ]
}

fn ways_out() -> Vec<Case> {
    // There need not be an interface 4000 for a test run.
    let by = |ifindex| site().target(1, |target| target.ifindex = ifindex);
    let to_other = segment(SYN).macs([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    vec![
        syn("out of another interface", &by(4000), &segment(SYN), 1).leaves_by(4000),
        syn("out of the interface it came in by", &by(INGRESS), &segment(SYN), 1),
        syn("the address that a frame came to is the one it leaves from", &site(), &to_other, 1),
    ]
}

fn ports() -> Vec<Case> {
    let both = site().vip("192.0.2.11:8443", lb_common::layout::vip::TCP, &["10.0.0.99"]);
    vec![
        syn("any port", &site(), &Frame::tcp(CLIENT, "192.0.2.11:22", SYN), 5),
        syn("any port, the last", &site(), &Frame::tcp(CLIENT, "192.0.2.11:65535", SYN), 5),
        syn("an exact port before any port", &both, &Frame::tcp(CLIENT, "192.0.2.11:8443", SYN), 6),
        syn("any port beside an exact one", &both, &Frame::tcp(CLIENT, "192.0.2.11:8444", SYN), 5),
        syn("source port 0", &site(), &Frame::tcp("198.51.100.7:0", WEB, SYN), 1),
    ]
}
