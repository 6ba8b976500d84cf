//! No established flow of an adaptive VIP loses a backend that lives: real plans, carried out on tables in memory, real packets
//! through the way that the kernel runs, and a model of clients, backends and time that knows where each flow must be.

use std::collections::BTreeMap;

use proptest::prelude::*;

#[path = "adaptive/lab.rs"]
mod lab;

use lab::{HOLD, Lab};
use lb_daemon::plan::wanted::Disposition::{Down, Draining, Serving};

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    /// A client opens this flow, unless it is open.
    Open(u16),
    /// It sends on it.
    Send(u16),
    /// It closes it.
    Close(u16),
    /// Backends get another state each: down, draining, serving, or not configured any more.
    Change(Vec<(u8, u8)>),
    /// The same, while the daemon dies at this op and another one takes over.
    Crash(Vec<(u8, u8)>, usize),
    /// Time passes, in units, and the daemon does what it does each second.
    Wait(u32),
    /// Time passes without a daemon.
    Alone(u32),
    /// The daemon is restarted.
    Restart,
    /// A larger range of targets is needed.
    Grow,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let changes = || prop::collection::vec((0_u8..6, 0_u8..5), 1..4);
    let flow = || 0_u16..40;
    let step = prop_oneof![
        30 => flow().prop_map(Step::Open),
        40 => flow().prop_map(Step::Send),
        6 => flow().prop_map(Step::Close),
        10 => changes().prop_map(Step::Change),
        2 => (changes(), 0_usize..12).prop_map(|(changes, op)| Step::Crash(changes, op)),
        6 => (1_u32..40).prop_map(Step::Wait),
        4 => (HOLD.silence / 2..HOLD.silence + 300).prop_map(Step::Wait),
        1 => (1_u32..6000).prop_map(Step::Alone),
        2 => Just(Step::Restart),
        1 => Just(Step::Grow),
    ];
    prop::collection::vec(step, 1..120)
}

fn run(lab: &mut Lab, steps: &[Step]) {
    let disposition = |kind: u8| [Some(Down), Some(Draining), Some(Serving), Some(Serving), None][usize::from(kind)];
    let changes =
        |all: &[(u8, u8)]| -> BTreeMap<u8, _> { all.iter().map(|(one, kind)| (*one, disposition(*kind))).collect() };
    for step in steps {
        match step {
            Step::Open(flow) => lab.open(*flow),
            Step::Send(flow) => lab.send(*flow),
            Step::Close(flow) => lab.close(*flow),
            Step::Change(all) => lab.change(&changes(all), None),
            Step::Crash(all, op) => lab.change(&changes(all), Some(*op)),
            Step::Wait(units) => lab.wait(*units),
            Step::Alone(units) => lab.alone(*units),
            Step::Restart => lab.restart(),
            Step::Grow => lab.grow(),
        }
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(300), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// With room for all, and with a single bucket for all.
    #[test]
    fn an_established_flow_keeps_its_backend_while_that_lives(steps in steps(), is_tight in any::<bool>()) {
        let mut lab = Lab::new(if is_tight { 1 } else { 64 });
        run(&mut lab, &steps);
        // All flows that are there are where they were.
        (0..40).for_each(|flow| lab.send(flow));
    }

    /// A VIP that remembered all flows becomes adaptive.
    #[test]
    fn flows_of_a_vip_that_becomes_adaptive_stay(before in steps(), after in steps()) {
        let mut lab = Lab::new(64);
        lab.always();
        run(&mut lab, &before);
        lab.adaptive();
        run(&mut lab, &after);
        (0..40).for_each(|flow| lab.send(flow));
    }

    /// Whatever happened, once no ring changes and old flows ended, nothing is tracked, and the flow table is left alone.
    #[test]
    fn slots_return_to_untracked(steps in steps()) {
        let mut lab = Lab::new(64);
        run(&mut lab, &steps);
        // New flows all the time, also in slots beside those of old ones.
        (0..40).for_each(|flow| lab.close(flow));
        for turn in 0..60 {
            (0..40).for_each(|flow| {
                lab.open(flow);
                lab.send(flow);
                if turn % 3 == 2 {
                    lab.close(flow);
                }
            });
            lab.wait(HOLD.silence / 20);
        }
        lab.change(&BTreeMap::new(), None);
        prop_assert_eq!(lab.tracked(), 0);
        let before = lab.flow_table();
        (0..40).for_each(|flow| {
            lab.close(flow);
            lab.open(flow);
            lab.send(flow);
        });
        prop_assert_eq!(lab.flow_table(), before);
    }
}
