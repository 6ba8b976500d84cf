//! The user side of the replaying program.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use aya::{
    Ebpf, TestRun, TestRunOptions,
    maps::{Array, Map, MapData, PerCpuArray, ProgramArray},
    programs::{ProgramFd, Xdp},
};
use aya_obj::programs::XdpAttachType;
use bench_xdp::{BARE_TX, CALLED, CHUNK_BITS, CHUNK_PACKETS, PROGRESS, Progress, REPLAY, SETUP, STAMPS, Setup};
use lb_common::{
    layout::counter::PathEvent,
    maps::{FLOWS, PATH_COUNTERS},
};
use zerocopy::{FromZeros, IntoBytes, transmute};

use crate::{
    OBJECT,
    tables::memory,
    workload::{Action, Verdict},
};

/// Bytes to spare for what programs put before a packet; the kernel has no room for more.
const HEADROOM: usize = 256;

/// An XDP program to be called.
pub struct Subject {
    /// What to call it in the table.
    pub name: String,
    program: ProgramFd,
    /// What `lb` counts, if it is one.
    events: Option<PerCpuArray<MapData, u64>>,
    /// Memory of its flow table in bytes, if it has one.
    pub flow_table: Option<u64>,
}

impl Subject {
    /// The program pinned at `path`. It stays loaded with all its tables while this value lives, pinned or not.
    ///
    /// # Errors
    /// If there is no XDP program.
    pub fn pinned(name: &str, path: &Path) -> Result<Self, anyhow::Error> {
        let program = Xdp::from_pin(path, XdpAttachType::Interface)
            .with_context(|| format!("no XDP program can be opened at {}", path.display()))?;
        let tables = program.info()?.map_ids()?.unwrap_or_default();
        let table = |wanted: &str| {
            let named = |table: &MapData| table.info().is_ok_and(|info| info.name_as_str() == Some(wanted));
            tables.iter().find_map(|id| MapData::from_id(*id).ok().filter(named))
        };
        let events = table(PATH_COUNTERS).map(|table| Map::PerCpuArray(table).try_into()).transpose()?;
        let flow_table = table(FLOWS).map(|table| memory(&table)).transpose()?;
        Ok(Self { name: name.into(), program: program.fd()?.try_clone()?, events, flow_table })
    }

    /// Packets so far whose flow was looked up and not known; `None` of a program that does not count them.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn misses(&self) -> Result<Option<u64>, anyhow::Error> {
        let Some(events) = &self.events else { return Ok(None) };
        let misses = [PathEvent::MissSyn, PathEvent::MissTcp, PathEvent::MissUdp].into_iter().map(|event| {
            let counts = events.get(&(event as u32), 0)?;
            Ok(counts.iter().sum::<u64>())
        });
        misses.sum::<Result<u64, anyhow::Error>>().map(Some)
    }
}

/// The replaying program and its tables.
pub struct Replay {
    programs: Ebpf,
    setup: Array<MapData, [u8; size_of::<Setup>()]>,
    progress: Array<MapData, [u8; size_of::<Progress>()]>,
    stamps: Array<MapData, u64>,
    called: ProgramArray<MapData>,
}

/// What a run told.
#[derive(Debug)]
pub struct Run {
    /// What became of the last packet.
    pub verdict: Verdict,
    /// What the replaying program counted.
    pub progress: Progress,
    /// Mean ns per packet of each chunk.
    pub chunks: Vec<f64>,
}

impl Replay {
    /// Loads it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn load() -> Result<Self, anyhow::Error> {
        let mut programs =
            Ebpf::load(OBJECT).context("the benchmark's own programs cannot be loaded; are you root?")?;
        for (name, program) in programs.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("the kernel refuses {name}"))?;
        }
        let mut table = |name: &str| programs.take_map(name).with_context(|| format!("no table {name}"));
        let (setup, progress, stamps, called) = (table(SETUP)?, table(PROGRESS)?, table(STAMPS)?, table(CALLED)?);
        Ok(Self {
            setup: setup.try_into()?,
            progress: progress.try_into()?,
            stamps: stamps.try_into()?,
            called: called.try_into()?,
            programs,
        })
    }

    /// One of the baselines, by the name that `bench-xdp` has for it.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn baseline(&self, name: &str) -> Result<Subject, anyhow::Error> {
        Ok(Subject { name: name.into(), program: self.own(name)?.fd()?.try_clone()?, events: None, flow_table: None })
    }

    /// The baseline that costs nothing: what is left of a run over it is the replaying program's own cost.
    ///
    /// # Errors
    /// As [`Replay::baseline`].
    pub fn null(&self) -> Result<Subject, anyhow::Error> {
        self.baseline(BARE_TX)
    }

    fn own(&self, name: &str) -> Result<&Xdp, anyhow::Error> {
        let program = self.programs.program(name).with_context(|| format!("no program {name}"))?;
        Ok(program.try_into()?)
    }

    /// Has the program see `packets` packets.
    ///
    /// # Errors
    /// If the kernel refuses, a packet does not reach the program, or the program moves the end of one.
    pub fn run(&mut self, subject: &Subject, frame: &[u8], setup: Setup, packets: u32) -> Result<Run, anyhow::Error> {
        self.called.set(0, &subject.program, 0).with_context(|| {
            format!(
                "{} cannot be called by the replaying program: it must be an XDP program for interfaces, loaded with that \
                 attach type and for frames in several buffers",
                subject.name
            )
        })?;
        let setup: [u8; size_of::<Setup>()] = transmute!(setup);
        self.setup.set(0, setup, 0)?;
        self.progress.set(0, [0; size_of::<Progress>()], 0)?;
        let mut out = vec![0; frame.len() + HEADROOM];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat: packets,
            ..TestRunOptions::default()
        };
        let result = self.own(REPLAY)?.test_run(options)?;
        let mut progress = Progress::new_zeroed();
        progress.as_mut_bytes().copy_from_slice(&self.progress.get(&0, 0)?);
        ensure!(progress.packets == u64::from(packets), "{} of {packets} packets were replayed", progress.packets);
        ensure!(progress.failures == 0, "{} packets did not reach {}", progress.failures, subject.name);
        ensure!(progress.ends_moved == 0, "{} moved the end of {} packets", subject.name, progress.ends_moved);
        let Some(action) = Action::from_code(result.return_value) else {
            bail!("{} returned {}, which is no XDP action", subject.name, result.return_value);
        };
        let grown = result.data_size_out.checked_sub(u32::try_from(frame.len())?);
        let grown = grown.with_context(|| format!("{} shortened the packet", subject.name))?;
        Ok(Run { verdict: Verdict { action, grown }, progress, chunks: self.chunks(packets)? })
    }

    /// Mean ns per packet of each whole chunk of the last run, as far as there was room for time stamps.
    fn chunks(&self, packets: u32) -> Result<Vec<f64>, anyhow::Error> {
        let last = (packets.saturating_sub(1) >> CHUNK_BITS).min(self.stamps.len().saturating_sub(1));
        let begun = (0..=last).map(|chunk| self.stamps.get(&chunk, 0));
        let begun = begun.collect::<Result<Vec<u64>, _>>()?;
        #[expect(clippy::cast_precision_loss, reason = "chunks take far less than 2^52 ns")]
        let mean = |pair: &[u64]| (pair[1] - pair[0]) as f64 / f64::from(CHUNK_PACKETS);
        Ok(begun.windows(2).map(mean).collect())
    }
}
