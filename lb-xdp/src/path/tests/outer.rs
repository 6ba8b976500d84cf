//! Fields of the outer header.

use std::{collections::BTreeSet, net::IpAddr};

use etherparse::IpHeaders;
use lb_common::verdict::Verdict;

use super::{BACKENDS_V4, BACKENDS_V6, Scene, Tunnelled, scenes};
use crate::fixture::frames::{
    Ends,
    flags::{ACK, SYN},
    ip,
};

/// A segment with this DSCP and ECN and time to live.
fn marked(ends: Ends, traffic_class: u8, ttl: u8) -> Vec<u8> {
    let header = match ip(ends, ttl) {
        IpHeaders::Ipv4(mut header, extensions) => {
            header.dscp = (traffic_class >> 2).try_into().expect("6 bits");
            header.ecn = (traffic_class & 3).try_into().expect("2 bits");
            IpHeaders::Ipv4(header, extensions)
        }
        IpHeaders::Ipv6(mut header, extensions) => {
            header.traffic_class = traffic_class;
            header.flow_label = 0xf_edcb.try_into().expect("20 bits");
            IpHeaders::Ipv6(header, extensions)
        }
    };
    ends.ip_of(header).tcp(ACK)
}

#[test]
fn dscp_and_ecn_are_copied_and_the_rest_is_lbs_own() {
    for scene in scenes() {
        for ends in Scene::web() {
            for traffic_class in 0..=255 {
                let frame = marked(ends, traffic_class, 1 + traffic_class / 2);
                let sent = scene.world.send(&frame);
                let tunnelled = Tunnelled::read(&sent.frame, frame.len() - 14);
                assert_eq!(tunnelled.traffic_class(), traffic_class);
                assert_eq!(tunnelled.inner, frame[14..]);
                match &tunnelled.outer {
                    IpHeaders::Ipv4(outer, _) => {
                        assert_eq!((outer.time_to_live, outer.dont_fragment, outer.more_fragments), (64, true, false));
                        assert_eq!((outer.identification, outer.fragment_offset.value()), (0, 0));
                    }
                    IpHeaders::Ipv6(outer, _) => assert_eq!((outer.hop_limit, outer.flow_label.value()), (64, 0)),
                }
            }
        }
    }
}

#[test]
fn the_outer_source_is_the_prefix_and_bits_of_the_flow() {
    let flows = (0..4000).flat_map(|n| Scene::web().map(|ends| ends.with_port(10_000 + n)));
    let mut sources = BTreeSet::new();
    for ends in flows {
        for scene in scenes() {
            let frame = ends.tcp(SYN);
            let source = Tunnelled::read(&scene.world.send(&frame).frame, frame.len() - 14).source();
            let again = ends.tcp(ACK);
            let same = Tunnelled::read(&scene.world.send(&again).frame, again.len() - 14).source();
            assert_eq!(source, same, "one flow, one source");
            match source {
                IpAddr::V4(v4) => assert_eq!(v4.octets()[..2], [172, 16]),
                IpAddr::V6(v6) => assert_eq!(v6.octets()[..12], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            }
            sources.insert(source);
        }
    }
    // 8000 of 65,536 addresses drawn: 7,532 different ones expected for IPv4, all 8000 for IPv6.
    let (v4, v6): (Vec<&IpAddr>, Vec<&IpAddr>) = sources.iter().partition(|source| source.is_ipv4());
    assert!((7400..7700).contains(&v4.len()) && v6.len() > 7990, "{} and {}", v4.len(), v6.len());
}

#[test]
fn any_prefix_is_kept_to_the_bit() {
    for bits in 0..=32_u32 {
        let mask = u32::MAX.checked_shr(bits).unwrap_or(0);
        let prefix = 0xac1f_a5c3 & !mask;
        let mut scene = Scene::new(&BACKENDS_V4);
        scene.world.tables.tuning.source_v4 = prefix.to_be_bytes();
        scene.world.tables.tuning.source_v4_mask = mask.to_be_bytes();
        let mut ones_seen = 0;
        for port in 10_000..10_064 {
            let frame = Scene::web()[0].with_port(port).tcp(SYN);
            let IpAddr::V4(source) = Tunnelled::read(&scene.world.send(&frame).frame, frame.len() - 14).source() else {
                panic!("an outer IPv4 header")
            };
            assert_eq!(u32::from(source) & !mask, prefix);
            ones_seen |= u32::from(source) & mask;
        }
        assert_eq!(ones_seen, mask, "every bit that the flow decides is used");
    }
    let mut scene = Scene::new(&BACKENDS_V6);
    scene.world.tables.tuning.source_v6 = [0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 0, 0, 0];
    let frame = Scene::web()[0].tcp(SYN);
    let IpAddr::V6(source) = Tunnelled::read(&scene.world.send(&frame).frame, frame.len() - 14).source() else {
        panic!("an outer IPv6 header")
    };
    assert_eq!(source.octets()[..12], [0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn flows_of_one_backend_have_sources_that_differ_evenly() {
    // A backend's network card spreads by the outer source alone: it must not follow from the slot in the ring.
    let scene = Scene::new(&BACKENDS_V4);
    let first = scene.world.vip(scene.web[0]).target_base;
    let mut counts = [0_u32; 16];
    for port in 1024..u16::MAX {
        let frame = Scene::web()[0].with_port(port).tcp(ACK);
        if scene.world.forward(&frame) == first {
            let IpAddr::V4(source) = Tunnelled::read(&scene.world.send(&frame).frame, frame.len() - 14).source() else {
                panic!("an outer IPv4 header")
            };
            counts[source.octets()[3] as usize & 15] += 1;
        }
    }
    // 64,511 / 3 / 16 = 1344 each, with a deviation of 36.
    assert!(counts.iter().all(|count| (1150..1540).contains(count)), "{counts:?}");
}

#[test]
fn packets_of_every_length_have_right_sums() {
    for scene in scenes() {
        for ends in Scene::web() {
            for length in (0..1500).chain([8_000, 64_000]) {
                let frame = ends.ip_of(ip(ends, 64)).segment(ACK, &vec![0xa5; length]);
                let sent = scene.world.send(&frame);
                assert_eq!(sent.exit.verdict, Verdict::Forwarded);
                assert_eq!(Tunnelled::read(&sent.frame, frame.len() - 14).inner, frame[14..]);
            }
        }
    }
}
