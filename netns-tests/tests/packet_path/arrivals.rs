//! What comes to a backend.

use lb_common::maps::DecapVerdict::{self, CongestionLost, Malformed, UnwrappedV4, UnwrappedV6};
use lb_xdp::host::Backend;
use netns_tests::packet::{
    Frame,
    decap::Arrival,
    frame::{BALANCER, ROUTER, Tunnel, address, flags::ACK},
    given::octets,
};

pub(crate) const TUNNEL: &str = "10.0.0.11";
pub(crate) const TUNNEL_V6: &str = "fd00::11";

/// With both tunnel addresses.
pub(crate) fn backend() -> Backend {
    Backend::new([TUNNEL, TUNNEL_V6].map(|text| octets(address(text)).0))
}

pub(crate) fn inner() -> Frame {
    Frame::tcp("198.51.100.7:51000", "192.0.2.10:443", ACK)
}

pub(crate) fn inner_v6() -> Frame {
    Frame::tcp("[2001:db8:c::7]:51000", "[2001:db8::10]:443", ACK)
}

/// A frame in a tunnel to this address, in this class.
pub(crate) fn wrapped(frame: &Frame, to: &str, class: u8) -> Vec<u8> {
    let destination = address(to);
    let source = address(if destination.is_ipv4() { "172.16.3.4" } else { "100::1:2:3:4" });
    Tunnel { source, destination, class, macs: [ROUTER, BALANCER] }.wrap(frame)
}

pub(crate) fn cases() -> Vec<Arrival> {
    let mut cases = pairs();
    cases.extend(congestion());
    cases.extend(broken());
    cases.extend(bystanders());
    cases
}

fn unwrapped(name: &'static str, frame: &Frame, to: &str) -> Arrival {
    let verdict = if frame.is_v4() { UnwrappedV4 } else { UnwrappedV6 };
    Arrival::unwrapped(name, wrapped(frame, to, 0), verdict, frame.build())
}

fn pairs() -> Vec<Arrival> {
    let mut options = wrapped(&inner(), TUNNEL, 0);
    // Two words of options in the outer header, whose sum the program need not check.
    options.splice(34..34, [1; 8]);
    options[14] = 0x47;
    let length = u16::try_from(options.len() - 14).expect("a short frame");
    options[16..18].copy_from_slice(&length.to_be_bytes());
    vec![
        unwrapped("IPv4 in IPv4", &inner(), TUNNEL),
        // Katran cuts 40 bytes here, as of an outer IPv6 header.
        unwrapped("IPv6 in IPv4", &inner_v6(), TUNNEL),
        unwrapped("IPv4 in IPv6", &inner(), TUNNEL_V6),
        unwrapped("IPv6 in IPv6", &inner_v6(), TUNNEL_V6),
        unwrapped("a full frame", &inner().payload(&[0xa5; 1460]), TUNNEL),
        unwrapped("padding", &inner().payload(b"").padded(30), TUNNEL_V6),
        unwrapped("inner options", &inner().options(&[1; 40]), TUNNEL),
        unwrapped("an inner fragment", &inner().fragment(7, true), TUNNEL),
        unwrapped("a protocol unknown to lb", &Frame::raw("198.51.100.7", "192.0.2.10", 132, b"chunks"), TUNNEL),
        Arrival::unwrapped("outer options", options, UnwrappedV4, inner().build()),
    ]
}

/// RFC 6040 section 4.2, figure 4.
fn congestion() -> Vec<Arrival> {
    let (not_ect, ect_0, ect_1, ce) = (0b00, 0b10, 0b01, 0b11);
    let dscp = 0xb8;
    let rows = [
        ("not-ECT in ECT(0)", not_ect, ect_0, Some(not_ect)),
        ("not-ECT in ECT(1)", not_ect, ect_1, Some(not_ect)),
        ("not-ECT in CE", not_ect, ce, None),
        ("ECT(0) in not-ECT", ect_0, not_ect, Some(ect_0)),
        ("ECT(0) in ECT(1)", ect_0, ect_1, Some(ect_1)),
        ("ECT(0) in CE", ect_0, ce, Some(ce)),
        ("ECT(1) in ECT(0)", ect_1, ect_0, Some(ect_1)),
        ("ECT(1) in CE", ect_1, ce, Some(ce)),
        ("CE in not-ECT", ce, not_ect, Some(ce)),
        ("CE in CE", ce, ce, Some(ce)),
    ];
    let arrive = |frame: Frame, to: &str, (name, inside, outside, merged): (&'static str, u8, u8, Option<u8>)| {
        let arriving = wrapped(&frame.clone().class(dscp | inside), to, outside);
        let verdict = if frame.is_v4() { UnwrappedV4 } else { UnwrappedV6 };
        match merged {
            Some(merged) => Arrival::unwrapped(name, arriving, verdict, frame.class(dscp | merged).build()),
            None => Arrival::left_alone(name, arriving, CongestionLost),
        }
    };
    let pairs = [(inner(), TUNNEL), (inner_v6(), TUNNEL), (inner(), TUNNEL_V6), (inner_v6(), TUNNEL_V6)];
    pairs.iter().flat_map(|(frame, to)| rows.map(|row| arrive(frame.clone(), to, row))).collect()
}

fn broken() -> Vec<Arrival> {
    let drops = |name, frame| Arrival::left_alone(name, frame, Malformed);
    let cut = |frame: Vec<u8>, length: usize| frame[..length].to_vec();
    let changed = |mut frame: Vec<u8>, at: usize, byte: u8| {
        frame[at] = byte;
        frame
    };
    let (v4, v6) = (wrapped(&inner(), TUNNEL, 0), wrapped(&inner_v6(), TUNNEL_V6, 0));
    vec![
        drops("no inner header", cut(v4.clone(), 34)),
        drops("half an inner header", cut(v4.clone(), 53)),
        drops("half an inner header, IPv6", cut(v6.clone(), 93)),
        drops("half an inner packet", cut(v4.clone(), 60)),
        drops("half an inner packet, IPv6", cut(v6.clone(), 100)),
        drops("another inner version", changed(v4.clone(), 34, 0x65)),
        drops("another inner version, IPv6", changed(v6.clone(), 54, 0x45)),
        drops("an inner packet longer than the outer", changed(v4, 36, 0x01)),
        drops("an inner packet longer than the outer, IPv6", changed(v6, 58, 0x01)),
    ]
}

fn bystanders() -> Vec<Arrival> {
    let passes = |name, frame: Vec<u8>| Arrival::left_alone(name, frame, DecapVerdict::Untouched);
    let changed = |at: usize, byte: u8| {
        let mut frame = wrapped(&inner(), TUNNEL, 0);
        frame[at] = byte;
        frame
    };
    vec![
        passes("to another tunnel address", wrapped(&inner(), "10.0.0.12", 0)),
        passes("to another tunnel address, IPv6", wrapped(&inner(), "fd00::12", 0)),
        passes("a plain segment", inner().build()),
        passes("a plain segment to the tunnel address", Frame::tcp("198.51.100.7:1", "10.0.0.11:22", ACK).build()),
        passes("a ping of the tunnel address", Frame::echo("198.51.100.7", TUNNEL, 1).build()),
        passes("GRE", changed(23, 47)),
        passes("a first fragment", changed(20, 0x20)),
        passes("a later fragment", changed(21, 0x10)),
        passes("an outer header of 16 bytes", changed(14, 0x44)),
        passes("a tag of nothing", changed(12, 0x81)),
        passes("an Ethernet header alone", changed(12, 8)[..14].to_vec()),
    ]
}
