//! The program in the kernel, with tables of its own and bound to no interface.

use std::{path::Path, sync::atomic::Ordering::Relaxed};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    programs::{TestRun, TestRunOptions, Xdp},
};
use lb_common::{
    layout::{
        flow::{Bucket, WAYS},
        traffic::row,
    },
    maps::{self, Tuning, feature},
};
use lb_daemon::{
    dataplane::{
        Counters,
        kernel::{self, Live},
    },
    explain::{self, Trace},
};
use lb_xdp::host::{HostFrame, HostTables};

pub use self::clock::{now_ns, settle, settled_unit, unit};
use self::{pinned::Pinned, tables::Tables};
use super::{
    case::INGRESS,
    given::{BUCKETS, CELLS, ENTRIES},
};

mod clock;
mod pinned;
mod tables;
mod words;

/// Room before a frame in a test run.
const HEADROOM: usize = 256;
/// Longest frame of a test run: a page less the room on both sides (256 and 320 bytes).
pub const MAX_FRAME: usize = 3520;
/// Longest frame of a test run that may lie in several buffers.
pub const MAX_JUMBO_FRAME: usize = 32_768;
/// Shortest frame of a test run.
pub const MIN_FRAME: usize = 14;

/// The balancer's program and tables.
pub struct Loaded {
    pinned: Pinned,
    live: Live,
    object: Ebpf,
    program: &'static str,
    tables: Tables,
}

/// What a program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Number of the action (`enum xdp_action`).
    pub action: u32,
    /// The frame as it is then.
    pub frame: Vec<u8>,
}

impl Loaded {
    /// Loads the program.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(tuning: &Tuning) -> Result<Self> {
        // Masks follow from the tables' sizes.
        let tuning = HostTables::new(*tuning, BUCKETS, ENTRIES, ENTRIES).tuning;
        let (vip_mask, traffic_row) = (CELLS / 2 - 1, row(ENTRIES));
        let tuning = Tuning { vip_mask, traffic_row, ..kernel::clock::set(&tuning)? };
        let mut loader = EbpfLoader::new();
        loader.override_global(maps::TUNING, &tuning, true).map_max_entries(maps::FLOWS, BUCKETS);
        loader.map_max_entries(maps::VIPS, CELLS).map_max_entries(maps::TRAFFIC, tables::traffic_values()?);
        let sized = [maps::PREFIX_VIPS, maps::RINGS, maps::TARGETS, maps::TARGET_COUNTERS, maps::ACL]
            .into_iter()
            .chain([maps::SOURCE_ROUTES, maps::GROUPS, maps::SERVER_IDS, maps::VIP_LIMITS, maps::SOURCES]);
        for name in sized {
            loader.map_max_entries(name, ENTRIES);
        }
        let mut object = loader.load(kernel::object()).context("cannot load the object")?;
        let name = if tuning.features & feature::MULTI_BUFFER == 0 { maps::PROGRAM } else { maps::PROGRAM_FRAGS };
        let program: &mut Xdp = object.program_mut(name).context("the program")?.try_into()?;
        program.load().context("cannot load the program")?;
        let pinned = Pinned::new(&mut object, name)?;
        let live = Live::open(pinned.path(), None).context("cannot open the tables to look at them")?;
        let tables = Tables::of(&mut object)?;
        Ok(Self { pinned, live, object, program: name, tables })
    }

    /// Where program and tables are pinned.
    pub fn pin_path(&self) -> &Path {
        self.pinned.path()
    }

    /// What `lb explain` says of a frame that came with this much room before it.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn explain(&self, frame: &[u8], headroom: usize) -> Result<Trace> {
        Ok(explain::trace(&self.live, HostFrame::with_headroom(frame, INGRESS, headroom))?)
    }

    /// Makes the tables hold exactly what these hold.
    ///
    /// # Errors
    /// When a table cannot be written.
    pub fn fill(&mut self, tables: &HostTables) -> Result<()> {
        self.tables.fill(tables)
    }

    /// The same of those tables that hold times: flows, datagrams and limits.
    pub fn fill_times(&mut self, tables: &HostTables) {
        self.tables.fill_words(tables);
    }

    /// The flow table.
    pub fn flows(&self) -> Vec<[u64; WAYS]> {
        buckets(&self.tables.flows)
    }

    /// The datagrams in fragments that are remembered.
    pub fn fragments(&self) -> Vec<[u64; WAYS]> {
        buckets(&self.tables.fragments)
    }

    /// The limits: of VIPs, of sources, of packet-too-big messages.
    pub fn limits(&self) -> [Vec<u64>; 3] {
        let read = |words: &words::Words| words.all().iter().map(|word| word.load(Relaxed)).collect();
        [read(&self.tables.vip_limits), read(&self.tables.sources), read(&self.tables.too_big_limits)]
    }

    /// Reads the counters, summed over CPUs.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        self.tables.counters()
    }

    /// Runs the program once on a frame that came with this much room before it.
    ///
    /// # Errors
    /// When the kernel refuses; see [`run`].
    pub fn run(&self, frame: &[u8], headroom: usize) -> Result<Ran> {
        let program: &Xdp = self.object.program(self.program).context("the program")?.try_into()?;
        run(program, frame, headroom)
    }
}

/// `struct xdp_md`, less what is for devices.
const CONTEXT_WORDS: usize = 6;

/// Runs a program once on a frame.
///
/// # Errors
/// When the kernel refuses: a frame shorter than [`MIN_FRAME`] or longer than [`MAX_FRAME`] (or [`MAX_JUMBO_FRAME`]), or a headroom that is not
/// 256 less some words.
pub fn run(program: &Xdp, frame: &[u8], headroom: usize) -> Result<Ran> {
    ensure!(headroom <= HEADROOM && headroom.is_multiple_of(4), "a headroom of {headroom} bytes");
    // Metadata takes of the room before the frame. They come back in front of it.
    let metadata = HEADROOM - headroom;
    let input = [&vec![0; metadata], frame].concat();
    let mut context = [0_u32; CONTEXT_WORDS];
    // data, data_end, data_meta
    (context[0], context[1]) = (u32::try_from(metadata)?, u32::try_from(input.len())?);
    let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut output = vec![0; input.len() + HEADROOM];
    let options = TestRunOptions {
        data_in: Some(&input),
        data_out: Some(&mut output),
        ctx_in: (metadata > 0).then_some(&context),
        ..TestRunOptions::new()
    };
    let result = program.test_run(options).with_context(|| format!("a test run on {} bytes", frame.len()))?;
    output.truncate(result.data_size_out as usize);
    Ok(Ran { action: result.return_value, frame: output.split_off(metadata) })
}

fn buckets(words: &words::Words) -> Vec<[u64; WAYS]> {
    let (buckets, _) = words.all().as_chunks();
    buckets.iter().map(|bucket| bucket.each_ref().map(|word| word.load(Relaxed))).collect()
}

/// A table of flows or datagrams in memory, as words.
pub fn words_of(table: &[Bucket]) -> Vec<[u64; WAYS]> {
    table.iter().map(|bucket| bucket.entries.each_ref().map(|word| word.load(Relaxed))).collect()
}

/// The limits of tables in memory, as [`Loaded::limits`] has them.
pub fn limits_of(tables: &HostTables) -> [Vec<u64>; 3] {
    let read =
        |words: &mut dyn Iterator<Item = &std::sync::atomic::AtomicU64>| words.map(|word| word.load(Relaxed)).collect();
    [
        read(&mut tables.vip_limits.iter()),
        read(&mut tables::source_words(&tables.sources)),
        read(&mut tables.too_big_limits.iter()),
    ]
}
