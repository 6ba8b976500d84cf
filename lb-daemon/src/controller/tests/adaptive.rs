//! Adaptive VIPs: what is said of their rings, slots and flows.

use lb_common::layout::counter::PathEvent;
use tokio::time::sleep;

use super::{
    previewed::{flows, preview, with},
    rig::config,
    *,
};
use crate::{
    controller::snapshot::VipView,
    model::overrides::{BackendName, StateOverride},
    plan::{history::tracker::Hold, preview::Moved},
};

/// [`TEXT`], of which the first VIP is adaptive.
fn adaptive(text: &str) -> String {
    text.replacen("pool = \"web\"\n", "pool = \"web\"\nflow_tracking = \"adaptive\"\n", 1)
}

fn view(rig: &Rig) -> VipView {
    rig.handle.snapshot().vips.iter().find(|vip| vip.name == "web").unwrap().clone()
}

async fn changed_slots(rig: &Rig) -> u64 {
    rig.handle.figures().await.unwrap().changed_slots.get(&view(rig).service).copied().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_closed_vip_is_told_as_one_without_a_ring() {
    let rig = Rig::serving(&adaptive(TEXT)).await;
    for backend in ["10.0.0.2", "10.0.0.3"] {
        rig.report(backend, false);
    }
    rig.settle().await;
    let (open, before) = (view(&rig), changed_slots(&rig).await);
    assert_eq!(open.ring_slots, 251);
    let drained = adaptive(&with(&[("\"10.0.0.1\" }", "\"10.0.0.1\", state = \"drain\" }")]));
    let web = |preview: &crate::plan::preview::Preview| preview.vips.iter().find(|vip| vip.name == "web").cloned();
    let said = preview(&rig, &drained).await;
    assert_eq!(web(&said).unwrap().slots, Moved::new(251, 251));
    rig.reload(config(&drained)).await.unwrap();
    rig.settle().await;
    let closed = view(&rig);
    assert_eq!((closed.ring_slots, closed.ring_digest), (0, None));
    assert_eq!(changed_slots(&rig).await, before + 251, "all of them lead nowhere now");
    // What comes back has nothing to move from, as with a VIP that is not adaptive.
    let said = preview(&rig, &adaptive(TEXT)).await;
    assert_eq!(web(&said).map(|vip| (vip.slots, vip.backends[0].share_after)), Some((Moved::new(0, 0), 1.0)));
    rig.reload(config(&adaptive(TEXT))).await.unwrap();
    rig.settle().await;
    assert_eq!(view(&rig).ring_digest, open.ring_digest);
    assert_eq!(changed_slots(&rig).await, before + 251);
}

/// Slots that lead to a backend of the first VIP.
fn slots_of(rig: &Rig, backend: &str) -> u32 {
    let (key, target) = (rig.key("web"), rig.target("web", backend));
    let tables = rig.tables();
    let slots = (0..251).filter(|slot| tables.memory.route(&key, *slot).is_some_and(|(id, _)| id == target));
    u32::try_from(slots.count()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn tracked_slots_are_counted_with_each_change() {
    let rig = Rig::serving(&adaptive(TEXT)).await;
    assert_eq!(view(&rig).tracked_slots, Some(0));
    let slots = slots_of(&rig, "web-2");
    let observed = rig.tables().observed;
    rig.report("10.0.0.2", false);
    rig.settle().await;
    let told = view(&rig).tracked_slots.unwrap();
    assert!((slots..slots + 30).contains(&told), "{slots} slots led to it, {told} are told to be tracked");
    assert_eq!(rig.tables().observed, observed, "the plan was for this VIP alone");
}

/// Lets time pass by the program's clock as well, in steps in which the daemon does what it does each minute.
async fn pass(rig: &Rig, units: u32) {
    for step in (0..units).step_by(100) {
        rig.tables().ahead += 100.min(units - step);
        sleep(61 * SECOND).await;
    }
}

fn name(name: &str) -> BackendName {
    BackendName { pool: "web".into(), name: name.into() }
}

fn drains(rig: &Rig) -> bool {
    let snapshot = rig.handle.snapshot();
    matches!(snapshot.overrides.backends[&name("web-1")].state, Some(StateOverride::Draining(_)))
}

#[tokio::test(start_paused = true)]
async fn a_drain_lasts_until_nobody_can_be_left_who_was_silent() {
    let rig = Rig::serving(&adaptive(TEXT)).await;
    let ordered = rig.handle.drain(name("web-1"), None, None).await.unwrap();
    assert_eq!(ordered.warnings, Vec::<String>::new());
    let pair = (view(&rig).service, "10.0.0.1".parse().unwrap());
    assert!(rig.handle.flows().await.unwrap().silent.contains(&pair));
    pass(&rig, Hold::default().silence).await;
    assert!(drains(&rig) && view(&rig).tracked_slots.unwrap() > 0);
    // As long as entries may be there whose age is told wrong.
    pass(&rig, 200).await;
    assert_eq!(view(&rig).tracked_slots, Some(0));
    assert!(!drains(&rig));
    assert!(rig.handle.flows().await.unwrap().silent.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_smaller_flow_table_has_slots_wait_anew() {
    let sized = |entries: u32| {
        let table = format!("[dataplane]\nflow_table_entries = {entries}\n");
        adaptive(&TEXT.replace("[dataplane]\n", &table))
    };
    let rig = Rig::serving(&sized(8192)).await;
    rig.report("10.0.0.2", false);
    rig.settle().await;
    let silence = Hold::default().silence;
    pass(&rig, silence - 100).await;
    // Larger is no loss, but what was a stray may find no room in a smaller one.
    rig.reload(config(&sized(16_384))).await.unwrap();
    rig.reload(config(&sized(4096))).await.unwrap();
    pass(&rig, 400).await;
    assert!(view(&rig).tracked_slots.unwrap() > 0);
    pass(&rig, silence).await;
    assert_eq!(view(&rig).tracked_slots, Some(0));
}

#[tokio::test(start_paused = true)]
async fn strays_that_were_lost_while_nothing_was_tracked_are_no_problem() {
    let rig = Rig::serving(&adaptive(TEXT)).await;
    rig.report("10.0.0.2", false);
    rig.settle().await;
    pass(&rig, 1).await;
    rig.reload(config(TEXT)).await.unwrap();
    *rig.tables().memory.path_counter(PathEvent::StrayLost).unwrap() += 1;
    pass(&rig, 300).await;
    rig.reload(config(&adaptive(TEXT))).await.unwrap();
    pass(&rig, 1).await;
    assert!(view(&rig).tracked_slots.unwrap() > 0);
    assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_only_a_deadline_can_end_is_told_at_the_order() {
    let rig = Rig::serving(&adaptive(TEXT)).await;
    for backend in ["10.0.0.2", "10.0.0.3"] {
        rig.report(backend, false);
    }
    rig.settle().await;
    let warnings = rig.handle.drain(name("web-1"), None, None).await.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("ends only by an order")), "{warnings:?}");
    pass(&rig, Hold::default().silence + 300).await;
    assert!(drains(&rig));
    let warnings = rig.handle.drain(name("web-1"), Some(30 * SECOND), None).await.unwrap().warnings;
    assert_eq!(warnings, Vec::<String>::new());
    sleep(33 * SECOND).await;
    assert!(!drains(&rig));
}

#[tokio::test(start_paused = true)]
async fn flows_that_are_not_counted_are_told_with_a_preview() {
    let without = [("  { name = \"web-1\", address = \"10.0.0.1\" },\n", "")];
    for (text, told) in [(adaptive(TEXT), 1), (TEXT.to_owned(), 0)] {
        let rig = Rig::serving(&text).await;
        flows(&rig, "web", "web-1", 1);
        let said = preview(&rig, &if told == 0 { with(&without) } else { adaptive(&with(&without)) }).await;
        let lines = said.assumptions.iter().filter(|line| line.starts_with("web: adaptive"));
        assert_eq!(lines.count(), told, "{:?}", said.assumptions);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flow_table_that_is_too_small_for_adaptive_vips_is_a_problem() {
    let rig = Rig::serving(&adaptive(TEXT)).await;
    rig.report("10.0.0.2", false);
    sleep(2 * SECOND).await;
    assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
    *rig.tables().memory.path_counter(PathEvent::StrayLost).unwrap() += 1;
    pass(&rig, 1).await;
    let problems = rig.handle.snapshot().problems();
    assert!(problems.len() == 1 && problems[0].contains("flow table is too small"), "{problems:?}");
    // Once slots waited for long enough in spite of it, it is over.
    pass(&rig, Hold::default().silence + 200).await;
    assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
}
