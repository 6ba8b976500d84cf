//! Runs cases on both sides and compares.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::{FlowEntry, FlowState, WAYS},
    },
    verdict::{Action, Verdict},
};
use lb_daemon::dataplane::Counters;
use lb_xdp::{
    host::{HostFrame, HostTables},
    path::Exit,
};

use super::{
    case::{Case, INGRESS},
    kernel::{self, Loaded, MAX_FRAME, MIN_FRAME},
    report,
};
use crate::scenario::is_root;

/// Older kernels take at most 32 bytes of metadata, which are what makes the room before a frame smaller.
const ROOM_OF_ALL_KERNELS: usize = 256 - 32;

/// What can be compared of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of the frame.
    pub action: Action,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// What was counted, where something was.
    pub counted: Counted,
    /// The flow table.
    pub flows: Vec<[u64; WAYS]>,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// By target.
    pub targets: BTreeMap<u32, TargetCounters>,
    /// By verdict.
    pub verdicts: BTreeMap<Verdict, VerdictCounters>,
    /// By event.
    pub events: BTreeMap<PathEvent, u64>,
}

impl Counted {
    /// What tables in memory counted since they were made.
    pub fn by_host(tables: &HostTables) -> Self {
        let zero = Counters::default();
        let targets = (0..).zip(tables.target_counters.borrow().iter().copied()).collect();
        let (verdicts, path) = (tables.verdict_counters.borrow().clone(), tables.path_counters.borrow().clone());
        Self::between(&zero, &Counters { targets, verdicts, path })
    }

