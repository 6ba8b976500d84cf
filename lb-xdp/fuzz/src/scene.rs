//! What the tables hold when the first frame comes.

use std::sync::atomic::Ordering::Relaxed;

use lb_common::{
    layout::{
        flow::{FlowEntry, FlowState},
        prefix::{AclRule, Group, SourceKey},
        server::ServerKey,
        target::{Encap, Target},
        traffic::row,
        vip::{ICMP, ICMPV6, Vip, VipKey, mapped},
        vips,
    },
    maps::{Tuning, feature},
};
use lb_xdp::host::HostTables;

use crate::site::{SERVICES, Service, TUNNELS};

/// Bytes of an input that say what the tables hold.
pub const SCENE_BYTES: usize = 64;
/// Interface that frames come in by: the kernel takes the loopback's, whose number is 1, for a test run's.
pub const INGRESS: u32 = 1;
/// Targets of each VIP.
const TARGETS: usize = 3;
/// Buckets of the flow table: few, so that they fill.
pub const BUCKETS: u32 = 16;
/// Places in the other tables.
pub const PLACES: u32 = 64;
/// Cells of `VIPS`.
pub const CELLS: u32 = vips::cells(PLACES);
/// Slots of a ring.
const SLOTS: u16 = 31;
/// An interface that frames may leave by, and the bond that [`INGRESS`] may be a member of.
const OTHER: u32 = 4000;
const BOND: u32 = 4001;
/// MAC address of every target's next hop.
pub const NEXT_HOP: [u8; 6] = [0x02, 0, 0, 0, 0xbb, 0x01];
/// MAC address of the interfaces that targets name.
pub const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0xaa, 0x02];

/// Which features the instances of the program have.
const INSTANCES: [u32; 4] = [
    0,
    feature::ALL & !feature::MULTI_BUFFER,
    feature::PREFIX_VIPS
        | feature::UNKNOWN_PORT
        | feature::QUIC
        | feature::ACL
        | feature::SOURCE_LIMIT
        | feature::UNWRAPPED
        | feature::BONDS,
    feature::HASHES
        | feature::SERVER_IDS
        | feature::SOURCE_ROUTES
        | feature::NEW_FLOW_LIMIT
        | feature::GUE
        | feature::TUNNELS,
];
/// Number of instances.
pub const VARIANTS: usize = INSTANCES.len();

/// Parameters of an instance. Limits let few packets through, so that a short input meets them.
pub fn tuning(variant: usize) -> Tuning {
    let features = INSTANCES[variant % VARIANTS];
    let limits = features & feature::SOURCE_LIMIT != 0;
    Tuning {
        features,
        hash_seed: 0x5eed + variant as u64,
        bucket_mask: BUCKETS - 1,
        source_line_mask: PLACES - 1,
        vip_mask: CELLS / 2 - 1,
        traffic_row: row(PLACES),
        source_packet_ns: if limits { 200_000_000 } else { 0 },
        source_flow_ns: if limits { 400_000_000 } else { 0 },
        limited_v4_mask: [0xff, 0xff, 0xff, 0],
        ..Tuning::default()
    }
}

/// Tables, as a fuzzer's bytes describe them. Sound unless [`Scene::is_sound`] says otherwise.
#[derive(Clone, Debug)]
pub struct Scene {
    bytes: [u8; SCENE_BYTES],
}

// Places in the bytes.
const VARIANT: usize = 0;
const LISTS: usize = 1;
const CROWD: usize = 2;
const TAGS: usize = 3;
const LIMIT: usize = 4;
const FAULT: usize = 5;
const FLAGS: usize = 8;
const EACH_TARGET: usize = FLAGS + 2 * SERVICES.len();
const _: () = assert!(EACH_TARGET + TARGETS * SERVICES.len() <= SCENE_BYTES);

impl Scene {
    /// The scene that these bytes describe; those that are missing are zero.
    pub fn read(bytes: &[u8]) -> Self {
        let mut all = [0; SCENE_BYTES];
        for (place, byte) in all.iter_mut().zip(bytes) {
            *place = *byte;
        }
        Self { bytes: all }
    }

    /// Which instance of the program it is for.
    pub fn variant(&self) -> usize {
        usize::from(self.bytes[VARIANT]) % VARIANTS
    }

