//! Every table of the programs. Sizes are the smallest that load; the daemon sets the real ones.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, PerCpuArray},
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::btf_map,
};
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::{Bucket, TIME_SHIFT},
        ring::RingBlock,
        target::Target,
        vip::{Vip, VipKey},
    },
    maps::{DecapVerdict, Tuning},
    verdict::Verdict,
};
use lb_xdp::{decap::Addresses, path::Tables};

// Only a mappable array starts its elements on a page, so that a 64-byte value is one cache line and not two halves.
const MAPPABLE: usize = BPF_F_MMAPABLE as usize;

#[btf_map]
static VIPS: HashMap<VipKey, Vip, 1> = HashMap::new();

#[btf_map]
static FLOWS: Array<Bucket, 1, MAPPABLE> = Array::new();

#[btf_map]
static RINGS: Array<RingBlock, 1, MAPPABLE> = Array::new();

#[btf_map]
static TARGETS: Array<Target, 1, MAPPABLE> = Array::new();

#[btf_map]
static TARGET_COUNTERS: PerCpuArray<TargetCounters, 1> = PerCpuArray::new();

#[btf_map]
static VERDICT_COUNTERS: PerCpuArray<VerdictCounters, { Verdict::ALL.len() }> = PerCpuArray::new();

#[btf_map]
static PATH_COUNTERS: PerCpuArray<u64, { PathEvent::ALL.len() }> = PerCpuArray::new();

#[btf_map]
static DECAP_ADDRESSES: HashMap<[u8; 16], u32, 1024> = HashMap::new();

#[btf_map]
static DECAP_COUNTERS: PerCpuArray<u64, { DecapVerdict::ALL.len() }> = PerCpuArray::new();

/// In `.rodata`, where the daemon writes the real values before it loads the program. A plain read would be folded to what
/// stands here; see `tuned`.
#[unsafe(no_mangle)]
static TUNING: Tuning =
    Tuning { hash_seed: 0, bucket_mask: 0, udp_idle: 0, source_v4: [0; 4], source_v4_mask: [0; 4], source_v6: [0; 16] };

/// Reads one field of `TUNING` as it is in the loaded program, as a word or words.
macro_rules! tuned {
    ($field:ident as $word:ty) => {
        // SAFETY: a valid pointer to a static that nobody writes while the program is loaded; each field is as aligned as
        // the words it is read in.
        unsafe { (&raw const TUNING.$field).cast::<$word>().read_volatile() }
    };
}

/// The balancer's tables.
pub(crate) struct KernelTables;

impl Tables for KernelTables {
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
    fn now(&self) -> u32 {
        // SAFETY: the helper takes nothing and returns a number.
        let now = unsafe { bpf_ktime_get_coarse_ns() };
        (now >> TIME_SHIFT) as u32
    }

    #[inline(always)]
    fn vip(&self, key: &VipKey) -> Option<&Vip> {
        // SAFETY: the daemon replaces values whole, and an element that a lookup returned is not reused before the
        // program ends (RCU).
        unsafe { VIPS.get(key) }
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&Bucket> {
        FLOWS.get(index)
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

/// Counts a frame that the backend's program saw.
#[inline(always)]
pub(crate) fn count_decap(verdict: DecapVerdict) {
    if let Some(count) = DECAP_COUNTERS.get_ptr_mut(verdict as u32) {
        // SAFETY: this CPU's own value.
        let count = unsafe { &mut *count };
        *count = count.wrapping_add(1);
    }
}

/// The backend's tunnel addresses.
pub(crate) struct KernelAddresses;

impl Addresses for KernelAddresses {
    #[inline(always)]
    fn is_tunnel(&self, address: &[u8; 16]) -> bool {
        // SAFETY: only whether it is there is asked.
        unsafe { DECAP_ADDRESSES.get(address) }.is_some()
    }
}
