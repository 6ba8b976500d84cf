//! Which program is in force, and when.

use std::{collections::BTreeMap, mem, sync::Arc};

use lb_common::maps::feature;

use super::{
    SECOND, refusal,
    rig::{Rig, TEXT, config},
};
use crate::{
    controller::{Refusal, chain},
    dataplane::kernel::Grip,
    model::{Config, DaemonLoss, HashMode},
    nexthop::Snapshot,
};

/// The plain configuration with one backend replaced, so that there are ops, and changed.
fn asked(backend: &str, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config(&TEXT.replace("10.0.0.2", backend));
    change(&mut config);
    config
}

fn hashes(config: &mut Config) {
    config.vips[0].hash = HashMode::SourceIp;
}

fn limits(config: &mut Config) {
    config.vips[0].max_new_flows_per_second = Some(1000);
}

/// Features of the programs that were put in force since this was last asked, and whether ops had been applied by then.
fn steps(rig: &Rig) -> Vec<(bool, u32)> {
    let mut tables = rig.tables();
    tables.applied = 0;
    mem::take(&mut tables.retuned).into_iter().map(|(applied, tuning)| (applied > 0, tuning.features)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_feature_is_there_before_it_is_needed_and_goes_after_it_was() {
    let rig = Rig::serving(TEXT).await;
    assert_eq!(steps(&rig), [], "the first configuration needs none");

    let done = rig.reload(asked("10.0.0.8", hashes)).await.unwrap();
    assert!(done.ops > 0);
    assert_eq!(steps(&rig), [(false, feature::HASHES)]);

    let done = rig.reload(asked("10.0.0.9", limits)).await.unwrap();
    assert!(done.ops > 0);
    let both = feature::HASHES | feature::NEW_FLOW_LIMIT;
    assert_eq!(steps(&rig), [(false, both), (true, feature::NEW_FLOW_LIMIT)]);

    let done = rig.reload(config(TEXT)).await.unwrap();
    assert!(done.ops > 0);
    assert_eq!(steps(&rig), [(true, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_needs_no_other_program_loads_none() {
    let rig = Rig::serving(TEXT).await;
    rig.reload(asked("10.0.0.8", hashes)).await.unwrap();
    steps(&rig);
    rig.reload(asked("10.0.0.9", hashes)).await.unwrap();
    rig.report_all(true);
    rig.settle().await;
    tokio::time::sleep(130 * SECOND).await;
    assert_eq!(steps(&rig), []);
    assert!(rig.tables().bound.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_feature_that_cannot_be_loaded_is_a_refusal_and_changes_nothing() {
    let rig = Rig::serving(TEXT).await;
    steps(&rig);
    rig.tables().refused_features = feature::NEW_FLOW_LIMIT;
    let refused = refusal(rig.reload(asked("10.0.0.8", limits)).await);
    assert!(matches!(refused, Refusal::Install(_)), "{refused:?}");
    assert_eq!(rig.tables().applied, 0);
    assert_eq!(rig.tables().tuning.features, 0);
    assert_eq!(*rig.handle.snapshot().config, config(TEXT));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_cannot_be_narrowed_goes_on_and_is_tried_again() {
    let rig = Rig::serving(TEXT).await;
    let both = asked("10.0.0.8", |config| {
        hashes(config);
        limits(config);
    });
    rig.reload(both).await.unwrap();
    steps(&rig);
    rig.tables().refused_features = feature::HASHES;
    let done = rig.reload(asked("10.0.0.9", hashes)).await.unwrap();
    let pending = done.pending.unwrap_or_default();
    assert!(pending.contains("the program cannot be replaced") && pending.contains("the kernel says no"), "{pending}");
    assert_eq!(rig.tables().tuning.features, feature::HASHES | feature::NEW_FLOW_LIMIT);
    rig.tables().refused_features = 0;
    tokio::time::sleep(60 * SECOND).await;
    assert!(rig.handle.snapshot().failing.is_none());
    assert_eq!(rig.tables().tuning.features, feature::HASHES);
}

#[tokio::test(start_paused = true)]
async fn interfaces_that_cannot_be_bound_leave_program_and_interfaces_as_they_were() {
    let rig = Rig::serving(TEXT).await;
    let before = rig.tables().tuning;
    let elsewhere = asked("10.0.0.8", |config| {
        hashes(config);
        config.dataplane.interfaces[0].name = "taken".into();
    });
    let refused = refusal(rig.reload(elsewhere).await);
    assert!(matches!(refused, Refusal::Install(_)), "{refused:?}");
    let tables = rig.tables();
    assert_eq!(tables.tuning, before);
    let bound: Vec<_> = tables.bound.iter().map(|interfaces| interfaces[0].name.as_str()).collect();
    assert_eq!(bound, ["taken", "eth0"]);
}

#[tokio::test(start_paused = true)]
async fn a_plan_refuses_interfaces_in_the_words_of_an_apply_and_nothing_is_tried() {
    let rig = Rig::serving(TEXT).await;
    let before = rig.tables().tuning;
    let missing = asked("10.0.0.8", |config| {
        hashes(config);
        config.dataplane.interfaces[0].name = "missing".into();
    });
    let none = asked("10.0.0.8", |config| config.dataplane.interfaces.clear());
    for (asked, words) in [(missing, "there is no interface missing"), (none, "it names no interface")] {
        let planned = chain(&refusal(rig.handle.preview(asked.clone()).await));
        let applied = chain(&refusal(rig.reload(asked).await));
        assert!(planned.contains(words), "{planned}");
        assert_eq!(planned, applied);
    }
    let tables = rig.tables();
    assert_eq!((tables.tuning, tables.bound.len()), (before, 0));
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_is_lost_meanwhile_keeps_nobody_from_other_changes() {
    let text = TEXT.replace("eth0", "missing");
    let rig = Rig::serving(&text).await;
    let other = config(&text.replace("10.0.0.2", "10.0.0.8"));
    assert!(rig.handle.preview(other.clone()).await.unwrap().differs);
    rig.reload(other).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn bonds_bring_their_feature_and_keep_it_while_nobody_has_looked() {
    let rig = Rig::serving(TEXT).await;
    steps(&rig);
    rig.hops.send_modify(|hops| {
        *hops = Arc::new(Snapshot { bonds: BTreeMap::from([(4, 9)]), ..Snapshot::clone(hops) });
    });
    rig.settle().await;
    assert_eq!(steps(&rig), [(false, feature::BONDS)]);

    // A daemon over tables that a program with bonds serves, before its first reports.
    let rig = rig.restart(TEXT).await;
    rig.settle().await;
    assert!(rig.handle.snapshot().settling);
    assert_eq!(rig.tables().tuning.features, feature::BONDS);
    rig.report_all(true);
    rig.settle().await;
    assert_eq!(rig.tables().tuning.features, 0, "there are none any more");
}

#[tokio::test(start_paused = true)]
async fn links_are_kept_otherwise_only_when_the_setting_says_so() {
    let rig = Rig::serving(TEXT).await;
    let with = |on_loss: DaemonLoss| {
        let mut config = config(TEXT);
        config.daemon.on_loss = on_loss;
        config
    };
    for on_loss in [DaemonLoss::Pass, DaemonLoss::Pass, DaemonLoss::Keep] {
        rig.reload(with(on_loss)).await.unwrap();
    }
    assert_eq!(rig.tables().grips, [Grip::Process, Grip::Pins]);
    assert!(rig.tables().bound.is_empty(), "nothing is attached anew");
    rig.tables().refused_seed = Some(7);
    let mut refused = with(DaemonLoss::Pass);
    refused.dataplane.hash_seed = 7;
    rig.reload(refused).await.unwrap_err();
    assert_eq!(rig.tables().grips.last(), Some(&Grip::Pins));
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_are_shown_each_second_to_a_program_that_asks_for_them() {
    let rig = Rig::serving(TEXT).await;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(rig.tables().beats, 0, "nobody asks for any");
    let mut withdraws = config(TEXT);
    withdraws.daemon.on_loss = DaemonLoss::Withdraw;
    rig.reload(withdraws).await.unwrap();
    assert_eq!(rig.tables().tuning.features, feature::WITHDRAW);
    tokio::time::sleep(20 * SECOND).await;
    let beats = rig.tables().beats;
    assert!((19..=21).contains(&beats), "{beats} in 20 s");
    rig.reload(config(TEXT)).await.unwrap();
    assert_eq!(rig.tables().tuning.features, 0);
    tokio::time::sleep(10 * SECOND).await;
    assert!(rig.tables().beats <= beats + 1);
}
