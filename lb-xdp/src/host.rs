//! Frames and tables in memory: the packet's way outside the kernel, for tests and for explaining packets.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering::Relaxed,
};

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::{Bucket, FRAGMENT_BUCKETS, TIME_SHIFT, Word},
        limit::{SourceLine, TOO_BIG_WORDS},
        prefix::{AclRule, Group, SourceKey},
        ring::{RingBlock, SLOTS_PER_BLOCK, blocks},
        server::ServerKey,
        target::Target,
        vip::{PrefixKey, Vip, VipKey},
    },
    maps::Tuning,
    verdict::Verdict,
};

pub use self::backend::Backend;
use crate::{
    checksum,
    frame::{Frame, Header, NoHeadroom},
    path::{self, Exit, SourceLimit, Tables},
    wire::eth,
};

mod backend;
pub mod vips;

/// Room before a frame, as the kernel leaves it (`XDP_PACKET_HEADROOM`).
pub const HEADROOM: usize = 256;
/// What the kernel keeps of it for itself: `sizeof(struct xdp_frame)`, 40 bytes since 5.18.
const KERNEL_PART: usize = 40;
/// Longest frame.
pub const MAX_LEN: usize = 65_000;

/// A frame in a buffer with headroom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFrame {
    buffer: Vec<u8>,
    start: usize,
    ingress: u32,
}

impl HostFrame {
    /// A frame of these bytes, cut to [`MAX_LEN`], that came in by interface `ingress`.
    #[must_use]
    pub fn new(bytes: &[u8], ingress: u32) -> Self {
        Self::with_headroom(bytes, ingress, HEADROOM)
    }