    /// What was counted from one reading to the next.
    pub fn between(before: &Counters, after: &Counters) -> Self {
        let earlier = |id: &u32| before.targets.get(id).copied().unwrap_or_default();
        let targets = after.targets.iter().map(|(id, now)| (*id, target_difference(now, &earlier(id))));
        let verdicts = Verdict::ALL.iter().zip(&after.verdicts).map(|(verdict, now)| {
            let earlier = before.verdicts.get(*verdict as usize).copied().unwrap_or_default();
            let (packets, bytes) = (now.packets - earlier.packets, now.bytes - earlier.bytes);
            (*verdict, VerdictCounters { packets, bytes })
        });
        let events = PathEvent::ALL.iter().zip(&after.path).map(|(event, now)| {
            let earlier = before.path.get(*event as usize).copied().unwrap_or_default();
            (*event, now - earlier)
        });
        Self {
            targets: targets.filter(|(_, counters)| *counters != TargetCounters::default()).collect(),
            verdicts: verdicts.filter(|(_, counters)| *counters != VerdictCounters::default()).collect(),
            events: events.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

fn target_difference(now: &TargetCounters, before: &TargetCounters) -> TargetCounters {
    TargetCounters {
        packets: now.packets - before.packets,
        bytes: now.bytes - before.bytes,
        flows_created: now.flows_created - before.flows_created,
        flows_moved: now.flows_moved - before.flows_moved,
        syns: now.syns - before.syns,
        syn_retransmits: now.syn_retransmits - before.syn_retransmits,
        handshakes: now.handshakes - before.handshakes,
        fins: now.fins - before.fins,
        rsts: now.rsts - before.rsts,
    }
}

/// The action that an exit of the packet's way becomes in the program.
pub fn action(exit: Exit) -> Action {
    match exit.verdict.action() {
        Action::Transmit | Action::Redirect if exit.ifindex != 0 => Action::Redirect,
        Action::Redirect => Action::Transmit,
        action => action,
    }
}

/// The action of a number that the kernel returned.
pub fn action_of(number: u32) -> Action {
    let all = [Action::Aborted, Action::Drop, Action::Pass, Action::Transmit, Action::Redirect];
    all.into_iter().find(|action| *action as u32 == number).unwrap_or_else(|| panic!("action {number}"))
}

/// Runs each case on the host and, as root, in the kernel; panics after the last one if any failed.
pub fn check(cases: &[Case]) {
    let mut loaded = is_root().then(|| {
        let tuning = cases.first().expect("cases").given.tuning();
        Loaded::new(tuning).expect("the program")
    });
    let failed: Vec<&str> = cases.iter().filter(|case| !holds(case, loaded.as_mut())).map(|case| case.name).collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), cases.len());
    println!("{} cases hold", cases.len());
}

/// Whether a case holds; what differs is printed.
fn holds(case: &Case, loaded: Option<&mut Loaded>) -> bool {
    let (now, host_exit, host) = on_host(case, kernel::settled_unit(Duration::from_millis(200)));
    let mut faults = faults(case, now, &host, "host");
    if (host_exit.verdict, host_exit.ifindex) != (case.verdict, case.ifindex) {
        faults.push(format!("host: {host_exit:?}, not {:?} by interface {}", case.verdict, case.ifindex));
    }
    let mut sides = vec![("host", host)];
    // The kernel takes no frame without an Ethernet header for a test run.
    let runs = (MIN_FRAME..=MAX_FRAME).contains(&case.frame.len());
    if let Some(loaded) = loaded.filter(|_| runs) {
        match in_kernel(case, loaded) {
            Ok((now, kernel)) => {
                faults.extend(self::faults(case, now, &kernel, "kernel"));
                sides.push(("kernel", kernel));
            }
            Err(error) if case.headroom < ROOM_OF_ALL_KERNELS => {
                eprintln!("{}: skipped, this kernel makes no test run with so little room: {error:#}", case.name);
            }
            Err(error) => panic!("{}: {error:#}", case.name),
        }
    }
    if faults.is_empty() {
        return true;
    }
    let frames: Vec<(&str, &[u8])> = sides.iter().map(|(side, outcome)| (*side, outcome.frame.as_slice())).collect();
    report::print(case.name, &faults, &case.frame, &case.out, &frames);
    false
}

fn on_host(case: &Case, now: u32) -> (u32, Exit, Outcome) {
    let tables = case.given.tables(now);
    let mut frame = HostFrame::with_headroom(&case.frame, INGRESS, case.headroom);
    let exit = tables.run(&mut frame);
    let counted = Counted::by_host(&tables);
    let flows = kernel::flows_of(&tables);
    (now, exit, Outcome { action: action(exit), frame: frame.bytes().to_vec(), counted, flows })
}

/// Runs a case within one unit of the clock; tries again if the unit ended meanwhile.
fn in_kernel(case: &Case, loaded: &mut Loaded) -> Result<(u32, Outcome)> {
    loop {
        let now = kernel::settled_unit(Duration::from_millis(200));
        loaded.fill(&case.given.tables(now))?;
        let before = loaded.counters()?;
        let ran = loaded.run(&case.frame, case.headroom)?;
        let counted = Counted::between(&before, &loaded.counters()?);
        let flows = loaded.flows()?;
        if kernel::unit() == now {
            return Ok((now, Outcome { action: action_of(ran.action), frame: ran.frame, counted, flows }));
        }
    }
}

/// What differs between a side and the expectation.
fn faults(case: &Case, now: u32, outcome: &Outcome, side: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if outcome.action != case.action() {
        faults.push(format!("{side}: {}, not {}", outcome.action.name(), case.action().name()));
    }
    if outcome.frame != case.out {
        faults.push(format!("{side}: another frame"));
    }
    let expected = expected(case);
    if outcome.counted != expected {
        faults.push(format!("{side} counted {:#?}\nand not {expected:#?}", outcome.counted));
    }
    let flows = remembered(&outcome.flows, now);
    if case.flows.as_ref().is_some_and(|expected| *expected != flows) {
        faults.push(format!("{side} remembers {flows:?} and not {:?}", case.flows));
    }
    faults
}

fn expected(case: &Case) -> Counted {
    let verdict = VerdictCounters { packets: 1, bytes: case.frame.len() as u64 };
    let verdicts = (case.verdict != Verdict::Forwarded).then_some((case.verdict, verdict));
    Counted { targets: case.targets.clone(), verdicts: verdicts.into_iter().collect(), events: case.events.clone() }
}

/// Target, state and age of each flow.
fn remembered(flows: &[[u64; WAYS]], now: u32) -> Vec<(u32, FlowState, u32)> {
    let entries = flows.iter().flatten().map(|word| FlowEntry(*word)).filter(|entry| !entry.is_empty());
    let read = |entry: FlowEntry| {
        let state = FlowState::try_from(entry.state()).expect("a known state");
        (entry.target(), state, entry.age(now))
    };
    let mut flows: Vec<_> = entries.map(read).collect();
    flows.sort_unstable();
    flows
}
