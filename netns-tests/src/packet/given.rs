//! What the tables hold when a packet comes.

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    layout::{
        flow::{FRAGMENT_BUCKETS, FlowState, WAYS},
        prefix::{AclRule, SourceKey},
        server::ServerKey,
        target::{Encap, Target},
        vip::{ICMP, ICMPV6, Vip, VipKey, mapped},
        vips,
    },
    maps::{Tuning, feature},
};

use super::frame::{Frame, address};

mod asks;
mod tables;

/// MAC address of every target's next hop.
pub const NEXT_HOP: [u8; 6] = [0x02, 0, 0, 0, 0xbb, 0x01];
/// MAC address of the interface that targets name.
pub const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0xaa, 0x02];
/// Buckets of the flow table.
pub const BUCKETS: u32 = 64;
/// Entries of each other table that the daemon gives a size.
pub const ENTRIES: u32 = 64;
/// Cells of `VIPS`.
pub const CELLS: u32 = vips::cells(ENTRIES);
/// Slots of a ring.
const SLOTS: u16 = 67;
/// What a program has unless a case says otherwise: all that every kernel can load.
pub const FEATURES: u32 = feature::ALL & !feature::MULTI_BUFFER;

/// A remembered flow or datagram: in which bucket and way, and what.
#[derive(Clone, Copy, Debug)]
struct Known {
    bucket: usize,
    tag: u32,
    way: usize,
    target: u32,
    age: u32,
    state: FlowState,
}

/// A VIP and its ring: places in its range of targets.
#[derive(Clone, Debug)]
struct Service {
    key: VipKey,
    vip: Vip,
    ring: Vec<u16>,
    history: Vec<u16>,
    drops_unknown_ports: bool,
}

/// A group of a VIP's targets, and its ring.
#[derive(Clone, Debug)]
struct Members {
    vip: u32,
    ring: Vec<u16>,
}

/// Contents of the tables. VIPs, targets and groups are numbered from 1 in the order in which they are added.
#[derive(Clone, Debug)]
pub struct Given {
    tuning: Tuning,
    vips: Vec<Service>,
    targets: Vec<Target>,
    flows: Vec<Known>,
    fragments: Vec<Known>,
    groups: Vec<Members>,
    source_routes: Vec<(SourceKey, u32)>,
    acl: Vec<(SourceKey, AclRule)>,
    servers: Vec<(ServerKey, u32)>,
    /// How far each VIP's limit is ahead of now, in nanoseconds.
    vip_limits: Vec<(u32, u64)>,
    /// The same of all limits of packet-too-big messages.
    too_big_limits: u64,
    /// For how long the daemon has shown no sign of life, in nanoseconds.
    silence: u64,
    bonds: Vec<(u32, u32)>,
    tunnel_addresses: Vec<[u8; 16]>,
    tunnel_sources: Vec<(SourceKey, u32)>,
}

impl Given {
    /// Nothing.
    pub fn nothing() -> Self {
        Self {
            tuning: Tuning { features: FEATURES, ..Tuning::default() },
            vips: vec![],
            targets: vec![],
            flows: vec![],
            fragments: vec![],
            groups: vec![],
            source_routes: vec![],
            acl: vec![],
            servers: vec![],
            vip_limits: vec![],
            too_big_limits: 0,
            silence: 0,
            bonds: vec![],
            tunnel_addresses: vec![],
            tunnel_sources: vec![],
        }
    }

    /// Adds a VIP with its backends, which share its ring evenly and are up.
    #[must_use]
    pub fn vip(self, service: &str, protocol: u8, backends: &[&str]) -> Self {
        let service: SocketAddr = service.parse().unwrap_or_else(|error| panic!("{service}: {error}"));
        let (address, _) = octets(service.ip());
        self.serve(VipKey::service(address, service.port().to_be_bytes(), protocol), backends)
    }

    /// The same of a VIP that serves a prefix, as `192.0.2.0/24`.
    #[must_use]
    pub fn prefix_vip(self, addresses: &str, port: u16, protocol: u8, backends: &[&str]) -> Self {
        let (address, bits) = prefix(addresses);
        let wildcard = u8::try_from(128 - bits).expect("at most 128 bits");
        self.serve(VipKey::service(address, port.to_be_bytes(), protocol).prefix(wildcard), backends)
    }

