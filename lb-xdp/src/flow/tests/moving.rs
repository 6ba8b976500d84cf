//! Flows whose target may not be used any more.

use lb_common::{
    layout::{counter::PathEvent, flow::FlowState, target::Target},
    verdict::Verdict,
};

use super::{NOW, Scene};
use crate::fixture::frames::flags::{ACK, FIN, RST, SYN};

#[test]
fn a_flow_moves_once_when_its_target_is_down() {
    let mut scene = Scene::new();
    let ack = Scene::web().tcp(ACK);
    scene.world.forward(&ack);
    let old = scene.world.forward(&ack);
    let (new, _) = scene.change_rings();
    scene.world.take_down(old);
    scene.world.tables.set_now(NOW + 2);
    assert_eq!(scene.world.forward(&ack), new);
    assert_eq!(scene.world.flow(), (new, FlowState::Established, NOW + 2));
    // It stays there, even if its old target is back.
    scene.world.tables.targets[old as usize].serves = 1;
    assert_eq!(scene.world.forward(&ack), new);
    assert_eq!(scene.world.events(), [(PathEvent::MissTcp, 1), (PathEvent::Moved, 1)]);
    let counters = scene.world.counters(new);
    assert_eq!((counters.flows_moved, counters.flows_created, counters.packets), (1, 0, 2));
}

#[test]
fn a_flow_moves_when_its_place_was_given_to_another_vip() {
    let mut scene = Scene::new();
    let ack = Scene::web().tcp(ACK);
    // By chance another flow's tag, or a number that was given away before the flow table was swept.
    let foreign = scene.world.vip(scene.udp).target_base;
    scene.remember(&ack, foreign, NOW, FlowState::Established);
    let (new, _) = scene.change_rings();
    assert_eq!(scene.world.forward(&ack), new);
    assert_eq!(scene.world.flow(), (new, FlowState::Established, NOW));
    assert_eq!(scene.world.events(), [(PathEvent::Moved, 1)]);
    assert_eq!((scene.world.counters(new).flows_moved, scene.world.counters(foreign).packets), (1, 0));
}

#[test]
fn a_syn_to_a_target_that_is_down_is_a_new_flow_and_no_move() {
    for state in [FlowState::HalfOpen, FlowState::PickedUp, FlowState::Established, FlowState::Closing] {
        let mut scene = Scene::new();
        let syn = Scene::web().tcp(SYN);
        let old = scene.ring_target(&syn);
        scene.remember(&syn, old, NOW, state);
        let (new, _) = scene.change_rings();
        scene.world.take_down(old);
        assert_eq!(scene.world.forward(&syn), new, "{state:?}");
        assert_eq!(scene.world.flow(), (new, FlowState::HalfOpen, NOW));
        let counters = scene.world.counters(new);
        assert_eq!((counters.syns, counters.flows_created, counters.flows_moved), (1, 1, 0));
        assert_eq!(scene.world.events(), []);
    }
}

#[test]
fn a_datagram_flow_moves_too() {
    let mut scene = Scene::new();
    let datagram = Scene::dns().udp();
    let old = scene.ring_target(&datagram);
    scene.remember(&datagram, old, NOW - 1, FlowState::Datagram);
    let (_, new) = scene.change_rings();
    scene.world.take_down(old);
    assert_eq!(scene.world.forward(&datagram), new);
    assert_eq!(scene.world.flow(), (new, FlowState::Datagram, NOW));
    assert_eq!(scene.world.events(), [(PathEvent::Moved, 1)]);
}

#[test]
fn a_datagram_flow_that_expired_does_not_move_but_begins_anew() {
    for state in [FlowState::FirstDatagram, FlowState::Datagram] {
        let mut scene = Scene::new();
        let datagram = Scene::dns().udp();
        let old = scene.ring_target(&datagram);
        scene.remember(&datagram, old, NOW - scene.world.tables.tuning.udp_idle - 1, state);
        let (_, new) = scene.change_rings();
        scene.world.take_down(old);
        assert_eq!(scene.world.forward(&datagram), new);
        assert_eq!(scene.world.flow(), (new, FlowState::FirstDatagram, NOW));
        assert_eq!(scene.world.events(), [(PathEvent::Expired, 1)]);
        let counters = scene.world.counters(new);
        assert_eq!((counters.flows_moved, counters.flows_created), (0, 1));
    }
}

#[test]
fn a_flow_that_moves_with_its_last_packet_is_closing() {
    for end in [FIN | ACK, RST] {
        let mut scene = Scene::new();
        let last = Scene::web().tcp(end);
        let old = scene.ring_target(&last);
        scene.remember(&last, old, NOW, FlowState::Established);
        let (new, _) = scene.change_rings();
        scene.world.take_down(old);
        assert_eq!(scene.world.forward(&last), new);
        assert_eq!(scene.world.flow(), (new, FlowState::Closing, NOW));
        let counters = scene.world.counters(new);
        assert_eq!((counters.fins, counters.rsts), (0, 0), "it was not that target's flow that was closed");
    }
}

