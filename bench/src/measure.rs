//! The rounds.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bench_xdp::CHUNK_PACKETS;

use crate::{
    balancer::FLOW_TABLE_ENTRIES,
    machine::{Priority, Watch},
    replay::{Replay, Run, Subject},
    stats::Summary,
    turns,
    workload::{Case, Verdict, Workload, frame::Order},
};

/// Packets that are seen one by one before anything is timed.
const VERIFIED_PACKETS: u32 = 256;
const VERIFIED_STEP: u32 = 0x9e37_79b1;
/// Packets that warm caches and branch predictors up before a timed run, unless there are more flows.
const WARM_UP_PACKETS: u32 = 1 << 16;
/// Of more flows than these a run meets others than the one before, and as many warm it up.
const WARM_UP_LIMIT: u32 = 1 << 20;
/// Chunks of the null run; its cost varies little.
const NULL_CHUNKS: u32 = 32;
/// How long a row may wait for an undisturbed core at once.
const WAIT: Duration = Duration::from_secs(1);

/// One packet, over that many flows.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The packet.
    pub workload: &'a Workload,
    /// Flows, a power of two.
    pub flows: u32,
    /// How often each program is measured.
    pub rounds: u32,
    /// Chunks of each.
    pub chunks: u32,
    /// How long the row may wait for an undisturbed core, all in all.
    pub patience: Duration,
}

/// A program to measure and what it must do with the packet.
#[derive(Clone, Copy)]
pub struct Contender<'a> {
    /// The program.
    pub subject: &'a Subject,
    /// What it must do.
    pub expected: Verdict,
}

/// One program's figures for one task. All times are ns per packet.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The program under test with all before it.
    pub raw: Summary,
    /// The same before a bare `XDP_TX`.
    pub null: Summary,
    /// The program under test alone: `raw` less `null`.
    pub net: Summary,
    /// Smallest and largest `net.median` of a round.
    pub spread: [f64; 2],
    /// Rounds in which the core was undisturbed.
    pub quiet: u32,
    /// Part of the packets whose flow was known, when each of the flows came once more; of programs that tell.
    pub known: Option<f64>,
    /// Each round by itself.
    pub rounds: Vec<Round>,
}

/// One round of one program.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// As in [`Figures`].
    pub raw: Summary,
    /// As in [`Figures`], measured right before.
    pub null: Summary,
    /// See [`Watch::pace`]; before and after.
    pub pace: f64,
    /// Whether the core was undisturbed.
    pub quiet: bool,
}

/// What one timed run gave.
struct Sample {
    raw: Vec<f64>,
    null: Vec<f64>,
    pace: f64,
    quiet: bool,
}

/// Measures all contenders in turns. One that does not do with the packets what it must ends it all.
///
/// # Errors
/// If a program misbehaves or the kernel refuses.
pub fn measure(
    replay: &mut Replay,
    watch: &mut Watch,
    task: &Task,
    contenders: &[Contender],
) -> Result<Vec<Figures>, anyhow::Error> {
    let mut courses: Vec<Course> = Vec::new();
    for contender in contenders {
        verify(replay, task, contender)?;
        let mut course = Course { contender: *contender, seen: 0 };
        course.learn(replay, task)?;
        courses.push(course);
    }
    let null = replay.null()?;
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut patience = task.patience;
    for round in 0..task.rounds {
        for index in turns::order(round, contenders.len()) {
            let sample = calm_sample(replay, watch, task, &null, &mut courses[index], &mut patience)?;
            samples[index].push(sample);
        }
    }
    let mut figures = Vec::new();
    for (samples, course) in samples.iter().zip(&mut courses) {
        let known = course.known(replay, task)?;
        figures.push(Figures { known, ..summarise(samples).context("a run too short to be timed")? });
    }
    Ok(figures)
}

/// Looks at what a program does with one packet at a time, of many flows.
///
/// # Errors
/// If it is not what it must do, or the kernel refuses.
pub fn verify(replay: &mut Replay, task: &Task, contender: &Contender) -> Result<(), anyhow::Error> {
    let Task { workload, flows, .. } = *task;
    let packets = flows.clamp(4, VERIFIED_PACKETS);
    announce(replay, task, contender.subject)?;
    for packet in 0..packets {
        // A run of one packet has only packet 0: give that one the flow. An odd step comes by all destinations.
        let flow = packet.wrapping_mul(VERIFIED_STEP) & (flows - 1);
        let setup = workload.frame.setup(flows, Order::Ascending).alone(flow);
        let run = replay.run(contender.subject, workload.frame.bytes(), setup, 1)?;
        ensure!(
            run.verdict == contender.expected,
            "{}, packet {}: {} instead of {}",
            contender.subject.name,
            workload.packet,
            run.verdict,
            contender.expected
        );
    }
    Ok(())
}

/// What comes before the packets.
fn announce(replay: &mut Replay, task: &Task, subject: &Subject) -> Result<(), anyhow::Error> {
    if let Some(before) = &task.workload.before {
        replay.run(subject, before.bytes(), before.setup(1, Order::Ascending), 1)?;
    }
    Ok(())
}

/// A program on its way through the packets.
struct Course<'a> {
    contender: Contender<'a>,
    /// Packets that it has seen, where a run is to go on where the last one ended.
    seen: u32,
}

