//! The program in the kernel, run on frames by `BPF_PROG_TEST_RUN`, and its tables.

mod mapped;
mod tables;

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, TestRun as _, TestRunOptions, Xdp},
};
use lb_common::{
    maps::{self, Tuning},
    verdict::{Action, Verdict},
};
use lb_xdp::{host::HostFrame, path::Exit};
use rustix::time::{ClockId, clock_getres, clock_gettime};

use self::tables::Tables;
use crate::{
    input::{Input, Step, hex},
    scene::{BUCKETS, CELLS, INGRESS, PLACES, VARIANTS, tuning},
};

/// Names the BPF object; `./dev fuzz` sets it.
const OBJECT: &str = "LB_BPF_OBJECT";
/// What the outer headers add at most, and more.
const ROOM: usize = 256;

/// All instances of the program.
pub struct Kernels([Kernel; VARIANTS]);

impl Kernels {
    /// Loads them.
    pub fn load() -> Self {
        assert!(rustix::process::geteuid().is_root(), "only root can load the program");
        Self(std::array::from_fn(Kernel::load))
    }

    /// The instance of this number.
    pub fn of(&mut self, variant: usize) -> &mut Kernel {
        &mut self.0[variant % VARIANTS]
    }
}

/// What a run on both sides showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// No difference.
    Same,
    /// The first difference.
    Differs(String),
}

/// An instance of the program, with tables of its own.
pub struct Kernel {
    object: Ebpf,
    tables: Tables,
}

impl Kernel {
    fn load(variant: usize) -> Self {
        let file = env::var(OBJECT).map_or_else(|_| default_object(), PathBuf::from);
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}; see ./dev fuzz", file.display()));
        let tuning = with_clock(tuning(variant), &bytes);
        let mut loader = EbpfLoader::new();
        loader.btf(None).override_global(maps::TUNING, &tuning, true);
        for name in maps::ALL {
            loader.map_max_entries(name, size(name));
        }
        let mut object = loader.load(&bytes).expect("the BPF object");
        let program: &mut Xdp =
            object.program_mut(maps::PROGRAM).expect("the program").try_into().expect("an XDP program");
        if let Err(error) = program.load() {
            panic!("the kernel does not take instance {variant} of the program: {}", refusal(&error));
        }
        let tables = Tables::of(&mut object);
        Self { object, tables }
    }

    fn program(&self) -> &Xdp {
        self.object.program(maps::PROGRAM).expect("the program").try_into().expect("an XDP program")
    }

    /// Takes the steps of an input on both sides, until they differ.
    pub fn compare(&mut self, input: &Input) -> Comparison {
        loop {
            // The time must not change during a frame, and seldom does: it moves on every few milliseconds.
            if let Some(comparison) = self.try_compare(input) {
                return comparison;
            }
        }
    }

    fn try_compare(&mut self, input: &Input) -> Option<Comparison> {
        let mut host = input.scene.tables(coarse_ns());
        self.tables.fill(&host);
        let before = self.tables.counters();
        for (number, step) in input.steps.iter().enumerate() {
            let Step::Frame(frame) = step else {
                step.change(&mut host);
                self.tables.fill(&host);
                continue;
            };
            let now = coarse_ns();
            let (kernels_action, kernels) = self.run(frame);
            if coarse_ns() != now {
                return None;
            }
            host.now_ns.set(now);
            let mut hosts = HostFrame::new(frame, INGRESS);
            let exit = host.run(&mut hosts);
            if (kernels_action, kernels.as_slice()) != (action(exit) as u32, hosts.bytes()) {
                return Some(Comparison::Differs(format!(
                    "step {number}: action {kernels_action} in the kernel, {exit:?} on the host\nin     {}\nkernel {}\nhost   {}",
                    hex(frame),
                    hex(&kernels),
                    hex(hosts.bytes()),
                )));
            }
        }
        let differences = [self.tables.difference(&host), counted(&before, &self.tables.counters(), &host)];
        Some(differences.into_iter().flatten().next().map_or(Comparison::Same, Comparison::Differs))
    }

    /// Action and frame.
    fn run(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut output = vec![0; frame.len() + ROOM];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut output), ..TestRunOptions::new() };
        let result = self.program().test_run(options).expect("a test run");
        output.truncate(result.data_size_out as usize);
        (result.return_value, output)
    }
}

