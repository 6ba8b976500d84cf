//! The program of health probes in the kernel, bound to no interface.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::Array,
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use lb_common::maps::{self, ProbeTuning};
use lb_daemon::dataplane::kernel;

use super::given::{ENTRIES, Given};

/// Words of `struct __sk_buff` that a test run reads and writes back.
const CONTEXT_WORDS: usize = 48;
/// Which of them is the mark.
const MARK: usize = 2;
/// `TC_ACT_REDIRECT`
const REDIRECT: u32 = 7;
/// Room for outer headers and tags.
const ROOM: usize = 64;

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Handed to an interface, with this mark.
    Redirected {
        /// The frame as it is then.
        frame: Vec<u8>,
        /// The mark that it bears then.
        mark: u32,
    },
    /// Dropped.
    Dropped,
}

/// The program with tables of its own.
pub struct Prober {
    object: Ebpf,
}

impl Prober {
    /// Loads the program over the targets that are given.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(given: &Given, probes: ProbeTuning) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(maps::TARGETS, ENTRIES);
        loader.override_global(maps::TUNING, given.tuning(), true).override_global(maps::PROBE_TUNING, &probes, true);
        let mut object = loader.load(kernel::object())?;
        let program: &mut SchedClassifier =
            object.program_mut(maps::PROBE_PROGRAM).context("the program")?.try_into()?;
        program.load().context("cannot load the program")?;
        let mut targets: Array<_, lb_common::layout::target::Target> =
            object.map_mut(maps::TARGETS).context("the targets")?.try_into()?;
        for (id, target) in (0..).zip(&given.tables(0).targets) {
            targets.set(id, target, 0)?;
        }
        Ok(Self { object })
    }

    /// Sends a packet whose socket has this mark.
    ///
    /// # Errors
    /// When the kernel refuses the test run.
    pub fn send(&self, packet: &[u8], mark: u32) -> Result<Fate> {
        let program: &SchedClassifier = self.object.program(maps::PROBE_PROGRAM).context("the program")?.try_into()?;
        let mut words = [0_u32; CONTEXT_WORDS];
        words[MARK] = mark;
        let context: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut left = context.clone();
        let mut frame = vec![0; packet.len() + ROOM];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut frame),
            ctx_in: Some(&context),
            ctx_out: Some(&mut left),
            ..TestRunOptions::new()
        };
        let result = program.test_run(options)?;
        frame.truncate(result.data_size_out as usize);
        let (marks, _) = left.as_chunks();
        Ok(match result.return_value {
            REDIRECT => Fate::Redirected { frame, mark: u32::from_ne_bytes(marks[MARK]) },
            _ => Fate::Dropped,
        })
    }
}