    /// Whether the daemon could have written such tables.
    pub fn is_sound(&self) -> bool {
        self.bytes[FAULT] & 3 != 3
    }

    /// Whether an address (IPv4 mapped) is one of a VIP's, or takes tunnel packets.
    pub fn is_ours(&self, address: [u8; 16]) -> bool {
        let features = tuning(self.variant()).features;
        let prefixes = features & feature::PREFIX_VIPS != 0;
        let served = SERVICES.iter().filter(|service| prefixes || service.wildcard_bits == 0);
        served.into_iter().any(|service| service.covers(address)) || self.is_tunnel(address)
    }

    /// Whether an address (IPv4 mapped) takes tunnel packets.
    pub fn is_tunnel(&self, address: [u8; 16]) -> bool {
        tuning(self.variant()).features & feature::TUNNELS != 0 && TUNNELS.contains(&address)
    }

    /// The tables at this time, in nanoseconds.
    pub fn tables(&self, now_ns: u64) -> HostTables {
        let mut tables = HostTables::new(tuning(self.variant()), BUCKETS, PLACES, PLACES);
        tables.now_ns.set(now_ns);
        for (place, service) in SERVICES.iter().enumerate() {
            self.serve(&mut tables, place, service);
        }
        self.lists(&mut tables);
        self.tunnels(&mut tables);
        if self.bytes[LISTS] & 0x40 != 0 {
            tables.bonds.insert(INGRESS, BOND);
        }
        if self.bytes[LISTS] & 0x80 == 0 {
            // Else the daemon was never heard of.
            tables.heartbeat.store(now_ns, Relaxed);
        }
        self.crowd(&tables);
        if !self.is_sound() {
            self.misplace(&mut tables);
        }
        tables
    }

    fn serve(&self, tables: &mut HostTables, place: usize, service: &Service) {
        let id = number(place) + 1;
        let base = 1 + number(place * TARGETS);
        let targets: [Target; TARGETS] = std::array::from_fn(|share| self.target(place, share, service.is_v4()));
        for (target, number) in targets.iter().zip(base..) {
            tables.targets[number as usize] = *target;
        }
        let open: Vec<u16> = (0..).zip(&targets).filter(|(_, target)| takes_flows(target)).map(|(n, _)| n).collect();
        let ring = |shares: &[u16]| -> Vec<u16> {
            (0..SLOTS).filter_map(|slot| shares.get(usize::from(slot) % shares.len().max(1)).copied()).collect()
        };
        // Two blocks for the VIP, and two for its group.
        let ring_base = number(4 * place);
        let flags = u16::from_le_bytes([self.bytes[FLAGS + 2 * place], self.bytes[FLAGS + 2 * place + 1]]);
        tables.write_ring(ring_base, &ring(&open));
        let vip = Vip {
            id,
            flags: asked(flags),
            target_base: base,
            target_count: number(TARGETS),
            ring_base,
            ring_slots: number(ring(&open).len()),
            new_flow_ns: if self.bytes[LIMIT] & 1 == 0 { 1_000_000_000 } else { 250_000_000 },
            quic_lengths: 0x2f14,
            wildcard_bits: service.wildcard_bits.into(),
            // All that was once at the target that the group has.
            history_base: ring_base + 2,
        };
        let key = service.key();
        let icmp = if service.is_v4() { ICMP } else { ICMPV6 };
        let address_key = VipKey::address(service.address, icmp).prefix(service.wildcard_bits);
        let address_flags = if self.bytes[LISTS] & 1 == 0 { 0 } else { Vip::DROP_UNKNOWN_PORT };
        let address = Vip { flags: address_flags, wildcard_bits: service.wildcard_bits.into(), ..Vip::default() };
        let table = if key.is_prefix() { &mut tables.prefix_vips } else { &mut tables.vips };
        table.insert(key, vip);
        table.insert(address_key, address);
        // The group has the last of the open targets alone.
        let last = ring(open.last().map(std::slice::from_ref).unwrap_or_default());
        tables.write_ring(ring_base + 2, &last);
        let ring_slots = number(last.len());
        tables.groups[place + 1] = Group { vip: id, ring_base: ring_base + 2, ring_slots, reserved: 0, identity: 1 };
        for (prefix, bits) in [(mapped([198, 51, 100, 128]), 96 + 25), (from_segments([0x2001, 0xdb8, 0xd]), 48)] {
            tables.source_routes.insert(SourceKey::new(id, prefix, bits), number(place) + 1);
        }
        for (server, target) in [(0, 0), (1, 1), (0x0102_0304, 2), (0xabcd, 2)] {
            tables.servers.insert(ServerKey::new(id, server), base + target);
        }
    }

