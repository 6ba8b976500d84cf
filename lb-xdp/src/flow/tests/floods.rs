//! Floods of packets with random tuples do not displace flows in use.

use proptest::prelude::*;

use super::{NOW, Scene};
use crate::{
    fixture::frames::{
        Ends,
        flags::{ACK, PSH, SYN},
    },
    flow::STALE,
};

/// A random sender's packet.
#[derive(Clone, Copy, Debug)]
enum Flood {
    Syn,
    Ack,
    Udp,
}

impl Flood {
    fn frame(self, from: [u8; 4], port: u16) -> Vec<u8> {
        let ends = |ends: Ends| Ends { from: (from, port).into(), ..ends };
        match self {
            Self::Syn => ends(Scene::web()).tcp(SYN),
            Self::Ack => ends(Scene::web()).tcp(PSH | ACK),
            Self::Udp => ends(Scene::dns()).udp(),
        }
    }
}

fn flood() -> impl Strategy<Value = Flood> {
    prop::sample::select(vec![Flood::Syn, Flood::Ack, Flood::Udp])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_flood_displaces_a_flow_in_use(
        ports in prop::collection::btree_set(1024..60_000_u16, 1..32),
        flood in prop::collection::vec((flood(), any::<[u8; 4]>(), any::<u16>()), 600),
        units in 0..STALE,
    ) {
        // 32 flows at most in 4 buckets of 8.
        let mut scene = Scene::with_buckets(4);
        let mut flows = Vec::new();
        for port in ports {
            let (web, dns) = (Scene::web().with_port(port), Scene::dns().with_port(port));
            scene.world.forward(&web.tcp(SYN));
            let target = scene.world.forward(&web.tcp(ACK));
            scene.world.forward(&dns.udp());
            flows.push((web.tcp(ACK), target));
            flows.push((dns.udp(), scene.world.forward(&dns.udp())));
        }
        // Some found no room; those that did must keep it. Afterwards the rings answer otherwise for all of them.
        flows.retain(|(frame, _)| {
            let tag = scene.tag(frame);
            scene.world.flows().iter().any(|entry| entry.tag() == tag)
        });
        prop_assert!(!flows.is_empty());
        let last_units = units.min(scene.world.tables.tuning.udp_idle);
        for (sent, (kind, from, port)) in flood.iter().enumerate() {
            scene.world.tables.set_now(NOW + last_units * sent as u32 / 600);
            scene.world.send(&kind.frame(*from, *port));
        }
        for target in 1..=8 {
            let key = if target <= 4 { scene.tcp } else { scene.udp };
            scene.world.give_ring_to(key, target);
            for (frame, own) in &flows {
                prop_assert_eq!(scene.world.forward(frame), *own);
            }
        }
    }
}

#[test]
fn a_flood_takes_at_most_one_idle_flow_of_a_bucket_whose_others_are_in_use() {
    use lb_common::layout::flow::{FlowEntry, FlowState};
    let scene = Scene::new();
    for way in 0..8 {
        scene.put(way, FlowEntry::new(way as u32 + 2, 1, NOW - STALE - 1, FlowState::Established));
    }
    for port in 1024..3024 {
        scene.world.forward(&Flood::Syn.frame([203, 0, 113, 9], port));
    }
    let left = scene.ways().iter().filter(|entry| entry.state() == FlowState::Established as u32).count();
    assert_eq!(left, 7, "the flood's own entry gives way before the next idle flow does");
}
