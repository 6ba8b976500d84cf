//! The kernel and its model in memory do the same with the same ops.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::layout::flow::{FlowEntry, FlowState};
use lb_daemon::{
    dataplane::{Dataplane, memory::Memory},
    model::{Encap, Protocol, Service},
    nexthop::NextHop,
    plan::{
        Op, RingCache,
        diff::plan,
        wanted::{Disposition, Wanted, WantedTarget, WantedVip, key},
    },
};

use super::{
    ops::{bucket, update},
    place::{CAPACITY, FLOW_ENTRIES, Place},
};

/// Configurations that the tables go through.
const STEPS: usize = 40;
/// Buckets that flows lie in.
const BUCKETS: u32 = 4;

/// A generator of the same numbers in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn byte(&mut self, limit: u8) -> u8 {
        u8::try_from(self.below(u64::from(limit))).unwrap()
    }

    /// A state to reach: up to four VIPs, each of up to five backends.
    fn wanted(&mut self) -> Wanted {
        let mut vips = BTreeMap::new();
        for _ in 0..self.below(5) {
            let address: IpAddr = match self.below(2) {
                0 => [192, 0, 2, self.byte(3)].into(),
                _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(self.byte(3))].into(),
            };
            let protocol = if self.below(2) == 0 { Protocol::Tcp } else { Protocol::Udp };
            let service = Service::of(address, 443, protocol);
            let backends =
                (0..self.below(6)).map(|_| (IpAddr::from([10, 0, 0, self.byte(8)]), self.target())).collect();
            vips.insert(
                key(&service),
                WantedVip { ring_size: [31, 61, 127][usize::from(self.byte(3))], backends, ..WantedVip::default() },
            );
        }
        Wanted { vips, ..Wanted::default() }
    }

    fn target(&mut self) -> WantedTarget {
        let hop = NextHop {
            ifindex: 3,
            source_mac: [2; 6],
            mac: [4, 0, 0, 0, 0, self.byte(4)],
            mtu: 1500,
            tags: [[0; 4]; 2],
            on_link: false,
        };
        WantedTarget {
            weight: u32::from(self.byte(4)),
            disposition: [Disposition::Serving, Disposition::Draining, Disposition::Down][usize::from(self.byte(3))],
            next_hop: (self.below(8) != 0).then_some(hop),
            encap: Encap::Ipip,
            local: false,
        }
    }
}

#[test]
fn the_kernel_does_what_its_model_does() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    let mut memory = Memory::new(CAPACITY, usize::try_from(FLOW_ENTRIES / 8).unwrap());
    let mut numbers = Numbers(1);
    let mut cache = RingCache::default();
    let (mut swept, mut kept) = (0, 0);
    for step in 0..STEPS {
        let observed = memory.observe().unwrap();
        assert_eq!(kernel.observe().unwrap(), observed, "before step {step}");
        remember(&place, &mut memory, &observed.targets.keys().copied().collect::<Vec<_>>());
        let Ok(ops) = plan(&observed, &numbers.wanted(), &mut cache) else { continue };
        for op in &ops {
            kernel.apply(op).unwrap_or_else(|error| panic!("{op:?}: {error}"));
            memory.apply(op).unwrap();
            swept += usize::from(matches!(op, Op::SweepFlows { .. }));
            assert_eq!(kernel.observe().unwrap(), memory.observe().unwrap(), "step {step}, after {op:?}");
        }
        let flows = kernel.flows().unwrap();
        assert_eq!(flows, memory.flows().unwrap(), "step {step}");
        kept += flows.by_target.values().sum::<u64>();
        assert_eq!(kernel.counters().unwrap(), memory.counters().unwrap(), "step {step}");
    }
    assert!(swept > 0, "no flow was ever swept");
    assert!(kept > 0, "all flows were forgotten");
}

/// Gives both flow tables the same flows of these targets.
fn remember(place: &Place, memory: &mut Memory, targets: &[u32]) {
    memory.apply(&Op::SweepFlows { forget: (0..CAPACITY.targets).collect(), renumber: BTreeMap::new() }).unwrap();
    for number in 0..BUCKETS {
        let mut entries = [0; 8];
        for (way, target) in entries.iter_mut().zip(targets.iter().skip(number as usize)) {
            let entry = FlowEntry::new(number, *target, 5, FlowState::Datagram);
            assert!(memory.remember(number as usize, entry));
            *way = entry.0;
        }
        update(place, "FLOWS", number, &bucket(entries));
    }
}
