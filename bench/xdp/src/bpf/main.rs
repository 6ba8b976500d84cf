//! `replay` makes each packet fresh and calls the program under test; `wire` sends packets over a link and counts what
//! comes back; `baseline` has what programs under test are compared with.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod baseline;
mod fresh;
mod replay;
mod wire;

/// Never reached: a panic that remained would leave the program without an exit, and the verifier would refuse it.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
