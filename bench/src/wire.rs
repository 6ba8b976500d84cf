//! Packets per second over a veth pair: packets are sent into one end and counted there when the other end, where the
//! balancer is, has sent them back.
//!
//! A [`Site`] is the namespaces with the wire between them; a [`Generator`] sends; a [`Contender`] sends on: the balancer,
//! a program that only returns `XDP_TX`, the kernel's stack. [`measure`] runs the rounds, [`outcome`] prints them.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bench_xdp::Arrived;

mod contender;
mod cpu;
mod ipvs;
mod live;
pub mod options;
pub mod outcome;
mod pktgen;
mod site;
mod verify;
mod watch;

pub use self::{
    contender::{Contender, LB, Makes, Mode, OWN_NAMES, XDP_TX},
    cpu::Shares,
    pktgen::Pktgen,
    site::Site,
    watch::QueueWatch,
};
use self::{cpu::Spent, live::Live, verify::verify};
use crate::{
    lab::Stop,
    turns,
    workload::{
        VIP4,
        frame::{Addresses, Frame, Transport},
    },
};

/// Backends of the VIP.
pub const BACKENDS: usize = 100;
/// The first client's address.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// How long packets may be on their way when the last one has been sent.
const ARRIVAL: Duration = Duration::from_secs(2);
/// If none came for so long, the missing ones are taken for lost.
const SETTLED: Duration = Duration::from_millis(20);
/// How long to wait for an undisturbed core.
const PATIENCE: Duration = Duration::from_millis(300);
/// Part of a turn that goes before what is measured.
const WARM_UP: u32 = 5;

/// Backends' addresses.
fn backends() -> impl Iterator<Item = Ipv4Addr> {
    (1_u32..).take(BACKENDS).map(|number| Ipv4Addr::from_bits(Ipv4Addr::new(10, 100, 0, 0).to_bits() + number))
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Traffic {
    frame: Frame,
    /// Flows, a power of two; all queues together.
    pub flows: u32,
}

impl Traffic {
    /// UDP datagrams to the VIP, in frames of so many bytes.
    pub fn new(frame_bytes: usize, flows: u32) -> Self {
        Self { frame: Frame::build(Addresses::V4(CLIENT, VIP4), Transport::Udp, frame_bytes), flows }
    }

    /// Length of the frames, without the checksum that a network card adds.
    pub fn frame_bytes(&self) -> usize {
        self.frame.bytes().len()
    }
}

/// How much is to be sent.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// By each queue.
    Packets(u32),
    /// As much as goes.
    Time(Duration),
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// By all queues.
    pub packets: u64,
    /// How long it took.
    pub time: Duration,
}

/// What sends.
pub enum Generator {
    /// The kernel's pktgen.
    Pktgen(Pktgen),
    /// Test runs over live frames.
    Live(LiveFrames),
}

/// Test runs over live frames, for a number of queues.
pub struct LiveFrames(Live);

impl Generator {
    /// Live frames.
    ///
    /// # Errors
    /// If the kernel refuses the program that makes them.
    pub fn live(site: &Site) -> Result<Self> {
        Ok(Self::Live(LiveFrames(Live::load(site.cpus.len())?)))
    }

    /// pktgen, or why it cannot be had.
    ///
    /// # Errors
    /// If this kernel has none.
    pub fn pktgen(site: &Site) -> Result<Self> {
        Ok(Self::Pktgen(Pktgen::find(site)?))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pktgen(_) => "pktgen",
            Self::Live(_) => "live",
        }
    }

    fn send(&mut self, site: &Site, traffic: &Traffic, amount: Amount, stop: &Stop) -> Result<Sent> {
        stop.check()?;
        match self {
            Self::Pktgen(pktgen) => pktgen.send(site, traffic, amount),
            Self::Live(live) => live.0.send(site, traffic, amount, stop),
        }
    }
}

/// One round of one contender.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Packets that were sent.
    pub offered: u64,
    /// Packets that came back.
    pub arrived: u64,
    /// How long sending took, in seconds.
    pub seconds: f64,
    /// What the queues' CPUs did meanwhile.
    pub shares: Shares,
    /// Whether the queues' CPUs were undisturbed before and after.
    pub quiet: bool,
}

#[expect(clippy::cast_precision_loss, reason = "packets of some seconds")]
impl Sample {
    /// Packets that came back, in millions a second.
    pub fn mpps(&self) -> f64 {
        self.arrived as f64 / self.seconds / 1e6
    }

    /// Packets that were sent, in millions a second.
    pub fn offered_mpps(&self) -> f64 {
        self.offered as f64 / self.seconds / 1e6
    }

    /// What did not come back, in percent.
    pub fn lost(&self) -> f64 {
        100.0 * (self.offered.saturating_sub(self.arrived)) as f64 / self.offered.max(1) as f64
    }
}

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each contender has its turn.
    pub rounds: u32,
    /// How long it is measured in each.
    pub time: Duration,
}

/// Measures all contenders in turns: for each, one sample a round. One that does not do with the packets what it must ends
/// it all.
///
/// # Errors
/// If one misbehaves, the kernel refuses something, or `stop` becomes true.
pub fn measure(
    site: &Site,
    generator: &mut Generator,
    contenders: &mut [Contender],
    (traffic, plan): (&Traffic, Plan),
    (watch, stop): (&mut QueueWatch, &Stop),
) -> Result<Vec<Vec<Sample>>> {
    for contender in &mut *contenders {
        verify(site, generator, contender, traffic, stop)?;
    }
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        for index in turns::order(round, contenders.len()) {
            let _turn = contenders[index].turn(site)?;
            generator.send(site, traffic, Amount::Time(plan.time / WARM_UP), stop)?;
            let quiet = watch.wait(PATIENCE)?;
            let (before, begun) = (site.arrived()?, Spent::so_far(&site.cpus)?);
            let sent = generator.send(site, traffic, Amount::Time(plan.time), stop)?;
            let shares = Spent::so_far(&site.cpus)?.since(begun);
            let arrived = arrived_since(site, before, sent.packets, SETTLED)?;
            samples[index].push(Sample {
                offered: sent.packets,
                arrived: arrived.plain + arrived.wrapped,
                seconds: sent.time.as_secs_f64(),
                shares,
                quiet: watch.is_quiet()? && quiet,
            });
        }
    }
    Ok(samples)
}

/// What has arrived since then, once all have, or no more came for so long.
fn arrived_since(site: &Site, before: Arrived, sent: u64, pause: Duration) -> Result<Arrived> {
    let begun = Instant::now();
    let (mut last, mut changed) = (None, begun);
    loop {
        let now = site.arrived()?;
        let since = Arrived {
            plain: now.plain - before.plain,
            wrapped: now.wrapped - before.wrapped,
            others: 0,
            bytes: now.bytes - before.bytes,
        };
        if since.plain + since.wrapped >= sent {
            return Ok(since);
        }
        if last != Some(since) {
            (last, changed) = (Some(since), Instant::now());
        } else if changed.elapsed() >= pause {
            return Ok(since);
        }
        ensure!(
            begun.elapsed() < ARRIVAL + pause,
            "packets still arrive {} s after the last one was sent",
            begun.elapsed().as_secs()
        );
        thread::sleep(SETTLED);
    }
}
