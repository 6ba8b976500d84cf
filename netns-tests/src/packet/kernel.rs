//! The program in the kernel, loaded as the daemon loads it, with pins of its own.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::{Array, Map, MapData},
    programs::{TestRun, TestRunOptions, Xdp},
};
use aya_obj::programs::XdpAttachType;
use lb_common::{
    layout::{
        flow::{TIME_SHIFT, WAYS},
        target::Target,
    },
    maps::{self, Tuning},
};
use lb_daemon::{
    dataplane::{
        Counters, Dataplane as _,
        kernel::{Kernel, Options},
    },
    plan::Op,
};
use lb_xdp::host::HostTables;
use rustix::time::{ClockId, clock_gettime};

use super::given::{BUCKETS, CAPACITY};
use crate::leftovers::{BPFFS, PREFIXES};

/// Room before a frame in a test run.
const HEADROOM: usize = 256;
/// Longest frame of a test run: a page less the room on both sides (256 and 320 bytes).
pub const MAX_FRAME: usize = 3520;
/// Shortest frame of a test run.
pub const MIN_FRAME: usize = 14;

/// The balancer's program and tables.
pub struct Loaded {
    pin: PathBuf,
    /// `None` while it is dropped: the pins go when nobody holds them any more.
    kernel: Option<Kernel>,
    program: Xdp,
    flows: Array<MapData, [u64; WAYS]>,
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
    /// Loads the program under a pin path that nobody else has.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(tuning: &Tuning) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pin = PathBuf::from(BPFFS).join(format!("{}-{}-packet{number}", PREFIXES[0], std::process::id()));
        let flow_entries = BUCKETS * u32::try_from(WAYS)?;
        let options = Options { pin_path: pin.clone(), capacity: CAPACITY, flow_entries, tuning: *tuning };
        let kernel = Kernel::open(&options).context("cannot load the program")?;
        let program = Xdp::from_pin(pin.join("prog"), XdpAttachType::Interface)?;
        let flows = MapData::from_pin(pin.join("maps").join(maps::FLOWS))?;
        let flows = Map::Array(flows).try_into()?;
        Ok(Self { pin, kernel: Some(kernel), program, flows })
    }

    /// Makes the tables hold exactly what these hold.
    ///
    /// # Errors
    /// When a table cannot be written.
    pub fn fill(&mut self, tables: &HostTables) -> Result<()> {
        let kernel = self.kernel();
        let observed = kernel.observe()?;
        for key in observed.vips.into_keys() {
            kernel.apply(&Op::RemoveVip { key })?;
        }
        for (id, target) in (0..).zip(&tables.targets) {
            if *target != Target::default() || observed.targets.contains_key(&id) {
                kernel.apply(&Op::SetTarget { id, target: *target })?;
            }
        }
        let slots: Vec<u16> = tables.rings.iter().flat_map(|block| block.slots).collect();
        kernel.apply(&Op::WriteRing { base: 0, slots: slots.into() })?;
        for (key, vip) in &tables.vips {
            kernel.apply(&Op::SetVip { key: *key, vip: *vip })?;
        }
        self.fill_flows(&flows_of(tables))
    }

    /// Writes the flow table.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn fill_flows(&mut self, flows: &[[u64; WAYS]]) -> Result<()> {
        for (index, bucket) in (0..).zip(flows) {
            self.flows.set(index, bucket, 0)?;
        }
        Ok(())
    }

    /// Reads the flow table.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn flows(&self) -> Result<Vec<[u64; WAYS]>> {
        Ok((0..BUCKETS).map(|index| self.flows.get(&index, 0)).collect::<Result<_, _>>()?)
    }

    /// Reads the counters, summed over CPUs.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn counters(&mut self) -> Result<Counters> {
        Ok(self.kernel().counters()?)
    }

    /// Runs the program once on a frame that came with this much room before it.
    ///
    /// # Errors
    /// When the kernel refuses; see [`run`].
    pub fn run(&self, frame: &[u8], headroom: usize) -> Result<Ran> {
        run(&self.program, frame, headroom)
    }

    /// Instructions that the verifier processed.
    pub fn verified_instructions(&self) -> Option<u32> {
        self.kernel.as_ref().and_then(Kernel::verified_instructions)
    }

    /// The program.
    pub fn program(&self) -> &Xdp {
        &self.program
    }

    fn kernel(&mut self) -> &mut Kernel {
        self.kernel.as_mut().expect("loaded until it is dropped")
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        drop(self.kernel.take());
        if let Err(error) = Kernel::unload(&self.pin) {
            eprintln!("{} stays: {error}", self.pin.display());
        }
    }
}

/// `struct xdp_md`, less what is for devices.
const CONTEXT_WORDS: usize = 6;

/// Runs a program once on a frame.
///
/// # Errors
/// When the kernel refuses: a frame shorter than [`MIN_FRAME`] or longer than [`MAX_FRAME`], or a headroom that is not
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

/// The flow table of tables in memory, as words.
pub fn flows_of(tables: &HostTables) -> Vec<[u64; WAYS]> {
    let words = |bucket: &lb_common::layout::flow::Bucket| {
        std::array::from_fn(|way| bucket.entries[way].load(Ordering::Relaxed))
    };
    tables.flows.iter().map(words).collect()
}

/// The program's clock: units of 2^32 ns.
pub fn unit() -> u32 {
    let (unit, _) = clock();
    unit
}

/// The same, and waits before if the unit would end within `room`, so that what follows falls into one unit.
pub fn settled_unit(room: Duration) -> u32 {
    let (unit, left) = clock();
    if left > room {
        return unit;
    }
    sleep(left + Duration::from_millis(10));
    clock().0
}

/// The unit, and how long it still lasts.
fn clock() -> (u32, Duration) {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let nanos = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
    let left = (1 << TIME_SHIFT) - (nanos & ((1 << TIME_SHIFT) - 1));
    ((nanos >> TIME_SHIFT) as u32, Duration::from_nanos(left))
}
