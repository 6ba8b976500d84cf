//! Where other balancers of this design go wrong, packet by packet: each test's name says what lb does instead.

use lb_common::{
    layout::{
        counter::PathEvent::{IcmpSteered, MissTcp, MissUdp, Moved, Resteered, ServerIdRouted, ServerIdUnknown},
        flow::FlowState::{Datagram, Established, FirstDatagram},
        target::{Encap, Target},
        vip::{TCP, UDP, Vip},
    },
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame, Given,
    check::check,
    frame::{
        Kind, Sum,
        flags::{ACK, SYN},
        payload::{Long, QUIC_V2, katran_id, quic_lb_id, quic_long, quic_short, server_option},
    },
};

#[path = "packet_path/site.rs"]
mod site;

use site::{
    BACKEND, CLIENT, CLIENT_V6, DNS, DNS_V6, WEB, WEB_V6, chosen, datagram, datagram_v6, four, pair, segment,
    segment_v6, site, site_with,
};

const ROUTER: &str = "203.0.113.1";
const WEB_UDP: &str = "192.0.2.10:443";

fn left_alone(given: &Given, frame: impl Into<Vec<u8>>, verdict: Verdict) -> Case {
    Case::left_alone("untouched", given, frame, verdict).remembers(&[]).remembers_datagrams(&[])
}

fn forwarded(given: &Given, frame: &Frame, target: u32) -> Case {
    Case::forwarded("forwarded", given, frame, target)
}

/// An error about what a backend sent back to the client of this frame.
fn error(kind_and_code: [u8; 2], frame: &Frame, quoted: usize) -> Frame {
    Frame::error(ROUTER, kind_and_code, [0; 4], &frame.reversed(), quoted)
}

/// Elsewhere options and fragments are dropped before anyone asks whose they are, which breaks the host's own traffic.
#[test]
fn the_hosts_own_options_and_fragments_pass() {
    let host = Frame::udp(CLIENT, "192.0.2.1:53").payload(&[7; 64]);
    let host_v6 = Frame::udp(CLIENT_V6, "[2001:db8::1]:53").payload(&[7; 64]);
    let mut cases: Vec<Case> = [host.fragments(32), host_v6.fragments(32)]
        .iter()
        .flat_map(|pieces| pieces.iter().enumerate())
        .map(|(number, piece)| {
            left_alone(&site(), piece.clone(), if number == 0 { Verdict::NotVip } else { Verdict::Fragment })
        })
        .collect();
    cases.push(left_alone(&site(), host.options(&[1; 40]), Verdict::NotVip));
    cases.push(left_alone(&site(), host_v6.extension(60, &[1, 4, 0, 0, 0, 0]), Verdict::NotVip));
    check(&cases);
}

/// Elsewhere the sum is patched without carrying round, and every address is answered for.
#[test]
fn pings_of_vips_alone_are_answered_and_every_sum_is_right() {
    let cases = (0..=u8::MAX).step_by(5).flat_map(|number| {
        // Sums from all over the range, and with both bytes of the type's word in play.
        let id = u16::from(number) * 257;
        let v4 = Frame::echo("198.51.100.7", "192.0.2.10", id);
        let v6 = Frame::echo("2001:db8:c::7", "2001:db8::10", id);
        [v4, v6].map(|request| Case::answered("a ping", &site(), &request, &request.answered()))
    });
    let mut cases: Vec<Case> = cases.collect();
    cases.push(left_alone(&site(), Frame::echo("198.51.100.7", "192.0.2.1", 1), Verdict::Icmp));
    cases.push(left_alone(&site(), Frame::echo("2001:db8:c::7", "2001:db8::1", 1), Verdict::Icmp));
    check(&cases);
}

/// Elsewhere a quote needs all 20 bytes of TCP, though RFC 792 promises 8, and only some kinds of error are looked at.
#[test]
fn errors_that_quote_eight_bytes_are_steered_whatever_their_kind() {
    let known = pair(2, 4).flow(&segment(ACK), 1, 0, Established);
    let kinds = [[3, 1], [3, 4], [11, 0], [12, 0]];
    let steered = |kind| forwarded(&known, &error(kind, &segment(ACK), 28), 1).event(IcmpSteered);
    check(&kinds.map(steered));
}

