//! What is steered, and where to.

use std::net::IpAddr;

use etherparse::{IpHeaders, IpNumber};
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters},
        target::Encap,
    },
    verdict::Verdict,
};

use super::{Scene, Tunnelled, scenes};
use crate::{
    fixture::{
        INGRESS, NEXT_HOP,
        frames::{
            BALANCER, Ends, ends,
            flags::{ACK, SYN},
            ip,
        },
    },
    host::HostFrame,
    path::{self, Exit},
};

#[test]
fn all_four_family_pairs_are_wrapped_for_the_target_of_the_ring() {
    for scene in scenes() {
        let frames = Scene::web().into_iter().map(|ends| ends.tcp(SYN)).chain(Scene::dns().map(Ends::udp));
        for frame in frames {
            let target = scene.world.forward(&frame);
            let sent = scene.world.send(&frame);
            assert_eq!(sent.exit, Exit { verdict: Verdict::Forwarded, ifindex: 0 });
            let inner_len = frame.len() - 14;
            let tunnelled = Tunnelled::read(&sent.frame, inner_len);
            assert_eq!(tunnelled.inner, frame[14..], "the packet itself is not touched");
            let inner_v4 = frame[12..14] == [0x08, 0x00];
            assert_eq!(tunnelled.protocol(), if inner_v4 { IpNumber::IPV4 } else { IpNumber::IPV6 });
            let destination = match tunnelled.destination() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            assert_eq!(destination, scene.world.tables.targets[target as usize].outer_destination);
            assert_eq!((tunnelled.ethernet.source, tunnelled.ethernet.destination), (BALANCER, NEXT_HOP));
        }
    }
}

#[test]
fn the_frame_leaves_by_the_targets_interface_with_that_interfaces_address() {
    for (ifindex, leaves_by, source) in
        [(0, 0, BALANCER), (INGRESS, 0, BALANCER), (INGRESS + 1, INGRESS + 1, [0x02, 0, 0, 0, 0xaa, 0x02])]
    {
        for mut scene in scenes() {
            for target in &mut scene.world.tables.targets {
                target.ifindex = ifindex;
            }
            for ends in Scene::web() {
                let frame = ends.tcp(SYN);
                let sent = scene.world.send(&frame);
                assert_eq!(sent.exit, Exit { verdict: Verdict::Forwarded, ifindex: leaves_by });
                let tunnelled = Tunnelled::read(&sent.frame, frame.len() - 14);
                assert_eq!((tunnelled.ethernet.source, tunnelled.ethernet.destination), (source, NEXT_HOP));
            }
        }
    }
}

#[test]
fn an_exact_port_comes_before_any_port() {
    let mut scene = Scene::new(&super::BACKENDS_V4);
    let address = "192.0.2.11".parse().expect("an address");
    let exact = scene.world.serve(address, 8443, lb_common::layout::vip::TCP, &super::addresses(&["10.9.9.9"]));
    let only = scene.world.vip(exact).target_base;
    assert_eq!(scene.world.forward(&ends("198.51.100.7:51000", "192.0.2.11:8443").tcp(SYN)), only);
    for port in [1, 443, 8442, 8444, 65_535] {
        let to_any = ends("198.51.100.7:51000", &format!("192.0.2.11:{port}")).tcp(SYN);
        assert_ne!(scene.world.forward(&to_any), only);
    }
}

#[test]
fn any_port_is_any_port_of_its_protocol_only() {
    let scene = Scene::new(&super::BACKENDS_V4);
    let frame = ends("198.51.100.7:51000", "192.0.2.11:443").udp();
    let sent = scene.world.send(&frame);
    assert_eq!((sent.exit.verdict, sent.frame), (Verdict::NotVip, frame));
}

#[test]
fn options_are_no_obstacle() {
    let ends = Scene::web()[0];
    for words in 0..=10_usize {
        let mut header = match ip(ends, 64) {
            IpHeaders::Ipv4(header, _) => header,
            IpHeaders::Ipv6(..) => panic!("an IPv4 flow"),
        };
        // No-operation options.
        header.options = vec![1; words * 4][..].try_into().expect("up to 40 bytes of options");
        let frame =
            ends.ip_of(IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())).segment(SYN, b"behind options");
        assert_eq!(frame[14], 0x45 + words as u8);
        for scene in scenes() {
            let plain = scene.world.forward(&ends.tcp(ACK));
            assert_eq!(scene.world.forward(&frame), plain, "the same flow with and without options");
            let sent = scene.world.send(&frame);
            assert_eq!(Tunnelled::read(&sent.frame, frame.len() - 14).inner, frame[14..]);
        }
    }
}

