//! Flows of a VIP that tracks them only where its ring changed.

use lb_common::{
    layout::{
        counter::PathEvent,
        flow::{FlowEntry, FlowState},
        ring::UNTRACKED,
        target::Target,
        vip::Vip,
    },
    maps::feature,
    verdict::Verdict,
};

use super::{NOW, Scene};
use crate::fixture::frames::flags::{ACK, FIN, SYN};

/// Block of the histories.
const HISTORY: u32 = 40;

/// The TCP VIP is adaptive, without a history.
fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.world.tables.tuning.features |= feature::ADAPTIVE;
    set(&mut scene, |vip| vip.flags = Vip::ADAPTIVE);
    scene
}

fn set(scene: &mut Scene, change: impl Fn(&mut Vip)) {
    change(scene.world.tables.vips.get_mut(&scene.tcp).expect("the VIP"));
}

/// All slots are tracked, with this previous target, and lead to another one.
fn track(scene: &mut Scene, previous: u32, current: u32) {
    let vip = scene.world.vip(scene.tcp);
    let place = (previous - vip.target_base) as u16;
    scene.world.tables.write_ring(HISTORY, &vec![place; vip.ring_slots as usize]);
    scene.world.give_ring_to(scene.tcp, current);
    set(scene, |vip| (vip.flags, vip.history_base) = (Vip::ADAPTIVE | Vip::HISTORY, HISTORY));
}

fn entry(scene: &Scene) -> (u32, FlowState, bool) {
    let (target, state, _) = scene.world.flow();
    (target, state, scene.world.flows()[0].is_stray())
}

#[test]
fn nothing_is_remembered_of_a_slot_that_is_not_tracked() {
    let mut scene = scene();
    let expected = scene.ring_target(&Scene::web().tcp(SYN));
    for history in [false, true] {
        for flags in [SYN, ACK, FIN | ACK] {
            assert_eq!(scene.world.forward(&Scene::web().tcp(flags)), expected);
        }
        assert!(scene.world.flows().is_empty() && scene.world.events().is_empty(), "history: {history}");
        let slots = vec![UNTRACKED; scene.world.vip(scene.tcp).ring_slots as usize];
        scene.world.tables.write_ring(HISTORY, &slots);
        set(&mut scene, |vip| (vip.flags, vip.history_base) = (Vip::ADAPTIVE | Vip::HISTORY, HISTORY));
    }
}

#[test]
fn in_a_tracked_slot_old_flows_stay_and_new_ones_go_to_the_new_target() {
    let mut scene = scene();
    track(&mut scene, 1, 2);
    let old = Scene::web();
    assert_eq!(scene.world.forward(&old.tcp(ACK)), 1);
    assert_eq!(entry(&scene), (1, FlowState::PickedUp, true));
    assert_eq!(scene.world.forward(&old.tcp(ACK)), 1);
    assert_eq!(entry(&scene), (1, FlowState::Established, true));
    assert_eq!(scene.world.forward(&old.tcp(FIN | ACK)), 1);
    assert_eq!(entry(&scene), (1, FlowState::Closing, true));
    // Its tuple is used again.
    assert_eq!(scene.world.forward(&old.tcp(SYN)), 2);
    assert_eq!(entry(&scene), (2, FlowState::HalfOpen, false));
    // The ring changes once more: what is remembered stays, and is a stray from now on.
    assert_eq!(scene.world.forward(&old.tcp(ACK)), 2);
    scene.world.give_ring_to(scene.tcp, 3);
    scene.world.tables.set_now(NOW + 1);
    assert_eq!(scene.world.forward(&old.tcp(ACK)), 2);
    assert_eq!(entry(&scene), (2, FlowState::Established, true));
    scene.world.give_ring_to(scene.tcp, 2);
    scene.world.tables.set_now(NOW + 2);
    assert_eq!(scene.world.forward(&old.tcp(ACK)), 2);
    assert_eq!(entry(&scene), (2, FlowState::Established, false));
}

