//! Encapsulations other than IP-in-IP, and what any of them makes of what is inside.

use lb_common::{
    layout::{
        counter::PathEvent::{FragmentFirst, IcmpSteered, MissUdp},
        flow::FlowState::Established,
        target::Encap,
    },
    maps::feature,
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame,
    case::INGRESS,
    frame::{
        Sum,
        flags::{ACK, SYN},
    },
    given::{FEATURES, Given},
};

use super::site::{datagram, datagram_v6, segment, segment_v6, site, site_with};

/// Every target is reached by GUE over IPv4.
fn gue_v4() -> Given {
    (1..=5).fold(site_with("10.0.0.11", "10.0.0.12"), |given, id| given.encap(id, Encap::GueV4))
}

/// Every target is reached by GUE over IPv6.
fn gue_v6() -> Given {
    (1..=5).fold(site_with("fd00::11", "fd00::12"), |given, id| given.encap(id, Encap::GueV6))
}

fn opens(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    Case::forwarded(name, given, frame, target).opens(target)
}

fn datagrams(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    Case::forwarded(name, given, frame, target).event(MissUdp).creates(target)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = gue();
    cases.extend(sums());
    cases.extend(room());
    cases.extend(l2());
    cases.extend(local());
    cases.extend(bonds());
    cases
}

fn gue() -> Vec<Case> {
    let (v4, v6) = (segment(SYN), segment_v6(SYN));
    let ported = gue_v6().tuned(|tuning| tuning.gue_port = 6081_u16.to_be_bytes());
    let away = gue_v4().target(1, |target| target.ifindex = 4000);
    let without = gue_v4().features(FEATURES & !feature::GUE);
    let mask = gue_v4().tuned(|tuning| tuning.source_v4_mask = [0, 0, 0, 0]);
    vec![
        opens("GUE, IPv4 in IPv4", &gue_v4(), &v4, 1),
        opens("GUE, IPv6 in IPv4", &gue_v4(), &v6, 2),
        opens("GUE, IPv4 in IPv6", &gue_v6(), &v4, 1),
        opens("GUE, IPv6 in IPv6", &gue_v6(), &v6, 2),
        opens("GUE with DSCP and ECN, IPv4", &gue_v4(), &v4.clone().class(0xb9), 1),
        opens("GUE with DSCP and ECN, IPv6", &gue_v6(), &v6.class(0x2b), 2),
        opens("GUE to another port", &ported, &v4, 1),
        opens("GUE from one address", &mask, &v4, 1),
        opens("GUE with padding", &gue_v6(), &v4.clone().payload(b"").padded(6), 1),
        opens("GUE out of another interface", &away, &v4, 1).leaves_by(4000),
        Case::left_alone("GUE in a program that does not know it", &without, v4, Verdict::Inconsistent).opens(1),
    ]
}

/// The outer checksum is right whatever is inside.
fn sums() -> Vec<Case> {
    let (v4, v6) = (segment(SYN), segment_v6(SYN));
    let error = Frame::error("203.0.113.1", [3, 4], [0, 0, 5, 0xdc], &segment(ACK).reversed(), 48);
    let error_v6 = Frame::error("2001:db8:ff::1", [2, 0], [0, 0, 5, 0xdc], &segment_v6(ACK).reversed(), 60);
    let [first, ..] = &datagram().payload(&[0x77; 80]).fragments(32)[..] else { panic!("fragments") };
    let odd = |frame: &Frame, bytes: usize| frame.clone().payload(&vec![0xfd; bytes]);
    vec![
        datagrams("a datagram in GUE over IPv6", &gue_v6(), &datagram(), 3),
        datagrams("a datagram without a checksum in GUE over IPv6", &gue_v6(), &datagram().sum(Sum::Zero), 3),
        datagrams("a datagram without a checksum in GUE over IPv4", &gue_v4(), &datagram().sum(Sum::Zero), 3),
        datagrams("a wrong checksum in GUE over IPv6", &gue_v6(), &datagram_v6().sum(Sum::Wrong), 4),
        opens("a segment with a wrong checksum in GUE over IPv6", &gue_v6(), &v4.clone().sum(Sum::Wrong), 1),
        opens("an odd length in GUE over IPv6", &gue_v6(), &odd(&v4, 1), 1),
        opens("an odd length of IPv6 in GUE over IPv6", &gue_v6(), &odd(&v6, 1221), 2),
        opens("a full packet in GUE over IPv6", &gue_v6(), &odd(&v4, 1460), 1),
        opens("a jumbo frame in GUE over IPv6", &gue_v6(), &odd(&v6, 3000), 2),
        opens("options in GUE over IPv6", &gue_v6(), &v4.options(&[1; 12]), 1),
        Case::forwarded("an ICMP error in GUE over IPv6", &gue_v6(), &error, 1).event(IcmpSteered),
        Case::forwarded("an ICMPv6 error in GUE over IPv6", &gue_v6(), &error_v6, 2).event(IcmpSteered),
        datagrams("a first fragment in GUE over IPv6", &gue_v6(), first, 3).event(FragmentFirst),
    ]
}

