//! Each transition, and what it counts.

use lb_common::layout::{
    counter::{PathEvent, TargetCounters},
    flow::FlowState,
};

use super::{NOW, Scene};
use crate::fixture::frames::flags::{ACK, FIN, PSH, RST, SYN};

#[test]
fn a_syn_opens_a_flow_at_the_rings_target() {
    let scene = Scene::new();
    let syn = Scene::web().tcp(SYN);
    let target = scene.world.forward(&syn);
    assert_eq!(target, scene.ring_target(&syn));
    assert_eq!(scene.world.flow(), (target, FlowState::HalfOpen, NOW));
    assert_eq!(scene.ways().iter().find(|way| !way.is_empty()).map(|way| way.tag()), Some(scene.tag(&syn)));
    let bytes = syn.len() as u64 - 14;
    let expected = TargetCounters { packets: 1, bytes, flows_created: 1, syns: 1, ..TargetCounters::default() };
    assert_eq!(scene.world.counters(target), expected);
    assert_eq!(scene.world.events(), [(PathEvent::MissSyn, 1)]);
}

#[test]
fn a_repeated_syn_is_a_retransmit() {
    let scene = Scene::new();
    let syn = Scene::web().tcp(SYN);
    let target = scene.world.forward(&syn);
    assert_eq!(scene.world.forward(&syn), target);
    assert_eq!(scene.world.forward(&syn), target);
    assert_eq!(scene.world.flow(), (target, FlowState::HalfOpen, NOW));
    let counters = scene.world.counters(target);
    assert_eq!((counters.syns, counters.syn_retransmits, counters.flows_created), (1, 2, 1));
    assert_eq!(scene.world.events(), [(PathEvent::MissSyn, 1)]);
}

#[test]
fn the_first_packet_after_the_syn_completes_the_handshake_once() {
    let scene = Scene::new();
    let target = scene.world.forward(&Scene::web().tcp(SYN));
    for packet in [ACK, PSH | ACK, ACK] {
        assert_eq!(scene.world.forward(&Scene::web().tcp(packet)), target);
        assert_eq!(scene.world.flow(), (target, FlowState::Established, NOW));
    }
    let counters = scene.world.counters(target);
    assert_eq!((counters.handshakes, counters.syns, counters.syn_retransmits, counters.packets), (1, 1, 0, 4));
}

#[test]
fn the_clients_end_of_a_flow_is_counted_once_and_the_flow_stays_where_it_is() {
    for (end, fins, rsts) in [(FIN | ACK, 1, 0), (RST, 0, 1), (RST | ACK, 0, 1), (FIN | RST, 0, 1)] {
        let mut scene = Scene::new();
        scene.world.forward(&Scene::web().tcp(SYN));
        let target = scene.world.forward(&Scene::web().tcp(ACK));
        scene.change_rings();
        for packet in [end, end, ACK, FIN | ACK, RST] {
            assert_eq!(scene.world.forward(&Scene::web().tcp(packet)), target);
            assert_eq!(scene.world.flow(), (target, FlowState::Closing, NOW), "{end:#x}, {packet:#x}");
        }
        let counters = scene.world.counters(target);
        assert_eq!((counters.fins, counters.rsts, counters.handshakes), (fins, rsts, 1));
    }
}

#[test]
fn a_syn_after_the_close_opens_a_new_flow_in_the_old_ones_place() {
    let mut scene = Scene::new();
    for packet in [SYN, ACK, FIN | ACK] {
        scene.world.forward(&Scene::web().tcp(packet));
    }
    let (other, _) = scene.change_rings();
    assert_eq!(scene.world.forward(&Scene::web().tcp(SYN)), other);
    assert_eq!(scene.world.flow(), (other, FlowState::HalfOpen, NOW));
    let counters = scene.world.counters(other);
    assert_eq!((counters.flows_created, counters.syns, counters.syn_retransmits), (1, 1, 0));
    assert_eq!(scene.world.events(), [(PathEvent::MissSyn, 1)], "neither a miss nor a move nor an eviction");
}