/// Elsewhere an error to a VIP with server IDs is searched for TCP options, as if it were TCP itself.
#[test]
fn errors_are_not_searched_for_server_ids() {
    let ack = segment(ACK).tcp_options(&server_option(9));
    let given = pair(2, 4).flags(1, Vip::TCP_SERVER_ID).server(1, 9, 2).flow(&ack, 1, 0, Established);
    let message = error([3, 4], &ack, 20 + 28);
    check(&[forwarded(&given, &message, 1).event(IcmpSteered).remembers(&[(1, Established, 0)])]);
}

/// Elsewhere an IPv6 packet for an IPv4 backend is announced as IPv4 in IPv4.
#[test]
fn ipv6_packets_reach_ipv4_backends() {
    let crossed = site_with("fd00::11", "10.0.0.11");
    let case = forwarded(&crossed, &segment_v6(SYN), 2).opens(2);
    // RFC 4213: protocol 41.
    assert_eq!(crossed.sent(&segment_v6(SYN), 2)[23], 41);
    check(&[case]);
}

/// Elsewhere the outer sum is derived from the inner one, which ICMP computes in another way, UDP may leave out, and
/// anyone may get wrong.
#[test]
fn gues_outer_sum_is_right_whatever_the_inner_one_is() {
    let given = (1..=5).fold(site_with("fd00::11", "fd00::12"), |given, id| given.encap(id, Encap::GueV6));
    let udp = |frame: Frame, target| forwarded(&given, &frame, target).event(MissUdp).creates(target);
    check(&[
        forwarded(&given, &error([3, 4], &segment(ACK), 28), 1).event(IcmpSteered),
        udp(datagram().sum(Sum::Zero), 3),
        udp(datagram().sum(Sum::Wrong), 3),
        udp(datagram_v6().sum(Sum::Wrong), 4),
        forwarded(&given, &segment(SYN).sum(Sum::Wrong), 1).opens(1),
    ]);
}

/// Elsewhere the outer sum may come out as 0, which over IPv6 means that there is none (RFC 8200 section 8.1).
#[test]
fn gues_outer_sum_over_ipv6_is_never_0() {
    let given = site_with("fd00::11", "fd00::12").encap(3, Encap::GueV6);
    let plain = datagram().sum(Sum::Zero).payload(&[0; 8]);
    let sum = |frame: &Frame| {
        let out = given.sent(frame, 3);
        [out[60], out[61]]
    };
    let [a, b] = sum(&plain);
    // What is added to the payload is taken off the sum.
    let frame = plain.payload(&[a, b, 0, 0, 0, 0, 0, 0]);
    assert_eq!(sum(&frame), [0xff; 2]);
    check(&[forwarded(&given, &frame, 3).event(MissUdp).creates(3)]);
}

/// Elsewhere one limit holds for all, knows nothing of the encapsulation, and is enforced whether fragments are allowed or
/// not.
#[test]
fn what_fits_depends_on_the_backend_and_fragments_are_respected() {
    let narrow = pair(1, 3).target(1, |target| target.mtu = 1480).target(2, |target| target.mtu = 1400);
    let wide = pair(2, 4).target(1, |target| target.mtu = 1480).target(2, |target| target.mtu = 8980);
    let frame = segment(ACK).payload(&[1; 1450]);
    let known = |given: &Given, target| given.clone().flow(&frame, target, 0, Established);
    let told =
        Case::new("told", &known(&narrow, 1), frame.build(), Verdict::TooBigAnswered, frame.too_big(1480, 544).build());
    check(&[
        told,
        forwarded(&known(&wide, 2), &frame, 2),
        Case::left_alone("not told", &known(&narrow, 1), frame.clone().may_fragment(), Verdict::TooBig),
    ]);
}

