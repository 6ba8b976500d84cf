//! The clock of the flow table: the kernel's tick counter, which the program reads without a call, set by the coarse
//! monotonic clock, which moves on at the same ticks and is what the daemon reads.

use std::sync::OnceLock;

use aya::{
    EbpfLoader,
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use lb_common::maps::{self, Tuning};
use rustix::time::{ClockId, clock_getres};

use super::{
    error::OpenError,
    load::{self, OBJECT, lacks, program_error},
};
use crate::dataplane::flows::now_ns;

/// How often a look at both clocks may fall on two sides of a tick.
const TRIES: u32 = 20;
/// The shortest frame that the kernel runs a program on.
const FRAME: [u8; 64] = [0; 64];

/// What the program needs to know of its clock.
#[derive(Clone, Copy)]
struct Clock {
    tick_ns: u32,
    first_tick_ns: u64,
}

/// The parameters with the clock set. The clocks are compared once in a process: they don't part.
///
/// # Errors
/// When the kernel does not run the program that tells its ticks.
pub fn set(tuning: &Tuning) -> Result<Tuning, OpenError> {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    let clock = if let Some(clock) = CLOCK.get() {
        *clock
    } else {
        let clock = compare()?;
        *CLOCK.get_or_init(|| clock)
    };
    Ok(Tuning { tick_ns: clock.tick_ns, first_tick_ns: clock.first_tick_ns, ..*tuning })
}

fn compare() -> Result<Clock, OpenError> {
    const WHAT: &str = "read the kernel's ticks";
    let failed = |error| program_error(WHAT.to_owned(), error);
    let mut object = EbpfLoader::new().btf(None).load(OBJECT).map_err(load::explain_load)?;
    load::verify(&mut object, maps::TICKS_PROGRAM)?;
    let program = object.program(maps::TICKS_PROGRAM).ok_or_else(|| lacks(maps::TICKS_PROGRAM))?;
    let program: &Xdp = program.try_into().map_err(failed)?;
    // The coarse clock's resolution is a tick.
    let tick_ns = u32::try_from(clock_getres(ClockId::MonotonicCoarse).tv_nsec).unwrap_or(u32::MAX).max(1);
    let mut first_tick_ns = 0;
    for _ in 0..TRIES {
        let before = now_ns();
        let options = TestRunOptions { data_in: Some(&FRAME), ..TestRunOptions::new() };
        let ticks = program.test_run(options).map_err(failed)?.return_value;
        first_tick_ns = Tuning::first_tick_ns(ticks, tick_ns, before);
        if now_ns() == before {
            break;
        }
    }
    Ok(Clock { tick_ns, first_tick_ns })
}