/// Why the kernel refused a program: the end of what the verifier says.
fn refusal(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return error.to_string() };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.trim_end().lines().collect();
    format!("{io_error}\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
}

/// Where a debug build of the workspace leaves the object.
fn default_object() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../target/debug/bpf/bpfel-unknown-none/bpf/lb-xdp"].iter().collect()
}

/// Entries of a table.
fn size(name: &str) -> u32 {
    let fixed = BTreeMap::from([
        (maps::FLOWS, BUCKETS),
        (maps::FRAGMENTS, lb_common::layout::flow::FRAGMENT_BUCKETS),
        (maps::TOO_BIG_LIMITS, lb_common::layout::limit::TOO_BIG_WORDS),
        (maps::HEARTBEAT, 1),
        (maps::ACL, 256),
        (maps::SOURCE_ROUTES, 256),
        (maps::SERVER_IDS, 256),
        (maps::RINGS, PLACES),
        (maps::VIPS, CELLS),
        (maps::TRAFFIC, tables::traffic_values()),
    ]);
    fixed.get(name).copied().unwrap_or(PLACES)
}

/// The parameters with the program's clock set.
fn with_clock(tuning: Tuning, object: &[u8]) -> Tuning {
    let mut object = EbpfLoader::new().btf(None).load(object).expect("the BPF object");
    let program: &mut Xdp =
        object.program_mut(maps::TICKS_PROGRAM).expect("the program").try_into().expect("an XDP program");
    program.load().expect("a program of three lines");
    let tick_ns = clock_getres(ClockId::MonotonicCoarse).tv_nsec.try_into().expect("less than a second");
    loop {
        let now = coarse_ns();
        let options = TestRunOptions { data_in: Some(&[0; 64]), ..TestRunOptions::new() };
        let ticks = program.test_run(options).expect("a test run").return_value;
        if coarse_ns() == now {
            return Tuning { tick_ns, first_tick_ns: Tuning::first_tick_ns(ticks, tick_ns, now), ..tuning };
        }
    }
}

/// The clock that the program reads.
fn coarse_ns() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// The action that an exit of the packet's way becomes in the program.
fn action(exit: Exit) -> Action {
    match exit.verdict.action() {
        Action::Transmit | Action::Redirect if exit.ifindex != 0 => Action::Redirect,
        Action::Redirect => Action::Transmit,
        action => action,
    }
}

/// What was counted differently.
fn counted(before: &tables::Counters, after: &tables::Counters, host: &lb_xdp::host::HostTables) -> Option<String> {
    let (verdicts, events) = (host.verdict_counters.borrow(), host.path_counters.borrow());
    for (place, verdict) in Verdict::ALL.iter().enumerate() {
        let kernels = after.verdicts[place].packets - before.verdicts[place].packets;
        let bytes = after.verdicts[place].bytes - before.verdicts[place].bytes;
        if (kernels, bytes) != (verdicts[place].packets, verdicts[place].bytes) {
            return Some(format!("{verdict:?}: {kernels} frames, {bytes} bytes, on the host {:?}", verdicts[place]));
        }
    }
    for (place, event) in lb_common::layout::counter::PathEvent::ALL.iter().enumerate() {
        let kernels = after.events[place] - before.events[place];
        if kernels != events[place] {
            return Some(format!("{event:?}: {kernels}, on the host {}", events[place]));
        }
    }
    let targets = host.target_counters.borrow();
    (0..targets.len()).find_map(|id| {
        let kernels = tables::difference(&after.targets[id], &before.targets[id]);
        (kernels != targets[id]).then(|| format!("at target {id}: {kernels:?}, on the host {:?}", targets[id]))
    })
}
