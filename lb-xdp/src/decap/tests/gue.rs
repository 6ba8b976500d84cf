//! GUE of variant 1, and what else comes to its port.

use etherparse::{IpNumber, UdpHeader};
use lb_common::maps::DecapVerdict;
use proptest::prelude::*;

use super::{FIGURE_4, TUNNEL, address, arrive, arrive_at, backend, enclosed, flow, inner, inner_flows};
use crate::fixture::frames::{BALANCER, ROUTER};

/// A packet in a datagram to a port, with a checksum as it may be: none, right or not yet complete.
pub(super) fn datagram(packet: &[u8], port: u16, checksum: u16) -> Vec<u8> {
    let length = packet.len() as u16 + 8;
    let header = UdpHeader { source_port: 0x9abc, destination_port: port, length, checksum };
    [&header.to_bytes()[..], packet].concat()
}

/// An inner frame by GUE to one of the tunnel addresses.
pub(super) fn gue(inner: &[u8], destination: &str, class: u8) -> Vec<u8> {
    enclosed(IpNumber::UDP, &datagram(&inner[14..], 6080, 0), destination, class, b"")
}

/// Where the UDP header of such a frame starts.
pub(super) fn udp_start(destination: &str) -> usize {
    14 + if address(destination).is_ipv4() { 20 } else { 40 }
}

pub(super) fn unwrapped(inner: &[u8]) -> DecapVerdict {
    if inner[12] == 0x08 { DecapVerdict::GueUnwrappedV4 } else { DecapVerdict::GueUnwrappedV6 }
}

/// Katran takes whatever lies in GUE over IPv4 for IPv4.
#[test]
fn the_inner_version_alone_decides_the_family_in_gue() {
    for destination in TUNNEL {
        for flow in inner_flows() {
            let inner = inner(flow, 0);
            let (verdict, frame) = arrive(&gue(&inner, destination, 0));
            assert_eq!(verdict, unwrapped(&inner), "{destination}");
            assert_eq!(frame, [&ROUTER, &BALANCER, &inner[12..]].concat());
        }
    }
}

/// A sum may be absent, also over IPv6 (RFC 6935), or not complete yet when the frame comes from this very machine.
#[test]
fn outer_udp_checksums_are_not_looked_at() {
    for destination in TUNNEL {
        for checksum in [0, 1, 0x1234, 0xffff] {
            let inner = inner(inner_flows()[0], 0);
            let frame = enclosed(IpNumber::UDP, &datagram(&inner[14..], 6080, checksum), destination, 0, b"");
            assert_eq!(arrive(&frame).0, DecapVerdict::GueUnwrappedV4, "{checksum:#x}");
        }
    }
}

#[test]
fn gue_comes_behind_ip_options_too() {
    for words in 0..=10 {
        let inner = inner(inner_flows()[1], 0);
        let options = vec![1; words * 4];
        let frame = enclosed(IpNumber::UDP, &datagram(&inner[14..], 6080, 0), TUNNEL[0], 0, &options);
        let (verdict, frame) = arrive(&frame);
        assert_eq!((verdict, &frame[14..]), (DecapVerdict::GueUnwrappedV6, &inner[14..]));
    }
}

#[test]
fn the_port_of_gue_is_as_configured() {
    let mut backend = backend();
    backend.tuning.gue_port = 9886_u16.to_be_bytes();
    for destination in TUNNEL {
        let inner = inner(inner_flows()[0], 0);
        let at = |port| enclosed(IpNumber::UDP, &datagram(&inner[14..], port, 0), destination, 0, b"");
        assert_eq!(arrive_at(&backend, &at(9886)).0, DecapVerdict::GueUnwrappedV4);
        for port in [6080, 53, 0, u16::from_be(9886)] {
            assert_eq!(arrive_at(&backend, &at(port)), (DecapVerdict::Untouched, at(port)), "{port}");
        }
    }
}

#[test]
fn congestion_marks_are_merged_in_gue_too() {
    let codepoints = [0b00, 0b10, 0b01, 0b11];
    for destination in TUNNEL {
        for flow in inner_flows() {
            for (row, inside) in FIGURE_4.into_iter().zip(codepoints) {
                for (merged, outside) in row.into_iter().zip(codepoints) {
                    let packet = inner(flow, 0xb8 | inside);
                    let wrapped = gue(&packet, destination, 0x28 | outside);
                    let expected = merged.map_or((DecapVerdict::CongestionLost, wrapped[14..].to_vec()), |merged| {
                        (unwrapped(&packet), inner(flow, 0xb8 | merged)[14..].to_vec())
                    });
                    let (verdict, frame) = arrive(&wrapped);
                    assert_eq!((verdict, frame[14..].to_vec()), expected, "{inside:#b} in {outside:#b}");
                }
            }
        }
    }
}

