//! What comes to a backend by GUE, with VLAN tags, and from those who may not send.

use etherparse::UdpHeader;
use lb_common::{
    layout::prefix::SourceKey,
    maps::DecapVerdict::{
        self, CongestionLost, ForeignSource, GueUnwrappedV4, GueUnwrappedV6, Malformed, Untouched, UnwrappedV4,
        UnwrappedV6,
    },
};
use lb_xdp::host::Backend;
use netns_tests::packet::{
    Frame,
    decap::Arrival,
    frame::{address, flags::ACK},
    given::octets,
};

use super::arrivals::{self, TUNNEL, TUNNEL_V6, backend, inner, inner_v6, wrapped};

const CUSTOMER: [u8; 4] = [0x81, 0x00, 0x60, 0x64];
const PROVIDER: [u8; 4] = [0x88, 0xa8, 0x00, 0x0a];
const PORT: u16 = 6080;

pub(crate) fn cases() -> Vec<Arrival> {
    let mut cases = pairs();
    cases.extend(tags());
    cases.extend(broken());
    cases.extend(bystanders());
    cases
}

/// A datagram to a port in an IP header to this address, of this class.
fn datagram(packet: &[u8], to: &str, port: u16, checksum: u16, class: u8) -> Vec<u8> {
    let length = u16::try_from(packet.len() + 8).expect("a short packet");
    let header = UdpHeader { source_port: 0x9abc, destination_port: port, length, checksum };
    let content = [&header.to_bytes()[..], packet].concat();
    let from = if address(to).is_ipv4() { "172.16.3.4" } else { "100::1:2:3:4" };
    Frame::raw(from, to, 17, &content).class(class).build()
}

fn gue(frame: &Frame, to: &str) -> Vec<u8> {
    datagram(&frame.packet(), to, PORT, 0, 0)
}

/// Where the packet inside such a frame starts.
fn inner_start(to: &str) -> usize {
    14 + if address(to).is_ipv4() { 20 } else { 40 } + 8
}

fn changed(mut frame: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    frame[at] = byte;
    frame
}

fn verdict(frame: &Frame) -> DecapVerdict {
    if frame.is_v4() { GueUnwrappedV4 } else { GueUnwrappedV6 }
}

fn unwrapped(name: &'static str, frame: &Frame, to: &str) -> Arrival {
    Arrival::unwrapped(name, gue(frame, to), verdict(frame), frame.build())
}

fn pairs() -> Vec<Arrival> {
    let mut options = gue(&inner(), TUNNEL);
    options.splice(34..34, [1; 40]);
    options[14] = 0x4f;
    let length = u16::try_from(options.len() - 14).expect("a short frame");
    options[16..18].copy_from_slice(&length.to_be_bytes());
    let summed = |name, sum, to| {
        Arrival::unwrapped(name, datagram(&inner().packet(), to, PORT, sum, 0), GueUnwrappedV4, inner().build())
    };
    let marked = |name, inside: u8, outside: u8, merged: u8, to| {
        let arriving = datagram(&inner_v6().class(inside).packet(), to, PORT, 0, outside);
        Arrival::unwrapped(name, arriving, GueUnwrappedV6, inner_v6().class(merged).build())
    };
    let lost = datagram(&inner().class(0xb8).packet(), TUNNEL, PORT, 0, 0x03);
    vec![
        unwrapped("GUE, IPv4 in IPv4", &inner(), TUNNEL),
        // Katran takes what is inside for IPv4.
        unwrapped("GUE, IPv6 in IPv4", &inner_v6(), TUNNEL),
        unwrapped("GUE, IPv4 in IPv6", &inner(), TUNNEL_V6),
        unwrapped("GUE, IPv6 in IPv6", &inner_v6(), TUNNEL_V6),
        unwrapped("GUE, a full frame", &inner().payload(&[0xa5; 1460]), TUNNEL_V6),
        unwrapped("GUE, ICMP inside", &Frame::echo("198.51.100.7", "192.0.2.10", 1), TUNNEL),
        unwrapped("GUE, an inner fragment", &inner().fragment(7, true), TUNNEL),
        summed("GUE, a checksum that is not complete yet", 0x1234, TUNNEL),
        summed("GUE, the same over IPv6", 0x1234, TUNNEL_V6),
        Arrival::unwrapped("GUE, outer options", options, GueUnwrappedV4, inner().build()),
        marked("GUE, ECT(0) in CE", 0xb8 | 0b10, 0b11, 0xb8 | 0b11, TUNNEL),
        marked("GUE, ECT(1) in not-ECT", 0b01, 0, 0b01, TUNNEL_V6),
        Arrival::left_alone("GUE, not-ECT in CE", lost, CongestionLost),
    ]
}

fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], tags.as_flattened(), &frame[12..]].concat()
}

fn tags() -> Vec<Arrival> {
    let case = |name, arriving: Vec<u8>, tags: &[[u8; 4]], verdict, inside: Frame| {
        Arrival::unwrapped(name, tagged(&arriving, tags), verdict, tagged(&inside.build(), tags))
    };
    let double = [PROVIDER, CUSTOMER];
    let (v4, v6) = (wrapped(&inner(), TUNNEL, 0), wrapped(&inner_v6(), TUNNEL_V6, 0));
    let triple = tagged(&v4, &[PROVIDER, CUSTOMER, CUSTOMER]);
    vec![
        case("802.1Q, IPv4 in IPv4", v4.clone(), &[CUSTOMER], UnwrappedV4, inner()),
        case("802.1Q, IPv6 in IPv4", wrapped(&inner_v6(), TUNNEL, 0), &[CUSTOMER], UnwrappedV6, inner_v6()),
        case("802.1Q, IPv4 in IPv6", wrapped(&inner(), TUNNEL_V6, 0), &[CUSTOMER], UnwrappedV4, inner()),
        case("802.1Q, GUE in IPv4", gue(&inner(), TUNNEL), &[CUSTOMER], GueUnwrappedV4, inner()),
        case("802.1Q, GUE in IPv6", gue(&inner_v6(), TUNNEL_V6), &[CUSTOMER], GueUnwrappedV6, inner_v6()),
        case("a provider's tag", v6.clone(), &[PROVIDER], UnwrappedV6, inner_v6()),
        case("QinQ, IPv4 in IPv4", v4, &double, UnwrappedV4, inner()),
        case("QinQ, IPv6 in IPv6", v6.clone(), &double, UnwrappedV6, inner_v6()),
        case("QinQ, GUE in IPv4", gue(&inner_v6(), TUNNEL), &double, GueUnwrappedV6, inner_v6()),
        case("QinQ, GUE in IPv6", gue(&inner(), TUNNEL_V6), &double, GueUnwrappedV4, inner()),
        Arrival::left_alone("three tags", triple, Untouched),
        Arrival::left_alone("half a header behind a tag", tagged(&v6, &[CUSTOMER])[..57].to_vec(), Untouched),
        Arrival::left_alone("half a packet behind tags", tagged(&v6, &double)[..120].to_vec(), Malformed),
    ]
}

fn broken() -> Vec<Arrival> {
    let drops = |name, frame| Arrival::left_alone(name, frame, Malformed);
    let mut cases = Vec::new();
    for to in [TUNNEL, TUNNEL_V6] {
        let start = inner_start(to);
        let (v4, v6) = (gue(&inner(), to), gue(&inner_v6(), to));
        let length = v4[start - 3];
        cases.extend([
            drops("GUE, a version of IP that does not exist", changed(v4.clone(), start, 0x55)),
            drops("GUE, half an inner header", v4[..start + 19].to_vec()),
            drops("GUE, half an inner header, IPv6", v6[..start + 39].to_vec()),
            drops("GUE, half an inner packet", v4[..start + 30].to_vec()),
            drops("GUE, a datagram longer than its packet", changed(v4.clone(), start - 3, length + 1)),
            drops("GUE, a datagram shorter than what is inside", changed(v4.clone(), start - 3, length - 1)),
            drops("GUE, an inner packet longer than the datagram", changed(v6.clone(), start + 4, 0x01)),
        ]);
    }
    cases
}

