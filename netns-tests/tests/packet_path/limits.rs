//! Limits of new flows and of sources. Each test's limit allows one or two a second: as many at once, then no more for as
//! long as a test takes.

use lb_common::{
    layout::{
        counter::PathEvent::{MissSyn, MissTcp, MissUdp, NotRemembered},
        flow::FlowState::{Established, FirstDatagram, HalfOpen},
        vip::{TCP, UDP},
    },
    maps::feature,
    verdict::Verdict::{NewFlowLimit, SourceLimit},
};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, RST, SYN},
    given::{FEATURES, Given},
};

use super::site::{BACKEND, CLIENT, CLIENT_V6, WEB, WEB_V6};

const SECOND: u32 = 1_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const DNS: &str = "192.0.2.10:53";

/// VIPs of each family and protocol: targets 1 to 3.
fn site() -> Given {
    Given::nothing().vip(WEB, TCP, &[BACKEND]).vip(WEB_V6, TCP, &[BACKEND]).vip(DNS, UDP, &[BACKEND])
}

fn syn(port: u16) -> Frame {
    Frame::tcp(CLIENT, WEB, SYN).port(port)
}

fn opens(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    Case::forwarded(name, given, frame, target).opens(target)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = new_flows();
    cases.extend(in_their_middle());
    cases.extend(sources());
    cases.extend(prefixes());
    cases
}

fn new_flows() -> Vec<Case> {
    let limited = |name, given: &Given, frame: &Frame, event| {
        Case::left_alone(name, given, frame.clone(), NewFlowLimit).event(event)
    };
    let one = site().new_flow_limit(1, SECOND, 0);
    let two = site().new_flow_limit(1, SECOND / 2, 0);
    let spent = site().new_flow_limit(1, SECOND, 5 * SECOND_NS);
    let dns = site().new_flow_limit(3, SECOND, 5 * SECOND_NS);
    let query = Frame::udp(CLIENT, DNS);
    let without = spent.clone().features(FEATURES & !feature::NEW_FLOW_LIMIT);
    let ended = spent.clone().flow(&syn(1), 1, 1, lb_common::layout::flow::FlowState::Closing);
    vec![
        opens("one new flow a second, then no more", &one, &syn(1), 1)
            .then(limited("", &one, &syn(2), MissSyn))
            .then(limited("", &one, &syn(3), MissSyn).remembers(&[(1, HalfOpen, 0)])),
        opens("two new flows a second, then no more", &two, &syn(1), 1)
            .then(opens("", &two, &syn(2), 1))
            .then(limited("", &two, &syn(3), MissSyn))
            .then(limited("", &two, &syn(4), MissSyn).remembers(&[(1, HalfOpen, 0), (1, HalfOpen, 0)])),
        limited("a new flow beyond the limit is not remembered", &spent, &syn(1), MissSyn).remembers(&[]),
        limited("a first datagram beyond the limit", &dns, &query, MissUdp).remembers(&[]),
        Case::left_alone("a tuple's next flow beyond the limit", &ended, syn(1), NewFlowLimit),
        opens("the limit is the VIP's own", &spent, &Frame::tcp(CLIENT_V6, WEB_V6, SYN), 2),
        opens("a SYN again within the limit", &one, &syn(1), 1)
            .then(Case::forwarded("", &one, &syn(1), 1).counts(1, |counters| counters.syn_retransmits = 1)),
        opens("a program without limits of new flows", &without, &syn(1), 1),
    ]
}

/// A flow that is not new to its client may have been there before this lb: it is not dropped, but not remembered either.
fn in_their_middle() -> Vec<Case> {
    let spent = site().new_flow_limit(1, SECOND, 5 * SECOND_NS).new_flow_limit(3, SECOND, 5 * SECOND_NS);
    let ack = syn(1).flags(ACK);
    let query = Frame::udp(CLIENT, DNS);
    let known = spent.clone().flow(&ack, 1, 0, Established).flow(&query, 3, 0, FirstDatagram);
    let down = known.clone().target(1, |target| target.serves = 0);
    vec![
        Case::forwarded("a flow whose target is down is not new", &down, &ack, 1)
            .event(lb_common::layout::counter::PathEvent::Moved)
            .counts(1, |counters| counters.flows_moved = 1),
        Case::forwarded("known flows go on beyond the limit", &known, &ack, 1)
            .then(Case::forwarded("", &known, &query, 3)),
        Case::forwarded("a flow in its middle goes by the ring beyond the limit", &spent, &ack, 1)
            .event(MissTcp)
            .event(NotRemembered)
            .remembers(&[]),
        Case::forwarded("the end of an unknown flow beyond the limit", &spent, &ack.flags(RST), 1)
            .event(MissTcp)
            .remembers(&[]),
    ]
}

