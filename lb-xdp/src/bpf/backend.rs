//! Tables of the backend's program.

use aya_ebpf::{
    btf_maps::{HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    macros::btf_map,
};
use lb_common::{
    layout::prefix::SourceKey,
    maps::{DecapTuning, DecapVerdict},
};
use lb_xdp::decap::Addresses;

use crate::maps::longest;

#[btf_map]
static DECAP_SOURCES: LpmTrie<[u8; 20], u32, 4096> = LpmTrie::new();

#[btf_map]
static DECAP_ADDRESSES: HashMap<[u8; 16], u32, 1024> = HashMap::new();

#[btf_map]
static DECAP_COUNTERS: PerCpuArray<u64, { DecapVerdict::ALL.len() }> = PerCpuArray::new();

/// As `TUNING`, of the backend's program.
#[unsafe(no_mangle)]
static DECAP_TUNING: DecapTuning = DecapTuning { gue_port: [0; 2], only_sources: 0 };

/// The backend's tunnel addresses.
pub(crate) struct KernelAddresses;

impl Addresses for KernelAddresses {
    #[inline(always)]
    fn is_tunnel(&self, address: &[u8; 16]) -> bool {
        // SAFETY: only whether it is there is asked.
        unsafe { DECAP_ADDRESSES.get(address) }.is_some()
    }

    #[inline(always)]
    fn is_source(&self, address: [u64; 2]) -> bool {
        // SAFETY: as for `tuned`.
        let only_listed = unsafe { (&raw const DECAP_TUNING.only_sources).read_volatile() } != 0;
        if !only_listed {
            return true;
        }
        let key = SourceKey::from_words(0, address);
        longest!(DECAP_SOURCES, &key).is_some_and(|allowed| *allowed == 1)
    }

    #[inline(always)]
    fn gue_port(&self) -> [u8; 2] {
        // SAFETY: as for `tuned`.
        unsafe { (&raw const DECAP_TUNING.gue_port).cast::<u16>().read_volatile() }.to_ne_bytes()
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
