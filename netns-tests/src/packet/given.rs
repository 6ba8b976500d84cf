//! What the tables hold when a packet comes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::Relaxed,
};

use lb_common::{
    layout::{
        flow::{FlowEntry, FlowState, WAYS},
        target::{Encap, Target},
        vip::{ICMP, ICMPV6, Vip, VipKey, mapped},
    },
    maps::Tuning,
};
use lb_daemon::plan::Capacity;
use lb_xdp::host::HostTables;

use super::{
    case::INGRESS,
    frame::{Frame, Tunnel},
};

/// MAC address of every target's next hop.
pub const NEXT_HOP: [u8; 6] = [0x02, 0, 0, 0, 0xbb, 0x01];
/// MAC address of the interface that targets name.
pub const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0xaa, 0x02];
/// Buckets of the flow table.
pub const BUCKETS: u32 = 64;
/// Slots of a ring.
const SLOTS: u16 = 67;
/// Sizes of the other tables.
pub const CAPACITY: Capacity = Capacity {
    vips: 64,
    targets: 64,
    ring_blocks: 64,
    groups: 64,
    servers: 64,
    prefixes: 1024,
    tunnel_sources: 64,
    own: 64,
};

/// A remembered flow: whose, in which way of its bucket, and what.
#[derive(Clone, Copy, Debug)]
struct Known {
    bucket: usize,
    tag: u32,
    way: usize,
    target: u32,
    age: u32,
    state: FlowState,
}

/// Contents of the tables. VIPs and targets are numbered from 1 in the order in which they are added.
#[derive(Clone, Debug, Default)]
pub struct Given {
    tuning: Tuning,
    vips: Vec<(VipKey, Vip, Vec<u16>)>,
    targets: Vec<Target>,
    flows: Vec<Known>,
}

impl Given {
    /// Nothing.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds a VIP with its backends, which share its ring evenly and are up.
    #[must_use]
    pub fn vip(mut self, service: &str, protocol: u8, backends: &[&str]) -> Self {
        let service: SocketAddr = service.parse().unwrap_or_else(|error| panic!("{service}: {error}"));
        let id = u32::try_from(self.vips.len()).expect("few VIPs") + 1;
        let first = u32::try_from(self.targets.len()).expect("few targets") + 1;
        self.targets.extend(backends.iter().map(|backend| target(id, super::frame::address(backend))));
        let shares = u16::try_from(backends.len()).expect("few backends");
        let ring: Vec<u16> = (0..SLOTS).filter(|_| shares > 0).map(|slot| slot % shares).collect();
        let vip = Vip { id, target_base: first, target_count: u32::from(shares), ..Vip::default() };
        let (address, _) = octets(service.ip());
        self.vips.push((VipKey::service(address, service.port().to_be_bytes(), protocol), vip, ring));
        self
    }

    /// Changes a target.
    #[must_use]
    pub fn target(mut self, id: u32, change: impl FnOnce(&mut Target)) -> Self {
        change(&mut self.targets[id as usize - 1]);
        self
    }

    /// Gives the whole ring of a VIP to one target, or to none.
    #[must_use]
    pub fn ring(mut self, vip: u32, target: Option<u32>) -> Self {
        let (_, vip, ring) = &mut self.vips[vip as usize - 1];
        let slot = target.map(|target| u16::try_from(target - vip.target_base).expect("a slot"));
        *ring = (0..SLOTS).filter_map(|_| slot).collect();
        self
    }

    /// Remembers a frame's flow at a target since `age` units.
    #[must_use]
    pub fn flow(self, of: &Frame, target: u32, age: u32, state: FlowState) -> Self {
        let hash = of.hash(self.tuning.hash_seed);
        let tag = u32::try_from(hash >> 36).expect("28 bits");
        self.know(hash, tag, 0, (target, age, state))
    }

    /// Fills the bucket of a frame's flow with flows of others.
    #[must_use]
    pub fn bucket(self, of: &Frame, flows: [(u32, u32, FlowState); WAYS]) -> Self {
        let hash = of.hash(self.tuning.hash_seed);
        (0..).zip(flows).fold(self, |given, (way, flow)| given.know(hash, way + 2, way as usize, flow))
    }

