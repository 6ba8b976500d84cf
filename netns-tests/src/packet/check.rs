//! Runs cases on both sides and compares.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use lb_common::{
    layout::{
        counter::VerdictCounters,
        flow::{FlowEntry, FlowState, TIME_SHIFT, WAYS},
    },
    maps::{Tuning, feature},
    verdict::{Action, Verdict},
};
use lb_xdp::{host::HostFrame, path::Exit};

pub use super::counted::Counted;
use super::{
    case::{Case, INGRESS, Remembered, Step},
    counted,
    kernel::{self, Loaded, MAX_FRAME, MAX_JUMBO_FRAME, MIN_FRAME},
    report, sums,
};
use crate::scenario::is_root;

/// Older kernels take at most 32 bytes of metadata, which are what makes the room before a frame smaller.
const ROOM_OF_ALL_KERNELS: usize = 256 - 32;
/// How long a case may take in the kernel if it has limits, which forgive with time.
const PATIENCE: Duration = Duration::from_millis(80);
/// How often a case is tried that takes too long, on a machine that is busy.
const TRIES: usize = 500;

mod explain;

/// What can be compared of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    /// What becomes of the frame.
    action: Action,
    /// The interface that it leaves by, which the kernel does not tell.
    ifindex: Option<u32>,
    /// The frame afterwards.
    frame: Vec<u8>,
    /// What was counted, where something was.
    counted: Counted,
    /// The flows that are remembered, by bucket and tag.
    flows: BTreeMap<(usize, u32), Remembered>,
    /// The datagrams in fragments.
    fragments: BTreeMap<(usize, u32), Remembered>,
    /// How far each limit is ahead of the time at which the case began, and the tags of sources.
    limits: [Vec<u64>; 3],
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
    let mut programs: Vec<(Tuning, Loaded)> = vec![];
    let failed: Vec<&str> = cases.iter().filter(|case| !holds(case, &mut programs)).map(|case| case.name).collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), cases.len());
    println!("{} cases hold", cases.len());
}

/// The program with the parameters of a case: one that was loaded before, or a new one.
fn program<'p>(tuning: &Tuning, programs: &'p mut Vec<(Tuning, Loaded)>) -> &'p mut Loaded {
    let known = programs.iter().position(|(of, _)| of == tuning);
    let index = known.unwrap_or_else(|| {
        programs.push((*tuning, Loaded::new(tuning).expect("the program")));
        programs.len() - 1
    });
    &mut programs[index].1
}

/// Whether a case holds; what differs is printed.
fn holds(case: &Case, programs: &mut Vec<(Tuning, Loaded)>) -> bool {
    let host = on_host(case);
    let mut sides = vec![("host", host)];
    // The kernel takes no frame without an Ethernet header for a test run.
    let longest = if case.given.tuning().features & feature::MULTI_BUFFER == 0 { MAX_FRAME } else { MAX_JUMBO_FRAME };
    if is_root() && case.steps.iter().all(|step| (MIN_FRAME..=longest).contains(&step.frame.len())) {
        match in_kernel(case, program(case.given.tuning(), programs)) {
            Ok(outcomes) => sides.push(("kernel", outcomes)),
            Err(error) if case.steps.iter().any(|step| step.headroom < ROOM_OF_ALL_KERNELS) => {
                eprintln!("{}: skipped, this kernel makes no test run with so little room: {error:#}", case.name);
            }
            Err(error) => panic!("{}: {error:#}", case.name),
        }
    }
    let mut fine = true;
    for (number, step) in case.steps.iter().enumerate() {
        let outcomes: Vec<(&str, &Outcome)> = sides.iter().map(|(side, all)| (*side, &all[number])).collect();
        let mut faults: Vec<String> = outcomes.iter().flat_map(|(side, outcome)| faults(step, outcome, side)).collect();
        if let [(_, host), (_, kernel)] = outcomes[..] {
            faults.extend(differences(host, kernel));
        }
        if !faults.is_empty() {
            let name = if number == 0 { case.name.to_owned() } else { format!("{}, frame {}", case.name, number + 1) };
            let frames: Vec<_> = outcomes.iter().map(|(side, outcome)| (*side, &outcome.frame[..])).collect();
            report::print(&name, &faults, &step.frame, &step.out, &frames);
            fine = false;
        }
    }
    fine
}

fn on_host(case: &Case) -> Vec<Outcome> {
    let now = kernel::now_ns();
    let tables = case.given.tables_at(now);
    let run = |step: &Step| {
        let before = counted::read(&tables);
        let mut frame = HostFrame::with_headroom(&step.frame, INGRESS, step.headroom);
        let exit = tables.run(&mut frame);
        Outcome {
            action: action(exit),
            ifindex: Some(exit.ifindex),
            frame: frame.bytes().to_vec(),
            counted: Counted::between(&before, &counted::read(&tables)),
            flows: remembered(&kernel::words_of(&tables.flows), now),
            fragments: remembered(&kernel::words_of(&tables.fragments), now),
            limits: ahead(kernel::limits_of(&tables), now),
        }
    };
    case.steps.iter().map(run).collect()
}

