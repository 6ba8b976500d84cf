//! Every table of the programs. Sizes are the smallest that load; the daemon sets the real ones.

use core::sync::atomic::Ordering::Relaxed;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::btf_map,
};
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::{Bucket, FRAGMENT_BUCKETS, TIME_SHIFT, Word},
        limit::{SourceLine, TOO_BIG_WORDS},
        prefix::{Group, SourceKey},
        ring::RingBlock,
        server::ServerKey,
        target::Target,
        traffic::Traffic,
        vip::{PrefixKey, Vip, VipKey},
        vips::{self, IndexCell, Place, Record},
    },
    maps::{ProbeTuning, Tuning},
    verdict::Verdict,
};
use lb_xdp::{
    path::{SourceLimit, Tables},
    wire::eth::Mac,
};

// Only a mappable array starts its elements on a page, so that a 64-byte value is one cache line and not two halves.
const MAPPABLE: usize = BPF_F_MMAPABLE as usize;

// Tables that may be large and are mostly empty take memory as they fill.
const UNALLOCATED: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static VIPS: Array<IndexCell, 1, MAPPABLE> = Array::new();

#[btf_map]
static FLOWS: Array<Bucket, 1, MAPPABLE> = Array::new();

#[btf_map]
static RINGS: Array<RingBlock, 1, MAPPABLE> = Array::new();

#[btf_map]
static TARGETS: Array<Target, 1, MAPPABLE> = Array::new();

#[btf_map]
static TARGET_COUNTERS: PerCpuArray<TargetCounters, 1> = PerCpuArray::new();

#[btf_map]
static TRAFFIC: Array<Traffic, 1, MAPPABLE> = Array::new();

#[btf_map]
static VERDICT_COUNTERS: PerCpuArray<VerdictCounters, { Verdict::ALL.len() }> = PerCpuArray::new();

#[btf_map]
static PATH_COUNTERS: PerCpuArray<u64, { PathEvent::ALL.len() }> = PerCpuArray::new();

#[btf_map]
static PREFIX_VIPS: LpmTrie<[u8; 20], Vip, 1> = LpmTrie::new();

#[btf_map]
static FRAGMENTS: Array<Bucket, { FRAGMENT_BUCKETS as usize }, MAPPABLE> = Array::new();

#[btf_map]
static ACL: LpmTrie<[u8; 20], u32, 1> = LpmTrie::new();

#[btf_map]
static SOURCE_ROUTES: LpmTrie<[u8; 20], u32, 1> = LpmTrie::new();

#[btf_map]
static GROUPS: Array<Group, 1> = Array::new();

#[btf_map]
static SERVER_IDS: HashMap<ServerKey, u32, 1, UNALLOCATED> = HashMap::new();

#[btf_map]
static VIP_LIMITS: Array<Word, 1, MAPPABLE> = Array::new();

#[btf_map]
static SOURCES: Array<SourceLine, 1, MAPPABLE> = Array::new();

#[btf_map]
static TOO_BIG_LIMITS: Array<Word, { TOO_BIG_WORDS as usize }, MAPPABLE> = Array::new();

#[btf_map]
static BONDS: HashMap<u32, u32, 256> = HashMap::new();

#[btf_map]
static TUNNEL_ADDRESSES: HashMap<[u8; 16], u32, 256> = HashMap::new();

#[btf_map]
static TUNNEL_SOURCES: LpmTrie<[u8; 20], u32, 4096> = LpmTrie::new();

#[btf_map]
static HEARTBEAT: Array<Word, 1, MAPPABLE> = Array::new();

/// In `.rodata`, where the daemon writes the real values before it loads the program. A plain read would be folded to what
/// stands here; see `tuned`.
#[unsafe(no_mangle)]
static TUNING: Tuning = Tuning {
    hash_seed: 0,
    source_packet_ns: 0,
    source_flow_ns: 0,
    first_tick_ns: 0,
    features: 0,
    bucket_mask: 0,
    source_line_mask: 0,
    udp_idle: 0,
    vip_mask: 0,
    tick_ns: 0,
    traffic_row: 0,
    source_v4: [0; 4],
    source_v4_mask: [0; 4],
    limited_v4_mask: [0; 4],
    source_v6: [0; 16],
    limited_v6_mask: [0; 16],
    gue_port: [0; 2],
    pad: [0; 6],
};