#[test]
fn a_syn_within_an_established_flow_stays() {
    let mut scene = Scene::new();
    scene.world.forward(&Scene::web().tcp(SYN));
    let target = scene.world.forward(&Scene::web().tcp(ACK));
    scene.change_rings();
    assert_eq!(scene.world.forward(&Scene::web().tcp(SYN)), target);
    assert_eq!(scene.world.flow(), (target, FlowState::Established, NOW));
    let counters = scene.world.counters(target);
    assert_eq!((counters.syns, counters.syn_retransmits, counters.flows_created), (1, 0, 1));
}

#[test]
fn a_flow_is_picked_up_mid_way_and_trusted_at_its_second_packet() {
    let mut scene = Scene::new();
    let target = scene.world.forward(&Scene::web().tcp(PSH | ACK));
    assert_eq!(scene.world.flow(), (target, FlowState::PickedUp, NOW));
    assert_eq!(scene.world.events(), [(PathEvent::MissTcp, 1)]);
    scene.change_rings();
    assert_eq!(scene.world.forward(&Scene::web().tcp(ACK)), target);
    assert_eq!(scene.world.flow(), (target, FlowState::Established, NOW));
    let counters = scene.world.counters(target);
    assert_eq!((counters.handshakes, counters.syns, counters.flows_created), (0, 0, 1));
}

#[test]
fn the_end_of_an_unknown_flow_goes_to_the_rings_target_and_is_not_remembered() {
    for end in [FIN | ACK, RST, RST | ACK] {
        let scene = Scene::new();
        let packet = Scene::web().tcp(end);
        let target = scene.world.forward(&packet);
        assert_eq!(target, scene.ring_target(&packet));
        assert_eq!(scene.world.flows(), []);
        let counters = scene.world.counters(target);
        assert_eq!((counters.flows_created, counters.fins, counters.rsts), (0, 0, 0));
        assert_eq!(scene.world.events(), [(PathEvent::MissTcp, 1)]);
    }
}

#[test]
fn a_second_datagram_makes_a_flow_of_the_first() {
    let mut scene = Scene::new();
    let datagram = Scene::dns().udp();
    let target = scene.world.forward(&datagram);
    assert_eq!(target, scene.ring_target(&datagram));
    assert_eq!(scene.world.flow(), (target, FlowState::FirstDatagram, NOW));
    scene.change_rings();
    for _ in 0..3 {
        assert_eq!(scene.world.forward(&datagram), target);
        assert_eq!(scene.world.flow(), (target, FlowState::Datagram, NOW));
    }
    let counters = scene.world.counters(target);
    assert_eq!((counters.flows_created, counters.packets, counters.handshakes), (1, 4, 0));
    assert_eq!(scene.world.events(), [(PathEvent::MissUdp, 1)]);
}

/// Where each state goes by each kind of segment while the target is up; `None` is a new flow, half-open, by the ring.
#[test]
fn every_state_and_segment_is_settled() {
    use FlowState::{Closing, Established, HalfOpen, PickedUp};
    let segments = [SYN, ACK, 0, PSH | ACK, SYN | ACK, FIN | ACK, RST, FIN | SYN | ACK];
    let table = [
        (HalfOpen, [Some(HalfOpen), Some(Established), Some(Established), Some(Established), Some(Established)]),
        (PickedUp, [Some(PickedUp), Some(Established), Some(Established), Some(Established), Some(Established)]),
        (Established, [Some(Established); 5]),
        (Closing, [None, Some(Closing), Some(Closing), Some(Closing), Some(Closing)]),
    ];
    for (before, by_segment) in table {
        let ends = [Some(Closing); 3];
        for (segment, after) in segments.into_iter().zip(by_segment.into_iter().chain(ends)) {
            let mut scene = Scene::new();
            let frame = Scene::web().tcp(segment);
            let old = scene.ring_target(&frame);
            scene.remember(&frame, old, NOW - 1, before);
            let (new, _) = scene.change_rings();
            let target = scene.world.forward(&frame);
            let expected = after.map_or((new, HalfOpen, NOW), |state| (old, state, NOW));
            assert_eq!((target, scene.world.flow()), (expected.0, expected), "{before:?} by {segment:#x}");
        }
    }
}
