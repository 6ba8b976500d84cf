//! The controller over the kernel's tables: a program of its own for what a configuration needs.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use lb_common::{
    layout::flow::{FlowEntry, FlowState},
    maps::{self, feature},
};
use lb_daemon::{
    config::{self, Bundle},
    controller::{
        Asked, By, Controller, Handle, ReloadError, Reloaded, Terms, Wires, engine, history::History,
        overrides::Keeper, tuning::tuning,
    },
    dataplane::{
        flows::Liveness,
        kernel::{Kernel, Options},
    },
    health::HealthView,
    model::{AttachMode, Config, HashMode, Interface, SourceLimit},
    state::Origin,
};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    ops::{bucket, bytes, update},
    place::{FLOW_ENTRIES, Net, Place, run},
};

const TEXT: &str = r#"
[dataplane]
interfaces = ["lbx0"]
next_hop = "02:00:00:00:00:07"
flow_table_entries = 4096
ring_size = 251

[pool.web]
backends = [{ name = "web-1", address = "10.0.0.1" }, { name = "web-2", address = "10.0.0.2" }]
[pool.web.health]
type = "none"

[[vip]]
name = "web"
address = "192.0.2.10"
port = 80
protocol = "tcp"
pool = "web"
"#;

fn parsed() -> Config {
    config::parse(TEXT, "lb.toml").unwrap()
}

fn changed(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = parsed();
    change(&mut config);
    config
}

/// A daemon's controller over this place's tables, with no checks and one gateway.
fn start(place: &Place, config: Config) -> (Handle, JoinHandle<()>) {
    assert_eq!(config.dataplane.flow_table_entries, FLOW_ENTRIES);
    let mut kernel = Kernel::open(&Options { tuning: tuning(&config), ..place.options() }).unwrap();
    let attached = engine::attach(&mut kernel, &config.dataplane).unwrap();
    let (ways, _) = watch::channel(Arc::default());
    let (checks, _) = watch::channel(Arc::default());
    let (_, health) = watch::channel(Arc::new(HealthView::new()));
    let (ejections, _) = watch::channel(Arc::default());
    let (hop_targets, _) = watch::channel(BTreeSet::new());
    let (_, hops) = watch::channel(Arc::default());
    let state_dir = tempfile::tempdir().unwrap();
    let (history, config) = History::begin(state_dir.path(), Path::new("/none"), &texts(&config), config);
    let (controller, handle) = Controller::new(
        kernel,
        config,
        history,
        attached,
        Keeper::default(),
        Wires {
            checks,
            ways,
            health,
            hindered: watch::channel(Arc::default()).1,
            ejections,
            hop_targets,
            hops,
            has_runner: false,
            runner_gone: watch::channel(false).1,
        },
    )
    .unwrap();
    let running = async move {
        controller.run().await;
        drop(state_dir);
    };
    (handle, tokio::spawn(running))
}

/// Texts that are as different as the configurations.
fn texts(config: &Config) -> Bundle {
    Bundle::of("/lb.toml", format!("{config:?}"))
}

async fn reload(handle: &Handle, config: Config) -> Result<Reloaded, ReloadError> {
    let bundle = texts(&config);
    handle.change(Asked { config, bundle, by: By::default(), origin: Origin::Reload, terms: Terms::default() }).await
}

/// Numbers of the pinned program and of the one that the link runs, which are the same.
fn program(place: &Place) -> u64 {
    let (pinned, link) = (place.id("prog", "prog"), place.bpftool("link", "link-lbx0"));
    assert_eq!(link["prog_id"], pinned);
    pinned
}

