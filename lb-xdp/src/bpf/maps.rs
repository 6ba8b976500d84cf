//! Every table of the programs. Sizes are the smallest that load; the daemon sets the real ones.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, PerCpuArray},
    macros::btf_map,
};
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::Bucket,
        ring::RingBlock,
        target::Target,
        vip::{Vip, VipKey},
    },
    maps::{DecapVerdict, Tuning},
    verdict::Verdict,
};

// Only a mappable array starts its elements on a page, so that a 64-byte value is one cache line and not two halves.
const MAPPABLE: usize = BPF_F_MMAPABLE as usize;

#[btf_map]
pub static VIPS: HashMap<VipKey, Vip, 1> = HashMap::new();

#[btf_map]
pub static FLOWS: Array<Bucket, 1, MAPPABLE> = Array::new();

#[btf_map]
pub static RINGS: Array<RingBlock, 1, MAPPABLE> = Array::new();

#[btf_map]
pub static TARGETS: Array<Target, 1, MAPPABLE> = Array::new();

#[btf_map]
pub static TARGET_COUNTERS: PerCpuArray<TargetCounters, 1> = PerCpuArray::new();

#[btf_map]
pub static VERDICT_COUNTERS: PerCpuArray<VerdictCounters, { Verdict::ALL.len() }> = PerCpuArray::new();

#[btf_map]
pub static PATH_COUNTERS: PerCpuArray<u64, { PathEvent::ALL.len() }> = PerCpuArray::new();

#[btf_map]
pub static DECAP_ADDRESSES: HashMap<[u8; 16], u32, 1024> = HashMap::new();

#[btf_map]
pub static DECAP_COUNTERS: PerCpuArray<u64, { DecapVerdict::ALL.len() }> = PerCpuArray::new();

#[unsafe(no_mangle)]
pub static TUNING: Global<Tuning> = Global::new(Tuning {
    hash_seed: 0,
    bucket_mask: 0,
    udp_idle: 0,
    source_v4: [0; 4],
    source_v4_mask: [0; 4],
    source_v6: [0; 16],
});