    fn serve(mut self, key: VipKey, backends: &[&str]) -> Self {
        let id = u32::try_from(self.vips.len()).expect("few VIPs") + 1;
        let first = u32::try_from(self.targets.len()).expect("few targets") + 1;
        self.targets.extend(backends.iter().map(|backend| target(id, address(backend))));
        let shares = u16::try_from(backends.len()).expect("few backends");
        let ring = (0..SLOTS).filter(|_| shares > 0).map(|slot| slot % shares).collect();
        let wildcard_bits = key.wildcard_bits.into();
        let vip = Vip { id, target_base: first, target_count: shares.into(), wildcard_bits, ..Vip::default() };
        self.vips.push(Service { key, vip, ring, history: vec![], drops_unknown_ports: false });
        self
    }

    /// Changes a target.
    #[must_use]
    pub fn target(mut self, id: u32, change: impl FnOnce(&mut Target)) -> Self {
        change(&mut self.targets[id as usize - 1]);
        self
    }

    /// Has a target's packets sent in another way.
    #[must_use]
    pub fn encap(self, id: u32, encap: Encap) -> Self {
        self.target(id, |target| {
            target.encap = encap as u32;
            if matches!(encap, Encap::L2 | Encap::Local) {
                (target.outer_destination, target.checksum) = ([0; 16], 0);
            }
        })
    }

    /// Gives the whole ring of a VIP to one target, or to none.
    #[must_use]
    pub fn ring(mut self, vip: u32, target: Option<u32>) -> Self {
        let Service { vip, ring, .. } = &mut self.vips[vip as usize - 1];
        let slot = target.map(|target| place(vip, target));
        *ring = (0..SLOTS).filter_map(|_| slot).collect();
        self
    }

    /// Remembers a frame's flow at a target since `age` units.
    #[must_use]
    pub fn flow(mut self, of: &Frame, target: u32, age: u32, state: FlowState) -> Self {
        let hash = of.hash(self.tuning.hash_seed);
        self.flows.push(known(hash, BUCKETS, 0, (target, age, state)));
        self
    }

    /// Fills the bucket of a frame's flow with flows of others.
    #[must_use]
    pub fn bucket(mut self, of: &Frame, flows: [(u32, u32, FlowState); WAYS]) -> Self {
        let hash = of.hash(self.tuning.hash_seed);
        let others =
            (0..).zip(flows).map(|(way, flow)| Known { tag: way + 2, ..known(hash, BUCKETS, way as usize, flow) });
        self.flows.extend(others);
        self
    }

    /// Fills the bucket of a fragment's datagram with others.
    #[must_use]
    pub fn datagrams(mut self, of: &Frame, others: [(u32, u32, FlowState); WAYS]) -> Self {
        let hash = of.datagram_hash(self.tuning.hash_seed);
        let others = (0..)
            .zip(others)
            .map(|(way, other)| Known { tag: way + 2, ..known(hash, FRAGMENT_BUCKETS, way as usize, other) });
        self.fragments.extend(others);
        self
    }

    /// Parameters of the program.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The frame that leaves for a target.
    pub fn sent(&self, frame: &Frame, id: u32) -> Vec<u8> {
        frame.sent_to(&self.targets[id as usize - 1], &self.tuning)
    }
}

/// An entry of a table of so many buckets.
fn known(hash: u64, buckets: u32, way: usize, (target, age, state): (u32, u32, FlowState)) -> Known {
    let bucket = usize::try_from(hash % u64::from(buckets)).expect("few buckets");
    let tag = u32::try_from(hash >> 36).expect("28 bits");
    Known { bucket, tag, way, target, age, state }
}

/// Place of a target in its VIP's range.
fn place(vip: &Vip, target: u32) -> u16 {
    u16::try_from(target - vip.target_base).expect("a slot")
}

/// An address as the tables keep it, and the ICMP of its IP version.
pub fn octets(address: IpAddr) -> ([u8; 16], u8) {
    match address {
        IpAddr::V4(v4) => (mapped(v4.octets()), ICMP),
        IpAddr::V6(v6) => (v6.octets(), ICMPV6),
    }
}

/// A prefix as the tables keep it: its address, and how many of 128 bits count.
pub fn prefix(text: &str) -> ([u8; 16], u32) {
    let (start, bits) = text.split_once('/').unwrap_or_else(|| panic!("{text}: no prefix"));
    let bits: u32 = bits.parse().expect("bits of a prefix");
    let start = address(start);
    (octets(start).0, if start.is_ipv4() { 96 + bits } else { bits })
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

/// The sum that a target carries, by its definition: version and length, DF, destination.
fn constant_sum([a, b, c, d]: [u8; 4]) -> u32 {
    let words = [[0x45, 0], [0x40, 0], [a, b], [c, d]];
    let mut sum: u32 = words.into_iter().map(|word| u32::from(u16::from_ne_bytes(word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
