//! A test run with `repeat` hands the same frame to the program again and again, as the program left it. So this program
//! stands before the one under test: it puts head, tail and bytes back, gives the frame to the next flow, and calls.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action,
    btf_maps::{Array, ProgramArray},
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, generated::bpf_ktime_get_ns},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use bench_xdp::{CHUNK_BITS, CHUNK_PACKETS, MAX_STAMPS, Progress};

use crate::fresh::{SETUP, refresh};

#[btf_map]
static PROGRESS: Array<Progress, 1> = Array::new();

#[btf_map]
static STAMPS: Array<u64, MAX_STAMPS> = Array::new();

#[btf_map]
static CALLED: ProgramArray<1> = ProgramArray::new();

#[xdp(frags)]
fn replay(context: XdpContext) -> u32 {
    let (Some(setup), Some(progress)) = (SETUP.get(0), PROGRESS.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: one run at a time, on one CPU, so that nobody else has a reference to the value.
    let progress = unsafe { &mut *progress };
    let n = progress.packets;
    stamp(n);
    progress.packets = n.wrapping_add(1);
    if rewind(&context, progress, n).is_none() || refresh(&context, setup, n).is_none() {
        progress.failures = progress.failures.wrapping_add(1);
        return xdp_action::XDP_ABORTED;
    }
    serialise(progress);
    // SAFETY: nothing here needs to be dropped. The number is constant, so that the JIT makes it a direct jump.
    unsafe { CALLED.tail_call(&context, 0) };
    progress.failures = progress.failures.wrapping_add(1);
    xdp_action::XDP_ABORTED
}

/// Notes when a chunk begins.
#[inline(always)]
fn stamp(n: u64) {
    if n & u64::from(CHUNK_PACKETS - 1) != 0 {
        return;
    }
    if let Some(stamp) = STAMPS.get_ptr_mut((n >> CHUNK_BITS) as u32) {
        // SAFETY: the helper takes nothing and returns a number.
        let now = unsafe { bpf_ktime_get_ns() };
        // SAFETY: a table's own value, which nobody else writes.
        unsafe { *stamp = now };
    }
}

/// Puts head and tail back where they were before the first packet.
#[inline(always)]
fn rewind(context: &XdpContext, progress: &mut Progress, n: u64) -> Option<()> {
    let data = through_memory(&mut progress.data, context.data());
    let data_end = through_memory(&mut progress.data_end, context.data_end());
    if n == 0 {
        progress.home = data;
        progress.home_end = data_end;
    }
    let head = progress.home.wrapping_sub(data);
    let tail = progress.home_end.wrapping_sub(data_end);
    progress.grown = progress.grown.wrapping_add(head);
    if tail != 0 {
        progress.ends_moved = progress.ends_moved.wrapping_add(1);
        // SAFETY: the context is the kernel's own; no pointer into the frame is used past this.
        let result = unsafe { bpf_xdp_adjust_tail(context.as_ptr().cast(), tail as i32) };
        if result != 0 {
            return None;
        }
    }
    // For 0 as well, so that what this costs is the same before every program.
    // SAFETY: as above.
    let result = unsafe { bpf_xdp_adjust_head(context.as_ptr().cast(), head as i32) };
    (result == 0).then_some(())
}

/// The address as a number: the verifier knows no way to subtract a packet pointer from a number, but what is read from
/// memory is one.
#[inline(always)]
fn through_memory(place: &mut u64, address: usize) -> u64 {
    let place = &raw mut *place;
    // SAFETY: made from a reference.
    unsafe { place.write_volatile(address as u64) };
    // SAFETY: made from a reference.
    unsafe { place.read_volatile() }
}

/// A locked instruction waits until the stores before it have left the store buffer. Without it the program under test
/// would load headers that are still on their way, and its first instructions would overlap with ours.
#[inline(always)]
fn serialise(progress: &mut Progress) {
    // SAFETY: adds to a number that is only there for this.
    unsafe { asm!("lock *(u64 *)({place} + 0) += {one}", place = in(reg) &raw mut progress.fence, one = in(reg) 1u64) };
}