/// Elsewhere the flow is remembered by what was hashed, and so never found again; and the tunnel's source is the same for
/// all.
#[test]
fn flows_hashed_by_port_are_found_again_and_spread_over_sources() {
    let given = four("192.0.2.11:0", UDP).flags(1, Vip::HASH_PORT);
    let (one, other) = (Frame::udp(CLIENT, "192.0.2.11:5000"), Frame::udp("198.51.100.8:9", "192.0.2.11:5000"));
    let target = chosen(&given, &one);
    assert_ne!(one.steering_hash(0x5eed), other.steering_hash(0x5eed));
    let first = |frame: &Frame| forwarded(&given, frame, target).event(MissUdp).creates(target);
    check(&[first(&one)
        .then(first(&other))
        .then(forwarded(&given, &one, target).remembers(&[(target, FirstDatagram, 0), (target, Datagram, 0)]))]);
}

/// Elsewhere a server ID is remembered even where the VIP says that nothing is.
#[test]
fn server_ids_of_untracked_vips_are_not_remembered() {
    let given = Given::nothing().vip(WEB_UDP, UDP, &[BACKEND, "10.0.0.12"]).ring(1, Some(2)).server(1, 0xabcd, 1);
    let given = given.flags(1, Vip::QUIC_KATRAN | Vip::UNTRACKED);
    let frame = Frame::udp(CLIENT, WEB_UDP).payload(&quic_short(&katran_id(1, 0xabcd)));
    check(&[forwarded(&given, &frame, 1).event(ServerIdRouted).remembers(&[])]);
}

/// Elsewhere each datagram of a flow counts as a new connection, and enough of them bring the flood's measures about.
#[test]
fn known_datagrams_are_no_new_flows() {
    let given = site().new_flow_limit(3, 1_000_000_000, 0);
    let known = forwarded(&given, &datagram(), 3);
    let other = Frame::udp("198.51.100.8:9", DNS);
    let first = forwarded(&given, &datagram(), 3).event(MissUdp).creates(3);
    let second = Case::left_alone("limited", &given, other, Verdict::NewFlowLimit).event(MissUdp);
    check(&[first.then(second).then(known.clone()).then(known)]);
}

/// Elsewhere such a flow is written with no time, and so has expired when the next packet comes.
#[test]
fn flows_routed_by_server_id_are_fresh() {
    let given = Given::nothing().vip(WEB_UDP, UDP, &[BACKEND, "10.0.0.12"]).ring(1, Some(2)).server(1, 0xabcd, 1);
    let given = given.flags(1, Vip::QUIC_KATRAN);
    let frame = |id: &[u8]| Frame::udp(CLIENT, WEB_UDP).payload(&quic_short(id));
    let next = frame(&[0; 8]);
    check(&[forwarded(&given, &frame(&katran_id(1, 0xabcd)), 1)
        .event(ServerIdRouted)
        .event(MissUdp)
        .creates(1)
        .remembers(&[(1, FirstDatagram, 0)])
        .then(forwarded(&given, &next, 1).event(lb_common::layout::counter::PathEvent::ServerIdNone))]);
}

/// Elsewhere the ring of a VIP whose last backend goes stays as it was.
#[test]
fn a_vip_without_backends_sends_to_nobody() {
    let emptied = pair(1, 3).ring(1, None).ring(2, None);
    let gone =
        (1..=4).fold(emptied, |given, id| given.target(id, |target| (target.serves, target.flags) = (0, Target::GONE)));
    let drops = |frame: Frame, event| Case::left_alone("no backend", &gone, frame, Verdict::NoBackend).event(event);
    check(&[
        drops(segment(SYN), lb_common::layout::counter::PathEvent::MissSyn),
        drops(segment(ACK), MissTcp),
        drops(datagram(), MissUdp),
    ]);
}

/// Elsewhere a server ID whose backend went away is meant to drop the packet, and does something else.
#[test]
fn server_ids_of_backends_that_are_gone_are_steered_as_without() {
    let given = pair(2, 4).flags(2, Vip::UDP_SERVER_ID).server(2, 5, 3).target(3, |target| target.serves = 0);
    let frame = datagram().payload(&netns_tests::packet::frame::payload::stable_header(5));
    check(&[forwarded(&given, &frame, 4).event(ServerIdUnknown).event(MissUdp).creates(4)]);
}

