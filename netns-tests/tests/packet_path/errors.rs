//! ICMP errors: they go to the backend of the flow that they are about.

use lb_common::{
    layout::{
        counter::PathEvent::IcmpSteered,
        flow::FlowState::{Datagram, Established, HalfOpen},
    },
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame,
    frame::{
        Sum,
        flags::{ACK, SYN},
    },
    given::Given,
};

use super::site::{datagram, datagram_v6, pair, segment, segment_v6, site, site_with};

const ROUTER: &str = "203.0.113.1";
const ROUTER_V6: &str = "2001:db8:ff::1";
/// The MTU in a message about packets that are too big.
const MTU: [u8; 4] = [0, 0, 0x05, 0x14];

/// An error about the packets that answer this frame, with so many bytes behind their IP header.
pub(super) fn about(kind_and_code: [u8; 2], frame: &Frame, behind: usize) -> Frame {
    let (router, header) = if frame.is_v4() { (ROUTER, 20) } else { (ROUTER_V6, 40) };
    Frame::error(router, kind_and_code, MTU, &frame.reversed(), header + behind)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = kinds();
    cases.extend(quotes());
    cases.extend(flows());
    cases.extend(not_ours());
    cases
}

pub(super) fn steered(name: &'static str, given: &Given, error: &Frame, target: u32) -> Case {
    Case::forwarded(name, given, error, target).event(IcmpSteered)
}

fn kinds() -> Vec<Case> {
    let (v4, v6) = (segment(ACK), segment_v6(ACK));
    let crossed = site_with("fd00::11", "10.0.0.11");
    let case =
        |name, kind, frame: &Frame, target| steered(name, &site(), &about(kind, frame, 8), target).remembers(&[]);
    vec![
        case("host unreachable is steered", [3, 1], &v4, 1),
        case("port unreachable about a datagram is steered", [3, 3], &datagram(), 3),
        case("fragmentation needed is steered", [3, 4], &v4, 1),
        case("time exceeded is steered", [11, 0], &v4, 1),
        case("a parameter problem is steered", [12, 0], &v4, 1),
        case("ICMPv6: unreachable is steered", [1, 4], &datagram_v6(), 4),
        case("ICMPv6: too big is steered", [2, 0], &v6, 2),
        case("ICMPv6: time exceeded is steered", [3, 0], &v6, 2),
        case("ICMPv6: a parameter problem is steered", [4, 1], &v6, 2),
        steered("an error, IPv4 in IPv6", &crossed, &about([3, 4], &v4, 8), 1),
        steered("an error, IPv6 in IPv4", &crossed, &about([2, 0], &v6, 8), 2),
    ]
}

fn quotes() -> Vec<Case> {
    let long = |frame: &Frame| frame.clone().payload(&[0x33; 400]);
    let case = |name, error: &Frame, target| steered(name, &site(), error, target).remembers(&[]);
    let options = segment(ACK).options(&[1; 12]);
    let extended = segment_v6(ACK).extension(0, &[1, 4, 0, 0, 0, 0]).extension(60, &[1, 4, 0, 0, 0, 0]);
    let [first, ..] = &long(&datagram().reversed()).identification(9).fragments(64)[..] else { panic!("fragments") };
    let mut of_first = Frame::error(ROUTER, [11, 1], [0; 4], first, 28);
    of_first = of_first.about(&datagram());
    let too_short = |name, error: Frame| Case::left_alone(name, &site(), error, Verdict::BadQuote).remembers(&[]);
    let mut no_packet = about([3, 4], &segment(ACK), 8).build();
    // The quote's version and header length.
    no_packet[42] = 0x15;
    vec![
        case("a quote of the whole packet", &about([3, 4], &long(&segment(ACK)), 420), 1),
        case("a quote of the whole packet, IPv6", &about([2, 0], &long(&segment_v6(ACK)), 420), 2),
        case("a quote of the ports alone", &about([3, 4], &segment(ACK), 4), 1),
        case("a quote of the ports alone, IPv6", &about([2, 0], &segment_v6(ACK), 4), 2),
        case("a quote with options", &about([3, 4], &options, 12 + 8), 1),
        case("a quote with extension headers", &about([2, 0], &extended, 16 + 8), 2),
        case("a quote of a first fragment", &of_first, 3),
        case("an error with a tag", &about([3, 4], &segment(ACK), 8).tagged(&[(0x8100, 5)]), 1),
        case("an error with options", &about([3, 4], &segment(ACK), 8).options(&[1; 8]), 1),
        case("an error with padding", &about([3, 4], &segment(ACK), 8).padded(10), 1),
        case("an error with a wrong checksum", &about([3, 4], &segment(ACK), 8).sum(Sum::Wrong), 1),
        too_short("a quote that ends within the ports", about([3, 4], &segment(ACK), 3)),
        too_short("a quote that ends within the ports, IPv6", about([2, 0], &segment_v6(ACK), 3)),
        too_short("a quote of the IP header alone", about([3, 4], &segment(ACK), 0)),
        too_short("a quote that ends within the options", about([3, 4], &options, 4)),
        too_short("a quote that ends within the extension headers", about([2, 0], &extended, 12)),
        too_short("no quote", Frame::icmp(ROUTER, "192.0.2.10", [3, 4], [0; 4], &[])),
        too_short("no quote, IPv6", Frame::icmp(ROUTER_V6, "2001:db8::10", [2, 0], [0; 4], &[])),
        Case::left_alone("a quote of what is no packet", &site(), no_packet, Verdict::BadQuote),
    ]
}

