//! The XDP programs: context in, way walked, verdict out.
#![no_std]
#![no_main]

mod context;
mod maps;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};
use lb_common::verdict::{Action, Verdict};
use lb_xdp::{decap, path};

use crate::{
    context::XdpFrame,
    maps::{KernelAddresses, KernelTables},
};

/// The balancer.
#[xdp]
fn lb(context: XdpContext) -> u32 {
    balance(context)
}

/// The balancer, for frames in several buffers too.
#[xdp(frags)]
fn lb_frags(context: XdpContext) -> u32 {
    balance(context)
}

#[inline(always)]
fn balance(context: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(context);
    let exit = path::run(&mut frame, &KernelTables);
    if exit.verdict != Verdict::Forwarded {
        // A forwarded packet is counted at its target.
        maps::count_verdict(exit.verdict, frame.received_len());
    }
    match exit.verdict.action() {
        Action::Transmit | Action::Redirect if exit.ifindex != 0 => {
            // SAFETY: the helper takes numbers only.
            unsafe { bpf_redirect(exit.ifindex, 0) as u32 }
        }
        Action::Transmit | Action::Redirect => xdp_action::XDP_TX,
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
        Action::Aborted => xdp_action::XDP_ABORTED,
    }
}

/// The backend's side.
#[xdp]
fn lb_decap(context: XdpContext) -> u32 {
    let verdict = decap::unwrap(&mut XdpFrame::new(context), &KernelAddresses);
    maps::count_decap(verdict);
    if verdict.passes() { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }
}

/// Never reached: a panic that remained would leave the program without an exit, and the verifier would refuse it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
