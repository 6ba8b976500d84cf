//! Ages, and the clock that starts over every 4096 units.

use lb_common::layout::{
    counter::PathEvent,
    flow::{FlowState, TIME_MASK},
};

use super::{NOW, Scene};
use crate::{fixture::frames::flags::ACK, flow::STALE};

#[test]
fn an_entry_tells_the_unit_of_its_last_packet() {
    let scene = Scene::new();
    let ack = Scene::web().tcp(ACK);
    scene.world.forward(&ack);
    scene.world.forward(&ack);
    for unit in [NOW, NOW + 1, NOW + 1, NOW + STALE, NOW + 3000] {
        scene.world.tables.set_now(unit);
        let target = scene.world.forward(&ack);
        assert_eq!(scene.world.flow(), (target, FlowState::Established, unit & TIME_MASK));
    }
    assert_eq!(scene.world.events(), [(PathEvent::MissTcp, 1)]);
}

#[test]
fn a_datagram_within_the_idle_time_keeps_its_flow_to_the_unit() {
    for state in [FlowState::FirstDatagram, FlowState::Datagram] {
        let mut scene = Scene::new();
        let datagram = Scene::dns().udp();
        let idle = scene.world.tables.tuning.udp_idle;
        let old = scene.ring_target(&datagram);
        scene.remember(&datagram, old, NOW - idle, state);
        scene.change_rings();
        assert_eq!(scene.world.forward(&datagram), old, "{state:?}");
        assert_eq!(scene.world.flow(), (old, FlowState::Datagram, NOW));
        assert_eq!(scene.world.events(), []);
    }
}

#[test]
fn a_datagram_one_unit_later_is_steered_anew() {
    for state in [FlowState::FirstDatagram, FlowState::Datagram] {
        let mut scene = Scene::new();
        let datagram = Scene::dns().udp();
        let idle = scene.world.tables.tuning.udp_idle;
        scene.remember(&datagram, scene.ring_target(&datagram), NOW - idle - 1, state);
        let (_, new) = scene.change_rings();
        assert_eq!(scene.world.forward(&datagram), new, "{state:?}");
        assert_eq!(scene.world.flow(), (new, FlowState::FirstDatagram, NOW));
        assert_eq!(scene.world.counters(new).flows_created, 1);
        assert_eq!(scene.world.events(), [(PathEvent::Expired, 1)]);
    }
}

#[test]
fn a_tcp_flow_does_not_expire() {
    for state in [FlowState::HalfOpen, FlowState::PickedUp, FlowState::Established] {
        for age in [1, 8, STALE, STALE + 1, TIME_MASK] {
            let mut scene = Scene::new();
            let ack = Scene::web().tcp(ACK);
            let old = scene.ring_target(&ack);
            scene.remember(&ack, old, NOW.wrapping_sub(age) & TIME_MASK, state);
            scene.change_rings();
            assert_eq!(scene.world.forward(&ack), old, "{state:?} after {age} units");
            assert_eq!(scene.world.flow(), (old, FlowState::Established, NOW));
        }
    }
}

#[test]
fn ages_are_right_where_the_clock_starts_over() {
    let wrap = TIME_MASK + 1;
    let idle = 7;
    for (now, last, expires) in [
        (wrap, TIME_MASK, false),
        (wrap + 3, wrap - 4, false),
        (wrap + 3, wrap - 5, true),
        (wrap * 9 + 6, wrap * 9 - 1, false),
        (wrap * 9 + 7, wrap * 9 - 1, true),
        // The whole clock, whose upper bits an entry does not hold.
        (u32::MAX, u32::MAX - idle, false),
        (u32::MAX, u32::MAX - idle - 1, true),
    ] {
        let scene = Scene::new();
        assert_eq!(scene.world.tables.tuning.udp_idle, idle);
        scene.world.tables.set_now(now);
        let datagram = Scene::dns().udp();
        scene.remember(&datagram, scene.ring_target(&datagram), last, FlowState::Datagram);
        scene.world.forward(&datagram);
        assert_eq!(scene.world.event(PathEvent::Expired), u64::from(expires), "{now}, last {last}");
    }
}