#[test]
fn a_draining_previous_target_serves_and_one_that_is_down_does_not() {
    let mut scene = scene();
    track(&mut scene, 1, 2);
    scene.world.tables.targets[1].flags |= Target::DRAINING;
    assert_eq!(scene.world.forward(&Scene::web().tcp(ACK)), 1);
    let other = Scene::web().with_port(4000);
    scene.world.take_down(1);
    assert_eq!(scene.world.forward(&other.tcp(ACK)), 2);
    assert_eq!(scene.world.counters(2).flows_moved, 1);
    // A flow that is known moves as everywhere.
    assert_eq!(scene.world.forward(&Scene::web().tcp(ACK)), 2);
    assert_eq!(scene.world.event(PathEvent::Moved), 2);
    assert!(scene.world.flows().iter().all(|entry| !entry.is_stray()));
}

#[test]
fn without_room_a_flow_goes_where_it_is_found_without_an_entry() {
    let mut scene = scene();
    track(&mut scene, 1, 2);
    for (time, state) in [(NOW - 999, FlowState::Established), (NOW - 1, FlowState::HalfOpen)] {
        for way in 0..8 {
            scene.put(way, FlowEntry::new(way as u32 + 1, 3, time, state));
        }
        let before = scene.ways();
        let lost = scene.world.event(PathEvent::StrayLost);
        assert_eq!(scene.world.forward(&Scene::web().tcp(SYN)), 1, "{state:?}");
        assert_eq!(scene.world.forward(&Scene::web().tcp(ACK)), 1);
        assert_eq!(scene.ways(), before);
        assert_eq!(scene.world.event(PathEvent::StrayLost), lost + 2);
    }
    // Where both are one, nothing is lost.
    track(&mut scene, 2, 2);
    let lost = scene.world.event(PathEvent::StrayLost);
    assert_eq!(scene.world.forward(&Scene::web().tcp(SYN)), 2);
    assert_eq!(scene.world.event(PathEvent::StrayLost), lost);
}

#[test]
fn a_stray_that_gives_way_is_counted() {
    let scene = scene();
    for way in 0..8 {
        scene.put(way, FlowEntry::new(way as u32 + 1, 3, NOW - 2, FlowState::PickedUp).stray(way == 0));
    }
    // UDP flows are remembered as ever.
    let mut lost = 0;
    for port in 1..=8 {
        scene.world.forward(&Scene::dns().with_port(port).udp());
        lost = scene.world.event(PathEvent::StrayLost);
    }
    assert_eq!(lost, 1);
}

#[test]
fn where_no_backend_takes_new_flows_the_last_ring_leads_the_old_ones() {
    for tracked in [false, true] {
        let mut scene = scene();
        if tracked {
            track(&mut scene, 1, 2);
        } else {
            scene.world.give_ring_to(scene.tcp, 1);
        }
        set(&mut scene, |vip| vip.flags |= Vip::CLOSED);
        scene.world.tables.targets[1].flags |= Target::DRAINING;
        scene.world.take_down(2);
        assert_eq!(scene.world.send(&Scene::web().tcp(SYN)).exit.verdict, Verdict::NoBackend);
        assert_eq!(scene.world.forward(&Scene::web().tcp(ACK)), 1);
        assert_eq!(scene.world.flows().len(), usize::from(tracked));
        scene.world.take_down(1);
        assert_eq!(scene.world.send(&Scene::web().tcp(ACK)).exit.verdict, Verdict::NoBackend);
    }
}

#[test]
fn without_a_ring_what_is_known_stays() {
    let mut scene = scene();
    let ack = Scene::web().tcp(ACK);
    scene.remember(&ack, 3, NOW, FlowState::Established);
    set(&mut scene, |vip| vip.ring_slots = 0);
    assert_eq!(scene.world.forward(&ack), 3);
    assert_eq!(scene.world.send(&Scene::web().with_port(1).tcp(ACK)).exit.verdict, Verdict::NoBackend);
}