/// Elsewhere numbers of backends are given away anew while flows and server IDs still name them.
#[test]
fn flows_and_server_ids_never_lead_to_another_vips_backend() {
    // Target 3 is the other VIP's now.
    let flow = pair(2, 4).flow(&segment(ACK), 3, 0, Established);
    let server = pair(2, 4).flags(1, Vip::TCP_SERVER_ID).server(1, 9, 3);
    let named = segment(ACK).tcp_options(&server_option(9));
    check(&[
        forwarded(&flow, &segment(ACK), 2).event(Moved).counts(2, |counters| counters.flows_moved = 1),
        forwarded(&server, &named, 2).event(ServerIdUnknown).event(MissTcp).creates(2),
    ]);
}

fn taking_tunnels() -> Given {
    site().tunnel_address("192.0.2.200").tunnel_source("::/0")
}

/// Elsewhere an IPv6 packet in IPv4 is unwrapped as if the outer header were of IPv6, and counted under it.
#[test]
fn ipv6_in_ipv4_is_unwrapped_by_the_outer_headers_own_length() {
    let arrives = segment_v6(SYN).tunnelled(Kind::Ipip, "172.16.3.4", "192.0.2.200", 64);
    let (given, inner) = (taking_tunnels(), segment_v6(SYN).unwrapped(64));
    let bytes = inner.packet().len() as u64;
    check(&[Case::new("unwrapped", &given, arrives.build(), Verdict::Forwarded, given.sent(&inner, 2))
        .counts(2, |counters| (counters.packets, counters.bytes) = (1, bytes))
        .event(Resteered)
        .opens(2)]);
}

/// Elsewhere an error that quotes a tunnel packet is taken for one.
#[test]
fn errors_about_tunnel_packets_are_not_unwrapped() {
    let tunnel = segment(SYN).tunnelled(Kind::Ipip, "192.0.2.200", "10.0.0.11", 64);
    let whole = Frame::error(ROUTER, [3, 4], [0, 0, 5, 0xdc], &tunnel, 1000);
    check(&[left_alone(&taking_tunnels(), whole, Verdict::Icmp)]);
}

/// Elsewhere the other IP version's ICMP is taken for one's own.
#[test]
fn icmp_of_the_other_ip_version_is_not_answered() {
    let v4 = Frame::raw("198.51.100.7", "192.0.2.10", 58, &[128, 0, 0, 0, 0, 0, 0, 1]);
    let v6 = Frame::raw("2001:db8:c::7", "2001:db8::10", 1, &[8, 0, 0, 0, 0, 0, 0, 1]);
    check(&[v4, v6].map(|frame| left_alone(&site(), frame, Verdict::NotBalanced)));
}

/// Elsewhere a prefix's key never matches where flows of a backend that is down are looked for.
#[test]
fn datagrams_of_a_prefix_leave_a_backend_that_is_down_at_once() {
    let frame = Frame::udp(CLIENT, "192.0.2.77:53");
    let given = Given::nothing().prefix_vip("192.0.2.0/24", 53, UDP, &[BACKEND, "10.0.0.12"]).ring(1, Some(2));
    let given = given.flow(&frame, 1, 0, Datagram).target(1, |target| target.serves = 0);
    check(&[forwarded(&given, &frame, 2)
        .event(Moved)
        .counts(2, |counters| counters.flows_moved = 1)
        .remembers(&[(2, Datagram, 0)])]);
}

/// Elsewhere server IDs with the highest of 32 bits are taken for none.
#[test]
fn server_ids_use_all_of_their_bits() {
    let given = Given::nothing().vip(WEB_UDP, UDP, &[BACKEND, "10.0.0.12"]).ring(1, Some(2));
    let given = given.flags(1, Vip::QUIC_KATRAN).server(1, 0xffff_ffff, 1).server(1, 0x8000_0000, 1);
    let routed = |id| {
        let frame = Frame::udp(CLIENT, WEB_UDP).payload(&quic_short(&katran_id(3, id)));
        forwarded(&given, &frame, 1).event(ServerIdRouted).event(MissUdp).creates(1)
    };
    check(&[routed(0xffff_ffff), routed(0x8000_0000)]);
}

