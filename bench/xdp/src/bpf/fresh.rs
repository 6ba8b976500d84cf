//! What is to be sent, and how a frame is made into it.

use aya_ebpf::{btf_maps::Array, macros::btf_map, programs::XdpContext};
use bench_xdp::{FRAME_WORDS, Setup};

#[btf_map]
pub(crate) static SETUP: Array<Setup, 1> = Array::new();

/// Writes the frame's start anew, and the flow of packet `n` into it.
#[inline(always)]
pub(crate) fn refresh(context: &XdpContext, setup: &Setup, n: u64) -> Option<()> {
    for index in 0..FRAME_WORDS {
        let Some(word) = place::<u64>(context, 8 * index) else { break };
        let from = (&raw const setup.frame).cast::<u64>().wrapping_add(index);
        // SAFETY: `index` is below the number of words. Volatile, or the copy becomes a call of memcpy.
        let value = unsafe { from.read_volatile() };
        // SAFETY: within the frame, as `place` has checked; XDP allows any alignment.
        unsafe { word.write_unaligned(value) };
    }
    let fields = setup.fields(setup.flow(n));
    put(context, setup.source_at, fields.source)?;
    put(context, setup.destination_at, fields.destination)?;
    put(context, setup.port_at, fields.port)?;
    put(context, setup.ip_sum_at, fields.ip_sum)?;
    put(context, setup.transport_sum_at, fields.transport_sum)
}

/// Writes a field unless the frame has none.
#[inline(always)]
fn put<T: Copy>(context: &XdpContext, offset: u32, value: T) -> Option<()> {
    if offset == 0 {
        return Some(());
    }
    // The verifier wants a bound.
    let field = place::<T>(context, (offset & 0x7f) as usize)?;
    // SAFETY: within the frame, as `place` has checked; XDP allows any alignment.
    unsafe { field.write_unaligned(value) };
    Some(())
}

/// Where a `T` lies at `offset`, if the frame holds all of it.
#[inline(always)]
pub(crate) fn place<T>(context: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = context.data() + offset;
    (start + size_of::<T>() <= context.data_end()).then_some(start as *mut T)
}
