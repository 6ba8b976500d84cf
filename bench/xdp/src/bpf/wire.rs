//! Both ends of the wire: `generate` makes what is sent, `sink` counts what arrives, and drops it.

use core::hint;

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::PerCpuArray,
    helpers::generated::bpf_ktime_get_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use bench_xdp::{Arrived, LOOK_BITS, Sent};

use crate::fresh::{SETUP, place, refresh};

const ETHER_TYPE: usize = 12;
const IPV4: u16 = 0x0800;
/// Offset of an IPv4 header's protocol.
const PROTOCOL: usize = 14 + 9;
const PROTOCOL_IPIP: u8 = 4;
const PROTOCOL_UDP: u8 = 17;

#[btf_map]
static SENT: PerCpuArray<Sent, 1> = PerCpuArray::new();

#[btf_map]
static ARRIVED: PerCpuArray<Arrived, 1> = PerCpuArray::new();

/// Run over live frames, whose pages come again and again with what others wrote into them.
#[xdp]
fn generate(context: XdpContext) -> u32 {
    let (Some(setup), Some(sent)) = (SETUP.get(0), SENT.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: this CPU's own value, and no other program of this CPU has it while this one runs.
    let sent = unsafe { &mut *sent };
    let n = sent.packets;
    if n & ((1 << LOOK_BITS) - 1) == 0 {
        // SAFETY: the helper takes nothing and returns a number.
        sent.last = unsafe { bpf_ktime_get_ns() };
        if n == 0 {
            sent.first = sent.last;
        }
    }
    if refresh(&context, setup, n).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    sent.packets = n.wrapping_add(1);
    xdp_action::XDP_TX
}

#[xdp]
fn sink(context: XdpContext) -> u32 {
    let Some(arrived) = ARRIVED.get_ptr_mut(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: this CPU's own value, and no other program of this CPU has it while this one runs.
    let arrived = unsafe { &mut *arrived };
    match protocol(&context) {
        Some(PROTOCOL_UDP) => arrived.plain = arrived.plain.wrapping_add(1),
        Some(PROTOCOL_IPIP) => arrived.wrapped = arrived.wrapped.wrapping_add(1),
        _ => {
            arrived.others = arrived.others.wrapping_add(1);
            return xdp_action::XDP_DROP;
        }
    }
    // Black, or LLVM adds the end before it subtracts the start, which the verifier forbids.
    let length = hint::black_box(context.data_end() - context.data());
    arrived.bytes = arrived.bytes.wrapping_add(length as u64);
    xdp_action::XDP_DROP
}

/// What an IPv4 packet holds; none for other frames.
#[inline(always)]
fn protocol(context: &XdpContext) -> Option<u8> {
    let protocol = place::<u8>(context, PROTOCOL)?;
    let ether_type = place::<u16>(context, ETHER_TYPE)?;
    // SAFETY: within the frame, as `place` has checked; XDP allows any alignment.
    if unsafe { ether_type.read_unaligned() } != IPV4.to_be() {
        return None;
    }
    // SAFETY: within the frame, as `place` has checked.
    Some(unsafe { protocol.read() })
}
