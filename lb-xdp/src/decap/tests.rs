use std::net::IpAddr;

use etherparse::{IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, PacketHeaders};
use lb_common::{
    layout::vip::{TCP, UDP},
    maps::DecapVerdict,
};
use proptest::prelude::*;

use crate::{
    fixture::{
        INGRESS, World,
        frames::{BALANCER, Ends, PAYLOAD, ROUTER, ends, flags::PSH, ip},
        octets,
    },
    host::{Backend, HostFrame},
};

mod gue;
mod links;
mod sources;

const TUNNEL: [&str; 2] = ["10.0.0.11", "fd00::11"];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The backend with both tunnel addresses.
fn backend() -> Backend {
    Backend::new(TUNNEL.map(|text| octets(address(text)).0))
}

/// What becomes of a frame at a backend.
fn arrive_at(backend: &Backend, bytes: &[u8]) -> (DecapVerdict, Vec<u8>) {
    let mut frame = HostFrame::new(bytes, INGRESS);
    let verdict = backend.unwrap(&mut frame);
    (verdict, frame.bytes().to_vec())
}

fn arrive(bytes: &[u8]) -> (DecapVerdict, Vec<u8>) {
    arrive_at(&backend(), bytes)
}

fn inner_flows() -> [Ends; 2] {
    [ends("198.51.100.7:51000", "192.0.2.10:443"), ends("[2001:db8:c::7]:51000", "[2001:db8::10]:443")]
}

/// Traffic class of an IP header of either version.
fn set_class(header: &mut IpHeaders, class: u8) {
    match header {
        IpHeaders::Ipv4(header, _) => {
            header.dscp = (class >> 2).try_into().expect("6 bits");
            header.ecn = (class & 3).try_into().expect("2 bits");
        }
        IpHeaders::Ipv6(header, _) => header.traffic_class = class,
    }
}

/// An inner segment with its Ethernet header, in a given traffic class.
fn inner(flow: Ends, class: u8) -> Vec<u8> {
    let mut header = ip(flow, 33);
    set_class(&mut header, class);
    flow.ip_of(header).segment(PSH, PAYLOAD)
}

/// An inner frame in an outer header of etherparse's, to one of the tunnel addresses.
fn tunnelled(inner: &[u8], destination: &str, class: u8, options: &[u8]) -> Vec<u8> {
    let protocol = if inner[12] == 0x08 { IpNumber::IPV4 } else { IpNumber::IPV6 };
    enclosed(protocol, &inner[14..], destination, class, options)
}

