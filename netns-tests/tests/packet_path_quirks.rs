//! Where other balancers of this design go wrong, packet by packet: each test's name says what lb does instead.

use lb_common::{
    layout::{counter::PathEvent::IcmpSteered, flow::FlowState::Established, target::Target},
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame, Given,
    check::check,
    frame::flags::{ACK, SYN},
};

#[path = "packet_path/site.rs"]
mod site;

mod packet_path_quirks {
    mod flows;
    mod tunnels;
}

use site::{CLIENT, CLIENT_V6, pair, segment, segment_v6, site};

const ROUTER: &str = "203.0.113.1";

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

/// Elsewhere the other IP version's ICMP is taken for one's own.
#[test]
fn icmp_of_the_other_ip_version_is_not_answered() {
    let v4 = Frame::raw("198.51.100.7", "192.0.2.10", 58, &[128, 0, 0, 0, 0, 0, 0, 1]);
    let v6 = Frame::raw("2001:db8:c::7", "2001:db8::10", 1, &[8, 0, 0, 0, 0, 0, 0, 1]);
    check(&[v4, v6].map(|frame| left_alone(&site(), frame, Verdict::NotBalanced)));
}

/// Elsewhere a frame with a VLAN tag goes past the balancer.
#[test]
fn frames_with_vlan_tags_are_balanced() {
    let given = (1..=5).fold(site(), |given, id| given.target(id, |target| target.flags = Target::KEEPS_TAGS));
    let one = segment(SYN).tagged(&[(0x8100, 5)]);
    let two = segment_v6(SYN).tagged(&[(0x88a8, 5), (0x8100, 6)]);
    check(&[forwarded(&given, &one, 1).opens(1), forwarded(&given, &two, 2).opens(2)]);
}
