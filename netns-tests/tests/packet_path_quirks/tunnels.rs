//! Tunnels to backends and from other lbs.

use lb_common::{
    layout::{
        counter::PathEvent::{IcmpSteered, MissSyn, MissUdp, Resteered},
        target::Encap,
    },
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame, Given,
    check::check,
    frame::{
        Kind, Sum,
        flags::{ACK, SYN},
    },
};

use crate::{
    ROUTER, error, forwarded, left_alone,
    site::{datagram, datagram_v6, segment, segment_v6, site, site_with},
};

/// Elsewhere an IPv6 packet for an IPv4 backend is announced as IPv4 in IPv4.
#[test]
fn ipv6_packets_reach_ipv4_backends() {
    let crossed = site_with("fd00::11", "10.0.0.11");
    let case = forwarded(&crossed, &segment_v6(SYN), 2).opens(2);
    // RFC 4213: protocol 41.
    assert_eq!(crossed.sent(&segment_v6(SYN), 2)[23], 41);
    check(&[case]);
}

/// Elsewhere the outer sum is derived from the inner one, which ICMP computes in another way, UDP may leave out, and
/// anyone may get wrong.
#[test]
fn gues_outer_sum_is_right_whatever_the_inner_one_is() {
    let given = (1..=5).fold(site_with("fd00::11", "fd00::12"), |given, id| given.encap(id, Encap::GueV6));
    let udp = |frame: Frame, target| forwarded(&given, &frame, target).event(MissUdp).creates(target);
    check(&[
        forwarded(&given, &error([3, 4], &segment(ACK), 28), 1).event(IcmpSteered),
        udp(datagram().sum(Sum::Zero), 3),
        udp(datagram().sum(Sum::Wrong), 3),
        udp(datagram_v6().sum(Sum::Wrong), 4),
        forwarded(&given, &segment(SYN).sum(Sum::Wrong), 1).opens(1),
    ]);
}

/// Elsewhere the outer sum may come out as 0, which over IPv6 means that there is none (RFC 8200 section 8.1).
#[test]
fn gues_outer_sum_over_ipv6_is_never_0() {
    let given = site_with("fd00::11", "fd00::12").encap(3, Encap::GueV6);
    let plain = datagram().sum(Sum::Zero).payload(&[0; 8]);
    let sum = |frame: &Frame| {
        let out = given.sent(frame, 3);
        [out[60], out[61]]
    };
    let [a, b] = sum(&plain);
    // What is added to the payload is taken off the sum.
    let frame = plain.payload(&[a, b, 0, 0, 0, 0, 0, 0]);
    assert_eq!(sum(&frame), [0xff; 2]);
    check(&[forwarded(&given, &frame, 3).event(MissUdp).creates(3)]);
}

fn taking_tunnels() -> Given {
    site().tunnel_address("192.0.2.200").tunnel_source("::/0")
}

/// Elsewhere an IPv6 packet in IPv4 is unwrapped as if the outer header were of IPv6, and counted under it.
#[test]
fn ipv6_in_ipv4_is_unwrapped_by_the_outer_headers_own_length() {
    let arrives = segment_v6(SYN).tunnelled(Kind::Ipip, "172.16.3.4", "192.0.2.200", 64);
    let (given, inner) = (taking_tunnels(), segment_v6(SYN).unwrapped(64));
    let bytes = inner.packet().len() as u64;
    check(&[Case::new("unwrapped", &given, arrives.build(), Verdict::Forwarded, given.sent(&inner, 2))
        .counts(2, |counters| (counters.packets, counters.bytes) = (1, bytes))
        .event(Resteered)
        .opens(2)]);
}

/// Elsewhere an error that quotes a tunnel packet is taken for one.
#[test]
fn errors_about_tunnel_packets_are_not_unwrapped() {
    let tunnel = segment(SYN).tunnelled(Kind::Ipip, "192.0.2.200", "10.0.0.11", 64);
    let whole = Frame::error(ROUTER, [3, 4], [0, 0, 5, 0xdc], &tunnel, 1000);
    check(&[left_alone(&taking_tunnels(), whole, Verdict::Icmp)]);
}

/// Elsewhere what is unwrapped goes through the program anew, and is counted twice.
#[test]
fn unwrapped_packets_are_counted_once_under_their_last_verdict() {
    let given = taking_tunnels().ring(1, None);
    let arrives = segment(SYN).tunnelled(Kind::Gue, "172.16.3.4", "192.0.2.200", 64);
    let case = Case::left_alone("no backend inside", &given, arrives, Verdict::NoBackend);
    check(&[case.event(MissSyn)]);
}

/// Elsewhere tunnels of a family without a configured source leave with source 0.
#[test]
fn tunnels_of_both_families_have_a_source() {
    let crossed = site_with("fd00::11", "10.0.0.11");
    for (given, encaps) in [(&crossed, [Encap::IpipV6, Encap::IpipV4]), (&crossed, [Encap::GueV6, Encap::GueV4])] {
        let given = given.clone().encap(1, encaps[0]).encap(2, encaps[1]);
        let (over_v6, over_v4) = (given.sent(&segment(SYN), 1), given.sent(&segment_v6(SYN), 2));
        assert_eq!((&over_v6[22..30], &over_v4[26..28]), (&[1, 0, 0, 0, 0, 0, 0, 0][..], &[172, 16][..]));
        check(&[forwarded(&given, &segment(SYN), 1).opens(1), forwarded(&given, &segment_v6(SYN), 2).opens(2)]);
    }
}
