//! Packets that don't fit the way to the backend: the sender is told.

use lb_common::{
    layout::{
        counter::PathEvent,
        flow::FlowState::Established,
        limit::TOO_BIG_NS,
        target::{Encap, Target},
    },
    verdict::Verdict::{TooBig, TooBigAnswered, TooBigLimited},
};
use netns_tests::packet::{Case, Frame, frame::flags::ACK, given::Given};

use super::site::{datagram, datagram_v6, segment, segment_v6, site, site_with};

/// Bytes of a packet that a message quotes at most: its own length is to be 576 at most (RFC 1812 section 4.3.2.3), or
/// 1280 (RFC 4443 section 3.2).
const QUOTED: usize = 544;
const QUOTED_V6: usize = 1280 - 48;
/// Bytes quoted of a packet that is shorter than that.
const QUOTED_LEAST: usize = 64;

/// Flows of targets 1 and 2 are known, and every way takes so many bytes.
fn narrow(given: Given, mtu: u32) -> Given {
    let given = given.flow(&segment(ACK), 1, 0, Established).flow(&segment_v6(ACK), 2, 0, Established);
    (1..=5).fold(given, |given, id| given.target(id, |target| target.mtu = mtu))
}

/// A segment whose packet has so many bytes.
fn sized(frame: &Frame, bytes: usize) -> Frame {
    frame.clone().payload(&vec![0x6b; bytes - frame.clone().payload(&[]).packet().len()])
}

fn told(name: &'static str, given: &Given, frame: &Frame, mtu: u32) -> Case {
    let most = if frame.is_v4() { QUOTED } else { QUOTED_V6 };
    let quoted = if frame.packet().len() < most { QUOTED_LEAST } else { most };
    Case::new(name, given, frame.build(), TooBigAnswered, frame.too_big(mtu, quoted).build())
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = answered();
    cases.extend(not_answered());
    cases
}

fn answered() -> Vec<Case> {
    let (v4, v6) = (segment(ACK), segment_v6(ACK));
    let given = narrow(site(), 1480);
    let crossed = narrow(site_with("fd00::11", "10.0.0.11"), 1460);
    let gue = narrow(site(), 1472).encap(1, Encap::GueV4);
    let fits = |name, frame: &Frame, target| Case::forwarded(name, &given, frame, target);
    let tag = [(0x8100, 0x6005)];
    let options = sized(&v4.clone().options(&[1; 40]), 1481);
    let new = (1..=5).fold(site(), |given, id| given.target(id, |target| target.mtu = 1480));
    let odd = narrow(site(), 575);
    vec![
        fits("a packet that just fits", &sized(&v4, 1480), 1),
        fits("a packet that just fits, IPv6", &sized(&v6, 1480), 2),
        fits("a small packet in a large frame", &v4.clone().padded(1500), 1),
        told("the sender is told what fits", &given, &sized(&v4, 1481), 1480),
        told("the sender is told what fits, IPv6", &given, &sized(&v6, 1481), 1480),
        told("what fits in IPv6", &crossed, &sized(&v4, 1461), 1460),
        told("what fits in IPv4, of IPv6", &crossed, &sized(&v6, 1461), 1460),
        told("what fits in GUE", &gue, &sized(&v4, 1473), 1472),
        told("about a packet with a tag", &given, &sized(&v4, 1481).tagged(&tag), 1480),
        told("about a packet with two tags, IPv6", &given, &sized(&v6, 1481).tagged(&[tag[0]; 2]), 1480),
        told("about a packet with options", &given, &options, 1480),
        told("about a packet with padding", &given, &sized(&v4, 1481).padded(7), 1480),
        told("about a packet with DSCP", &given, &sized(&v4, 1481).class(0xb9), 1480),
        told("about a jumbo frame", &given, &sized(&v4, 3000), 1480),
        told("about a jumbo frame, IPv6", &given, &sized(&v6, 3001), 1480),
        told("about a short packet of an odd length", &narrow(site(), 500), &sized(&v4, 501), 500),
        told("about a packet of 576 bytes", &odd, &sized(&v4, 576), 575),
        told("about a short packet, IPv6", &narrow(site(), 1000), &sized(&v6, 1001), 1000),
        told("about a first packet, whose flow is remembered", &new, &sized(&v4, 1481), 1480)
            .event(PathEvent::MissTcp)
            .creates(1),
        told("about a datagram", &new, &sized(&datagram(), 1481), 1480).event(PathEvent::MissUdp).creates(3),
        told("about a datagram, IPv6", &new, &sized(&datagram_v6(), 1481), 1480).event(PathEvent::MissUdp).creates(4),
    ]
}

fn not_answered() -> Vec<Case> {
    let given = narrow(site(), 1480);
    let big = sized(&segment(ACK), 1481);
    let left = |name, given: &Given, frame: &Frame, verdict| Case::left_alone(name, given, frame.clone(), verdict);
    let unlimited = given.clone().target(1, |target| target.mtu = Target::NO_LIMIT);
    let error = Frame::error("203.0.113.1", [3, 1], [0; 4], &sized(&segment(ACK).reversed(), 1480), 1480);
    let burst = (1_000_000_000 / TOO_BIG_NS) as usize;
    let again = left("", &given, &big, TooBigLimited);
    let many = (1..burst).fold(told("the sender is told ten times, then not", &given, &big, 1480), |case, _| {
        case.then(told("", &given, &big, 1480))
    });
    vec![
        left("a packet that may be fragmented", &given, &big.clone().may_fragment(), TooBig),
        left("an error that is too big itself", &given, &error, TooBig).event(PathEvent::IcmpSteered),
        left("a sender who was told just before", &given.clone().told_too_big(10_000_000_000), &big, TooBigLimited),
        many.then(again.clone()).then(again),
        Case::forwarded("a way that takes every packet", &unlimited, &big, 1),
    ]
}
