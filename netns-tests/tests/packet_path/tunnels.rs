//! Tunnel packets of other lbs: unwrapped and steered once more.

use lb_common::{
    layout::{
        counter::PathEvent::{FragmentFirst, IcmpSteered, MissTcp, MissUdp, Resteered},
        target::Encap,
    },
    maps::feature,
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame,
    frame::{
        Kind::{self, Gue, Ipip},
        flags::{ACK, SYN},
    },
    given::{FEATURES, Given},
};

use super::site::{datagram, segment, segment_v6, site};

const HERE: &str = "192.0.2.200";
const HERE_V6: &str = "2001:db8::200";
const PEER: &str = "172.16.3.4";
const PEER_V6: &str = "100::1:2";

fn given() -> Given {
    site().tunnel_address(HERE).tunnel_address(HERE_V6).tunnel_source("::/0")
}

/// A frame in another lb's tunnel to us.
fn tunnelled(frame: &Frame, kind: Kind, over_v6: bool) -> Frame {
    let (from, to) = if over_v6 { (PEER_V6, HERE_V6) } else { (PEER, HERE) };
    frame.tunnelled(kind, from, to, 64)
}

/// A frame in a tunnel becomes what the packet inside becomes, with an outer header of one hop less.
fn resteered(name: &'static str, given: &Given, outer: &Frame, inner: &Frame, target: u32) -> Case {
    let inner = inner.unwrapped(64);
    let bytes = inner.packet().len() as u64;
    Case::new(name, given, outer.build(), Verdict::Forwarded, given.sent(&inner, target))
        .counts(target, |counters| (counters.packets, counters.bytes) = (1, bytes))
        .event(Resteered)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = unwrapped();
    cases.extend(insides());
    cases.extend(congestion());
    cases.extend(refused());
    cases.extend(bystanders());
    cases
}

fn unwrapped() -> Vec<Case> {
    let (v4, v6) = (segment(SYN), segment_v6(SYN));
    let case = |name, kind, over_v6, frame: &Frame, target| {
        resteered(name, &given(), &tunnelled(frame, kind, over_v6), frame, target).opens(target)
    };
    let tag = [(0x8100, 7)];
    let tagged = tunnelled(&v4, Ipip, false).tagged(&tag);
    let kept = given().target(1, |target| target.flags = lb_common::layout::target::Target::KEEPS_TAGS);
    let options = tunnelled(&v4, Ipip, false).options(&[1; 8]);
    let some = site().tunnel_address(HERE).tunnel_source("172.16.0.0/16");
    vec![
        case("re-steered, IPv4 in IPv4", Ipip, false, &v4, 1),
        case("re-steered, IPv6 in IPv4", Ipip, false, &v6, 2),
        case("re-steered, IPv4 in IPv6", Ipip, true, &v4, 1),
        case("re-steered, IPv6 in IPv6", Ipip, true, &v6, 2),
        case("re-steered, IPv4 in GUE in IPv4", Gue, false, &v4, 1),
        case("re-steered, IPv6 in GUE in IPv4", Gue, false, &v6, 2),
        case("re-steered, IPv4 in GUE in IPv6", Gue, true, &v4, 1),
        case("re-steered, IPv6 in GUE in IPv6", Gue, true, &v6, 2),
        resteered("re-steered, with a tag", &given(), &tagged, &v4, 1).opens(1),
        resteered("re-steered, a tag is kept", &kept, &tagged, &v4.clone().tagged(&tag), 1).opens(1),
        resteered("re-steered, with outer options", &given(), &options, &v4, 1).opens(1),
        resteered("re-steered, from a source that is allowed", &some, &tunnelled(&v4, Ipip, false), &v4, 1).opens(1),
    ]
}