/// As `TUNING`, of the probes' program, which goes by that too.
#[unsafe(no_mangle)]
static PROBE_TUNING: ProbeTuning = ProbeTuning { tag: 0, ifindex: 0, mac: [0; 6], pad: [0; 2] };

/// Reads one field of `TUNING` as it is in the loaded program, as a word or words.
macro_rules! tuned {
    ($field:ident as $word:ty) => {
        // SAFETY: a valid pointer to a static that nobody writes while the program is loaded; each field is as aligned as
        // the words it is read in.
        unsafe { (&raw const TUNING.$field).cast::<$word>().read_volatile() }
    };
}

/// Whether this instance has a feature; the verifier knows the answer and removes what hangs on it.
#[inline(always)]
pub(crate) fn has(feature: u32) -> bool {
    tuned!(features as u32) & feature != 0
}

/// The balancer's tables.
pub(crate) struct KernelTables;

/// The value under a key that is laid out as aya's.
macro_rules! longest {
    ($table:ident, $key:expr) => {{
        let key: &[u8; 24] = zerocopy::transmute_ref!($key);
        // SAFETY: prefix length, then 20 bytes, aligned to 1: the same layout.
        let key = unsafe { &*core::ptr::from_ref(key).cast::<Key<[u8; 20]>>() };
        $table.get(key)
    }};
}
pub(crate) use longest;

impl Tables for KernelTables {
    #[inline(always)]
    fn has(&self, feature: u32) -> bool {
        has(feature)
    }

    #[inline(always)]
    fn hash_seed(&self) -> u64 {
        tuned!(hash_seed as u64)
    }

    #[inline(always)]
    fn bucket_mask(&self) -> u32 {
        tuned!(bucket_mask as u32)
    }

    #[inline(always)]
    fn udp_idle(&self) -> u32 {
        tuned!(udp_idle as u32)
    }

    #[inline(always)]
    fn source_v4(&self) -> (u32, u32) {
        (tuned!(source_v4 as u32), tuned!(source_v4_mask as u32))
    }

    #[inline(always)]
    fn source_v6(&self) -> [u64; 2] {
        tuned!(source_v6 as [u64; 2])
    }

    #[inline(always)]
    fn gue_port(&self) -> [u8; 2] {
        tuned!(gue_port as u16).to_ne_bytes()
    }