/// Runs a case within one unit of the clock and, if it has limits, without much delay; tries again if that did not come off.
fn in_kernel(case: &Case, loaded: &mut Loaded) -> Result<Vec<Outcome>> {
    for _ in 0..TRIES {
        kernel::settle(PATIENCE * 4);
        loaded.fill(&case.given.tables_at(kernel::now_ns()))?;
        // Once more, for that took its time.
        let (now, started) = (kernel::now_ns(), Instant::now());
        loaded.fill_times(&case.given.tables_at(now));
        let mut outcomes = vec![];
        for step in &case.steps {
            let before = loaded.counters()?;
            // What it counted or remembered would be found with what the program did.
            let told = loaded.explain(&step.frame, step.headroom)?;
            let ran = loaded.run(&step.frame, step.headroom)?;
            let outcome = Outcome {
                action: action_of(ran.action),
                ifindex: None,
                frame: ran.frame,
                counted: Counted::between(&before, &loaded.counters()?),
                flows: remembered(&loaded.flows(), now),
                fragments: remembered(&loaded.fragments(), now),
                limits: ahead(loaded.limits(), now),
            };
            outcomes.push((told, outcome));
        }
        let in_time = !case.given.has_limits() || started.elapsed() < PATIENCE;
        if in_time && kernel::now_ns() >> TIME_SHIFT == now >> TIME_SHIFT {
            let told = outcomes.iter().zip(&case.steps);
            let faults: Vec<String> = told.flat_map(|((told, ran), step)| explain::faults(told, ran, step)).collect();
            ensure!(faults.is_empty(), "lb explain says otherwise: {faults:#?}");
            return Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect());
        }
    }
    bail!("the machine is too busy: it took too long {TRIES} times")
}

/// What differs between a side and the expectation.
fn faults(step: &Step, outcome: &Outcome, side: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if outcome.action != step.action() {
        faults.push(format!("{side}: {}, not {}", outcome.action.name(), step.action().name()));
    }
    if outcome.ifindex.is_some_and(|ifindex| ifindex != step.ifindex) {
        faults.push(format!("{side}: by interface {:?}, not {}", outcome.ifindex, step.ifindex));
    }
    if outcome.frame != step.out {
        faults.push(format!("{side}: another frame"));
    }
    let (came, left) = (sums::wrong(&step.frame), sums::wrong(&outcome.frame));
    if left.len() > came.len() {
        faults.push(format!("{side}: wrong checksums: {left:?}; those that came in: {came:?}"));
    }
    let expected = expected(step);
    if outcome.counted != expected {
        faults.push(format!("{side} counted {:#?}\nand not {expected:#?}", outcome.counted));
    }
    for (what, found, expected) in
        [("flows", &outcome.flows, &step.flows), ("datagrams", &outcome.fragments, &step.fragments)]
    {
        let mut found: Vec<Remembered> = found.values().copied().collect();
        found.sort_unstable();
        if expected.as_ref().is_some_and(|expected| *expected != found) {
            faults.push(format!("{side} remembers these {what}: {found:?} and not {expected:?}"));
        }
    }
    faults
}

/// What differs between the two sides beyond what was expected.
fn differences(host: &Outcome, kernel: &Outcome) -> Vec<String> {
    let mut faults = vec![];
    if host.frame != kernel.frame {
        faults.push("kernel and host made different frames".to_owned());
    }
    if (&host.flows, &host.fragments) != (&kernel.flows, &kernel.fragments) {
        faults.push(format!(
            "host remembers {:?}, {:?}, kernel {:?}, {:?}",
            host.flows, host.fragments, kernel.flows, kernel.fragments
        ));
    }
    let late = u64::try_from(PATIENCE.as_nanos()).unwrap_or(0);
    for (name, (host, kernel)) in ["VIPs", "sources", "too big"].into_iter().zip(host.limits.iter().zip(&kernel.limits))
    {
        let differs = |(host, kernel): &(&u64, &u64)| kernel.wrapping_sub(**host) > late;
        if let Some((host, kernel)) = host.iter().zip(kernel).find(differs) {
            faults.push(format!("limits of {name}: host {host}, kernel {kernel}"));
        }
    }
    faults
}

fn expected(step: &Step) -> Counted {
    let verdict = VerdictCounters { packets: 1, bytes: step.frame.len() as u64 };
    let verdicts = (step.verdict != Verdict::Forwarded).then_some((step.verdict, verdict));
    let (targets, events) = (step.targets.clone(), step.events.clone());
    Counted { targets, verdicts: verdicts.into_iter().collect(), events }
}

/// Target, state and age of each entry.
fn remembered(table: &[[u64; WAYS]], now: u64) -> BTreeMap<(usize, u32), Remembered> {
    let now = (now >> TIME_SHIFT) as u32;
    let entries = table.iter().enumerate().flat_map(|(bucket, words)| words.map(|word| (bucket, FlowEntry(word))));
    let read = |(bucket, entry): (usize, FlowEntry)| {
        let state = FlowState::try_from(entry.state()).expect("a known state");
        ((bucket, entry.tag()), (entry.target(), state, entry.age(now)))
    };
    entries.filter(|(_, entry)| !entry.is_empty()).map(read).collect()
}

/// How far limits are ahead of this time; 0 stays. Tags of sources come first of their four words, and stay too.
fn ahead([vips, sources, too_big]: [Vec<u64>; 3], now: u64) -> [Vec<u64>; 3] {
    let ahead = |word: u64| if word == 0 { 0 } else { word.wrapping_sub(now) };
    let of_source = |(place, word): (usize, u64)| if place % 4 == 0 { word } else { ahead(word) };
    let all = |words: Vec<u64>| words.into_iter().map(ahead).collect();
    [all(vips), sources.into_iter().enumerate().map(of_source).collect(), all(too_big)]
}