    /// The same with less room before it, as drivers leave that put metadata there.
    #[must_use]
    pub fn with_headroom(bytes: &[u8], ingress: u32, headroom: usize) -> Self {
        let mut buffer = vec![0; headroom];
        buffer.extend(bytes.iter().take(MAX_LEN));
        Self { buffer, start: headroom, ingress }
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

impl Frame for HostFrame {
    fn len(&self) -> usize {
        self.bytes().len()
    }

    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        H::ref_from_prefix(self.bytes().get(offset..)?).ok().map(|(header, _)| header)
    }

    fn at_mut<H: Header>(&mut self, offset: usize) -> Option<&mut H> {
        let bytes = self.buffer.get_mut(self.start..)?.get_mut(offset..)?;
        H::mut_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    fn replace_head(&mut self, old: usize, new: usize) -> Result<(), NoHeadroom> {
        if self.len() + new < old + eth::LEN {
            return Err(NoHeadroom);
        }
        self.start = (self.start + old).checked_sub(new).filter(|start| *start >= KERNEL_PART).ok_or(NoHeadroom)?;
        Ok(())
    }

    fn truncate(&mut self, len: usize) -> Result<(), NoHeadroom> {
        if len > self.len() || len < eth::LEN {
            return Err(NoHeadroom);
        }
        self.buffer.truncate(self.start + len);
        Ok(())
    }

    fn sum(&self, offset: usize, len: usize) -> Option<u32> {
        let bytes = self.bytes().get(offset..)?.get(..len)?;
        let word = |pair: &[u8]| match pair {
            [first, second] => checksum::word([*first, *second]),
            [last] => checksum::word([*last, 0]),
            _ => 0,
        };
        Some(bytes.chunks(2).map(word).sum())
    }

    fn sum_of<const N: usize>(&self, offset: usize) -> Option<u32> {
        self.sum(offset, N).map(|sum| checksum::fold(sum).into())
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }
}

/// The tables in memory, with a clock that the owner sets.
#[derive(Debug)]
pub struct HostTables {
    /// Parameters of the program.
    pub tuning: Tuning,
    /// `VIPS`
    pub vips: BTreeMap<VipKey, Vip>,
    /// `FLOWS`; a power of two of them.
    pub flows: Vec<Bucket>,
    /// `RINGS`
    pub rings: Vec<RingBlock>,
    /// `TARGETS`
    pub targets: Vec<Target>,
    /// `TARGET_COUNTERS`
    pub target_counters: RefCell<Vec<TargetCounters>>,
    /// `VERDICT_COUNTERS`
    pub verdict_counters: RefCell<Vec<VerdictCounters>>,
    /// `PATH_COUNTERS`
    pub path_counters: RefCell<Vec<u64>>,
    /// `PREFIX_VIPS`, by the keys of VIPs.
    pub prefix_vips: BTreeMap<VipKey, Vip>,
    /// `FRAGMENTS`
    pub fragments: Vec<Bucket>,
    /// `ACL`
    pub acl: BTreeMap<SourceKey, AclRule>,
    /// `SOURCE_ROUTES`
    pub source_routes: BTreeMap<SourceKey, u32>,
    /// `GROUPS`
    pub groups: Vec<Group>,
    /// `SERVER_IDS`
    pub servers: BTreeMap<ServerKey, u32>,
    /// `VIP_LIMITS`
    pub vip_limits: Vec<Word>,
    /// `SOURCES`; a power of two of them.
    pub sources: Vec<SourceLine>,
    /// `TOO_BIG_LIMITS`
    pub too_big_limits: Vec<Word>,
    /// `BONDS`
    pub bonds: BTreeMap<u32, u32>,
    /// `TUNNEL_ADDRESSES`
    pub tunnel_addresses: BTreeSet<[u8; 16]>,
    /// `TUNNEL_SOURCES`
    pub tunnel_sources: BTreeMap<SourceKey, u32>,
    /// `HEARTBEAT`
    pub heartbeat: Word,
    /// Nanoseconds since some start.
    pub now_ns: Cell<u64>,
}

/// Entries of the tables that have no size of their own: `VIP_LIMITS`, `GROUPS`, lines of `SOURCES`.
const FEW: usize = 64;

fn many<T: Default>(number: usize) -> Vec<T> {
    std::iter::repeat_with(T::default).take(number).collect()
}

impl HostTables {
    /// Empty tables with room for `buckets` (a power of two) buckets, `blocks` ring blocks and `targets` targets.
    #[must_use]
    pub fn new(tuning: Tuning, buckets: u32, blocks: u32, targets: u32) -> Self {
        let flows = many(buckets as usize);
        Self {
            tuning: Tuning { bucket_mask: buckets - 1, source_line_mask: FEW as u32 - 1, ..tuning },
            vips: BTreeMap::new(),
            flows,
            rings: vec![RingBlock::default(); blocks as usize],
            targets: vec![Target::default(); targets as usize],
            target_counters: RefCell::new(vec![TargetCounters::default(); targets as usize]),
            verdict_counters: RefCell::new(vec![VerdictCounters::default(); Verdict::ALL.len()]),
            path_counters: RefCell::new(vec![0; PathEvent::ALL.len()]),
            prefix_vips: BTreeMap::new(),
            fragments: many(FRAGMENT_BUCKETS as usize),
            acl: BTreeMap::new(),
            source_routes: BTreeMap::new(),
            groups: many(FEW),
            servers: BTreeMap::new(),
            vip_limits: many(FEW),
            sources: many(FEW),
            too_big_limits: many(TOO_BIG_WORDS as usize),
            bonds: BTreeMap::new(),
            tunnel_addresses: BTreeSet::new(),
            tunnel_sources: BTreeMap::new(),
            heartbeat: Word::default(),
            now_ns: Cell::new(0),
        }
    }

    /// Sets the clock to a unit of 2^32 ns.
    pub fn set_now(&self, unit: u32) {
        self.now_ns.set(u64::from(unit) << TIME_SHIFT);
    }

    /// Writes a ring to the blocks from `base` on; returns how many it took.
    pub fn write_ring(&mut self, base: u32, slots: &[u16]) -> u32 {
        let places = self.rings.iter_mut().skip(base as usize);
        for (block, part) in places.zip(slots.chunks(SLOTS_PER_BLOCK)) {
            for (place, slot) in block.slots.iter_mut().zip(part) {
                *place = *slot;
            }
        }
        blocks(slots.len() as u32)
    }

    /// Walks the frame's way and counts its verdict, as the BPF program does.
    pub fn run(&self, frame: &mut HostFrame) -> Exit {
        let len = frame.len() as u64;
        let exit = path::run(frame, self);
        if exit.verdict != Verdict::Forwarded
            && let Some(counters) = self.verdict_counters.borrow_mut().get_mut(exit.verdict as usize)
        {
            counters.packets += 1;
            counters.bytes += len;
        }
        exit
    }
}

/// The value of the longest of these prefixes that `key` is in.
fn longest<'m, T>(prefixes: &'m BTreeMap<SourceKey, T>, key: &SourceKey) -> Option<&'m T> {
    let address = u128::from_be_bytes(key.address);
    let matches = |prefix: &SourceKey| {
        let free = (SourceKey::FIXED_BITS + 128).saturating_sub(prefix.prefix_len);
        let differs = address ^ u128::from_be_bytes(prefix.address);
        prefix.vip == key.vip && differs.checked_shr(free).unwrap_or(0) == 0
    };
    let longest = prefixes.iter().filter(|(prefix, _)| matches(prefix)).max_by_key(|(prefix, _)| prefix.prefix_len);
    longest.map(|(_, value)| value)
}

