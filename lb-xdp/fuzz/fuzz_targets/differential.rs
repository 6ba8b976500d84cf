//! The program in the kernel and the same code on the host: the same frames, the same tables, the same outcome.
#![no_main]

use lb_fuzz::{
    input::{Input, explain},
    kernel::{Comparison, Kernels},
};
use libfuzzer_sys::fuzz_target;

/// Runs that must all differ. The clock's two readers may disagree for an instant while it ticks.
const TIMES: usize = 3;

thread_local! {
    static KERNELS: std::cell::RefCell<Kernels> = std::cell::RefCell::new(Kernels::load());
}

fuzz_target!(
    // Before the first input: what the kernel does not take is no fault of an input's.
    init: KERNELS.with_borrow(|_| ()),
    |bytes: &[u8]| {
        let input = Input::read(bytes);
        let fault = KERNELS.with_borrow_mut(|kernels| {
            let kernel = kernels.of(input.scene.variant());
            let mut last = None;
            for _ in 0..TIMES {
                match kernel.compare(&input) {
                    Comparison::Same => return None,
                    Comparison::Differs(fault) => last = Some(fault),
                }
            }
            last
        });
        if let Some(fault) = fault {
            panic!("{fault}\n{}", explain(bytes));
        }
    }
);
