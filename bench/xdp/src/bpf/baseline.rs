//! What the program under test is compared with.

use aya_ebpf::{
    EbpfContext as _, bindings::xdp_action, helpers::bpf_xdp_adjust_head, macros::xdp, programs::XdpContext,
};

const ETHERNET: usize = 14;

/// MAC addresses and EtherType, then a header of `WORDS` words of 4 bytes.
#[repr(C, packed)]
struct Outer<const WORDS: usize> {
    macs: u64,
    macs_end: u32,
    ether_type: u16,
    ip: [u32; WORDS],
}

/// Destination 02:00:00:00:00:01, source 02:00:00:00:00:02. Words, since an array would be copied byte by byte.
const MACS: (u64, u32) = (0x0200_0000_0001_0200_u64.to_be(), 2_u32.to_be());

/// The least that a program can do.
#[xdp(frags)]
fn bare_tx(_: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// An encapsulator without a decision, IPv4 outside: no other can be cheaper.
#[xdp(frags)]
fn constant_ipv4(context: XdpContext) -> u32 {
    const TTL_IPIP: u32 = 0x4004_0000;
    const SOURCE: u32 = 0xac10_0001;
    const DESTINATION: u32 = 0x0a64_0001;
    let length = (context.data_end() - context.data() - ETHERNET + 20) as u32;
    let sum = 0x4500
        + length
        + (TTL_IPIP >> 16)
        + (SOURCE >> 16)
        + (SOURCE & 0xffff)
        + (DESTINATION >> 16)
        + (DESTINATION & 0xffff);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) & 0xffff;
    let ip = [0x4500_0000 | length, 0, TTL_IPIP | sum, SOURCE, DESTINATION];
    wrap(&context, 0x0800, ip.map(u32::to_be))
}

/// The same with IPv6 outside. What it says is inside is IPv6, always: even that is no decision.
#[xdp(frags)]
fn constant_ipv6(context: XdpContext) -> u32 {
    const IPV6_64_HOPS: u32 = 41 << 8 | 64;
    let length = (context.data_end() - context.data() - ETHERNET) as u32;
    let ip = [0x6000_0000, length << 16 | IPV6_64_HOPS, 0x0100_0000, 0, 0, 7, 0xfd00_0000, 0, 0, 1];
    wrap(&context, 0x86dd, ip.map(u32::to_be))
}

#[inline(always)]
fn wrap<const WORDS: usize>(context: &XdpContext, ether_type: u16, ip: [u32; WORDS]) -> u32 {
    // SAFETY: the context is the kernel's own; no pointer into the frame is used past this.
    if unsafe { bpf_xdp_adjust_head(context.as_ptr().cast(), -(4 * WORDS as i32)) } != 0 {
        return xdp_action::XDP_DROP;
    }
    let outer = context.data() as *mut Outer<WORDS>;
    if context.data() + size_of::<Outer<WORDS>>() > context.data_end() {
        return xdp_action::XDP_DROP;
    }
    // SAFETY: within the frame, as just checked; packed, so at any alignment.
    unsafe { *outer = Outer { macs: MACS.0, macs_end: MACS.1, ether_type: ether_type.to_be(), ip } };
    xdp_action::XDP_TX
}
