//! No established flow of an adaptive VIP loses a backend that lives: real plans, carried out on tables in memory, real packets
//! through the way that the kernel runs, and a model of clients, backends and time that knows where each flow must be.

use std::collections::BTreeMap;

use proptest::prelude::*;

#[path = "adaptive/lab.rs"]
mod lab;

use lab::{FLOWS, HOLD, Lab, Tracking};
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
    /// It sends no more data, but receives.
    HalfClose(u16),
    /// Somebody else resets it, as far as lb can see.
    ForgeRst(u16),
    /// Backends of a VIP get another state each: down, draining, serving, or not configured any more.
    Change(Vec<Change>),
    /// The same, while the daemon dies at this op and another one takes over.
    Crash(Vec<Change>, usize),
    /// A VIP tracks flows in another way.
    Track(u8, Tracking),
    /// Time passes, in units, and the daemon does what it does each second.
    Wait(u32),
    /// Time passes without a daemon.
    Alone(u32),
    /// The daemon is restarted.
    Restart,
    /// A larger range of targets is needed for a VIP.
    Grow(u8),
}

/// VIP, backend, and what becomes of that.
type Change = (u8, u8, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let vip = || 0_u8..2;
    let changes = || prop::collection::vec((vip(), 0_u8..6, 0_u8..5), 1..6);
    let flow = || 0..FLOWS;
    let tracking = prop_oneof![3 => Just(Tracking::Adaptive), 2 => Just(Tracking::Always), 1 => Just(Tracking::Off)];
    let step = prop_oneof![
        30 => flow().prop_map(Step::Open),
        40 => flow().prop_map(Step::Send),
        4 => flow().prop_map(Step::Close),
        2 => flow().prop_map(Step::HalfClose),
        1 => flow().prop_map(Step::ForgeRst),
        2 => (vip(), tracking).prop_map(|(vip, tracking)| Step::Track(vip, tracking)),
        10 => changes().prop_map(Step::Change),
        2 => (changes(), 0_usize..12).prop_map(|(changes, op)| Step::Crash(changes, op)),
        6 => (1_u32..40).prop_map(Step::Wait),
        4 => (HOLD.silence / 2..HOLD.silence + 300).prop_map(Step::Wait),
        1 => (1_u32..6000).prop_map(Step::Alone),
        2 => Just(Step::Restart),
        1 => vip().prop_map(Step::Grow),
    ];
    prop::collection::vec(step, 1..120)
}

fn run(lab: &mut Lab, steps: &[Step]) {
    let disposition = |kind: u8| [Some(Down), Some(Draining), Some(Serving), Some(Serving), None][usize::from(kind)];
    let changes = |all: &[Change]| -> BTreeMap<(u8, u8), _> {
        all.iter().map(|(vip, one, kind)| ((*vip, *one), disposition(*kind))).collect()
    };
    for step in steps {
        match step {
            Step::Open(flow) => lab.open(*flow),
            Step::Send(flow) => lab.send(*flow),
            Step::Close(flow) => lab.close(*flow),
            Step::HalfClose(flow) => lab.half_close(*flow),
            Step::ForgeRst(flow) => lab.forge_rst(*flow),
            Step::Track(vip, tracking) => lab.track(*vip, *tracking),
            Step::Change(all) => lab.change(&changes(all), None),
            Step::Crash(all, op) => lab.change(&changes(all), Some(*op)),
            Step::Wait(units) => lab.wait(*units),
            Step::Alone(units) => lab.alone(*units),
            Step::Restart => lab.restart(),
            Step::Grow(vip) => lab.grow(*vip),
        }
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(150), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// With room for all, and with a single bucket for all.
    #[test]
    fn an_established_flow_keeps_its_backend_while_that_lives(steps in steps(), is_tight in any::<bool>()) {
        let mut lab = Lab::new(if is_tight { 1 } else { 64 });
        run(&mut lab, &steps);
        // All flows that are there are where they were.
        (0..FLOWS).for_each(|flow| lab.send(flow));
    }

    /// A VIP that remembered all flows becomes adaptive.
    #[test]
    fn flows_of_a_vip_that_becomes_adaptive_stay(before in steps(), after in steps()) {
        became_adaptive(&before, &after);
    }

    /// Whatever happened, once no ring changes and old flows ended, nothing is tracked, and the flow table is left alone.
    #[test]
    fn slots_return_to_untracked(steps in steps()) {
        let mut lab = Lab::new(64);
        run(&mut lab, &steps);
        (0..2).for_each(|vip| {
            lab.change(&BTreeMap::from([((vip, 0), Some(Serving))]), None);
            lab.track(vip, Tracking::Adaptive);
        });
        lab.busy(false);
        // New flows all the time, also in slots beside those of old ones.
        (0..FLOWS).for_each(|flow| lab.close(flow));
        for turn in 0..60 {
            (0..FLOWS).for_each(|flow| {
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
        (0..FLOWS).for_each(|flow| {
            lab.close(flow);
            lab.open(flow);
            lab.send(flow);
        });
        prop_assert_eq!(lab.flow_table(), before);
    }
}

/// It is sent to the slot's previous target, and while it is, the slot is not untracked.
#[test]
fn a_flow_that_begins_without_room_while_slots_are_untracked_is_established() {
    let mut lab = Lab::new(1);
    lab.busy(false);
    let drained = (0..4).map(|one| ((one / 2, one % 2), Some(Draining)));
    lab.change(&drained.collect(), None);
    for flow in 0..FLOWS {
        if !lab.is_full() {
            lab.open(flow);
        }
    }
    assert!(lab.is_full() && lab.tracked() > 0);
    let before = lab.established();
    lab.busy(true);
    for _ in 0..2 * HOLD.silence / 50 {
        (0..FLOWS).for_each(|flow| lab.send(flow));
        lab.wait(50);
    }
    assert!(lab.established() > before, "there was a look");
}

/// Daemons that were away for long look at the flow table as if they had just come: entries may have gone round the clock.
#[test]
fn entries_that_nobody_looked_at_for_hours_are_not_trusted() {
    use Step::{Alone, Change, Crash, Open, Send, Track, Wait};
    let begun = [Track(1, Tracking::Off), Open(7), Track(0, Tracking::Adaptive), Open(2)];
    let away = [Change(vec![(0, 3, 0), (0, 5, 2)]), Alone(4030), Wait(1048), Open(2), Change(vec![(0, 5, 1)]), Send(2)];
    became_adaptive(&[&begun[..], &away].concat(), &[Open(0)]);
    let begun = [Change(vec![(0, 0, 0)]), Open(18), Crash(vec![(0, 4, 4)], 3), Wait(2051), Open(0)];
    let away = [Change(vec![(0, 2, 0)]), Alone(2077), Wait(20), Alone(1), Change(vec![(0, 2, 2)]), Open(0)];
    became_adaptive(&begun, &away);
}

fn became_adaptive(before: &[Step], after: &[Step]) {
    let mut lab = Lab::new(64);
    (0..2).for_each(|vip| lab.track(vip, Tracking::Always));
    run(&mut lab, before);
    (0..2).for_each(|vip| lab.track(vip, Tracking::Adaptive));
    run(&mut lab, after);
    (0..FLOWS).for_each(|flow| lab.send(flow));
}
