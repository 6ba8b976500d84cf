//! Broken packets, missing backends, missing room, tables that don't fit together.

use lb_common::{
    layout::{
        counter::PathEvent,
        flow::FlowState::{Established, HalfOpen},
    },
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, SYN},
    given::Given,
};

use super::site::{CLIENT, CLIENT_V6, datagram, datagram_v6, segment, segment_v6, site, site_with};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = broken();
    cases.extend(without_backends());
    cases.extend(without_room());
    cases.extend(our_own());
    cases
}

/// A frame with bytes changed: each at an offset.
fn changed(frame: &Frame, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = frame.build();
    for (at, byte) in changes {
        bytes[*at] = *byte;
    }
    bytes
}

fn cut(frame: &Frame, length: usize) -> Vec<u8> {
    frame.build()[..length].to_vec()
}

/// Each kind of damage to a packet to a VIP, and the same to the host, which passes.
fn broken() -> Vec<Case> {
    use Verdict::{BadHeader, Truncated, Unreadable};
    let case = |name, frame: Vec<u8>, verdict| Case::left_alone(name, &site(), frame, verdict).remembers(&[]);
    let (v4, v6) = (segment(ACK), segment_v6(ACK));
    let (host, host_v6) = (Frame::tcp(CLIENT, "192.0.2.1:22", ACK), Frame::tcp(CLIENT_V6, "[2001:db8::1]:22", ACK));
    vec![
        case("a header of 16 bytes", changed(&v4, &[(14, 0x44)]), BadHeader),
        case("a header of 16 bytes, to the host", changed(&host, &[(14, 0x44)]), Unreadable),
        case("version 6 under IPv4's EtherType", changed(&v4, &[(14, 0x65)]), BadHeader),
        case("version 4 under IPv6's EtherType", changed(&v6, &[(14, 0x45)]), BadHeader),
        case("version 4 under IPv6's EtherType, to the host", changed(&host_v6, &[(14, 0x45)]), Unreadable),
        case("a TCP header of 16 bytes", changed(&v4, &[(46, 0x40)]), BadHeader),
        case("a TCP header of 16 bytes, IPv6", changed(&v6, &[(66, 0x40)]), BadHeader),
        case("a TCP header longer than the packet", changed(&v4, &[(46, 0xf0)]), Truncated),
        case("a TCP header longer than the packet, IPv6", changed(&v6, &[(66, 0xf0)]), Truncated),
        case("a length beyond the frame", changed(&v4, &[(16, 0x7f)]), Truncated),
        case("a length beyond the frame, IPv6", changed(&v6, &[(18, 0x7f)]), Truncated),
        case("a length beyond the frame, to the host", changed(&host, &[(16, 0x7f)]), Unreadable),
        case("a length of 0", changed(&v4, &[(16, 0), (17, 0)]), Truncated),
        case("a payload length of 0, IPv6", changed(&v6, &[(18, 0), (19, 0)]), Truncated),
        case("a length within the TCP header", changed(&v4, &[(16, 0), (17, 39)]), Truncated),
        case("options in the place of TCP", changed(&v4, &[(14, 0x4f)]), Truncated),
        case("cut behind the IP header", cut(&v4, 34), Truncated),
        case("cut within the TCP header", cut(&v4, 53), Truncated),
        case("cut behind the IP header, IPv6", cut(&v6, 54), Truncated),
        case("cut within the TCP header, to the host", cut(&host, 53), Unreadable),
        case("cut within the UDP header", cut(&datagram(), 41), Truncated),
        case("cut within the UDP header, IPv6", cut(&datagram_v6(), 61), Truncated),
        case("a UDP length within its header", changed(&datagram(), &[(38, 0), (39, 7)]), BadHeader),
        case("a UDP length beyond the packet", changed(&datagram(), &[(38, 1)]), BadHeader),
        case("a UDP length beyond the packet, IPv6", changed(&datagram_v6(), &[(58, 1)]), BadHeader),
        case("a datagram cut within its payload", cut(&datagram(), 50), Truncated),
        case(
            "an echo request cut within its header",
            cut(&Frame::echo("198.51.100.7", "192.0.2.10", 1), 41),
            Truncated,
        ),
        case("GRE cut short", cut(&Frame::raw("198.51.100.7", "192.0.2.10", 47, b"tunnelled"), 40), Truncated),
    ]
}

fn without_backends() -> Vec<Case> {
    let none = Given::nothing().vip("192.0.2.10:443", 6, &[]).vip("192.0.2.10:53", 17, &[]);
    let drops = |name, frame: Frame, event| {
        Case::left_alone(name, &none, frame, Verdict::NoBackend).event(event).remembers(&[])
    };
    vec![
        drops("SYN without backends", segment(SYN), PathEvent::MissSyn),
        drops("ACK without backends", segment(ACK), PathEvent::MissTcp),
        drops("a datagram without backends", datagram(), PathEvent::MissUdp),
    ]
}

/// The kernel keeps 40 bytes of the room before a frame for itself.
fn without_room() -> Vec<Case> {
    let known = |given: Given| given.flow(&segment(ACK), 1, 0, Established);
    let crossed = site_with("fd00::11", "10.0.0.11");
    let drops = |name, given: &Given, room| {
        Case::left_alone(name, &known(given.clone()), segment(ACK), Verdict::NoHeadroom).headroom(room)
    };
    let fits =
        |name, given: &Given, room| Case::forwarded(name, &known(given.clone()), &segment(ACK), 1).headroom(room);
    vec![
        drops("19 bytes less than none", &site(), 40),
        drops("16 bytes of room for 20", &site(), 56),
        fits("20 bytes of room for 20", &site(), 60),
        drops("36 bytes of room for 40", &crossed, 76),
        fits("40 bytes of room for 40", &crossed, 80),
        Case::left_alone("no room for a new flow, which is remembered", &site(), segment(SYN), Verdict::NoHeadroom)
            .headroom(40)
            .event(PathEvent::MissSyn)
            .counts(1, |counters| (counters.flows_created, counters.syns) = (1, 1))
            .remembers(&[(1, HalfOpen, 0)]),
    ]
}

/// What only a fault of the daemon could bring about.
fn our_own() -> Vec<Case> {
    let ack = segment(ACK);
    let case = |name, given: &Given| Case::left_alone(name, given, segment(ACK), Verdict::Inconsistent);
    let foreign = site().target(1, |target| target.vip = 2);
    let bare = site().flow(&ack, 1, 0, Established).target(1, |target| target.encap = 0);
    vec![
        case("a ring that names another VIP's target", &foreign).event(PathEvent::MissTcp).remembers(&[]),
        case("a flow of a target beyond the table", &site().flow(&ack, 60_000, 0, Established)),
        case("a target without encapsulation", &bare),
    ]
}