impl Tables for HostTables {
    fn has(&self, feature: u32) -> bool {
        self.tuning.features & feature != 0
    }

    fn hash_seed(&self) -> u64 {
        self.tuning.hash_seed
    }

    fn bucket_mask(&self) -> u32 {
        self.tuning.bucket_mask
    }

    fn udp_idle(&self) -> u32 {
        self.tuning.udp_idle
    }

    fn source_v4(&self) -> (u32, u32) {
        (u32::from_ne_bytes(self.tuning.source_v4), u32::from_ne_bytes(self.tuning.source_v4_mask))
    }

    fn source_v6(&self) -> [u64; 2] {
        let halves: [[u8; 8]; 2] = zerocopy::transmute!(self.tuning.source_v6);
        halves.map(u64::from_ne_bytes)
    }

    fn gue_port(&self) -> [u8; 2] {
        self.tuning.gue_port
    }

    fn source_limit(&self) -> SourceLimit {
        let halves: [[u8; 8]; 2] = zerocopy::transmute!(self.tuning.limited_v6_mask);
        SourceLimit {
            packet_ns: self.tuning.source_packet_ns,
            flow_ns: self.tuning.source_flow_ns,
            line_mask: self.tuning.source_line_mask,
            v4_mask: u32::from_ne_bytes(self.tuning.limited_v4_mask),
            v6_mask: halves.map(u64::from_ne_bytes),
        }
    }

    fn now(&self) -> u32 {
        (self.now_ns() >> TIME_SHIFT) as u32
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn vip(&self, key: &VipKey) -> Option<&Vip> {
        self.vips.get(key)
    }

    fn bucket(&self, index: u32) -> Option<&Bucket> {
        self.flows.get(index as usize)
    }

    fn prefix_vip(&self, key: &PrefixKey) -> Option<&Vip> {
        let asked = key.key();
        let address = u128::from_be_bytes(asked.address);
        let matches = |prefix: &VipKey| {
            let differs = address ^ u128::from_be_bytes(prefix.address);
            (prefix.port, prefix.protocol) == (asked.port, asked.protocol)
                && differs.checked_shr(prefix.wildcard_bits.into()).unwrap_or(0) == 0
        };
        let matching = self.prefix_vips.iter().filter(|(prefix, _)| matches(prefix));
        matching.min_by_key(|(prefix, _)| prefix.wildcard_bits).map(|(_, vip)| vip)
    }

    fn fragments(&self, index: u32) -> Option<&Bucket> {
        self.fragments.get(index as usize)
    }

    fn acl(&self, key: &SourceKey) -> Option<u32> {
        longest(&self.acl, key).map(|rule| *rule as u32)
    }

    fn source_route(&self, key: &SourceKey) -> Option<u32> {
        longest(&self.source_routes, key).copied()
    }

    fn group(&self, id: u32) -> Option<&Group> {
        self.groups.get(id as usize)
    }

    fn server(&self, key: &ServerKey) -> Option<u32> {
        self.servers.get(key).copied()
    }

    fn vip_limit(&self, vip: u32) -> Option<&Word> {
        self.vip_limits.get(vip as usize)
    }

    fn source_line(&self, index: u32) -> Option<&SourceLine> {
        self.sources.get(index as usize)
    }

    fn too_big_limit(&self, index: u32) -> Option<&Word> {
        self.too_big_limits.get(index as usize)
    }

    fn bond(&self, ifindex: u32) -> Option<u32> {
        self.bonds.get(&ifindex).copied()
    }

    fn is_tunnel(&self, address: &[u8; 16]) -> bool {
        self.tunnel_addresses.contains(address)
    }

    fn is_tunnel_source(&self, key: &SourceKey) -> bool {
        longest(&self.tunnel_sources, key) == Some(&1)
    }

    fn heartbeat(&self) -> u64 {
        self.heartbeat.load(Relaxed)
    }

    fn ring(&self, block: u32) -> Option<&RingBlock> {
        self.rings.get(block as usize)
    }

    fn target(&self, id: u32) -> Option<&Target> {
        self.targets.get(id as usize)
    }

    fn count(&self, target: u32, update: impl FnOnce(&mut TargetCounters)) {
        if let Some(counters) = self.target_counters.borrow_mut().get_mut(target as usize) {
            update(counters);
        }
    }

    fn event(&self, event: PathEvent) {
        if let Some(count) = self.path_counters.borrow_mut().get_mut(event as usize) {
            *count += 1;
        }
    }
}