impl Course<'_> {
    /// Lets the program meet its flows twice. In order, so that a program that gives memory to flows as they come still
    /// finds it scattered when the timed runs ask in another order. Of new flows it meets as many as fill its table.
    fn learn(&mut self, replay: &mut Replay, task: &Task) -> Result<(), anyhow::Error> {
        if task.workload.case == Case::SynNew {
            return self.run(replay, task, Order::Scattered, FLOW_TABLE_ENTRIES).map(|_| ());
        }
        for _ in 0..2 {
            self.run(replay, task, Order::Ascending, task.flows.max(WARM_UP_PACKETS))?;
        }
        Ok(())
    }

    /// How many of its flows the program still knows, as a part.
    fn known(&mut self, replay: &mut Replay, task: &Task) -> Result<Option<f64>, anyhow::Error> {
        let (subject, before) = (self.contender.subject, self.contender.subject.misses()?);
        let Some(before) = before.filter(|_| task.workload.case.keeps_flows()) else { return Ok(None) };
        self.run(replay, task, Order::Ascending, task.flows)?;
        let missed = u32::try_from(subject.misses()?.unwrap_or(before) - before)?;
        Ok(Some(1.0 - f64::from(missed) / f64::from(task.flows)))
    }

    /// A run whose packets all got what is expected.
    fn run(&mut self, replay: &mut Replay, task: &Task, order: Order, packets: u32) -> Result<Run, anyhow::Error> {
        let mut setup = task.workload.frame.setup(task.flows, order);
        if order == Order::Scattered && task.flows > WARM_UP_LIMIT {
            setup.first = self.seen;
            self.seen = self.seen.wrapping_add(packets);
        }
        let Contender { subject, expected } = self.contender;
        announce(replay, task, subject)?;
        let run = replay.run(subject, task.workload.frame.bytes(), setup, packets)?;
        // The growth of all but the last packet is known as a sum.
        let grown = u64::from(packets - 1) * u64::from(expected.grown);
        ensure!(
            run.verdict == expected && run.progress.grown == grown,
            "{}, packet {}, {} flows: not all packets were treated alike ({} bytes added to {packets} packets, the last {})",
            subject.name,
            task.workload.packet,
            task.flows,
            run.progress.grown,
            run.verdict
        );
        Ok(run)
    }
}

/// A sample of an undisturbed core, or of a disturbed one when patience is at an end.
fn calm_sample(
    replay: &mut Replay,
    watch: &mut Watch,
    task: &Task,
    null: &Subject,
    course: &mut Course,
    patience: &mut Duration,
) -> Result<Sample, anyhow::Error> {
    loop {
        let begin = Instant::now();
        let _priority = Priority::raise();
        let quiet = watch.wait(WAIT.min(*patience));
        let (before, waited) = (watch.pace(), begin.elapsed());
        *patience = patience.saturating_sub(waited);
        let (raw, null) = timed(replay, task, null, course)?;
        let quiet = watch.is_quiet() && quiet;
        if quiet || patience.is_zero() {
            return Ok(Sample { raw, null, pace: f64::midpoint(before, watch.pace()), quiet });
        }
        // In vain.
        *patience = patience.saturating_sub(begin.elapsed().saturating_sub(waited));
    }
}

/// The chunks of the program, and of the bare `XDP_TX` right before.
fn timed(
    replay: &mut Replay,
    task: &Task,
    null: &Subject,
    course: &mut Course,
) -> Result<(Vec<f64>, Vec<f64>), anyhow::Error> {
    let setup = task.workload.frame.setup(task.flows, Order::Scattered);
    let frame = task.workload.frame.bytes();
    let whole = |chunks: u32| chunks * CHUNK_PACKETS + 1;
    replay.run(null, frame, setup, WARM_UP_PACKETS)?;
    let idle = replay.run(null, frame, setup, whole(NULL_CHUNKS.min(task.chunks)))?;
    let warm_up = if task.workload.case == Case::SynNew { 0 } else { task.flows.min(WARM_UP_LIMIT) };
    course.run(replay, task, Order::Scattered, warm_up.max(WARM_UP_PACKETS))?;
    let run = course.run(replay, task, Order::Scattered, whole(task.chunks))?;
    Ok((run.chunks, idle.chunks))
}

fn summarise(samples: &[Sample]) -> Option<Figures> {
    let pooled = |of: fn(&Sample) -> &Vec<f64>| Summary::of(&samples.iter().flat_map(of).copied().collect::<Vec<_>>());
    let (raw, null) = (pooled(|sample| &sample.raw)?, pooled(|sample| &sample.null)?);
    let round = |sample: &Sample| {
        let (raw, null) = (Summary::of(&sample.raw)?, Summary::of(&sample.null)?);
        Some(Round { raw, null, pace: sample.pace, quiet: sample.quiet })
    };
    let rounds = samples.iter().map(round).collect::<Option<Vec<Round>>>()?;
    let medians: Vec<f64> = rounds.iter().map(|round| round.raw.less(round.null).median).collect();
    let spread = medians
        .iter()
        .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &median| [low.min(median), high.max(median)]);
    let quiet = rounds.iter().map(|round| u32::from(round.quiet)).sum();
    Some(Figures { raw, null, net: raw.less(null), spread, quiet, known: None, rounds })
}