/// Whatever is inside gets what it would get outside.
fn insides() -> Vec<Case> {
    let (v4, v6) = (segment(ACK), segment_v6(ACK));
    let encap = |kind| given().encap(1, kind);
    let [first, ..] = &datagram().payload(&[7; 64]).fragments(32)[..] else { panic!("fragments") };
    let error = Frame::error("203.0.113.1", [3, 4], [0; 4], &v4.reversed(), 28);
    let ipip = |frame: &Frame| tunnelled(frame, Ipip, false);
    let new = |case: Case, target| case.event(MissTcp).creates(target);
    let ping = Frame::echo("198.51.100.7", "192.0.2.10", 4);
    let big = v4.clone().payload(&[1; 1500]);
    let narrow = given().target(1, |target| target.mtu = 1480);
    let (bytes, local) = (v4.packet().len() as u64, v4.build());
    vec![
        new(resteered("re-steered by GUE over IPv4", &encap(Encap::GueV4), &ipip(&v4), &v4, 1), 1),
        new(resteered("re-steered without a tunnel", &encap(Encap::L2), &ipip(&v4), &v4, 1), 1),
        new(resteered("re-steered with DSCP", &given(), &ipip(&v6.clone().class(0xb8)), &v6.clone().class(0xb8), 2), 2),
        resteered("a first fragment inside", &given(), &ipip(first), first, 3)
            .event(FragmentFirst)
            .event(MissUdp)
            .creates(3),
        resteered("an error inside", &given(), &ipip(&error), &error, 1).event(IcmpSteered),
        Case::new(
            "a ping inside is answered",
            &given(),
            ipip(&ping).build(),
            Verdict::EchoReplied,
            ping.answered().build(),
        ),
        Case::new(
            "a packet inside that is too big",
            &narrow,
            ipip(&big).build(),
            Verdict::TooBigAnswered,
            big.too_big(1480, 544).build(),
        )
        .event(Resteered)
        .event(MissTcp)
        .creates(1),
        Case::new(
            "a backend here gets the packet inside",
            &encap(Encap::Local),
            ipip(&v4).build(),
            Verdict::Local,
            local,
        )
        .counts(1, |counters| (counters.packets, counters.bytes) = (1, bytes))
        .event(Resteered)
        .event(MissTcp)
        .creates(1),
    ]
}

/// RFC 6040 section 4.2.
fn congestion() -> Vec<Case> {
    let (ect_1, ect_0, ce) = (0b01, 0b10, 0b11);
    let case = |name, frame: &Frame, inner, outer, merged, target| {
        let arrives = tunnelled(&frame.clone().class(0xb8 | inner), Ipip, false).class(outer);
        resteered(name, &given(), &arrives, &frame.clone().class(0xb8 | merged), target).event(MissTcp).creates(target)
    };
    let (v4, v6) = (segment(ACK), segment_v6(ACK));
    let lost = |name, frame: &Frame, target| {
        let arrives = tunnelled(&frame.clone().class(0), Ipip, false).class(ce);
        Case::left_alone(name, &given(), arrives, Verdict::CongestionLost).event(MissTcp).creates(target)
    };
    vec![
        case("congestion on the way is told inside", &v4, ect_0, ce, ce, 1),
        case("congestion on the way is told inside, IPv6", &v6, ect_1, ce, ce, 2),
        case("ECT(1) on the way is told inside", &v4, ect_0, ect_1, ect_1, 1),
        case("the outer class is not copied inside", &v6, ect_0, 0xfc, ect_0, 2),
        lost("congestion on the way that cannot be told", &v4, 1),
        lost("congestion on the way that cannot be told, IPv6", &v6, 2),
    ]
}

