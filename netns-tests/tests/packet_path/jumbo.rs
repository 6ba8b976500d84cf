//! Frames that lie in several buffers: jumbo frames, for a program that takes them.

use lb_common::{
    layout::{
        counter::PathEvent::{FragmentFirst, MissUdp, Resteered, ServerIdRouted},
        flow::FlowState::Established,
        target::{Encap, Target},
        vip::Vip,
    },
    maps::feature,
    verdict::Verdict::{self, NotVip, TooBig, TooBigAnswered, Truncated},
};
use netns_tests::packet::{
    Case, Frame,
    frame::{
        Kind, Sum,
        flags::{ACK, SYN},
        payload::stable_header,
    },
    given::Given,
    kernel::MAX_FRAME,
};

use super::site::{CLIENT, datagram, segment, segment_v6, site, site_with};

fn taking(given: Given) -> Given {
    given.features(feature::ALL)
}

/// As long as the payload of a frame of 9,014 bytes, about.
fn jumbo(frame: &Frame) -> Frame {
    long(frame, 8900)
}

fn long(frame: &Frame, bytes: usize) -> Frame {
    let payload: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
    frame.clone().payload(&payload)
}

fn opens(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    Case::forwarded(name, given, frame, target).opens(target)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = wrapped();
    cases.extend(too_big());
    cases.extend(others());
    cases
}

fn wrapped() -> Vec<Case> {
    let (v4, v6) = (segment(SYN), segment_v6(SYN));
    let crossed = taking(site_with("fd00::11", "10.0.0.11"));
    let gue_v4 = taking(site()).encap(1, Encap::GueV4);
    let gue_v6 = crossed.clone().encap(1, Encap::GueV6).encap(3, Encap::GueV6);
    let l2 = taking(site()).encap(1, Encap::L2);
    let kept = taking(site()).target(1, |target| target.flags = Target::KEEPS_TAGS);
    let tagged = jumbo(&v4).tagged(&[(0x88a8, 5), (0x8100, 6)]);
    // 14 and 40 bytes of headers.
    let first = MAX_FRAME - 54;
    vec![
        opens("several buffers, IPv4 in IPv4", &taking(site()), &jumbo(&v4), 1),
        opens("several buffers, IPv6 in IPv6", &taking(site()), &jumbo(&v6), 2),
        opens("several buffers, IPv4 in IPv6", &crossed, &jumbo(&v4), 1),
        opens("several buffers, IPv6 in IPv4", &crossed, &jumbo(&v6), 2),
        opens("a small frame in a program that takes several buffers", &taking(site()), &v4, 1),
        opens("one buffer to the brim", &taking(site()), &long(&v4, first), 1),
        opens("one byte in another buffer", &taking(site()), &long(&v4, first + 1), 1),
        opens("several buffers, GUE over IPv4", &gue_v4, &jumbo(&v4), 1),
        opens("several buffers, GUE over IPv6", &gue_v6, &jumbo(&v4), 1),
        opens("several buffers, GUE over IPv6, to the brim", &gue_v6, &long(&v4, first), 1),
        opens("several buffers, GUE over IPv6, one byte more", &gue_v6, &long(&v4, first + 1), 1),
        opens("several buffers, GUE over IPv6, two bytes more", &gue_v6, &long(&v4, first + 2), 1),
        opens("several buffers, GUE over IPv6, many", &gue_v6, &long(&v4, 20_001), 1),
        opens("several buffers, GUE over IPv6, a wrong sum inside", &gue_v6, &jumbo(&v4).sum(Sum::Wrong), 1),
        Case::forwarded(
            "several buffers, GUE over IPv6, no sum inside",
            &gue_v6,
            &jumbo(&datagram()).sum(Sum::Zero),
            3,
        )
        .event(MissUdp)
        .creates(3),
        opens("several buffers without a tunnel", &l2, &jumbo(&v4), 1),
        opens("several buffers, tags are kept", &kept, &tagged, 1),
        opens("several buffers, tags are removed", &taking(site()), &tagged, 1),
    ]
}

fn too_big() -> Vec<Case> {
    let narrow = |given: Given| (1..=5).fold(given, |given, id| given.target(id, |target| target.mtu = 8000));
    let (v4, v6) = (jumbo(&segment(ACK)), jumbo(&segment_v6(ACK)));
    let given = narrow(taking(site())).flow(&v4, 1, 0, Established).flow(&v6, 2, 0, Established);
    let told = |name, frame: &Frame, quoted| {
        Case::new(name, &given, frame.build(), TooBigAnswered, frame.too_big(8000, quoted).build())
    };
    vec![
        told("several buffers, the sender is told what fits", &v4, 544),
        told("several buffers, the sender is told what fits, IPv6", &v6, 1232),
        told("several buffers, the sender is told, with a tag", &v4.clone().tagged(&[(0x8100, 5)]), 544),
        Case::left_alone("several buffers that may be fragmented", &given, v4.may_fragment(), TooBig),
    ]
}

fn others() -> Vec<Case> {
    let given = taking(site());
    let host = jumbo(&Frame::tcp(CLIENT, "192.0.2.1:22", ACK));
    let mut cut = jumbo(&segment(ACK)).build();
    cut.pop();
    let request = long(&Frame::echo("198.51.100.7", "192.0.2.10", 5), 8000);
    let [first, ..] = &long(&datagram(), 12_000).identification(3).fragments(8000)[..] else { panic!("fragments") };
    let mut header = stable_header(5);
    header.resize(8000, 0x11);
    let named = taking(site()).flags(3, Vip::UDP_SERVER_ID).server(3, 5, 3);
    let tunnels = given.clone().tunnel_address("192.0.2.200").tunnel_source("::/0");
    let inner = jumbo(&segment(SYN));
    let arrives = inner.tunnelled(Kind::Ipip, "172.16.3.4", "192.0.2.200", 64);
    let inner = inner.unwrapped(64);
    let bytes = inner.packet().len() as u64;
    vec![
        Case::left_alone("several buffers to the host", &given, host, NotVip),
        Case::left_alone("several buffers, cut short", &given, cut, Truncated),
        Case::answered("a ping in several buffers", &given, &request, &request.answered()),
        Case::forwarded("a first fragment in several buffers", &given, first, 3)
            .event(FragmentFirst)
            .event(MissUdp)
            .creates(3),
        Case::forwarded("a server ID in several buffers", &named, &datagram().payload(&header), 3)
            .event(ServerIdRouted)
            .event(MissUdp)
            .creates(3),
        Case::new(
            "re-steered in several buffers",
            &tunnels,
            arrives.build(),
            Verdict::Forwarded,
            tunnels.sent(&inner, 1),
        )
        .counts(1, |counters| (counters.packets, counters.bytes) = (1, bytes))
        .event(Resteered)
        .opens(1),
    ]
}