/// The kernel keeps 40 bytes of the room before a frame for itself; GUE takes 28 or 48.
fn room() -> Vec<Case> {
    let known = |given: Given| given.flow(&segment(ACK), 1, 0, Established);
    let drops = |name, given: Given, room| {
        Case::left_alone(name, &known(given), segment(ACK), Verdict::NoHeadroom).headroom(room)
    };
    let fits = |name, given: Given, room| Case::forwarded(name, &known(given), &segment(ACK), 1).headroom(room);
    let tagged = gue_v4().target(1, |target| target.tags = [[0x81, 0, 0, 9], [0; 4]]);
    vec![
        drops("24 bytes of room for 28", gue_v4(), 64),
        fits("28 bytes of room for 28", gue_v4(), 68),
        drops("44 bytes of room for 48", gue_v6(), 84),
        fits("48 bytes of room for 48", gue_v6(), 88),
        fits("32 bytes of room for 28 and a tag", tagged, 72),
    ]
}

fn l2() -> Vec<Case> {
    let l2 = (1..=5).fold(site(), |given, id| given.encap(id, Encap::L2));
    let away = l2.clone().target(1, |target| target.ifindex = 4000);
    let without = l2.clone().features(FEATURES & !feature::UNWRAPPED);
    let (syn, jumbo) = (segment(SYN), segment_v6(SYN).payload(&[1; 3400]));
    vec![
        opens("without a tunnel, IPv4", &l2, &syn, 1),
        opens("without a tunnel, IPv6", &l2, &jumbo, 2),
        opens("without a tunnel, DSCP, ECN and time to live stay", &l2, &syn.clone().class(0xff).ttl(1), 1),
        opens("without a tunnel, options and padding stay", &l2, &syn.clone().options(&[1; 8]).padded(9), 1),
        opens("without a tunnel, out of another interface", &away, &syn, 1).leaves_by(4000),
        opens("without a tunnel, no room is needed", &l2, &syn, 1).headroom(40),
        Case::left_alone("a program that always wraps", &without, syn, Verdict::Inconsistent).opens(1),
    ]
}

fn local() -> Vec<Case> {
    let local = (1..=5).fold(site(), |given, id| given.encap(id, Encap::Local));
    let passes = |name, frame: &Frame, target| {
        let bytes = frame.packet().len() as u64;
        Case::left_alone(name, &local, frame.clone(), Verdict::Local)
            .counts(target, |counters| (counters.packets, counters.bytes) = (1, bytes))
    };
    vec![
        passes("to a backend that is this host", &segment(SYN), 1).opens(1),
        passes("to a backend that is this host, IPv6", &segment_v6(SYN).class(9).padded(3), 2).opens(2),
        passes("to a backend that is this host, with a tag", &segment(SYN).tagged(&[(0x8100, 7)]), 1).opens(1),
    ]
}

fn bonds() -> Vec<Case> {
    let syn = segment(SYN);
    let bonded = |member, bond| site().bond(member, bond).target(1, |target| target.ifindex = 7);
    let by = |name, given: Given| {
        let out = given.clone().target(1, |target| target.ifindex = 0).sent(&syn, 1);
        let packet = syn.packet().len() as u64;
        Case::new(name, &given, syn.build(), Verdict::Forwarded, out)
            .counts(1, |counters| (counters.packets, counters.bytes) = (1, packet))
            .opens(1)
    };
    let without = bonded(INGRESS, 7).features(FEATURES & !feature::BONDS);
    vec![
        by("what came by a bond's member and leaves by the bond", bonded(INGRESS, 7)),
        opens("what came by the member of another bond", &bonded(INGRESS, 8), &syn, 1).leaves_by(7),
        opens("what came by no member", &bonded(INGRESS + 1, 7), &syn, 1).leaves_by(7),
        opens("a program that does not know of bonds", &without, &syn, 1).leaves_by(7),
    ]
}
