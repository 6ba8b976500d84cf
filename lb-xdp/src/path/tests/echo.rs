//! Echo requests to a VIP are answered here.

use std::net::IpAddr;

use etherparse::{IcmpEchoHeader, IpHeaders, PacketHeaders, TransportHeader};
use lb_common::verdict::Verdict;

use super::Scene;
use crate::{
    fixture::frames::{BALANCER, ROUTER, echo},
    path::Exit,
};

const PAIRS: [(&str, &str); 2] = [("198.51.100.7", "192.0.2.10"), ("2001:db8:c::7", "2001:db8::10")];

fn parsed(pair: (&str, &str)) -> (IpAddr, IpAddr) {
    (pair.0.parse().expect("an address"), pair.1.parse().expect("an address"))
}

fn request(pair: (&str, &str), id: u16, payload: &[u8]) -> Vec<u8> {
    let (from, to) = parsed(pair);
    echo(from, to, id, 7, payload)
}

/// Demands that a frame is the reply to the request that `request` builds: both sums too.
#[track_caller]
fn demand_reply(frame: &[u8], pair: (&str, &str), id: u16, payload: &[u8]) {
    let (from, to) = parsed(pair);
    let packet = PacketHeaders::from_ethernet_slice(frame).expect("a frame that etherparse reads");
    let Some(etherparse::LinkHeader::Ethernet2(ethernet)) = &packet.link else { panic!("an Ethernet header") };
    assert_eq!((ethernet.source, ethernet.destination), (BALANCER, ROUTER));
    assert_eq!(packet.payload.slice(), payload);
    let echo = IcmpEchoHeader { id, seq: 7 };
    match (packet.net, packet.transport) {
        (Some(etherparse::NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Icmpv4(icmp))) => {
            assert_eq!((IpAddr::from(ip.source), IpAddr::from(ip.destination)), (to, from));
            assert_eq!((ip.time_to_live, ip.header_checksum), (64, ip.calc_header_checksum()));
            assert_eq!(icmp.icmp_type, etherparse::Icmpv4Type::EchoReply(echo));
            assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(payload));
        }
        (Some(etherparse::NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) => {
            assert_eq!((IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.hop_limit), (to, from, 64));
            assert_eq!(icmp.icmp_type, etherparse::Icmpv6Type::EchoReply(echo));
            let sum = icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload);
            assert_eq!(icmp.checksum, sum.expect("a short payload"));
        }
        (net, transport) => panic!("{net:?} {transport:?}"),
    }
}

#[test]
fn replies_have_right_sums_whatever_the_sum_of_the_request() {
    let scene = Scene::new(&super::BACKENDS_V4);
    let mut sums = vec![0_u8; 65_536];
    for pair in PAIRS {
        sums.fill(0);
        for id in 0..=u16::MAX {
            let frame = request(pair, id, b"x");
            let icmp = frame.len() - 9;
            sums[usize::from(u16::from_be_bytes([frame[icmp + 2], frame[icmp + 3]]))] += 1;
            let sent = scene.world.send(&frame);
            assert_eq!(sent.exit, Exit::from(Verdict::EchoReplied));
            demand_reply(&sent.frame, pair, id, b"x");
        }
        // 0 and 0xffff are one number to the sum; only one of them is ever written.
        assert_eq!(sums.iter().filter(|seen| **seen > 0).count(), 65_535);
    }
    assert_eq!(scene.world.verdict_counter(Verdict::EchoReplied).0, 2 * 65_536);
    assert_eq!(scene.world.flows(), []);
}

#[test]
fn replies_are_right_at_every_length_and_whatever_pads_the_frame() {
    let scene = Scene::new(&super::BACKENDS_V6);
    for pair in PAIRS {
        for length in (0..200).chain([1000, 1472, 20_000]) {
            let payload: Vec<u8> = (0..length).map(|n: u32| n as u8).collect();
            let mut frame = request(pair, 0xfffe, &payload);
            let end = frame.len();
            frame.resize(end + 20, 0xee);
            let sent = scene.world.send(&frame);
            demand_reply(&sent.frame, pair, 0xfffe, &payload);
            assert_eq!(sent.frame[end..], [0xee; 20]);
        }
    }
}

#[test]
fn a_request_with_options_is_answered_with_them() {
    let scene = Scene::new(&super::BACKENDS_V4);
    let frame = request(PAIRS[0], 9, b"abc");
    let (_, rest) = etherparse::Ethernet2Header::from_slice(&frame).expect("an Ethernet header");
    let (mut ip, icmp) = etherparse::Ipv4Header::from_slice(rest).expect("an IPv4 header");
    // Router alert (RFC 2113).
    ip.options = [148, 4, 0, 0].into();
    ip.total_len += 4;
    ip.header_checksum = ip.calc_header_checksum();
    let frame = [&frame[..14], &ip.to_bytes(), icmp].concat();
    let sent = scene.world.send(&frame);
    assert_eq!(sent.exit.verdict, Verdict::EchoReplied);
    demand_reply(&sent.frame, PAIRS[0], 9, b"abc");
}