#[test]
fn padding_behind_the_packet_is_not_the_packets() {
    for scene in scenes() {
        for ends in Scene::web() {
            let frame = ends.ip_of(ip(ends, 64)).segment(ACK, b"");
            let inner_len = frame.len() - 14;
            for padding in [1, 6, 46, 200] {
                let mut padded = frame.clone();
                padded.resize(frame.len() + padding, 0xee);
                let target = scene.world.forward(&padded);
                let bytes = scene.world.counters(target).bytes;
                let sent = scene.world.send(&padded);
                let tunnelled = Tunnelled::read(&sent.frame, inner_len);
                assert_eq!(tunnelled.inner, padded[14..], "it stays where it is");
                assert_eq!(scene.world.counters(target).bytes - bytes, inner_len as u64);
            }
        }
    }
}

#[test]
fn a_flow_keeps_its_target_while_that_is_up() {
    for mut scene in scenes() {
        let flows: Vec<_> = (0..200).map(|n| Scene::web().map(|ends| ends.with_port(20_000 + n))).collect();
        let first: Vec<_> = flows.iter().flatten().map(|ends| scene.world.forward(&ends.tcp(SYN))).collect();
        for key in scene.web {
            let base = scene.world.vip(key).target_base;
            scene.world.give_ring_to(key, base + 1);
        }
        for _ in 0..3 {
            let again = flows.iter().flatten().map(|ends| scene.world.forward(&ends.tcp(ACK)));
            assert!(again.eq(first.iter().copied()));
        }
        assert_eq!(scene.world.event(PathEvent::Moved), 0);
        let used: std::collections::BTreeSet<_> = first.iter().collect();
        assert_eq!(used.len(), 6, "each backend of both VIPs");
    }
}

#[test]
fn without_backends_packets_are_dropped_for_that_reason() {
    let scene = Scene::new(&[]);
    for frame in Scene::web().into_iter().map(|ends| ends.tcp(SYN)).chain(Scene::dns().map(Ends::udp)) {
        let sent = scene.world.send(&frame);
        assert_eq!((sent.exit, sent.frame), (Exit::from(Verdict::NoBackend), frame));
    }
    assert_eq!(scene.world.verdict_counter(Verdict::NoBackend).0, 4);
    assert_eq!(scene.world.flows(), []);
}

#[test]
fn a_target_of_no_known_encapsulation_is_our_own_fault() {
    let mut scene = Scene::new(&super::BACKENDS_V4);
    for target in &mut scene.world.tables.targets {
        target.encap = Encap::IpipV6 as u32 + 1;
    }
    let frame = Scene::web()[0].tcp(SYN);
    let sent = scene.world.send(&frame);
    assert_eq!((sent.exit.verdict, sent.frame), (Verdict::Inconsistent, frame));
}

#[test]
fn a_frame_without_room_before_it_is_dropped_and_not_counted_as_forwarded() {
    // The kernel keeps 40 bytes of the room for itself.
    for (scene, needed) in scenes().into_iter().zip([60, 80]) {
        for ends in Scene::web() {
            let bytes = ends.tcp(SYN);
            let run = |headroom| {
                let mut frame = HostFrame::with_headroom(&bytes, INGRESS, headroom);
                let exit = path::run(&mut frame, &scene.world.tables);
                (exit.verdict, frame.bytes().to_vec())
            };
            for headroom in [0, 39, needed - 1] {
                assert_eq!(run(headroom), (Verdict::NoHeadroom, bytes.clone()));
            }
            let counted = || (1..=15).map(|target| scene.world.counters(target).packets).sum::<u64>();
            let before = counted();
            assert_eq!(run(needed).0, Verdict::Forwarded);
            assert_eq!((before, counted()), (0, 1));
            scene.world.tables.target_counters.borrow_mut().fill(TargetCounters::default());
        }
    }
}