/// Elsewhere QUIC is read by its first version only, needs connection IDs of 8 bytes, and knows one layout.
#[test]
fn quic_of_either_version_is_read_with_short_connection_ids() {
    let given = Given::nothing().vip(WEB_UDP, UDP, &[BACKEND, "10.0.0.12"]).ring(1, Some(2)).server(1, 0x55, 1);
    let given = given.flags(1, Vip::QUIC_LB).asks(1, |vip| vip.quic_lengths = 1);
    let id = &quic_lb_id(0, &[0x55])[..2];
    let frame = |kind| Frame::udp(CLIENT, WEB_UDP).payload(&quic_long(QUIC_V2, kind, id));
    let by_ring = forwarded(&given, &frame(Long::Initial), 2);
    check(&[
        forwarded(&given, &frame(Long::Handshake), 1).event(ServerIdRouted).event(MissUdp).creates(1),
        by_ring.event(lb_common::layout::counter::PathEvent::ServerIdNone).event(MissUdp).creates(2),
    ]);
}

/// Elsewhere a frame with a VLAN tag goes past the balancer.
#[test]
fn frames_with_vlan_tags_are_balanced() {
    let given = (1..=5).fold(site(), |given, id| given.target(id, |target| target.flags = Target::KEEPS_TAGS));
    let one = segment(SYN).tagged(&[(0x8100, 5)]);
    let two = segment_v6(SYN).tagged(&[(0x88a8, 5), (0x8100, 6)]);
    check(&[forwarded(&given, &one, 1).opens(1), forwarded(&given, &two, 2).opens(2)]);
}

/// Elsewhere what is unwrapped goes through the program anew, and is counted twice.
#[test]
fn unwrapped_packets_are_counted_once_under_their_last_verdict() {
    let given = taking_tunnels().ring(1, None);
    let arrives = segment(SYN).tunnelled(Kind::Gue, "172.16.3.4", "192.0.2.200", 64);
    let case = Case::left_alone("no backend inside", &given, arrives, Verdict::NoBackend);
    check(&[case.event(lb_common::layout::counter::PathEvent::MissSyn)]);
}

/// Elsewhere tunnels of a family without a configured source leave with source 0.
#[test]
fn tunnels_of_both_families_have_a_source() {
    let crossed = site_with("fd00::11", "10.0.0.11");
    for (given, encaps) in [(&crossed, [Encap::IpipV6, Encap::IpipV4]), (&crossed, [Encap::GueV6, Encap::GueV4])] {
        let given = given.clone().encap(1, encaps[0]).encap(2, encaps[1]);
        let (over_v6, over_v4) = (given.sent(&segment(SYN), 1), given.sent(&segment_v6(SYN), 2));
        assert_eq!((&over_v6[22..30], &over_v4[26..28]), (&[1, 0, 0, 0, 0, 0, 0, 0][..], &[172, 16][..]));
        check(&[forwarded(&given, &segment(SYN), 1).opens(1), forwarded(&given, &segment_v6(SYN), 2).opens(2)]);
    }
}

/// Elsewhere the services of one address, or of both protocols at one port, may be mistaken for each other.
#[test]
fn tcp_and_udp_of_one_port_are_two_services() {
    let given = Given::nothing()
        .vip(WEB, TCP, &[BACKEND])
        .vip(WEB, UDP, &["10.0.0.12"])
        .vip(WEB_V6, TCP, &[BACKEND])
        .vip(DNS_V6, UDP, &[BACKEND]);
    check(&[
        forwarded(&given, &segment(SYN), 1).opens(1),
        forwarded(&given, &Frame::udp(CLIENT, WEB), 2).event(MissUdp).creates(2),
    ]);
}