    /// The target that one byte describes: 3 bits of encapsulation, 2 of state, 2 of MTU, 1 of the way out.
    fn target(&self, place: usize, share: usize, inner_v4: bool) -> Target {
        let byte = self.bytes[EACH_TARGET + place * TARGETS + share];
        let kinds = [
            Encap::IpipV4,
            Encap::IpipV6,
            Encap::GueV4,
            Encap::GueV6,
            Encap::L2,
            Encap::Local,
            if inner_v4 { Encap::GueV4 } else { Encap::GueV6 },
            if inner_v4 { Encap::IpipV4 } else { Encap::IpipV6 },
        ];
        let encap = self.possible(kinds[usize::from(byte & 7)]);
        let id = number(place) + 1;
        let backend = u8::try_from(share).expect("a target") + 11;
        let (outer_destination, checksum) = match encap {
            Encap::IpipV4 | Encap::GueV4 => (mapped([10, 0, 0, backend]), constant_sum([10, 0, 0, backend])),
            _ => (from_segments([0xfd00, u16::from(backend)]), 0),
        };
        let tag = |bit: u8, kind: [u8; 2]| {
            if self.bytes[TAGS] & bit == 0 { [0; 4] } else { [kind[0], kind[1], 0, 100 + bit] }
        };
        let (ifindex, tags, flags) = match (byte >> 7, self.bytes[TAGS] >> 6) {
            (0, _) => (0, [[0; 4]; 2], Target::KEEPS_TAGS),
            (_, 0) => (INGRESS, [tag(1, [0x81, 0]), [0; 4]], 0),
            (_, 1) => (BOND, [tag(1, [0x81, 0]), [0; 4]], 0),
            (_, 2) => (OTHER, [tag(1, [0x81, 0]), [0; 4]], 0),
            _ => (OTHER, [tag(3, [0x88, 0xa8]), tag(3, [0x81, 0])], 0),
        };
        let state = byte >> 3 & 3;
        Target {
            serves: if state == 2 { 0 } else { id },
            vip: id,
            flags: flags | if state == 3 { Target::DRAINING } else { 0 },
            encap: encap as u32,
            outer_destination,
            next_hop: NEXT_HOP,
            source_mac: SOURCE_MAC,
            ifindex,
            checksum,
            mtu: [Target::NO_LIMIT, 1400, 1280, 576][usize::from(byte >> 5 & 3)],
            tags,
        }
    }

    /// The same encapsulation if the instance has it: the daemon loads none that lacks what a target needs.
    fn possible(&self, encap: Encap) -> Encap {
        let features = tuning(self.variant()).features;
        match encap {
            Encap::GueV4 if features & feature::GUE == 0 => Encap::IpipV4,
            Encap::GueV6 if features & feature::GUE == 0 => Encap::IpipV6,
            Encap::L2 | Encap::Local if features & feature::UNWRAPPED == 0 => Encap::IpipV4,
            encap => encap,
        }
    }

    fn lists(&self, tables: &mut HostTables) {
        let lists = self.bytes[LISTS];
        let denied = mapped([203, 0, 113, 0]);
        if lists & 2 != 0 {
            tables.acl.insert(SourceKey::new(0, denied, 96 + 24), AclRule::Deny);
            tables.acl.insert(SourceKey::new(0, from_segments([0xfe80]), 10), AclRule::Deny);
        }
        for id in 1..=number(SERVICES.len()) {
            if lists & 4 != 0 {
                tables.acl.insert(SourceKey::new(id, mapped([198, 51, 100, 0]), 96 + 24), AclRule::Allow);
                tables.acl.insert(SourceKey::new(id, from_segments([0x2001, 0xdb8]), 32), AclRule::Allow);
                tables.acl.insert(SourceKey::new(id, [0; 16], 0), AclRule::Deny);
            }
            if lists & 8 != 0 {
                tables.acl.insert(SourceKey::new(id, mapped([198, 51, 100, 200]), 128), AclRule::Deny);
            }
        }
    }

