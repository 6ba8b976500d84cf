//! Operators' overrides and drains.

use std::{fs, path::Path, time::SystemTime};

use lb_common::layout::flow::{FlowEntry, FlowState};
use tokio::time::sleep;

use super::{
    SECOND, backend,
    rig::{Rig, TEXT, config},
};
use crate::{
    controller::overrides::{OrderError, Ordered},
    dataplane::flows::Liveness,
    model::overrides::{BackendName, BackendOrder, Order, StateOverride},
    plan::wanted::Disposition,
    state::Folder,
};

fn name(name: &str) -> BackendName {
    BackendName { pool: "web".into(), name: name.into() }
}

async fn order(rig: &Rig, backend: &str, order: BackendOrder) -> Ordered {
    rig.handle.order(Order::Backend(name(backend), order), Some(7)).await.unwrap()
}

fn state(rig: &Rig, backend: &str) -> Option<StateOverride> {
    rig.handle.snapshot().overrides.backends.get(&name(backend)).and_then(|given| given.state)
}

fn effect(rig: &Rig, name: &str) -> Disposition {
    backend(rig, "web", name).effect
}

/// A flow to a backend that was used just now.
fn flow(rig: &Rig, vip: &str, backend: &str, tag: u32) -> FlowEntry {
    FlowEntry::new(tag, rig.target(vip, backend), Liveness::now(7).now, FlowState::Established)
}

fn remember(rig: &Rig, entry: FlowEntry) {
    assert!(rig.tables().memory.remember(0, entry));
}