    #[inline(always)]
    fn source_limit(&self) -> SourceLimit {
        SourceLimit {
            packet_ns: tuned!(source_packet_ns as u64),
            flow_ns: tuned!(source_flow_ns as u64),
            line_mask: tuned!(source_line_mask as u32),
            v4_mask: tuned!(limited_v4_mask as u32),
            v6_mask: tuned!(limited_v6_mask as [u64; 2]),
        }
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // Not a call: the verifier puts a load in its place (Linux 5.6), where the coarse clock costs some 10 ns.
        let ns = ticks().wrapping_mul(u64::from(tuned!(tick_ns as u32))).wrapping_sub(tuned!(first_tick_ns as u64));
        (ns >> TIME_SHIFT) as u32
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: the helper takes nothing and returns a number.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn vip(&self, key: &VipKey) -> Option<&Vip> {
        let key = key.words();
        let Place { cell, tag } = Place::of(key, tuned!(vip_mask as u32));
        let record = match vips::look(VIPS.get(cell)?, tag) {
            0 => return None,
            record => VIPS.get(record)?,
        };
        // SAFETY: what the index names is a record: words that the daemon wrote before it let the index name them, and
        // that it does not write again before the program ends (RCU). Any bytes are one.
        unsafe { &*core::ptr::from_ref(record).cast::<Record>() }.of(key)
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        FLOWS.get(index)
    }

    #[inline(always)]
    fn prefix_vip(&self, key: &PrefixKey) -> Option<&Vip> {
        longest!(PREFIX_VIPS, key)
    }

    #[inline(always)]
    fn fragments(&self, index: u32) -> Option<&Bucket> {
        FRAGMENTS.get(index)
    }

    #[inline(always)]
    fn acl(&self, key: &SourceKey) -> Option<u32> {
        longest!(ACL, key).copied()
    }

    #[inline(always)]
    fn source_route(&self, key: &SourceKey) -> Option<u32> {
        longest!(SOURCE_ROUTES, key).copied()
    }

    #[inline(always)]
    fn group(&self, id: u32) -> Option<&Group> {
        GROUPS.get(id)
    }

    #[inline(always)]
    fn server(&self, key: &ServerKey) -> Option<u32> {
        // SAFETY: one aligned word, copied at once.
        unsafe { SERVER_IDS.get(key) }.copied()
    }

    #[inline(always)]
    fn vip_limit(&self, vip: u32) -> Option<&Word> {
        VIP_LIMITS.get(vip)
    }

    #[inline(always)]
    fn source_line(&self, index: u32) -> Option<&SourceLine> {
        SOURCES.get(index)
    }

    #[inline(always)]
    fn too_big_limit(&self, index: u32) -> Option<&Word> {
        TOO_BIG_LIMITS.get(index)
    }

    #[inline(always)]
    fn bond(&self, ifindex: u32) -> Option<u32> {
        // SAFETY: one aligned word, copied at once.
        unsafe { BONDS.get(&ifindex) }.copied()
    }

    #[inline(always)]
    fn is_tunnel(&self, address: &[u8; 16]) -> bool {
        // SAFETY: only whether it is there is asked.
        unsafe { TUNNEL_ADDRESSES.get(address) }.is_some()
    }

    #[inline(always)]
    fn is_tunnel_source(&self, key: &SourceKey) -> bool {
        longest!(TUNNEL_SOURCES, key).is_some_and(|allowed| *allowed == 1)
    }

    #[inline(always)]
    fn heartbeat(&self) -> u64 {
        HEARTBEAT.get(0).map_or(0, |word| word.load(Relaxed))
    }

    #[inline(always)]
    fn ring(&self, block: u32) -> Option<&RingBlock> {
        RINGS.get(block)
    }

    #[inline(always)]
    fn target(&self, id: u32) -> Option<&Target> {
        TARGETS.get(id)
    }

    #[inline(always)]
    fn forwarded(&self, target: u32, bytes: u64) {
        // SAFETY: the helper takes nothing and returns a number.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let place = cpu.wrapping_mul(tuned!(traffic_row as u32)).wrapping_add(target);
        if let Some(traffic) = TRAFFIC.get_ptr_mut(place) {
            // SAFETY: this CPU's own value; the program is not interrupted by another instance on this CPU. The daemon reads
            // it word by word, and writes that of a target that gets no packets.
            let traffic = unsafe { &mut *traffic };
            traffic.packets = traffic.packets.wrapping_add(1);
            traffic.bytes = traffic.bytes.wrapping_add(bytes);
        }
    }

    #[inline(always)]
    fn count(&self, target: u32, update: impl FnOnce(&mut TargetCounters)) {
        if let Some(counters) = TARGET_COUNTERS.get_ptr_mut(target) {
            // SAFETY: this CPU's own value; the program is not interrupted by another instance on this CPU.
            update(unsafe { &mut *counters });
        }
    }

    #[inline(always)]
    fn event(&self, event: PathEvent) {
        if let Some(count) = PATH_COUNTERS.get_ptr_mut(event as u32) {
            // SAFETY: as for `count`.
            let count = unsafe { &mut *count };
            *count = count.wrapping_add(1);
        }
    }
}

/// Number of the target that a packet with this mark is for; `None` if it is no probe.
#[inline(always)]
pub(crate) fn probed(mark: u32) -> Option<u32> {
    // SAFETY: as for `tuned`.
    let tag = unsafe { (&raw const PROBE_TUNING.tag).read_volatile() };
    (mark & ProbeTuning::TAG == tag).then_some(mark & !ProbeTuning::TAG)
}

/// Interface of probes to targets that name none.
#[inline(always)]
pub(crate) fn probe_interface() -> u32 {
    // SAFETY: as for `tuned`.
    unsafe { (&raw const PROBE_TUNING.ifindex).read_volatile() }
}

/// MAC address of that interface.
#[inline(always)]
pub(crate) fn probe_mac() -> Mac {
    // SAFETY: as for `tuned`.
    let mac = unsafe { (&raw const PROBE_TUNING.mac).read_volatile() };
    Mac::from_bytes(&mac)
}

/// The kernel's tick counter.
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_jiffies64() }
}

/// Counts a frame of `bytes` bytes under its verdict.
#[inline(always)]
pub(crate) fn count_verdict(verdict: Verdict, bytes: usize) {
    if let Some(counters) = VERDICT_COUNTERS.get_ptr_mut(verdict as u32) {
        // SAFETY: this CPU's own value.
        let counters = unsafe { &mut *counters };
        counters.packets = counters.packets.wrapping_add(1);
        counters.bytes = counters.bytes.wrapping_add(bytes as u64);
    }
}
