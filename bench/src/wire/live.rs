//! Packets without pktgen: `BPF_PROG_TEST_RUN` over live frames (Linux 5.18), whose program makes each a packet of the next
//! flow and sends it out of the near end.

use std::{sync::Barrier, thread, time::Duration};

use anyhow::{Context, Result};
use aya::{
    Ebpf, TestRun, TestRunAttrs, TestRunOptions,
    maps::{Array, PerCpuArray, PerCpuValues},
    programs::Xdp,
    util::nr_cpus,
};
use bench_xdp::{GENERATE, LOOK_BITS, PORT_BITS, SENT, SETUP, Sent as Made, Setup};
use zerocopy::{Immutable, IntoBytes, transmute};

use super::{Amount, Sent, Site, Traffic};
use crate::{
    OBJECT,
    lab::Stop,
    machine::{self, Priority},
    workload::frame::Order,
};

/// Packets by which the rate is found.
const FIRST_CALL: u32 = 1 << 15;
/// Frames that are sent at once: what a driver's poll takes.
const BATCH: u32 = 64;
/// Between the first sources of two queues: no two have a flow in common.
const SOURCES: u32 = 1 << 16;

/// `struct xdp_md` of the kernel's include/uapi/linux/bpf.h.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Md {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// A generator for each queue, on that queue's CPU.
pub(super) struct Live {
    queues: Vec<Ebpf>,
}

impl Live {
    pub(super) fn load(queues: usize) -> Result<Self> {
        let load = |_| -> Result<Ebpf> {
            let mut programs =
                Ebpf::load(OBJECT).context("the benchmark's own programs cannot be loaded; are you root?")?;
            let program: &mut Xdp = programs.program_mut(GENERATE).context("no program to send with")?.try_into()?;
            program.load().context("the kernel refuses the program that sends")?;
            Ok(programs)
        };
        Ok(Self { queues: (0..queues).map(load).collect::<Result<_>>()? })
    }

    /// Sends from all queues at once.
    pub(super) fn send(&mut self, site: &Site, traffic: &Traffic, amount: Amount, stop: &Stop) -> Result<Sent> {
        let count = self.queues.len();
        let start = Barrier::new(count);
        let sent = site.near.enter(|| {
            thread::scope(|scope| {
                let mut threads = Vec::new();
                for (number, (programs, cpu)) in self.queues.iter_mut().zip(&site.cpus).enumerate() {
                    let start = &start;
                    threads.push(scope.spawn(move || {
                        let bound = machine::pin(Some(*cpu));
                        let ready = bound.and_then(|_| prepare(programs, traffic, number, count));
                        // Softirqs are done by who is interrupted by them: they come first as well.
                        let _priority = Priority::raise();
                        // All come here, whatever happened, or the others would wait for ever.
                        start.wait();
                        ready?;
                        run_queue(programs, site, traffic, amount, stop)
                    }));
                }
                let ended = threads.into_iter().map(|thread| match thread.join() {
                    Ok(sent) => sent,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
                ended.collect::<Result<Vec<Sent>>>()
            })
        })?;
        Ok(Sent {
            packets: sent.iter().map(|one| one.packets).sum(),
            time: sent.iter().map(|one| one.time).max().unwrap_or_default(),
        })
    }
}

/// Says what a queue's packets are.
fn prepare(programs: &mut Ebpf, traffic: &Traffic, number: usize, queues: usize) -> Result<()> {
    let queues = u32::try_from(queues)?;
    let flows = (traffic.flows / queues).max(1);
    let mut setup = traffic.frame.setup(flows, Order::Scattered);
    setup.source += u32::try_from(number)? * SOURCES.max(flows >> PORT_BITS);
    let mut map: Array<_, [u8; size_of::<Setup>()]> =
        programs.map_mut(SETUP).context("no table of what is sent")?.try_into()?;
    let setup: [u8; size_of::<Setup>()] = transmute!(setup);
    Ok(map.set(0, setup, 0)?)
}

/// Sends what one queue is to send. The time is that between packets, so that what a system call costs before and after is
/// not in it: the kernel waits there until no CPU runs the program of before.
fn run_queue(programs: &mut Ebpf, site: &Site, traffic: &Traffic, amount: Amount, stop: &Stop) -> Result<Sent> {
    let mut sent = Sent::default();
    let mut packets = match amount {
        Amount::Packets(packets) => packets,
        Amount::Time(_) => FIRST_CALL,
    };
    loop {
        let one = call(programs, site, traffic, packets)?;
        sent = Sent { packets: sent.packets + one.packets, time: sent.time + one.time };
        stop.check()?;
        match amount {
            Amount::Time(time) if sent.time < time => packets = rest(sent, time),
            _ => return Ok(sent),
        }
    }
}

/// How many packets are still to be sent to fill the time, at the rate so far.
fn rest(sent: Sent, time: Duration) -> u32 {
    let left = time.saturating_sub(sent.time).as_secs_f64() / sent.time.as_secs_f64().max(1e-6);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a number of packets that may be off a little; too large ones become the largest"
    )]
    let packets = (left * sent.packets as f64) as u32;
    packets.max(FIRST_CALL)
}