/// Variant 0 has a header of its own, and 2 and 3 are not defined: for whoever listens at that port.
#[test]
fn other_variants_and_other_datagrams_are_untouched() {
    let demand = |frame: &[u8], what: &str| {
        assert_eq!(arrive(frame), (DecapVerdict::Untouched, frame.to_vec()), "{what}");
    };
    for destination in TUNNEL {
        for flow in inner_flows() {
            let inner = inner(flow, 0);
            let whole = gue(&inner, destination, 0);
            let start = udp_start(destination);
            for variant in [0b00, 0b10, 0b11] {
                for rest in 0..64 {
                    let mut frame = whole.clone();
                    frame[start + 8] = variant << 6 | rest;
                    demand(&frame, "another variant");
                }
            }
            let mut reply = whole.clone();
            reply.swap(start, start + 2);
            reply.swap(start + 1, start + 3);
            demand(&reply, "from the port");
            for cut in 0..=start + 8 {
                demand(&whole[..cut], "not even a first byte");
            }
            for length in 0..=8 {
                let mut frame = whole.clone();
                frame[start + 5] = length;
                demand(&frame, "an empty datagram, padded");
            }
            demand(&enclosed(IpNumber::UDP, &datagram(b"", 6080, 0), destination, 0, b""), "an empty datagram");
            let other = if destination == TUNNEL[0] { "10.0.0.12" } else { "fd00::12" };
            demand(&gue(&inner, other, 0), "to another address");
            demand(&enclosed(IpNumber::TCP, &datagram(&inner[14..], 6080, 0), destination, 0, b""), "TCP");
        }
    }
}

#[test]
fn gue_that_does_not_hold_what_it_says_is_dropped() {
    for destination in TUNNEL {
        for flow in inner_flows() {
            let packet = inner(flow, 0);
            let whole = gue(&packet, destination, 0);
            let start = udp_start(destination);
            let demand = |frame: &[u8], what: &str| {
                assert_eq!(arrive(frame), (DecapVerdict::Malformed, frame.to_vec()), "{destination}: {what}");
            };
            for version in [5, 7] {
                let mut frame = whole.clone();
                frame[start + 8] = version << 4 | 5;
                demand(&frame, "no version of IP");
            }
            for cut in start + 9..whole.len() {
                demand(&whole[..cut], "a packet that ends before its length");
            }
            let mut longer = whole.clone();
            longer[start + 5] += 1;
            longer.push(0);
            demand(&longer, "a datagram longer than its packet");
            let mut shorter = whole.clone();
            shorter[start + 5] -= 1;
            demand(&shorter, "a datagram shorter than the packet inside");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_by_gue_are_unwrapped_or_left_alone(
        flow in flow(),
        destination in prop::sample::select(TUNNEL.to_vec()),
        changes in prop::collection::vec((12..100_usize, any::<u8>()), 0..4),
        length in prop::option::of(0..160_usize),
    ) {
        let mut frame = gue(&inner(flow, 2), destination, 2);
        for (at, byte) in changes {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(length) = length {
            frame.resize(length, 0xee);
        }
        let (verdict, after) = arrive(&frame);
        if !matches!(verdict, DecapVerdict::GueUnwrappedV4 | DecapVerdict::GueUnwrappedV6) {
            prop_assert_eq!(after, frame);
            return Ok(());
        }
        let inside = &frame[frame.len() - (after.len() - 14)..];
        let (version, at, header, mutable): (_, _, _, &[usize]) = if verdict == DecapVerdict::GueUnwrappedV4 {
            (4, 16, 0, &[1, 10, 11])
        } else {
            (6, 18, 40, &[1])
        };
        let changed: Vec<usize> = (0..inside.len()).filter(|&at| inside[at] != after[14 + at]).collect();
        prop_assert!(changed.iter().all(|at| mutable.contains(at)), "{:?}", changed);
        prop_assert_eq!(after[14] >> 4, version);
        let length = usize::from(u16::from_be_bytes([after[at], after[at + 1]])) + header;
        prop_assert!(length <= after.len() - 14, "a packet that is there");
    }
}