#[test]
fn a_flow_that_moves_half_open_is_no_handshake_of_its_new_target() {
    let mut scene = Scene::new();
    let ack = Scene::web().tcp(ACK);
    let old = scene.ring_target(&ack);
    scene.remember(&ack, old, NOW, FlowState::HalfOpen);
    let (new, _) = scene.change_rings();
    scene.world.take_down(old);
    assert_eq!(scene.world.forward(&ack), new);
    assert_eq!(scene.world.flow(), (new, FlowState::PickedUp, NOW));
    assert_eq!(scene.world.forward(&ack), new);
    assert_eq!(scene.world.flow(), (new, FlowState::Established, NOW));
    assert_eq!((scene.world.counters(new).handshakes, scene.world.counters(old).handshakes), (0, 0));
}

#[test]
fn a_flow_waits_for_its_target_while_the_ring_is_empty() {
    let mut scene = Scene::new();
    let ack = Scene::web().tcp(ACK);
    scene.world.forward(&ack);
    let old = scene.world.forward(&ack);
    let up = scene.world.vip(scene.tcp);
    scene.world.take_down(old);
    scene.world.tables.vips.insert(scene.tcp, lb_common::layout::vip::Vip { ring_slots: 0, ..up });
    for packet in [ACK, SYN, FIN | ACK] {
        let frame = Scene::web().tcp(packet);
        let sent = scene.world.send(&frame);
        assert_eq!((sent.exit.verdict, sent.frame), (Verdict::NoBackend, frame));
    }
    assert_eq!(scene.world.flow(), (old, FlowState::Established, NOW));
    assert_eq!(scene.world.event(PathEvent::Moved), 0);
    scene.world.tables.vips.insert(scene.tcp, up);
    scene.world.tables.targets[old as usize].serves = up.id;
    assert_eq!(scene.world.forward(&ack), old);
}

#[test]
fn a_known_flow_needs_no_ring() {
    let mut scene = Scene::new();
    let ack = Scene::web().tcp(ACK);
    let old = scene.ring_target(&ack);
    scene.remember(&ack, old, NOW, FlowState::Established);
    let vip = scene.world.vip(scene.tcp);
    scene.world.tables.vips.insert(scene.tcp, lb_common::layout::vip::Vip { ring_slots: 0, ..vip });
    assert_eq!(scene.world.forward(&ack), old);
}

#[test]
fn a_draining_target_keeps_its_flows_and_gets_no_new_ones() {
    for state in [FlowState::HalfOpen, FlowState::PickedUp, FlowState::Established, FlowState::Closing] {
        let mut scene = Scene::new();
        let (ack, syn) = (Scene::web().tcp(ACK), Scene::web().tcp(SYN));
        let old = scene.ring_target(&ack);
        scene.remember(&ack, old, NOW, state);
        let (new, _) = scene.change_rings();
        scene.world.tables.targets[old as usize].flags = Target::DRAINING;
        assert_eq!(scene.world.forward(&ack), old, "{state:?}");
        // The ACK made a flow in use of all but the closing one; a SYN does not take that away from its backend.
        let expected = if state == FlowState::Closing { new } else { old };
        assert_eq!(scene.world.forward(&syn), expected, "{state:?}");
        assert_eq!(scene.world.events(), []);
    }
}

#[test]
fn a_syn_that_comes_again_leaves_a_draining_target() {
    let mut scene = Scene::new();
    let syn = Scene::web().tcp(SYN);
    let old = scene.ring_target(&syn);
    scene.remember(&syn, old, NOW, FlowState::HalfOpen);
    let (new, _) = scene.change_rings();
    scene.world.tables.targets[old as usize].flags = Target::DRAINING;
    assert_eq!(scene.world.forward(&syn), new);
    assert_eq!(scene.world.flow(), (new, FlowState::HalfOpen, NOW));
}

#[test]
fn a_draining_target_keeps_its_datagrams_until_they_expire() {
    let mut scene = Scene::new();
    let datagram = Scene::dns().udp();
    let old = scene.ring_target(&datagram);
    scene.remember(&datagram, old, NOW, FlowState::Datagram);
    let (_, new) = scene.change_rings();
    scene.world.tables.targets[old as usize].flags = Target::DRAINING;
    let idle = scene.world.tables.tuning.udp_idle;
    for unit in [NOW, NOW + idle, NOW + 2 * idle] {
        scene.world.tables.set_now(unit);
        assert_eq!(scene.world.forward(&datagram), old);
    }
    scene.world.tables.set_now(NOW + 3 * idle + 1);
    assert_eq!(scene.world.forward(&datagram), new);
}

#[test]
fn an_entry_or_a_ring_that_names_what_is_not_there_is_our_own_fault() {
    let scene = Scene::new();
    let ack = Scene::web().tcp(ACK);
    scene.remember(&ack, 60_000, NOW, FlowState::Established);
    assert_eq!(scene.world.send(&ack).exit.verdict, Verdict::Inconsistent);

    let mut scene = Scene::new();
    let base = scene.world.vip(scene.tcp).ring_base;
    for (slot, name) in [(4, "the other VIP's target"), (40, "a free place"), (9999, "no place at all")] {
        scene.world.tables.write_ring(base, &[slot; 251]);
        let sent = scene.world.send(&ack);
        assert_eq!((sent.exit.verdict, &sent.frame), (Verdict::Inconsistent, &ack), "{name}");
    }
}