/// A payload in an IP header of etherparse's.
fn enclosed(protocol: IpNumber, packet: &[u8], destination: &str, class: u8, options: &[u8]) -> Vec<u8> {
    let mut outer = match address(destination) {
        IpAddr::V4(to) => {
            let length = packet.len() as u16;
            let mut header = Ipv4Header::new(length, 60, protocol, [172, 16, 3, 4], to.octets()).expect("a length");
            header.options = options.try_into().expect("options");
            header.total_len = length + header.header_len() as u16;
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
        IpAddr::V6(to) => {
            let header = Ipv6Header {
                payload_length: packet.len() as u16,
                next_header: protocol,
                hop_limit: 60,
                source: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, Ipv6Extensions::default())
        }
    };
    set_class(&mut outer, class);
    if let IpHeaders::Ipv4(header, _) = &mut outer {
        header.header_checksum = header.calc_header_checksum();
    }
    let ether_type = if matches!(outer, IpHeaders::Ipv4(..)) { [0x08, 0x00] } else { [0x86, 0xdd] };
    let mut frame = [&ROUTER[..], &BALANCER, &ether_type].concat();
    match outer {
        IpHeaders::Ipv4(header, _) => frame.extend_from_slice(&header.to_bytes()),
        IpHeaders::Ipv6(header, _) => frame.extend_from_slice(&header.to_bytes()),
    }
    frame.extend_from_slice(packet);
    frame
}

/// The verdict on a whole inner packet.
fn unwrapped(inner: &[u8]) -> DecapVerdict {
    if inner[12] == 0x08 { DecapVerdict::UnwrappedV4 } else { DecapVerdict::UnwrappedV6 }
}

#[test]
fn what_another_encapsulator_wraps_is_unwrapped_whatever_its_options() {
    for destination in TUNNEL {
        for flow in inner_flows() {
            let inner = inner(flow, 0);
            let words = if address(destination).is_ipv4() { 0..=10 } else { 0..=0 };
            for options in words.map(|words| vec![1_u8; words * 4]) {
                let (verdict, frame) = arrive(&tunnelled(&inner, destination, 0, &options));
                assert_eq!(verdict, unwrapped(&inner), "{destination} {options:?}");
                assert_eq!(frame, [&ROUTER, &BALANCER, &inner[12..]].concat());
            }
        }
    }
}

/// RFC 6040 section 4.2, figure 4: rows are the inner field (not-ECT, ECT(0), ECT(1), CE), columns the outer one in the
/// same order; `None` drops.
const FIGURE_4: [[Option<u8>; 4]; 4] = [
    [Some(0b00), Some(0b00), Some(0b00), None],
    [Some(0b10), Some(0b10), Some(0b01), Some(0b11)],
    [Some(0b01), Some(0b01), Some(0b01), Some(0b11)],
    [Some(0b11), Some(0b11), Some(0b11), Some(0b11)],
];

#[test]
fn congestion_marks_are_merged_as_the_rfc_says() {
    let codepoints = [0b00, 0b10, 0b01, 0b11];
    for destination in TUNNEL {
        for flow in inner_flows() {
            for (row, inner_ecn) in FIGURE_4.into_iter().zip(codepoints) {
                for (merged, outer_ecn) in row.into_iter().zip(codepoints) {
                    // DSCP of the inner packet stays, that of the outer one is lost.
                    let packet = inner(flow, 0xb8 | inner_ecn);
                    let wrapped = tunnelled(&packet, destination, 0x28 | outer_ecn, b"");
                    let (verdict, frame) = arrive(&wrapped);
                    let Some(merged) = merged else {
                        assert_eq!((verdict, frame), (DecapVerdict::CongestionLost, wrapped));
                        continue;
                    };
                    assert_eq!(verdict, unwrapped(&packet));
                    // Checksum included: etherparse made this one whole.
                    assert_eq!(frame[14..], inner(flow, 0xb8 | merged)[14..], "{inner_ecn:#b} in {outer_ecn:#b}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_hold_what_it_says_is_dropped() {
    for destination in TUNNEL {
        let header_len = if address(destination).is_ipv4() { 20 } else { 40 };
        for flow in inner_flows() {
            let whole = inner(flow, 0);
            let start = 14 + header_len;
            let least = if flow.from.is_ipv4() { 20 } else { 40 };
            let wrapped = tunnelled(&whole, destination, 0, b"");
            let demand = |frame: &[u8], what: &str| {
                assert_eq!(arrive(frame), (DecapVerdict::Malformed, frame.to_vec()), "{destination}: {what}");
            };
            for version in (0..16).filter(|version| *version != whole[14] >> 4) {
                let mut frame = wrapped.clone();
                frame[start] = version << 4 | 5;
                demand(&frame, "a version that the outer header denies");
            }
            for cut in start..start + least {
                demand(&wrapped[..cut], "not even an inner header");
            }
            for cut in start + least..wrapped.len() {
                demand(&wrapped[..cut], "a packet that ends before its length");
            }
            let mut longer = wrapped.clone();
            let at = start + if least == 20 { 2 } else { 4 };
            let length = u16::from_be_bytes([longer[at], longer[at + 1]]) + 1;
            longer[at..at + 2].copy_from_slice(&length.to_be_bytes());
            longer.push(0);
            demand(&longer, "an inner packet longer than the outer one");
        }
    }
}

#[test]
fn what_is_no_tunnel_packet_for_this_host_is_untouched() {
    let demand = |frame: &[u8], what: &str| {
        assert_eq!(arrive(frame), (DecapVerdict::Untouched, frame.to_vec()), "{what}");
    };
    for flow in inner_flows() {
        demand(&inner(flow, 0), "a plain packet");
        for other in ["10.0.0.12", "fd00::12"] {
            demand(&tunnelled(&inner(flow, 0), other, 0, b""), "to another address");
        }
        let wrapped = tunnelled(&inner(flow, 0), TUNNEL[0], 0, b"");
        let changed = |at: usize, byte: u8| {
            let mut frame = wrapped.clone();
            frame[at] = byte;
            frame
        };
        for (at, byte, what) in [
            (12, 0x81, "a VLAN tag"),
            (14, 0x65, "another version"),
            (14, 0x44, "a header of 16 bytes"),
            (20, 0x20, "a first fragment"),
            (21, 0x01, "a later fragment"),
            (23, 47, "GRE"),
            (23, 17, "UDP"),
            (23, 0, "protocol 0"),
        ] {
            demand(&changed(at, byte), what);
        }
        let wrapped = tunnelled(&inner(flow, 0), TUNNEL[1], 0, b"");
        for (at, byte, what) in [(14, 0x45, "another version"), (20, 44, "a fragment"), (20, 60, "options")] {
            let mut frame = wrapped.clone();
            frame[at] = byte;
            demand(&frame, what);
        }
        for length in 0..34 {
            demand(&wrapped[..length], "too short to be read");
        }
    }
    // The tunnel address as a source.
    let reply = ends("10.0.0.11:443", "198.51.100.7:51000");
    demand(&reply.ip_of(ip(reply, 64)).raw(IpNumber::IPV4, &inner(inner_flows()[0], 0)[14..]), "from it");
}

fn flow() -> impl Strategy<Value = Ends> {
    let ports = (any::<u16>(), prop::sample::select(inner_flows().to_vec()));
    ports.prop_map(|(port, flow)| flow.with_port(port))
}

proptest! {
    #[test]
    fn wrapping_and_unwrapping_gives_the_packet_back(
        flow in flow(),
        backend in prop::sample::select(TUNNEL.to_vec()),
        class: u8,
        ttl: u8,
        payload in prop::collection::vec(any::<u8>(), 0..300),
        padding in 0..50_usize,
    ) {
        let mut world = World::new(16);
        for flow in inner_flows() {
            world.serve(flow.to.ip(), 443, TCP, &[address(backend)]);
            world.serve(flow.to.ip(), 443, UDP, &[address(backend)]);
        }
        let mut header = ip(flow, ttl);
        set_class(&mut header, class);
        let mut original = flow.ip_of(header).segment(PSH, &payload);
        original.resize(original.len() + padding, 0xee);
        let (verdict, frame) = arrive(&world.send(&original).frame);
        prop_assert_eq!(verdict, unwrapped(&original));
        prop_assert_eq!(&frame[14..], &original[14..]);
        prop_assert_eq!(&frame[12..14], &original[12..14]);
        let packet = PacketHeaders::from_ethernet_slice(&frame).expect("a whole packet");
        prop_assert!(packet.transport.is_some());
    }

    #[test]
    fn any_bytes_are_unwrapped_or_left_alone(
        flow in flow(),
        destination in prop::sample::select(TUNNEL.to_vec()),
        changes in prop::collection::vec((12..100_usize, any::<u8>()), 0..4),
        length in prop::option::of(0..160_usize),
    ) {
        let mut frame = tunnelled(&inner(flow, 2), destination, 2, b"");
        for (at, byte) in changes {
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(length) = length {
            frame.resize(length, 0xee);
        }
        let (verdict, after) = arrive(&frame);
        if let DecapVerdict::UnwrappedV4 | DecapVerdict::UnwrappedV6 = verdict {
            // The second byte holds the traffic class; it is part of the header's sum, if there is one.
            let inside = &frame[frame.len() - (after.len() - 14)..];
            let changed: Vec<usize> = (0..inside.len()).filter(|&at| inside[at] != after[14 + at]).collect();
            let mutable: &[usize] = if verdict == DecapVerdict::UnwrappedV4 { &[1, 10, 11] } else { &[1] };
            prop_assert!(changed.iter().all(|at| mutable.contains(at)), "{:?}", changed);
            let (version, at, header) =
                if verdict == DecapVerdict::UnwrappedV4 { (4, 16, 0) } else { (6, 18, 40) };
            prop_assert_eq!(after[14] >> 4, version);
            let length = usize::from(u16::from_be_bytes([after[at], after[at + 1]])) + header;
            prop_assert!(length <= after.len() - 14, "a packet that is there");
        } else {
            prop_assert_eq!(after, frame);
        }
    }
}
