//! What comes in another lb's tunnel, and errors about IPv6 packets, are not what they pretend to be.

use lb_common::{layout::prefix::SourceKey, maps::feature, verdict::Verdict};

use super::{BACKENDS_V4, Scene};
use crate::fixture::{
    frames::{Ends, ends, flags::ACK, ip},
    octets,
};

const HERE: [&str; 2] = ["192.0.2.200", "2001:db8::200"];
const IPIP: etherparse::IpNumber = etherparse::IpNumber::IPV4;

/// A scene that takes tunnel packets from everywhere.
fn scene() -> Scene {
    let mut scene = Scene::new(&BACKENDS_V4);
    let tables = &mut scene.world.tables;
    tables.tuning.features = feature::ALL;
    tables.tunnel_addresses = HERE.map(|text| octets(text.parse().expect("an address")).0).into();
    tables.tunnel_sources = [(SourceKey::new(0, [0; 16], 0), 1)].into();
    scene
}

fn over(from: &str, to: &str) -> Ends {
    let address = |text: &str| (text.parse::<std::net::IpAddr>().expect("an address"), 0).into();
    Ends { from: address(from), to: address(to) }
}

#[test]
fn a_packet_must_end_within_its_tunnel_packet() {
    let inner = Scene::web()[0].tcp(ACK);
    let packet = &inner[14..];
    for outer in [over("172.16.3.4", HERE[0]), over("100::1", HERE[1])] {
        let mut whole = outer.ip_of(ip(outer, 64)).raw(IPIP, packet);
        assert_eq!(scene().world.send(&whole).exit.verdict, Verdict::Forwarded);
        // The outer header counts one byte less, which is padding then.
        whole[if outer.from.is_ipv4() { 17 } else { 19 }] -= 1;
        let sent = scene().world.send(&whole);
        assert_eq!((sent.exit.verdict, sent.frame), (Verdict::Truncated, whole));
    }
}

#[test]
fn of_two_prefixes_the_longer_says_where_tunnel_packets_may_come_from() {
    let mut scene = scene();
    let all_v4 = octets("0.0.0.0".parse().expect("an address")).0;
    scene.world.tables.tunnel_sources.insert(SourceKey::new(0, all_v4, 96), 0);
    let inner = Scene::web()[0].tcp(ACK);
    let verdicts = [over("172.16.3.4", HERE[0]), over("100::1", HERE[1])]
        .map(|outer| scene.world.send(&outer.ip_of(ip(outer, 64)).raw(IPIP, &inner[14..])).exit.verdict);
    assert_eq!(verdicts, [Verdict::TunnelSource, Verdict::Forwarded]);
}

#[test]
fn a_packet_must_end_within_its_datagram() {
    let inner = Scene::web()[0].tcp(ACK);
    let packet = &inner[14..];
    let outer = over("172.16.3.4", HERE[0]);
    for (less, verdict) in [(0, Verdict::Forwarded), (1, Verdict::Truncated)] {
        let len = u16::try_from(8 + packet.len() - less).expect("a short packet").to_be_bytes();
        let datagram = [&[0x12, 0x34][..], &6080_u16.to_be_bytes(), &len, &[0; 2], packet].concat();
        let frame = outer.ip_of(ip(outer, 64)).raw(etherparse::IpNumber::UDP, &datagram);
        assert_eq!(scene().world.send(&frame).exit.verdict, verdict);
    }
}

#[test]
fn an_ipv6_header_with_a_mapped_address_is_no_tunnels() {
    let inner = Scene::web()[0].tcp(ACK);
    for (from, to) in [("100::1", "::ffff:192.0.2.200"), ("::ffff:172.16.3.4", HERE[1])] {
        let outer = over(from, to);
        let frame = outer.ip_of(ip(outer, 64)).raw(IPIP, &inner[14..]);
        let sent = scene().world.send(&frame);
        assert_eq!(sent.exit.verdict.action(), lb_common::verdict::Action::Pass, "{from} {to}");
        assert_eq!(sent.frame, frame);
    }
}

#[test]
fn an_error_in_ipv6_is_not_about_a_vip_of_ipv4() {
    let answer = ends("[::ffff:192.0.2.10]:443", "[2001:db8:c::7]:51000").tcp(ACK);
    let error = [&[1, 0, 0, 0, 0, 0, 0, 0], &answer[14..]].concat();
    let to_vip = over("2001:db8:ffff::1", "::ffff:192.0.2.10");
    let frame = to_vip.ip_of(ip(to_vip, 64)).raw(etherparse::IpNumber::IPV6_ICMP, &error);
    let sent = scene().world.send(&frame);
    assert_eq!((sent.exit.verdict, sent.frame), (Verdict::Icmp, frame));
}