fn bystanders() -> Vec<Arrival> {
    let passes = |name, frame| Arrival::left_alone(name, frame, Untouched);
    let mut cases = Vec::new();
    for to in [TUNNEL, TUNNEL_V6] {
        let start = inner_start(to);
        let whole = gue(&inner(), to);
        let mut from_port = whole.clone();
        from_port.copy_within(start - 6..start - 4, start - 8);
        from_port[start - 6..start - 4].copy_from_slice(&0x9abc_u16.to_be_bytes());
        cases.extend([
            passes("GUE of variant 0", changed(whole.clone(), start, 0x00)),
            passes("a control message of GUE", changed(whole.clone(), start, 0x20)),
            passes("GUE of variant 2", changed(whole.clone(), start, 0x85)),
            passes("another port", datagram(&inner().packet(), to, 6081, 0, 0)),
            passes("from the port of GUE", from_port),
            passes("an empty datagram", datagram(b"", to, PORT, 0, 0)),
            passes("half a UDP header", whole[..start - 1].to_vec()),
        ]);
    }
    cases.push(passes("GUE to another address", gue(&inner(), "10.0.0.12")));
    cases.push(passes("GUE in a first fragment", changed(gue(&inner(), TUNNEL), 20, 0x20)));
    let mut mapped = wrapped(&inner(), TUNNEL_V6, 0);
    mapped[38..54].copy_from_slice(&octets(address(TUNNEL)).0);
    cases.push(passes("a mapped address in an IPv6 header", mapped));
    cases
}

/// One that takes tunnel packets of 10.1.0.0/16, and of all of IPv6 but `2001:db8::/32`.
pub(crate) fn choosy() -> Backend {
    let mut backend = backend();
    backend.tuning.only_sources = 1;
    backend.tuning.gue_port = 7000_u16.to_be_bytes();
    let allowed = [("::", 0, 1), ("0.0.0.0", 96, 0), ("10.1.0.0", 96 + 16, 1), ("2001:db8::", 32, 0)];
    let entry = |(text, bits, value)| (SourceKey::new(0, octets(address(text)).0, bits), value);
    backend.sources = allowed.map(entry).into();
    backend
}

pub(crate) fn from_others() -> Vec<Arrival> {
    let mut cases = Vec::new();
    for (from, to, taken) in [
        ("10.1.0.0", TUNNEL, true),
        ("10.1.255.255", TUNNEL, true),
        ("10.0.255.255", TUNNEL, false),
        ("10.2.0.0", TUNNEL, false),
        ("172.16.3.4", TUNNEL, false),
        ("100::1", TUNNEL_V6, true),
        ("2001:db7:ffff::1", TUNNEL_V6, true),
        ("2001:db8::1", TUNNEL_V6, false),
        ("2001:db9::", TUNNEL_V6, true),
    ] {
        let ipip = Frame::raw(from, to, 4, &inner().packet()).build();
        let content = [&[0x12, 0x34, 0x1b, 0x58, 0, 60, 0, 0][..], &inner().packet()].concat();
        assert_eq!(content.len(), 60);
        let by_gue = Frame::raw(from, to, 17, &content).build();
        cases.extend([(ipip, UnwrappedV4), (by_gue, GueUnwrappedV4)].map(|(frame, verdict)| {
            if taken {
                Arrival::unwrapped(from, frame, verdict, inner().build())
            } else {
                Arrival::left_alone(from, frame, ForeignSource)
            }
        }));
    }
    let plain = Frame::tcp("172.16.3.4:1", "10.0.0.11:22", ACK).build();
    cases.push(Arrival::left_alone("a plain segment of a stranger", plain, Untouched));
    cases.push(Arrival::left_alone("GUE at the usual port", gue(&inner(), TUNNEL), Untouched));
    let broken = wrapped(&inner(), TUNNEL, 0)[..60].to_vec();
    cases.push(Arrival::left_alone("half a packet of a stranger", broken, ForeignSource));
    cases
}

#[test]
fn every_verdict_of_a_backend_is_expected_by_a_case() {
    let cases = [arrivals::cases(), cases(), from_others()].concat();
    let missing: Vec<_> =
        DecapVerdict::ALL.into_iter().filter(|verdict| cases.iter().all(|case| case.verdict() != *verdict)).collect();
    assert_eq!(missing, [], "add a case");
}
