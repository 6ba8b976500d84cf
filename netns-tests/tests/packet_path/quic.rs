//! QUIC: connection IDs that name their server.

use lb_common::{
    layout::{
        counter::PathEvent::{IcmpSteered, MissUdp, ServerIdNone, ServerIdRouted, ServerIdUnknown},
        flow::FlowState::{Datagram, FirstDatagram},
        vip::{UDP, Vip},
    },
    maps::feature,
};
use netns_tests::packet::{
    Case, Frame,
    frame::payload::{Long, QUIC_V1, QUIC_V2, katran_id, quic_lb_id, quic_long, quic_short},
    given::{FEATURES, Given},
};

use super::site::{BACKEND, CLIENT, CLIENT_V6};

const WEB: &str = "192.0.2.10:443";
const WEB_V6: &str = "[2001:db8::10]:443";
/// Bytes of the server ID in configurations 0, 1 and 2; there is none in 3 to 6.
const LENGTHS: u32 = 0xf14;
const LONGEST: [u8; 15] = [0xf1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// Two VIPs whose rings point to targets 2 and 4.
fn pair(flag: u32) -> Given {
    let backends = [BACKEND, "10.0.0.12"];
    let given = Given::nothing().vip(WEB, UDP, &backends).vip(WEB_V6, UDP, &backends);
    given.ring(1, Some(2)).ring(2, Some(4)).flags(1, flag).flags(2, flag)
}

/// The server of each configuration is target 1 or 3.
fn quic_lb() -> Given {
    let longest = LONGEST.iter().fold(0, |id: u128, byte| id << 8 | u128::from(*byte));
    (1..=2).fold(pair(Vip::QUIC_LB), |given, vip| {
        let target = vip * 2 - 1;
        let given = given.asks(vip, |vip| vip.quic_lengths = LENGTHS);
        given.server(vip, 0x0102_0304, target).server(vip, 0x55, target).server(vip, longest, target)
    })
}

fn katran() -> Given {
    let ids = [0xabcd, 0xab_cdef, 0xabcd_ef01, 0x7bcd_ef01];
    ids.into_iter().fold(pair(Vip::QUIC_KATRAN), |given, id| given.server(1, id, 1).server(2, id, 3))
}

fn packet(payload: &[u8]) -> Frame {
    Frame::udp(CLIENT, WEB).payload(payload)
}

fn packet_v6(payload: &[u8]) -> Frame {
    Frame::udp(CLIENT_V6, WEB_V6).payload(payload)
}

fn routed(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    let case = Case::forwarded(name, given, frame, target).event(MissUdp).event(ServerIdRouted).creates(target);
    case.remembers(&[(target, FirstDatagram, 0)])
}

fn by_ring(name: &'static str, given: &Given, payload: &[u8], event: lb_common::layout::counter::PathEvent) -> Case {
    Case::forwarded(name, given, &packet(payload), 2).event(MissUdp).event(event).creates(2)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = plaintext();
    cases.extend(long_headers());
    cases.extend(versions_of_katran());
    cases.extend(flows());
    cases
}

fn plaintext() -> Vec<Case> {
    let given = quic_lb();
    let short = |configuration, server: &[u8]| quic_short(&quic_lb_id(configuration, server));
    let cut = &short(2, &LONGEST)[..16];
    vec![
        routed("QUIC-LB, a server ID of four bytes", &given, &packet(&short(0, &[1, 2, 3, 4])), 1),
        routed("QUIC-LB, a server ID of one byte", &given, &packet(&short(1, &[0x55])), 1),
        routed("QUIC-LB, a server ID of 15 bytes", &given, &packet(&short(2, &LONGEST)), 1),
        routed("QUIC-LB over IPv6", &given, &packet_v6(&short(2, &LONGEST)), 3),
        routed("QUIC-LB with options", &given, &packet(&short(0, &[1, 2, 3, 4])).options(&[1; 8]), 1),
        by_ring("QUIC-LB, an unknown server", &given, &short(0, &[9, 9, 9, 9]), ServerIdUnknown),
        by_ring("QUIC-LB, another configuration's server", &given, &short(0, &[0, 0, 0, 0x56]), ServerIdUnknown),
        by_ring("QUIC-LB, a configuration that is not set", &given, &short(3, &[1, 2, 3, 4]), ServerIdNone),
        by_ring("QUIC-LB, unroutable", &given, &short(7, &[1, 2, 3, 4]), ServerIdNone),
        by_ring("QUIC-LB, a packet that ends in the server ID", &given, cut, ServerIdNone),
        by_ring("QUIC, a first byte alone", &given, &[0x40], ServerIdNone),
        by_ring("QUIC, nothing", &given, &[], ServerIdNone),
    ]
}

fn long_headers() -> Vec<Case> {
    let given = quic_lb();
    let id = quic_lb_id(0, &[1, 2, 3, 4]);
    let long = |version, kind| quic_long(version, kind, &id);
    let negotiation = long(0, Long::Handshake);
    let another_version = long(0xff00_001d, Long::Handshake);
    let short_id = quic_long(QUIC_V1, Long::Handshake, &id[..4]);
    let one_byte = quic_long(QUIC_V1, Long::Handshake, &quic_lb_id(1, &[0x55])[..2]);
    vec![
        routed("QUIC v1, a Handshake packet", &given, &packet(&long(QUIC_V1, Long::Handshake)), 1),
        routed("QUIC v1, a Retry packet", &given, &packet(&long(QUIC_V1, Long::Retry)), 1),
        by_ring("QUIC v1, an Initial packet goes by the ring", &given, &long(QUIC_V1, Long::Initial), ServerIdNone),
        by_ring("QUIC v1, a 0-RTT packet goes by the ring", &given, &long(QUIC_V1, Long::ZeroRtt), ServerIdNone),
        routed("QUIC v2, a Handshake packet", &given, &packet(&long(QUIC_V2, Long::Handshake)), 1),
        routed("QUIC v2, a Retry packet", &given, &packet(&long(QUIC_V2, Long::Retry)), 1),
        by_ring("QUIC v2, an Initial packet goes by the ring", &given, &long(QUIC_V2, Long::Initial), ServerIdNone),
        by_ring("QUIC v2, a 0-RTT packet goes by the ring", &given, &long(QUIC_V2, Long::ZeroRtt), ServerIdNone),
        by_ring("QUIC, version negotiation", &given, &negotiation, ServerIdNone),
        routed("QUIC of a draft", &given, &packet(&another_version), 1),
        by_ring("QUIC, a connection ID shorter than its server ID", &given, &short_id, ServerIdNone),
        routed("QUIC, a connection ID of two bytes", &given, &packet(&one_byte), 1),
        by_ring("QUIC, no connection ID", &given, &quic_long(QUIC_V1, Long::Handshake, &[]), ServerIdNone),
        by_ring("QUIC, a long header cut short", &given, &long(QUIC_V1, Long::Handshake)[..5], ServerIdNone),
        by_ring(
            "QUIC, a long header cut in the connection ID",
            &given,
            &long(QUIC_V1, Long::Handshake)[..9],
            ServerIdNone,
        ),
    ]
}

fn versions_of_katran() -> Vec<Case> {
    let given = katran();
    let short = |version, server| quic_short(&katran_id(version, server));
    let long = quic_long(QUIC_V1, Long::Handshake, &katran_id(2, 0xab_cdef));
    let few = quic_long(QUIC_V1, Long::Handshake, &katran_id(1, 0xabcd)[..3]);
    vec![
        routed("Katran's version 1, 16 bits", &given, &packet(&short(1, 0xabcd)), 1),
        routed("Katran's version 2, 24 bits", &given, &packet(&short(2, 0xab_cdef)), 1),
        routed("Katran's version 3, 32 bits", &given, &packet(&short(3, 0x7bcd_ef01)), 1),
        routed("Katran's version 3, all 32 bits", &given, &packet(&short(3, 0xabcd_ef01)), 1),
        routed("Katran's version 1 over IPv6", &given, &packet_v6(&short(1, 0xabcd)), 3),
        routed("Katran's version 2 in a long header", &given, &packet(&long), 1),
        routed("a connection ID of three bytes is long enough", &given, &packet(&few), 1),
        by_ring("Katran's version 0", &given, &short(0, 0xabcd), ServerIdNone),
        by_ring("Katran's version 1, server 0", &given, &short(1, 0), ServerIdNone),
        by_ring("Katran's version 2, an unknown server", &given, &short(2, 5), ServerIdUnknown),
        by_ring("Katran's version 3, cut short", &given, &short(3, 0x7bcd_ef01)[..5], ServerIdNone),
    ]
}

fn flows() -> Vec<Case> {
    let frame = packet(&quic_short(&katran_id(2, 0xab_cdef)));
    let plain = packet(&quic_short(&katran_id(0, 1)));
    let given = katran();
    let known = given.clone().flow(&frame, 2, 2, Datagram);
    let down = given.clone().target(1, |target| target.serves = 0);
    let untracked = given.clone().flags(1, Vip::UNTRACKED);
    let without = given.clone().features(FEATURES & !feature::QUIC);
    let error = Frame::error("203.0.113.1", [3, 4], [0; 4], &frame.reversed(), 28);
    let idle = given.clone().flow(&frame, 1, 8, Datagram);
    vec![
        Case::forwarded("a server ID beats the remembered server", &known, &frame, 1)
            .event(ServerIdRouted)
            .remembers(&[(1, Datagram, 0)]),
        routed("a packet without a server ID follows one with", &given, &frame, 1)
            .then(Case::forwarded("", &given, &plain, 1).event(ServerIdNone).remembers(&[(1, Datagram, 0)])),
        Case::forwarded("the server ID of a server that is down", &down, &frame, 2)
            .event(MissUdp)
            .event(ServerIdUnknown)
            .creates(2),
        Case::forwarded("a server ID, untracked, is not remembered", &untracked, &frame, 1)
            .event(ServerIdRouted)
            .remembers(&[]),
        Case::forwarded("a server ID after the idle time", &idle, &frame, 1)
            .event(ServerIdRouted)
            .event(lb_common::layout::counter::PathEvent::Expired)
            .creates(1),
        Case::forwarded("QUIC in a program that does not know it", &without, &frame, 2).event(MissUdp).creates(2),
        Case::forwarded("an error about QUIC goes where its flow goes", &known, &error, 2)
            .event(IcmpSteered)
            .remembers(&[(2, Datagram, 2)]),
    ]
}
