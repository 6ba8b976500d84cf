//! The kernel and its model in memory do the same with the same ops.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use lb_common::layout::{
    flow::{FlowEntry, FlowState},
    vip::mapped,
};
use lb_daemon::{
    dataplane::{Dataplane, flows::Liveness, memory::Memory},
    model::{Encap, Protocol, Service},
    nexthop::NextHop,
    plan::{
        Op, RingCache,
        diff::plan,
        prefixes::{Prefix, Prefixes},
        wanted::{Disposition, Wanted, WantedGroup, WantedTarget, WantedVip, key},
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
                0 => [192, 0, self.byte(3), 0].into(),
                _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(self.byte(3)) << 8].into(),
            };
            let protocol = if self.below(2) == 0 { Protocol::Tcp } else { Protocol::Udp };
            let service = Service::of(address, 443, protocol);
            let backends =
                (0..self.below(6)).map(|_| (IpAddr::from([10, 0, 0, self.byte(8)]), self.target())).collect();
            let service = Service { wildcard_bits: [0, 0, 8][usize::from(self.byte(3))], ..service };
            let ring_size = [31, 61, 127][usize::from(self.byte(3))];
            let vip = WantedVip { ring_size, backends, ..WantedVip::default() };
            vips.insert(key(&service), self.selected(vip));
        }
        Wanted {
            vips,
            access: self.list(3),
            tunnels: (0..self.byte(3)).map(|byte| [byte; 16]).collect(),
            tunnel_sources: self.list(2),
            bonds: (0..u32::from(self.byte(3))).map(|member| (member, 9)).collect(),
            ..Wanted::default()
        }
    }

    /// The VIP with groups, routes, access rules and server IDs.
    fn selected(&mut self, vip: WantedVip) -> WantedVip {
        let backends: Vec<IpAddr> = vip.backends.keys().copied().collect();
        let group = |identity| {
            let members = backends.iter().filter(|_| self.below(2) == 0).map(|address| (*address, 1));
            WantedGroup { identity, ring_size: 31, members: members.collect() }
        };
        let groups: Vec<WantedGroup> = (0..2).map(group).collect();
        let servers = (0..).zip(backends).filter(|_| self.below(2) == 0).collect();
        WantedVip { groups, servers, routes: self.list(3), access: self.list(3), ..vip }
    }

    fn list(&mut self, numbers: u64) -> Arc<Prefixes> {
        let count = self.below(4);
        let entry = |_| {
            let prefix = Prefix { address: mapped([10, 0, 0, 0]), bits: 104 + self.byte(4) };
            (prefix, u32::try_from(self.below(numbers)).unwrap())
        };
        Arc::new(Prefixes::new((0..count).map(entry).collect()))
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
    let (mut swept, mut kept, mut forgotten, mut grouped, mut listed) = (0, 0, 0, 0, 0);
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
        let state = memory.observe().unwrap();
        (grouped, listed) = (grouped + state.groups.len(), listed + state.lists.len());
        let rule = Liveness { now: 21, udp_idle: 7 };
        let part = u32::from(numbers.byte(8));
        let ended = kernel.forget_ended(rule, part);
        assert_eq!(ended, memory.forget_ended(rule, part), "step {step}");
        forgotten += ended;
        let flows = kernel.flows(rule).unwrap();
        assert_eq!(flows, memory.flows(rule).unwrap(), "step {step}");
        kept += flows.by_target.values().sum::<u64>();
        assert_eq!(kernel.counters().unwrap(), memory.counters().unwrap(), "step {step}");
        let some = [1, 2, CAPACITY.targets - 1, CAPACITY.targets];
        assert_eq!(kernel.counted(&some).unwrap(), memory.counted(&some).unwrap(), "step {step}");
    }
    assert!(swept > 0 && forgotten > 0, "no flow was ever swept");
    assert!(grouped > 0 && listed > 0, "no group or no list was ever written");
    // What a new process reads is what this one knew.
    drop(kernel);
    assert_eq!(place.open().observe().unwrap(), memory.observe().unwrap());
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