/// Errors leave the flow table as it is.
fn flows() -> Vec<Case> {
    let (ack, dns) = (segment(ACK), datagram());
    let error = about([3, 4], &ack, 8);
    // The rings point to 2 and 4.
    let known = pair(2, 4).flow(&ack, 1, 3, Established);
    let opening = pair(2, 4).flow(&ack, 1, 0, HalfOpen);
    let down = known.clone().target(1, |target| target.serves = 0);
    vec![
        steered("an error goes where its flow goes", &known, &error, 1).remembers(&[(1, Established, 3)]),
        steered(
            "an error about a datagram goes where its flow goes",
            &pair(2, 4).flow(&dns, 3, 1, Datagram),
            &about([3, 3], &dns, 8),
            3,
        )
        .remembers(&[(3, Datagram, 1)]),
        steered("an error about a handshake changes nothing", &opening, &error, 1).remembers(&[(1, HalfOpen, 0)]),
        steered("an error about an unknown flow goes by the ring", &pair(2, 4), &error, 2).remembers(&[]),
        steered("an error about a SYN-ACK", &pair(2, 4), &about([3, 1], &segment(SYN | ACK), 8), 2).remembers(&[]),
        steered("an error about a flow whose target is down", &down, &error, 2).remembers(&[(1, Established, 3)]),
        Case::left_alone("an error to a VIP without backends", &pair(2, 4).ring(1, None), error, Verdict::NoBackend),
    ]
}

fn not_ours() -> Vec<Case> {
    let host = |name, error: Frame| Case::left_alone(name, &site(), error, Verdict::Icmp).remembers(&[]);
    let to_host = Frame::tcp("192.0.2.1:22", "198.51.100.7:51000", ACK);
    let other_port = Frame::tcp("192.0.2.10:22", "198.51.100.7:51000", ACK);
    let echo = Frame::echo("192.0.2.10", "198.51.100.7", 9);
    let quoting = |kind, about: &Frame| Frame::error(ROUTER, kind, [0; 4], about, 28);
    let foreign = Frame::icmp(ROUTER, "192.0.2.10", [3, 4], MTU, &to_host.packet());
    let other_vip = Frame::tcp("192.0.2.11:22", "198.51.100.7:51000", ACK);
    let elsewhere = Frame::icmp(ROUTER, "192.0.2.10", [3, 4], MTU, &other_vip.packet());
    let mapped = Frame::tcp("[::ffff:192.0.2.10]:443", "[2001:db8:c::7]:51000", ACK);
    let [_, later, _] = &datagram().reversed().payload(&[7; 56]).fragments(24)[..] else { panic!("fragments") };
    vec![
        host("an error about the host's own packet", quoting([3, 4], &to_host)),
        host("an error about a port that is no VIP's", quoting([3, 1], &other_port)),
        host("an error about an echo reply", quoting([11, 0], &echo)),
        host("an error about another host's packet, to a VIP", foreign),
        host("an error about another VIP's packet, to a VIP", elsewhere),
        host("an error about a later fragment", quoting([11, 1], later)),
        host("an error to an IPv4 VIP's address in IPv6", Frame::error(ROUTER_V6, [2, 0], MTU, &mapped, 48)),
        host("source quench", quoting([4, 0], &segment(ACK).reversed())),
        host("a redirect", quoting([5, 1], &segment(ACK).reversed())),
        host("too little quoted, to the host", Frame::icmp(ROUTER, "192.0.2.1", [3, 4], MTU, &[0x45, 0])),
        host("ICMPv6: a private error", Frame::error(ROUTER_V6, [100, 0], [0; 4], &segment_v6(ACK).reversed(), 48)),
    ]
}