/// The flow ends and is silent.
fn close(rig: &Rig, tag: u32) {
    let old = |entry: FlowEntry| entry.touched(entry.time().wrapping_sub(10), FlowState::Closing as u32);
    assert!(rig.tables().memory.change(|entry| if entry.tag() == tag { old(entry) } else { entry }) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_no_flow_of_any_vip_is_left() {
    let rig = Rig::serving(TEXT).await;
    let target = rig.target("web", "web-1");
    for (tag, vip, backend) in [(1, "web", "web-1"), (2, "web-v6", "web-1"), (3, "web", "web-2")] {
        remember(&rig, flow(&rig, vip, backend, tag));
    }
    let ordered = rig.handle.drain(name("web-1"), None, Some(7)).await.unwrap();
    assert_eq!(ordered, Ordered::default());
    assert!(!rig.steered_to("web").contains(&target) && !rig.steered_to("web-v6").is_empty());
    assert_eq!(effect(&rig, "web-1"), Disposition::Draining);
    let Some(StateOverride::Draining(drain)) = state(&rig, "web-1") else { panic!("it does not drain") };
    assert_eq!((drain.flows, drain.deadline), (2, None));
    sleep(60 * SECOND).await;
    close(&rig, 1);
    sleep(60 * SECOND).await;
    assert!(matches!(state(&rig, "web-1"), Some(StateOverride::Draining(_))), "one flow goes on");
    close(&rig, 2);
    sleep(3 * SECOND).await;
    assert_eq!(state(&rig, "web-1"), Some(StateOverride::Drained));
    assert_eq!(effect(&rig, "web-1"), Disposition::Down);
    assert_eq!(backend(&rig, "web", "web-1").reason.as_deref(), Some("drained by an operator"));
    assert_eq!(rig.handle.snapshot().overrides.backends[&name("web-1")].given.uid, Some(7));
    order(&rig, "web-1", BackendOrder::Enable).await;
    rig.report_all(true);
    rig.settle().await;
    assert!(rig.steered_to("web").contains(&target), "it has its number again");
    assert!(rig.handle.snapshot().overrides.is_empty());
}

#[tokio::test(start_paused = true)]
async fn drains_of_one_backend_in_two_pools_of_a_vip_last_as_long_as_its_flows() {
    let route = "pool = \"web\"\nsource_routes = [{ source = \"203.0.113.0/24\", pool = \"other\" }]\n";
    let pool =
        "[pool.other]\nbackends = [{ name = \"same\", address = \"10.0.0.1\" }]\n[pool.other.health]\ntype = \"tcp\"\n";
    let rig = Rig::serving(&format!("{}{pool}", TEXT.replacen("pool = \"web\"\n", route, 1))).await;
    remember(&rig, flow(&rig, "web", "web-1", 1));
    let same = BackendName { pool: "other".into(), name: "same".into() };
    rig.handle.drain(name("web-1"), None, None).await.unwrap();
    rig.handle.drain(same.clone(), None, None).await.unwrap();
    sleep(60 * SECOND).await;
    let drains = |rig: &Rig| rig.handle.snapshot().overrides.drains().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(drains(&rig), [same, name("web-1")]);
    close(&rig, 1);
    sleep(3 * SECOND).await;
    assert!(drains(&rig).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_at_its_deadline_whatever_is_left() {
    let rig = Rig::serving(TEXT).await;
    remember(&rig, flow(&rig, "web", "web-1", 1));
    rig.handle.drain(name("web-1"), Some(30 * SECOND), None).await.unwrap();
    sleep(28 * SECOND).await;
    assert_eq!(effect(&rig, "web-1"), Disposition::Draining);
    // Ordered again it lasts longer, and is the same drain.
    let begun = rig.handle.snapshot().overrides.drains().next().unwrap().1;
    rig.handle.drain(name("web-1"), Some(30 * SECOND), None).await.unwrap();
    let drain = rig.handle.snapshot().overrides.drains().next().unwrap().1;
    assert_eq!((drain.since, drain.flows), (begun.since, begun.flows));
    sleep(28 * SECOND).await;
    assert_eq!(effect(&rig, "web-1"), Disposition::Draining);
    sleep(4 * SECOND).await;
    assert_eq!((effect(&rig, "web-1"), state(&rig, "web-1")), (Disposition::Down, Some(StateOverride::Drained)));
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_end_before_the_tables_know_of_it() {
    let rig = Rig::serving(TEXT).await;
    rig.tables().broken = true;
    let ordered = rig.handle.drain(name("web-1"), None, None).await.unwrap();
    assert!(ordered.pending.is_some());
    sleep(20 * SECOND).await;
    assert_eq!(effect(&rig, "web-1"), Disposition::Serving);
    assert!(matches!(state(&rig, "web-1"), Some(StateOverride::Draining(_))));
    rig.tables().broken = false;
    sleep(60 * SECOND).await;
    assert_eq!(state(&rig, "web-1"), Some(StateOverride::Drained));
}

#[tokio::test(start_paused = true)]
async fn overrides_and_their_deadlines_survive_a_restart() {
    let top = tempfile::tempdir().unwrap();
    let folder = Folder::of(top.path(), Path::new("/sys/fs/bpf/lb"));
    let rig = Rig::kept(TEXT, folder).served().await;
    remember(&rig, flow(&rig, "web", "web-1", 1));
    rig.handle.drain(name("web-1"), Some(50 * SECOND), Some(7)).await.unwrap();
    order(&rig, "web-2", BackendOrder::Weigh(Some(7))).await;
    rig.handle.order(Order::DisableVip("dns".into()), None).await.unwrap();
    let before = rig.handle.snapshot();
    let rig = rig.restart(TEXT).await;
    let after = rig.handle.snapshot();
    let kept = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let deadlines = [&before, &after].map(|one| kept(one.overrides.drains().next().unwrap().1.deadline.unwrap()));
    assert_eq!(deadlines[0], deadlines[1]);
    assert_eq!(after.overrides.backends.keys().collect::<Vec<_>>(), [&name("web-1"), &name("web-2")]);
    assert!(after.overrides.vips.contains_key("dns"));
    rig.resolve_all();
    rig.settle().await;
    let (draining, weighed) = (backend(&rig, "web", "web-1"), backend(&rig, "web", "web-2"));
    assert_eq!((draining.effect, weighed.weight), (Disposition::Draining, 7));
    assert_eq!(rig.steered_to("dns").len(), 0);
    sleep(60 * SECOND).await;
    assert_eq!(state(&rig, "web-1"), Some(StateOverride::Drained));
}

#[tokio::test(start_paused = true)]
async fn overrides_that_cannot_be_read_or_kept_are_a_problem_and_no_more() {
    let top = tempfile::tempdir().unwrap();
    let folder = Folder::of(top.path(), Path::new("/sys/fs/bpf/lb"));
    let rig = Rig::kept(TEXT, folder.clone()).served().await;
    order(&rig, "web-1", BackendOrder::Disable).await;
    let file = folder.path().join("overrides.json");
    fs::write(&file, &fs::read(&file).unwrap()[..40]).unwrap();
    let rig = rig.restart(TEXT).await;
    rig.report_all(true);
    rig.settle().await;
    assert_eq!(effect(&rig, "web-1"), Disposition::Serving);
    let problems = rig.handle.snapshot().problems().join("\n");
    assert!(problems.contains(file.to_str().unwrap()), "{problems}");
    // The next ones are kept in its place.
    order(&rig, "web-1", BackendOrder::Disable).await;
    assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
    fs::remove_dir_all(folder.path()).unwrap();
    fs::write(folder.path(), "").unwrap();
    order(&rig, "web-2", BackendOrder::Disable).await;
    assert_eq!(effect(&rig, "web-2"), Disposition::Down);
    let problems = rig.handle.snapshot().problems().join("\n");
    assert!(problems.contains("would not survive a restart"), "{problems}");
    // Once there is a place for them again they are kept without another order.
    fs::remove_file(folder.path()).unwrap();
    sleep(61 * SECOND).await;
    assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
    let rig = rig.restart(TEXT).await;
    assert_eq!(state(&rig, "web-2"), Some(StateOverride::Disabled));
}

#[tokio::test(start_paused = true)]
async fn a_disabled_vip_serves_nobody_and_later_the_same_again() {
    let rig = Rig::serving(TEXT).await;
    let (before, entry) = (rig.tables().memory.clone(), flow(&rig, "web", "web-2", 1));
    remember(&rig, entry);
    let (key, others) = (rig.key("web"), rig.steered_to("web-v6"));
    let routes = |memory: &crate::dataplane::memory::Memory| -> Vec<Option<u32>> {
        (0..251).map(|slot| memory.route(&key, slot).map(|(id, _)| id)).collect()
    };
    rig.handle.order(Order::DisableVip("web".into()), Some(7)).await.unwrap();
    assert!(rig.steered_to("web").is_empty());
    assert_eq!(effect(&rig, "web-1"), Disposition::Down);
    assert_eq!(rig.steered_to("web-v6"), others);
    assert_eq!(backend(&rig, "web", "web-1").reason.as_deref(), Some("vip disabled by an operator"));
    // It is as was ordered, so nobody has to look.
    assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
    assert_eq!(rig.tables().memory.remembered().collect::<Vec<_>>(), [entry]);
    rig.handle.order(Order::EnableVip("web".into()), Some(7)).await.unwrap();
    assert_eq!(routes(&rig.tables().memory), routes(&before));
    assert_eq!(rig.tables().memory.remembered().collect::<Vec<_>>(), [entry]);
}

#[tokio::test(start_paused = true)]
async fn a_weight_takes_its_share_and_is_taken_back() {
    let rig = Rig::serving(TEXT).await;
    let slots = |rig: &Rig| {
        let (key, target) = (rig.key("web"), rig.target("web", "web-1"));
        let tables = rig.tables();
        (0..251).filter(|slot| tables.memory.route(&key, *slot).is_some_and(|(id, _)| id == target)).count()
    };
    let third = slots(&rig);
    assert!((80..88).contains(&third), "{third}");
    order(&rig, "web-1", BackendOrder::Weigh(Some(200))).await;
    assert!((122..129).contains(&slots(&rig)), "{}", slots(&rig));
    assert!((backend(&rig, "web", "web-1").share - 0.5).abs() < 1e-9);
    order(&rig, "web-1", BackendOrder::Weigh(None)).await;
    assert_eq!(slots(&rig), third);
}

#[tokio::test(start_paused = true)]
async fn overrides_stay_over_reloads_and_wait_for_what_is_gone() {
    let rig = Rig::serving(TEXT).await;
    order(&rig, "web-1", BackendOrder::Disable).await;
    rig.reload(config(&TEXT.replace("web-1", "web-9"))).await.unwrap();
    rig.report_all(true);
    rig.settle().await;
    let snapshot = rig.handle.snapshot();
    assert_eq!(snapshot.overrides.unmatched(&snapshot.desired).0, [&name("web-1")]);
    assert_eq!(snapshot.config, snapshot.desired);
    assert_eq!(effect(&rig, "web-9"), Disposition::Serving);
    rig.reload(config(TEXT)).await.unwrap();
    rig.settle().await;
    assert_eq!(effect(&rig, "web-1"), Disposition::Down);
    // What is gone can be taken back too.
    rig.reload(config(&TEXT.replace("web-1", "web-9"))).await.unwrap();
    order(&rig, "web-1", BackendOrder::Enable).await;
    assert!(rig.handle.snapshot().overrides.is_empty());
}

#[tokio::test(start_paused = true)]
async fn taking_the_last_backend_away_is_done_and_said() {
    let rig = Rig::serving(TEXT).await;
    for backend in ["web-1", "web-2"] {
        assert_eq!(order(&rig, backend, BackendOrder::Disable).await.warnings, Vec::<String>::new());
    }
    let warnings = rig.handle.drain(name("web-3"), None, None).await.unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("vip web has no serving backend left"), "{warnings:?}");
}

#[tokio::test(start_paused = true)]
async fn orders_of_what_there_is_not_change_nothing_and_name_what_there_is() {
    let rig = Rig::serving(TEXT).await;
    let applied = rig.tables().applied;
    let of = |pool: &str, name: &str| {
        Order::Backend(BackendName { pool: pool.into(), name: name.into() }, BackendOrder::Disable)
    };
    for (order, error) in [
        (of("wbe", "web-1"), "no pool wbe; did you mean web?"),
        (of("web", "web-11"), "no backend web/web-11; did you mean web-1?"),
        (of("web", "x"), "no backend web/x; there are: web-1, web-2, web-3"),
        (Order::DisableVip("wev".into()), "no vip wev; did you mean web?"),
        (Order::EnableVip("mail".into()), "no vip mail; there are: web, web-v6, dns"),
    ] {
        assert_eq!(rig.handle.order(order, None).await.unwrap_err().to_string(), error);
    }
    let refused = rig.handle.drain(name("none"), None, None).await.unwrap_err();
    assert!(matches!(refused, OrderError::NoBackend { .. }));
    assert_eq!(rig.tables().applied, applied);
    assert!(rig.handle.snapshot().overrides.is_empty());
}

#[tokio::test(start_paused = true)]
async fn flows_are_counted_once_a_second_at_most() {
    let rig = Rig::serving(TEXT).await;
    remember(&rig, flow(&rig, "web", "web-1", 1));
    rig.handle.drain(name("web-1"), None, None).await.unwrap();
    rig.settle().await;
    let before = rig.tables().flows_counted;
    sleep(60 * SECOND).await;
    let fast = rig.tables().flows_counted - before;
    assert!((55..=61).contains(&fast), "{fast}");
}