    fn tunnels(&self, tables: &mut HostTables) {
        tables.tunnel_addresses.extend(TUNNELS);
        if self.bytes[LISTS] & 0x10 == 0 {
            tables.tunnel_sources.insert(SourceKey::new(0, [0; 16], 0), 1);
        } else {
            tables.tunnel_sources.insert(SourceKey::new(0, mapped([10, 0, 0, 0]), 96 + 8), 1);
            tables.tunnel_sources.insert(SourceKey::new(0, from_segments([0xfd00]), 8), 1);
        }
    }

    /// Fills the flow table with flows of others, as many and as old as two numbers say.
    fn crowd(&self, tables: &HostTables) {
        let crowd = u64::from(self.bytes[CROWD]);
        if crowd == 0 {
            return;
        }
        let now = tables.now_ns.get() >> lb_common::layout::flow::TIME_SHIFT;
        let mut word = crowd;
        for place in tables.flows.iter().flat_map(|bucket| &bucket.entries) {
            // SplitMix64 (Steele, Lea, Flood 2014).
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits ^= bits >> 27;
            if bits.trailing_zeros() >= 4 {
                continue;
            }
            let state = FlowState::ALL[1 + (bits >> 8 & 0xff) as usize % (FlowState::ALL.len() - 1)];
            let ages = [0, 1, 6, 7, 8, 63, 64, 4000];
            let age = if crowd & 1 == 0 { 0 } else { ages[(bits >> 16 & 7) as usize] };
            let target = 1 + (bits >> 24 & 0xff) as u32 % number(TARGETS * SERVICES.len());
            let time = (now.wrapping_sub(age) & u64::from(u32::MAX)) as u32;
            place.store(FlowEntry::new((bits >> 36) as u32, target, time, state).0, Relaxed);
        }
    }

    /// Our own fault: what the daemon never writes.
    fn misplace(&self, tables: &mut HostTables) {
        let byte = self.bytes[FAULT] >> 2;
        let target = &mut tables.targets[1 + usize::from(byte >> 2) % (TARGETS * SERVICES.len())];
        match byte & 3 {
            0 => *target = Target::default(),
            1 => target.encap = 7,
            2 => (target.vip, target.serves) = (60, 60),
            _ => tables.rings.iter_mut().for_each(|block| block.slots = [60; 32]),
        }
    }
}

fn takes_flows(target: &Target) -> bool {
    target.serves != 0 && target.flags & Target::DRAINING == 0
}

/// A small number as the tables keep it.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("few")
}

/// An IPv6 address that begins like this.
fn from_segments<const N: usize>(segments: [u16; N]) -> [u8; 16] {
    let mut address = [0; 16];
    for (place, segment) in address.chunks_exact_mut(2).zip(segments) {
        place.copy_from_slice(&segment.to_be_bytes());
    }
    address
}

/// [`Target::checksum`] by its definition: version and length, DF, destination.
fn constant_sum([a, b, c, d]: [u8; 4]) -> u32 {
    let words = [[0x45, 0], [0x40, 0], [a, b], [c, d]];
    let mut sum: u32 = words.into_iter().map(|word| u32::from(u16::from_ne_bytes(word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// A VIP's flags. The bits that no other flag has make it adaptive, without what is refused then.
fn asked(bits: u16) -> u32 {
    const OTHERS: u32 =
        Vip::HASH_MASK | Vip::UNTRACKED | Vip::SOURCE_ROUTES | Vip::TCP_SERVER_ID | Vip::UDP_SERVER_ID | Vip::QUIC_LB;
    let flags = u32::from(bits) & (Vip::DROP_UNKNOWN_PORT - 1);
    if bits >> 14 & 1 == 0 {
        return flags;
    }
    let history = [(13, Vip::CLOSED), (15, Vip::HISTORY)].into_iter().filter(|(bit, _)| bits >> bit & 1 == 1);
    history.fold(flags & !(OTHERS | Vip::QUIC_KATRAN) | Vip::ADAPTIVE, |all, (_, flag)| all | flag)
}