fn sources() -> Vec<Case> {
    let limited = |name, given: &Given, frame: &Frame| Case::left_alone(name, given, frame.clone(), SourceLimit);
    let packets = site().source_limit(SECOND_NS / 2, 0);
    let flows = site().source_limit(0, SECOND_NS / 2);
    let ack = syn(1).flags(ACK);
    let known = packets.clone().flow(&ack, 1, 9, Established);
    let other = Frame::tcp("198.51.100.8:1000", WEB, SYN);
    let again = |given: &Given| Case::forwarded("", given, &ack, 1);
    let without = packets.clone().features(FEATURES & !feature::SOURCE_LIMIT);
    let missed = |case: Case| case.event(MissSyn);
    vec![
        again(&known)
            .then(again(&known))
            .then(limited("", &known, &ack))
            .then(limited("", &known, &ack).remembers(&[(1, Established, 0)]))
            .named("two packets of a source a second, then no more"),
        again(&known)
            .then(again(&known))
            .then(limited("", &known, &ack))
            .then(opens("", &known, &other, 1))
            .named("another source has a limit of its own"),
        opens("two new flows of a source a second, then no more", &flows, &syn(1), 1)
            .then(opens("", &flows, &syn(2), 1))
            .then(missed(limited("", &flows, &syn(3))))
            .then(missed(limited("", &flows, &syn(4))).remembers(&[(1, HalfOpen, 0), (1, HalfOpen, 0)])),
        opens("new flows of a source, over all VIPs", &flows, &syn(1), 1)
            .then(Case::forwarded("", &flows, &Frame::udp(CLIENT, DNS), 3).event(MissUdp).creates(3))
            .then(missed(limited("", &flows, &syn(3)))),
        opens("known flows of a source go on beyond its limit of new ones", &flows, &syn(1), 1)
            .then(opens("", &flows, &syn(2), 1))
            .then(missed(limited("", &flows, &syn(3))))
            .then(Case::forwarded("", &flows, &ack, 1).counts(1, |counters| counters.handshakes = 1))
            .then(Case::forwarded("", &flows, &ack, 1)),
        opens("a program without limits of sources", &without, &syn(1), 1)
            .then(opens("", &without, &syn(2), 1))
            .then(opens("", &without, &syn(3), 1)),
    ]
}

/// Sources are told apart by as much of their address as the configuration says.
fn prefixes() -> Vec<Case> {
    let limited = |given: &Given, frame: &Frame| {
        let case = Case::left_alone("", given, frame.clone(), SourceLimit);
        case.event(MissSyn)
    };
    let from = |client: &str| Frame::tcp(client, if client.starts_with('[') { WEB_V6 } else { WEB }, SYN);
    let given = site().source_limit(0, SECOND_NS);
    let by_24 = given.clone().tuned(|tuning| tuning.limited_v4_mask = [255, 255, 255, 0]);
    let one = |name, given: &Given, client: &str| {
        opens(name, given, &from(client), if client.starts_with('[') { 2 } else { 1 })
    };
    vec![
        one("each IPv4 address by itself", &given, "203.0.113.1:9")
            .then(one("", &given, "203.0.113.2:9"))
            .then(limited(&given, &from("203.0.113.1:10"))),
        one("IPv4 prefixes together", &by_24, "203.0.113.1:9").then(limited(&by_24, &from("203.0.113.2:9"))).then(one(
            "",
            &by_24,
            "203.0.114.2:9",
        )),
        one("IPv6 addresses of one /64 together", &given, "[2001:db8:f::1]:9")
            .then(limited(&given, &from("[2001:db8:f:0:ffff::2]:9")))
            .then(one("", &given, "[2001:db8:f:1::1]:9")),
    ]
}
