//! The programs: context in, way walked, verdict out. Packets meet them in XDP, probes of this host in tc.
#![no_std]
#![no_main]

mod backend;
mod context;
mod maps;
mod skb;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    helpers::bpf_redirect,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use lb_common::verdict::{Action, Verdict};
use lb_xdp::{decap, path, probe};

use crate::{backend::KernelAddresses, context::XdpFrame, maps::KernelTables, skb::SkbFrame};

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
    backend::count_decap(verdict);
    if verdict.passes() { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }
}

/// Tells the lower half of the kernel's tick counter, so that the daemon can set the program's clock.
#[xdp]
fn lb_ticks(_: XdpContext) -> u32 {
    maps::ticks() as u32
}

/// Probes of this host, on the way out by an interface that only they are routed to. Whatever else comes here is dropped.
#[classifier]
fn lb_probe(context: TcContext) -> i32 {
    let mut frame = SkbFrame::new(context);
    let sent = maps::probed(frame.mark()).and_then(|target| {
        let exit = probe::carry(&mut frame, target, maps::probe_mac(), &KernelTables).ok()?;
        Some(if exit.ifindex == 0 { maps::probe_interface() } else { exit.ifindex })
    });
    match sent {
        Some(ifindex) => {
            frame.unmark();
            // SAFETY: the helper takes numbers only.
            unsafe { bpf_redirect(ifindex, 0) as i32 }
        }
        None => TC_ACT_SHOT as i32,
    }
}

/// Never reached: a panic that remained would leave the program without an exit, and the verifier would refuse it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