fn refused() -> Vec<Case> {
    use Verdict::{TunnelLoop, TunnelSource};
    let left =
        |name, given: &Given, frame: Frame, verdict| Case::left_alone(name, given, frame, verdict).remembers(&[]);
    let some = site().tunnel_address(HERE).tunnel_address(HERE_V6).tunnel_source("203.0.113.0/24");
    let none = site().tunnel_address(HERE);
    let from_elsewhere = tunnelled(&segment(SYN), Ipip, false);
    let ends = |ttl| segment(SYN).tunnelled(Ipip, PEER, HERE, ttl);
    let ends_v6 = |ttl| segment(SYN).tunnelled(Gue, PEER_V6, HERE_V6, ttl);
    let last = segment(SYN).unwrapped(2);
    let bytes = last.packet().len() as u64;
    vec![
        left("a tunnel from elsewhere", &some, from_elsewhere.clone(), TunnelSource),
        left("a tunnel from elsewhere, GUE in IPv6", &some, tunnelled(&segment(SYN), Gue, true), TunnelSource),
        left(
            "a tunnel of IPv4, where only IPv6 may come from",
            &given().no_tunnel_source("0.0.0.0/0"),
            tunnelled(&segment(SYN), Ipip, false),
            TunnelSource,
        ),
        left("a tunnel where none may come from", &none, from_elsewhere, TunnelSource),
        left("a tunnel packet at its last hop", &given(), ends(1), TunnelLoop),
        left("a tunnel packet at its last hop, GUE in IPv6", &given(), ends_v6(1), TunnelLoop),
        left("a tunnel packet of no hops", &given(), ends(0), TunnelLoop),
        Case::new(
            "a tunnel packet before its last hop",
            &given(),
            ends(2).build(),
            Verdict::Forwarded,
            given().sent(&last, 1),
        )
        .counts(1, |counters| (counters.packets, counters.bytes) = (1, bytes))
        .event(Resteered)
        .opens(1),
    ]
}

/// What is not for us, or not a tunnel, passes as it came.
fn bystanders() -> Vec<Case> {
    use Verdict::{Fragment, NotBalanced, NotVip, Unreadable};
    let left = |name, frame: Frame, verdict| Case::left_alone(name, &given(), frame, verdict).remembers(&[]);
    let to_host = Frame::tcp("198.51.100.7:51000", "192.0.2.1:22", SYN);
    let twice = tunnelled(&tunnelled(&segment(SYN), Ipip, false), Ipip, false);
    let other_port = Frame::udp("172.16.3.4:6080", "192.0.2.200:6081").payload(&segment(SYN).packet());
    let without = given().features(FEATURES & !feature::TUNNELS);
    let late = tunnelled(&datagram(), Ipip, false).fragment(9, true);
    let host = tunnelled(&to_host, Ipip, false);
    let gue_header = Frame::udp("172.16.3.4:9", "192.0.2.200:6080").payload(&[0, 4, 0, 0, 0x45, 0, 0, 0]);
    vec![
        left("a tunnel to another address", segment(SYN).tunnelled(Ipip, PEER, "192.0.2.201", 64), NotBalanced),
        left("GUE to another address", segment(SYN).tunnelled(Gue, PEER, "192.0.2.201", 64), NotVip),
        left("a tunnel with the host's packet inside", host, NotVip),
        left("a tunnel within a tunnel", twice, NotBalanced),
        left("GUE within a tunnel", tunnelled(&tunnelled(&segment(SYN), Gue, false), Ipip, false), NotVip),
        left("UDP to another port", other_port, NotVip),
        left("GUE with a header of its own", gue_header, NotVip),
        left("a fragment of a tunnel packet", late, NotBalanced),
        left("GRE to us", Frame::raw(PEER, HERE, 47, b"tunnelled"), NotBalanced),
        Case::left_alone("a tunnel packet longer than its frame", &given(), longer(Ipip), Unreadable),
        Case::left_alone("a GUE packet longer than its frame", &given(), longer(Gue), Unreadable),
        left("a broken packet in a tunnel, to the host", broken(&to_host), Unreadable),
        left(
            "a later fragment in a tunnel, to the host",
            tunnelled(&to_host.fragment(5, false), Ipip, false),
            Fragment,
        ),
        Case::left_alone(
            "a tunnel in a program that takes none",
            &without,
            tunnelled(&segment(SYN), Ipip, false),
            NotBalanced,
        ),
    ]
}

/// In a tunnel, cut within its TCP header.
fn broken(frame: &Frame) -> Frame {
    Frame::raw(PEER, HERE, 4, &frame.packet()[..30])
}

/// A tunnel packet, by its outer header longer than it is.
fn longer(kind: Kind) -> Vec<u8> {
    let mut frame = tunnelled(&segment(SYN), kind, false).build();
    frame[17] += 1;
    frame
}