/// One system call.
fn call(programs: &mut Ebpf, site: &Site, traffic: &Traffic, packets: u32) -> Result<Sent> {
    let frame = traffic.frame.bytes();
    let context = Md {
        data: 0,
        data_end: u32::try_from(frame.len())?,
        data_meta: 0,
        ingress_ifindex: site.near_ifindex(),
        rx_queue_index: 0,
        egress_ifindex: 0,
    };
    let mut map: PerCpuArray<_, [u8; size_of::<Made>()]> =
        programs.map_mut(SENT).context("no table of what was sent")?.try_into()?;
    map.set(0, PerCpuValues::try_from(vec![[0; size_of::<Made>()]; nr_cpus().map_err(|(_, error)| error)?])?, 0)?;
    let options = TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(context.as_bytes()),
        repeat: packets,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::default()
    };
    let program: &Xdp = programs.program(GENERATE).context("no program to send with")?.try_into()?;
    program.test_run(options).context("the kernel sends no live frames (Linux 5.18)")?;
    let map: PerCpuArray<_, [u8; size_of::<Made>()]> =
        programs.map(SENT).context("no table of what was sent")?.try_into()?;
    let read = |bytes: &[u8; size_of::<Made>()]| {
        let mut made = Made::default();
        made.as_mut_bytes().copy_from_slice(bytes);
        made
    };
    // The thread is bound to one CPU, and no other has made any.
    let made = map.get(&0, 0)?.iter().map(read).find(|made| made.packets > 0);
    Ok(timed(made.context("the kernel made no packets of live frames")?))
}

/// How long it took, if the packets after the last look at the clock took as long as those before.
fn timed(made: Made) -> Sent {
    let counted = (made.packets - 1) >> LOOK_BITS << LOOK_BITS;
    let nanos = u128::from(made.last - made.first) * u128::from(made.packets) / u128::from(counted.max(1));
    Sent { packets: made.packets, time: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_after_the_last_look_at_the_clock_count_like_those_before() {
        let made = Made { packets: 3 << LOOK_BITS, first: 1_000, last: 3_001_000 };
        assert_eq!(timed(made), Sent { packets: 3 << LOOK_BITS, time: Duration::from_micros(4_500) });
        let exact = Made { packets: (2 << LOOK_BITS) + 1, first: 0, last: 2 << LOOK_BITS };
        assert_eq!(timed(exact).time, Duration::from_nanos((2 << LOOK_BITS) + 1));
        assert_eq!(timed(Made { packets: 5, first: 7, last: 7 }).time, Duration::ZERO);
    }

    #[test]
    fn goes_on_at_the_rate_so_far_until_the_time_is_full() {
        let sent = |packets, millis| Sent { packets, time: Duration::from_millis(millis) };
        assert_eq!(rest(sent(100_000, 10), Duration::from_millis(60)), 500_000);
        assert_eq!(rest(sent(100_000, 59), Duration::from_millis(60)), FIRST_CALL);
        assert_eq!(rest(sent(u64::MAX, 1), Duration::from_mins(1)), u32::MAX);
        assert_eq!(rest(sent(1, 0), Duration::from_secs(1)), 1_000_000);
    }
}