    fn know(mut self, hash: u64, tag: u32, way: usize, (target, age, state): (u32, u32, FlowState)) -> Self {
        let bucket = usize::try_from(hash % u64::from(BUCKETS)).expect("few buckets");
        self.flows.push(Known { bucket, tag, way, target, age, state });
        self
    }

    /// Parameters of the program.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The tables at unit `now` of the clock.
    pub fn tables(&self, now: u32) -> HostTables {
        let mut tables = HostTables::new(self.tuning, BUCKETS, CAPACITY.ring_blocks, CAPACITY.targets);
        tables.set_now(now);
        let mut block = 0;
        for (key, vip, ring) in &self.vips {
            let slots = u32::try_from(ring.len()).expect("few slots");
            tables.vips.insert(*key, Vip { ring_base: block, ring_slots: slots, ..*vip });
            block += tables.write_ring(block, ring);
            let icmp = if key.address.starts_with(&mapped([0; 4])[..12]) { ICMP } else { ICMPV6 };
            tables.vips.insert(VipKey::address(key.address, icmp), Vip::default());
        }
        for (place, target) in tables.targets.iter_mut().skip(1).zip(&self.targets) {
            *place = *target;
        }
        for flow in &self.flows {
            let entry = FlowEntry::new(flow.tag, flow.target, now.wrapping_sub(flow.age), flow.state);
            let bucket = &tables.flows[flow.bucket];
            bucket.entries[flow.way].store(entry.0, Relaxed);
        }
        tables
    }

    /// The tunnel in which a frame must leave for a target.
    pub fn tunnel(&self, frame: &Frame, class: u8, id: u32) -> Tunnel {
        let target = &self.targets[id as usize - 1];
        let hash = frame.hash(self.tuning.hash_seed);
        let destination = IpAddr::from(target.outer_destination).to_canonical();
        let source = if destination.is_ipv4() {
            // 172.16.0.0/16, its last bytes from bits 16 to 31 of the hash.
            let [_, _, c, d, ..] = hash.to_le_bytes();
            [172, 16, c, d].into()
        } else {
            let mut source = self.tuning.source_v6;
            let [a, b, c, d, ..] = hash.to_le_bytes();
            source[12..].copy_from_slice(&[d, c, b, a]);
            source.into()
        };
        let same_way = target.ifindex == 0 || target.ifindex == INGRESS;
        let from = if same_way { frame.destination_mac() } else { SOURCE_MAC };
        Tunnel { source, destination, class, macs: [from, NEXT_HOP] }
    }
}

/// An address as the tables keep it, and the ICMP of its IP version.
pub fn octets(address: IpAddr) -> ([u8; 16], u8) {
    match address {
        IpAddr::V4(v4) => (mapped(v4.octets()), ICMP),
        IpAddr::V6(v6) => (v6.octets(), ICMPV6),
    }
}

fn target(vip: u32, backend: IpAddr) -> Target {
    let (encap, checksum) = match backend {
        IpAddr::V4(v4) => (Encap::IpipV4, constant_sum(v4.octets())),
        IpAddr::V6(_) => (Encap::IpipV6, 0),
    };
    let (outer_destination, _) = octets(backend);
    let (encap, next_hop, source_mac) = (encap as u32, NEXT_HOP, SOURCE_MAC);
    Target {
        serves: vip,
        vip,
        encap,
        outer_destination,
        next_hop,
        source_mac,
        checksum,
        mtu: Target::NO_LIMIT,
        ..Target::default()
    }
}

/// The sum that a target carries, by its definition: version and length, DF, TTL, destination.
fn constant_sum([a, b, c, d]: [u8; 4]) -> u32 {
    let words = [[0x45, 0], [0x40, 0], [a, b], [c, d]];
    let mut sum: u32 = words.into_iter().map(|word| u32::from(u16::from_ne_bytes(word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