#[test]
fn an_echo_request_to_another_address_is_the_hosts() {
    let scene = Scene::new(&super::BACKENDS_V4);
    for pair in [("198.51.100.7", "192.0.2.99"), ("2001:db8:c::7", "2001:db8::99"), ("192.0.2.10", "198.51.100.7")] {
        let frame = request(pair, 1, b"ping");
        let sent = scene.world.send(&frame);
        assert_eq!((sent.exit.verdict, sent.frame), (Verdict::Icmp, frame));
    }
}

#[test]
fn other_icmp_to_a_vip_is_the_hosts() {
    let scene = Scene::new(&super::BACKENDS_V4);
    for (pair, request_kind) in PAIRS.into_iter().zip([8, 128]) {
        // Errors are not: they are about a flow.
        let errors: &[u8] = if request_kind == 8 { &[3, 11, 12] } else { &[1, 2, 3, 4] };
        for kind in (0..=255).filter(|kind| *kind != request_kind && !errors.contains(kind)) {
            let mut frame = request(pair, 1, b"ping");
            let icmp = frame.len() - 12;
            frame[icmp] = kind;
            let sent = scene.world.send(&frame);
            assert_eq!((sent.exit.verdict, sent.frame), (Verdict::Icmp, frame));
        }
    }
}

#[test]
fn a_wrong_sum_is_not_made_right() {
    // Else a damaged request would come back as a sound reply.
    let scene = Scene::new(&super::BACKENDS_V4);
    for pair in PAIRS {
        let mut frame = request(pair, 5, b"ping");
        *frame.last_mut().expect("a payload") ^= 0x40;
        let sent = scene.world.send(&frame);
        let packet = PacketHeaders::from_ethernet_slice(&sent.frame).expect("a frame");
        let wrong = match (packet.net, packet.transport) {
            (_, Some(TransportHeader::Icmpv4(icmp))) => {
                icmp.checksum != icmp.icmp_type.calc_checksum(packet.payload.slice())
            }
            (Some(etherparse::NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) => {
                let sum = icmp.icmp_type.calc_checksum(ip.source, ip.destination, packet.payload.slice());
                icmp.checksum != sum.expect("a short payload")
            }
            (net, transport) => panic!("{net:?} {transport:?}"),
        };
        assert!(wrong, "{pair:?}");
    }
}

#[test]
fn traffic_class_comes_back_as_it_came() {
    let scene = Scene::new(&super::BACKENDS_V4);
    for pair in PAIRS {
        let mut frame = request(pair, 5, b"ping");
        // ECN-capable, some DSCP; the IPv4 sum is not checked on the way.
        frame[15] |= 0xb0;
        let sent = scene.world.send(&frame);
        assert_eq!(sent.exit.verdict, Verdict::EchoReplied);
        assert_eq!(sent.frame[15], frame[15]);
        let is_v4 = matches!(
            PacketHeaders::from_ethernet_slice(&sent.frame).ok().and_then(|packet| packet.net),
            Some(etherparse::NetHeaders::Ipv4(..))
        );
        assert_eq!(is_v4, pair == PAIRS[0]);
    }
}

#[test]
fn headers_of_the_other_kind_do_not_confuse() {
    // An IPv4 VIP's address in the mapped form, in an IPv6 packet: its ICMPv6 entry is not there.
    let scene = Scene::new(&super::BACKENDS_V4);
    let frame = request(("2001:db8:c::7", "::ffff:192.0.2.10"), 1, b"ping");
    assert!(matches!(IpHeaders::from_slice(&frame[14..]), Ok((IpHeaders::Ipv6(..), _))));
    let sent = scene.world.send(&frame);
    assert_eq!((sent.exit.verdict, sent.frame), (Verdict::Icmp, frame));
}

#[test]
fn a_reply_of_zeros_alone_has_the_sum_of_zeros() {
    // What an incremental update cannot tell: 0 and 0xffff are one number to the sum, but of zeros alone it is 0xffff.
    let scene = Scene::new(&super::BACKENDS_V4);
    for payload in [&[][..], &[0; 5], &[0; 56], &[0; 1000], &[0xff; 2], &[0, 0, 0, 1]] {
        let (from, to) = parsed(PAIRS[0]);
        let sent = scene.world.send(&echo(from, to, 0, 0, payload));
        let icmp = &sent.frame[34..];
        let expected = etherparse::Icmpv4Type::EchoReply(IcmpEchoHeader { id: 0, seq: 0 }).calc_checksum(payload);
        assert_eq!(icmp[2..4], expected.to_be_bytes(), "{payload:?}");
    }
}