#[tokio::test]
async fn a_reload_replaces_the_program_when_it_needs_another_and_keeps_flows_and_counters() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let (handle, task) = start(&place, parsed());
    // Its first commands wait until the first state is applied.
    handle.ping().await.unwrap();
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.applied, snapshot.problems()), (1, vec![]));
    let target = snapshot.vips[0].backends[0].target.unwrap();
    // As old as any other moment makes it, the sweep would empty it.
    let flow = FlowEntry::new(7, target, Liveness::now(7).now, FlowState::Established).0;
    update(&place, maps::FLOWS, 0, &bucket([flow, 0, 0, 0, 0, 0, 0, 0]));
    update(&place, maps::TARGET_COUNTERS, target, &bytes(&[1, 2, 3, 4, 5, 6, 7, 8, 9]));
    let (first, link) = (program(&place), place.id("link", "link-lbx0"));
    let figures = handle.figures().await.unwrap();
    assert!(figures.forwarded.packets > 0);

    // Only the tables change.
    let other = |config: &mut Config| config.pools.get_mut("web").unwrap().backends[1].weight = 0;
    assert!(reload(&handle, changed(other)).await.unwrap().ops > 0);
    assert_eq!(program(&place), first);

    let hashed = |config: &mut Config| {
        other(config);
        config.vips[0].hash = HashMode::SourceIp;
        config.dataplane.access.deny = vec!["203.0.113.0/24".parse().unwrap()];
    };
    reload(&handle, changed(hashed)).await.unwrap();
    let second = program(&place);
    assert_ne!(second, first);
    reload(&handle, changed(hashed)).await.unwrap();
    assert_eq!(program(&place), second, "the same again");

    // Another size of a table that packets alone use.
    let limited = |config: &mut Config| {
        let limit = SourceLimit {
            packets_per_second: Some(1),
            new_flows_per_second: None,
            prefix_v4: 32,
            prefix_v6: 64,
            entries: 64,
        };
        config.dataplane.source_limit = Some(limit);
    };
    reload(&handle, changed(limited)).await.unwrap();
    assert_ne!(program(&place), second);
    assert_eq!(place.bpftool("map", "maps/SOURCES")["max_entries"], 32);
    assert_eq!(place.id("link", "link-lbx0"), link, "the link was made anew");

    let after = handle.figures().await.unwrap();
    assert_eq!(after.forwarded, figures.forwarded);
    assert_eq!(handle.flows().await.unwrap().by_state[FlowState::Established as usize], 1);
    handle.stop().await;
    task.await.unwrap();
}

#[tokio::test]
async fn a_restart_with_another_file_loads_what_that_needs_and_no_more() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let limited = |config: &mut Config| config.vips[0].max_new_flows_per_second = Some(10);
    let (handle, task) = start(&place, changed(limited));
    handle.ping().await.unwrap();
    handle.stop().await;
    task.await.unwrap();
    let untracked = |config: &mut Config| config.vips[0].flow_tracking = lb_daemon::model::FlowTracking::Off;
    let (handle, task) = start(&place, changed(untracked));
    handle.ping().await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(handle.snapshot().problems(), Vec::<String>::new());
    handle.stop().await;
    task.await.unwrap();
    let kernel = Kernel::open(&Options { tuning: tuning(&changed(untracked)), ..place.options() }).unwrap();
    assert_eq!(kernel.tuning().features, feature::HASHES);
}

#[test]
fn a_program_that_one_link_does_not_take_is_on_none() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = Kernel::open(&place.options()).unwrap();
    let interfaces = [Interface { name: "lbx0".into(), mode: AttachMode::Native }];
    kernel.attach(&interfaces).unwrap();
    let (before, names) = (program(&place), place.names());
    // What is no link stands for one that refuses; it comes after the other.
    let odd = place.path.join("link-other");
    let map = ["type", "array", "key", "4", "value", "4", "entries", "1", "name", "other"];
    run("bpftool", &[["map", "create", odd.to_str().unwrap()].as_slice(), &map].concat());
    let other = maps::Tuning { source_line_mask: 63, features: feature::ACL, ..place.options().tuning };
    assert!(kernel.retune(&other).is_err());
    assert_eq!(program(&place), before, "what ran before runs on");
    assert_eq!(*kernel.tuning(), place.options().tuning);
    assert_eq!(place.bpftool("map", "maps/SOURCES")["max_entries"], 1, "its table too");
    fs::remove_file(&odd).unwrap();
    assert_eq!(place.names(), names, "nothing is left of the other");
    kernel.retune(&other).unwrap();
    assert_ne!(program(&place), before);
}
