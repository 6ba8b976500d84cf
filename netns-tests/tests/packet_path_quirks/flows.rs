//! Flows, and what names their backend.

use lb_common::{
    layout::{
        counter::PathEvent::{
            IcmpSteered, MissSyn, MissTcp, MissUdp, Moved, ServerIdNone, ServerIdRouted, ServerIdUnknown,
        },
        flow::FlowState::{Datagram, Established, FirstDatagram},
        target::Target,
        vip::{TCP, UDP, Vip},
    },
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame, Given,
    check::check,
    frame::{
        flags::{ACK, SYN},
        payload::{Long, QUIC_V2, katran_id, quic_lb_id, quic_long, quic_short, server_option, stable_header},
    },
};

use crate::{
    error, forwarded,
    site::{BACKEND, CLIENT, DNS, DNS_V6, WEB, WEB_V6, chosen, datagram, four, pair, segment, site},
};

const WEB_UDP: &str = "192.0.2.10:443";

/// Elsewhere an error to a VIP with server IDs is searched for TCP options, as if it were TCP itself.
#[test]
fn errors_are_not_searched_for_server_ids() {
    let ack = segment(ACK).tcp_options(&server_option(9));
    let given = pair(2, 4).flags(1, Vip::TCP_SERVER_ID).server(1, 9, 2).flow(&ack, 1, 0, Established);
    let message = error([3, 4], &ack, 20 + 28);
    check(&[forwarded(&given, &message, 1).event(IcmpSteered).remembers(&[(1, Established, 0)])]);
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
        .then(forwarded(&given, &next, 1).event(ServerIdNone))]);
}

/// Elsewhere the ring of a VIP whose last backend goes stays as it was.
#[test]
fn a_vip_without_backends_sends_to_nobody() {
    let emptied = pair(1, 3).ring(1, None).ring(2, None);
    let gone =
        (1..=4).fold(emptied, |given, id| given.target(id, |target| (target.serves, target.flags) = (0, Target::GONE)));
    let drops = |frame: Frame, event| Case::left_alone("no backend", &gone, frame, Verdict::NoBackend).event(event);
    check(&[drops(segment(SYN), MissSyn), drops(segment(ACK), MissTcp), drops(datagram(), MissUdp)]);
}

/// Elsewhere a server ID whose backend went away is meant to drop the packet, and does something else.
#[test]
fn server_ids_of_backends_that_are_gone_are_steered_as_without() {
    let given = pair(2, 4).flags(2, Vip::UDP_SERVER_ID).server(2, 5, 3).target(3, |target| target.serves = 0);
    let frame = datagram().payload(&stable_header(5));
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
        by_ring.event(ServerIdNone).event(MissUdp).creates(2),
    ]);
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
