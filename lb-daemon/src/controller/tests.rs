//! The controller over tables in memory, with a paused clock.

mod adaptive;
mod agents;
mod converging;
mod ejections;
mod ended;
mod growth;
mod history;
mod limited;
mod overrides;
mod paced;
mod previewed;
mod program;
mod protected;
mod replaced;
pub(crate) mod rig;
mod together;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use self::rig::{Rig, TEXT, config};
use super::{Refusal, ReloadError, snapshot::BackendView};
use crate::{health::HealthView, nexthop::Unreachable, plan::wanted::Disposition};

const SECOND: Duration = Duration::from_secs(1);

fn backend(rig: &Rig, vip: &str, name: &str) -> BackendView {
    let snapshot = rig.handle.snapshot();
    let vip = snapshot.vips.iter().find(|view| view.name == vip).unwrap();
    vip.backends.iter().find(|view| view.name == name).unwrap().clone()
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, ReloadError>) -> Refusal {
    match outcome {
        Err(ReloadError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn asks_for_each_check_once_and_for_every_backends_next_hop() {
    let rig = Rig::new(TEXT);
    assert_eq!(rig.checks.borrow().len(), 6, "three backends, two VIPs; the pool of type none is not checked");
    assert_eq!(rig.hop_targets.borrow().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_is_gone_is_a_problem_where_programs_are_named() {
    let told = format!("[daemon.on_change]\nexec = [\"/bin/tell\"]\n{TEXT}");
    for (text, problems) in [(TEXT, 0), (&told, 1)] {
        let rig = Rig::serving(text).await;
        rig.runner_gone.send_replace(true);
        // Nothing else happens that would have it told.
        tokio::time::sleep(SECOND / 10).await;
        let found = rig.handle.snapshot().problems();
        assert_eq!(found.len(), problems, "{found:?}");
        assert!(found.iter().all(|one| one.contains("programs is gone") && one.ends_with("restart lb")), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_of_two_pools_is_checked_if_one_of_them_asks_for_it() {
    let routed = "port = 53\nsource_routes = [{ source = \"203.0.113.0/24\", pool = \"web\" }]";
    let rig = Rig::new(&TEXT.replace("10.0.1.1", "10.0.0.1").replace("port = 53", routed));
    assert_eq!(rig.checks.borrow().len(), 9, "the unchecked pool of a VIP takes no check from the one it is routed to");
}

#[tokio::test(start_paused = true)]
async fn empty_tables_wait_for_the_first_results_of_all() {
    let rig = Rig::new(TEXT);
    rig.resolve_all();
    rig.report("10.0.0.1", true);
    rig.report("10.0.0.2", true);
    rig.settle().await;
    assert_eq!(rig.tables().applied, 0, "the first to answer would have got all traffic");
    rig.report("10.0.0.3", false);
    rig.settle().await;
    assert_eq!(rig.handle.snapshot().applied, 1);
    assert_eq!(rig.steered_to("web").len(), 2);
    assert!(!rig.handle.snapshot().settling);
}

#[tokio::test(start_paused = true)]
async fn probes_by_the_vip_have_targets_at_once_and_clients_wait_for_all_results() {
    let rig = Rig::new(&TEXT.replace("probe = \"direct\"", "probe = \"vip\""));
    rig.resolve_all();
    rig.settle().await;
    assert_eq!((backend(&rig, "web", "web-1").target.is_some(), rig.steered_to("web").len()), (true, 0));
    for backend in ["10.0.0.1", "10.0.0.2"] {
        rig.report(backend, true);
        rig.settle().await;
        let snapshot = rig.handle.snapshot();
        assert_eq!((rig.steered_to("web").len(), snapshot.is_starting()), (0, true));
        assert!(snapshot.applied > 0 && snapshot.problems().is_empty(), "{:?}", snapshot.problems());
    }
    rig.report("10.0.0.3", true);
    rig.settle().await;
    assert_eq!((rig.steered_to("web").len(), rig.handle.snapshot().is_starting()), (3, false));
    // What comes later does not wait.
    rig.report("10.0.0.1", false);
    rig.settle().await;
    assert_eq!(rig.steered_to("web").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn empty_tables_do_not_wait_for_ever() {
    let start = Instant::now();
    let rig = Rig::new(TEXT);
    rig.resolve_all();
    rig.report("10.0.0.1", true);
    rig.until(start, SECOND).await;
    assert_eq!(rig.handle.snapshot().applied, 0);
    rig.until(start, SECOND * 2).await;
    assert_eq!(rig.handle.snapshot().applied, 1, "timeout and a half second later");
    assert_eq!(rig.steered_to("web").len(), 1);
    assert_eq!(backend(&rig, "web", "web-2").reason.as_deref(), Some("not checked yet"));
}

#[tokio::test(start_paused = true)]
async fn adopted_tables_keep_what_serves_until_its_first_result() {
    let rig = Rig::serving(TEXT).await;
    rig.report("10.0.0.3", false);
    rig.settle().await;
    let before = rig.tables().memory.clone();
    let applied = rig.tables().applied;
    let rig = rig.restart(TEXT).await;
    tokio::time::sleep(SECOND * 100).await;
    assert_eq!(rig.tables().applied, applied, "nobody has reported anything, so nothing may change");
    assert_eq!(rig.tables().memory.remembered().count(), before.remembered().count());
    assert_eq!(rig.steered_to("web").len(), 2);
    assert_eq!(rig.handle.snapshot().applied, 1);
    rig.report("10.0.0.1", false);
    rig.settle().await;
    assert_eq!(rig.steered_to("web"), [rig.target("web", "web-2")].into());
}

#[tokio::test(start_paused = true)]
async fn a_way_that_is_being_asked_for_stays_and_one_that_is_lost_goes() {
    let rig = Rig::serving(TEXT).await;
    let (neighbour, interface) = ("10.0.0.1".parse().unwrap(), String::from("eth0"));
    rig.lose("10.0.0.1", Unreachable::Unresolved { neighbour, interface: interface.clone() });
    rig.settle().await;
    assert_eq!(backend(&rig, "web", "web-1").effect, Disposition::Serving);
    rig.lose("10.0.0.1", Unreachable::Silent { neighbour, interface });
    rig.settle().await;
    let lost = backend(&rig, "web", "web-1");
    assert_eq!(lost.effect, Disposition::Down);
    assert_eq!(lost.reason.as_deref(), Some("10.0.0.1 on eth0 does not answer"));
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_results_makes_one_plan() {
    let rig = Rig::serving(TEXT).await;
    let (generation, observed) = (rig.handle.snapshot().applied, rig.tables().observed);
    for (backend, up) in [("10.0.0.1", false), ("10.0.0.2", false), ("10.0.0.1", true), ("10.0.0.3", false)] {
        rig.report(backend, up);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    rig.settle().await;
    assert_eq!(rig.handle.snapshot().applied, generation + 1);
    assert_eq!(rig.tables().observed, observed, "the plan is for two VIPs, of which all is known");
    assert_eq!(rig.steered_to("web"), [rig.target("web", "web-1")].into());
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_during_an_apply_is_shown_only_when_it_is_in_force() {
    let rig = Rig::serving(TEXT).await;
    let both_down = {
        rig.report("10.0.0.1", false);
        let mut view = HealthView::clone(&rig.health.borrow());
        view.iter_mut()
            .filter(|(check, _)| check.backend.to_string() == "10.0.0.2")
            .for_each(|(_, one)| one.up = false);
        Arc::new(view)
    };
    let health = rig.health.clone();
    rig.tables().meanwhile = Some(Box::new(move || drop(health.send_replace(both_down))));
    let mut snapshots = rig.handle.snapshots();
    snapshots.borrow_and_update();
    snapshots.changed().await.unwrap();
    let seen = |name| {
        let view = backend(&rig, "web", name);
        (view.up, view.effect)
    };
    let (serving, down) = ((Some(true), Disposition::Serving), (Some(false), Disposition::Down));
    assert_eq!([seen("web-1"), seen("web-2")], [down, serving]);
    rig.settle().await;
    assert_eq!([seen("web-1"), seen("web-2")], [down, down]);
}

#[tokio::test(start_paused = true)]
async fn what_others_change_is_put_right_within_a_minute() {
    let rig = Rig::serving(TEXT).await;
    let key = rig.key("dns");
    let applied = rig.tables().applied;
    crate::dataplane::Dataplane::apply(&mut rig.tables().memory, &crate::plan::Op::RemoveVip { key }).unwrap();
    assert_eq!(rig.steered_to("dns").len(), 0);
    // Plans for other VIPs don't put that off.
    for up in [false, true, false, true, false, true, true] {
        rig.report("10.0.0.3", up);
        tokio::time::sleep(SECOND * 9).await;
    }
    assert_eq!(rig.steered_to("dns").len(), 1);
    assert!(rig.tables().applied > applied);
}

#[tokio::test(start_paused = true)]
async fn a_failing_op_leaves_the_generation_and_is_tried_again_ever_more_seldom() {
    let rig = Rig::serving(TEXT).await;
    let generation = rig.handle.snapshot().applied;
    rig.tables().broken = true;
    let (start, applied) = (Instant::now(), rig.tables().applied);
    rig.report("10.0.0.1", false);
    for (seconds, attempts) in [(0.5, 1), (1.5, 2), (3.5, 3), (7.5, 4), (15.5, 5)] {
        rig.until(start, Duration::from_secs_f64(seconds)).await;
        assert_eq!(rig.tables().applied, applied + attempts, "after {seconds} s");
    }
    let snapshot = rig.handle.snapshot();
    assert_eq!(snapshot.applied, generation);
    assert_eq!(snapshot.failing.as_ref().unwrap().attempts, 5);
    assert_eq!(rig.steered_to("web").len(), 3, "what was applied before serves on");
    rig.tables().broken = false;
    rig.until(start, SECOND * 60).await;
    let snapshot = rig.handle.snapshot();
    assert_eq!((snapshot.applied, snapshot.failing.clone()), (generation + 1, None));
    assert_eq!(rig.steered_to("web").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_op_that_fails_in_the_middle_of_a_plan_is_made_up_for() {
    for after in 0..20 {
        let rig = Rig::serving(TEXT).await;
        rig.tables().memory.fail_after(after);
        let changed = TEXT.replace("10.0.0.2", "10.0.0.9").replace("name = \"web-v6\"\n", "name = \"other\"\n");
        let done = rig.reload(config(&changed)).await.unwrap();
        rig.report_all(true);
        tokio::time::sleep(SECOND * 5).await;
        let snapshot = rig.handle.snapshot();
        assert_eq!(snapshot.problems(), Vec::<String>::new(), "op {after}, {done:?}");
        assert_eq!(rig.steered_to("web").len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_numbers_and_brings_what_is_new() {
    let rig = Rig::serving(TEXT).await;
    let numbers = ["web-1", "web-3"].map(|name| rig.target("web", name));
    let changed = TEXT.replace("10.0.0.2", "10.0.0.9");
    let done = rig.reload(config(&changed)).await.unwrap();
    assert!(done.ops > 0 && done.pending.is_none(), "{done:?}");
    assert_eq!(rig.steered_to("web"), numbers.into(), "a new backend is not used before its first result");
    rig.report_all(true);
    rig.settle().await;
    assert_eq!(["web-1", "web-3"].map(|name| rig.target("web", name)), numbers);
    assert_eq!(rig.steered_to("web").len(), 3);
    let again = rig.reload(config(&changed)).await.unwrap();
    assert_eq!(again.ops, 0, "nothing differs");
}

#[tokio::test(start_paused = true)]
async fn a_refused_reload_changes_nothing_and_says_which_key_it_was() {
    let rig = Rig::serving(TEXT).await;
    let (applied, generation) = (rig.tables().applied, rig.handle.snapshot().applied);
    let fixed = format!("{}\n[api]\nsocket = \"/run/other.sock\"\n", TEXT.replace("10.0.0.1\"", "10.0.0.7\""));
    let refused = refusal(rig.reload(config(&fixed)).await).to_string();
    assert!(refused.contains("api.socket") && refused.contains("restart the daemon"), "{refused}");
    let snapshot = rig.handle.snapshot();
    assert_eq!((rig.tables().applied, snapshot.applied), (applied, generation));
    assert!(snapshot.last_reload.refused.is_some());
    assert_eq!(*snapshot.config, config(TEXT));
    rig.reload(config(TEXT)).await.unwrap();
    assert_eq!(rig.handle.snapshot().last_reload.refused, None);
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_takes_nothing_down() {
    let rig = Rig::serving(TEXT).await;
    let applied = rig.tables().applied;
    let refused = refusal(rig.reload(config("")).await);
    assert!(matches!(refused, Refusal::NoInterface), "{refused}");
    assert_eq!(rig.tables().applied, applied);
    assert_eq!(rig.tables().retuned, []);
    assert_eq!(rig.tables().bound, [[]; 0]);
    assert_eq!(*rig.handle.snapshot().config, config(TEXT));
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_is_lost_shows_and_is_bound_again_when_it_returns() {
    let rig = Rig::serving(TEXT).await;
    rig.tables().lost.insert("eth0".into(), 0);
    tokio::time::sleep(2 * SECOND).await;
    let snapshot = rig.handle.snapshot();
    assert_eq!(snapshot.attached, []);
    let message = snapshot.failing.as_ref().map(|failing| failing.message.clone()).unwrap_or_default();
    assert!(message.contains("no interface eth0"), "{message}");
    let attempts = snapshot.failing.as_ref().map(|failing| failing.attempts);
    assert!(attempts.is_some_and(|attempts| attempts < 4), "one that stays away is no reason to hurry: {attempts:?}");

    rig.tables().lost.insert("eth0".into(), 7);
    tokio::time::sleep(2 * SECOND).await;
    let snapshot = rig.handle.snapshot();
    assert_eq!(snapshot.attached.len(), 1);
    assert!(snapshot.failing.is_none());
}

#[tokio::test(start_paused = true)]
async fn new_settings_of_the_program_are_installed_and_old_ones_restored_if_that_fails() {
    let rig = Rig::serving(TEXT).await;
    let seeded = |seed: &str| config(&TEXT.replace("[dataplane]\n", &format!("[dataplane]\nhash_seed = \"{seed}\"\n")));
    rig.reload(seeded("0x1111")).await.unwrap();
    assert_eq!(rig.tables().tuning.hash_seed, 0x1111);
    assert!(rig.tables().bound.is_empty(), "the interfaces are the same");
    rig.tables().refused_seed = Some(0x2222);
    let refused = refusal(rig.reload(seeded("0x2222")).await);
    assert!(matches!(refused, Refusal::Install(_)), "{refused:?}");
    assert_eq!(rig.tables().tuning.hash_seed, 0x1111);
    assert_eq!(rig.tables().retuned.len(), 1);
    assert_eq!(rig.handle.snapshot().config.dataplane.hash_seed, 0x1111);
}

#[tokio::test(start_paused = true)]
async fn figures_never_go_backwards_when_a_backend_leaves_and_returns() {
    let rig = Rig::serving(TEXT).await;
    let service = rig.handle.snapshot().vips[0].service;
    let pair = (service, "10.0.0.2".parse().unwrap());
    let without = TEXT.replace("  { name = \"web-2\", address = \"10.0.0.2\" },\n", "");
    let (mut forwarded, mut of_vip, mut of_backend) = (0, 0, 0);
    for round in 1..=4 {
        rig.count(rig.target("web", "web-1"), 7);
        rig.count(rig.target("web", "web-2"), 10);
        for text in [&without, TEXT] {
            rig.reload(config(text)).await.unwrap();
            rig.report_all(true);
            rig.settle().await;
            let figures = rig.handle.figures().await.unwrap();
            let now = (figures.forwarded.packets, figures.vips[&service].packets, figures.backends[&pair].packets);
            assert!(now >= (forwarded, of_vip, of_backend), "{now:?}");
            (forwarded, of_vip, of_backend) = now;
        }
        assert_eq!((forwarded, of_vip, of_backend), (round * 17, round * 17, round * 10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fixed_gateway_needs_no_next_hops() {
    let text = TEXT.replace("[dataplane]\n", "[dataplane]\nnext_hop = \"02:00:00:00:00:07\"\n");
    let rig = Rig::new(&text);
    assert!(rig.hop_targets.borrow().is_empty());
    (1..=3).for_each(|number| rig.report(&format!("10.0.0.{number}"), true));
    rig.settle().await;
    assert_eq!(rig.steered_to("web").len(), 3);
    let view = backend(&rig, "dns", "dns-1");
    assert_eq!((view.next_hop, view.ifindex), (Some([2, 0, 0, 0, 0, 7]), 0));
}

#[tokio::test(start_paused = true)]
async fn says_why_a_backend_takes_nothing() {
    let text = TEXT
        .replace("{ name = \"web-1\"", "{ state = \"disabled\", name = \"web-1\"")
        .replace("{ name = \"web-2\"", "{ state = \"drain\", name = \"web-2\"");
    let rig = Rig::new(&text);
    rig.report_all(true);
    rig.settle().await;
    rig.report("10.0.0.3", false);
    rig.settle().await;
    let seen = ["web-1", "web-2", "web-3"].map(|name| backend(&rig, "web", name));
    assert_eq!(seen.clone().map(|view| view.effect), [Disposition::Down, Disposition::Draining, Disposition::Down]);
    let reasons = seen.map(|view| view.reason.unwrap());
    assert_eq!(reasons, ["disabled by the configuration", "drained by the configuration", "as the test says"]);
    assert_eq!(rig.handle.snapshot().problems().len(), 2, "two VIPs without a serving backend");
}

#[tokio::test(start_paused = true)]
async fn slots_that_change_hands_are_counted_and_those_of_a_first_ring_are_not() {
    let rig = Rig::serving(TEXT).await;
    let (web, dns) = (rig.key("web"), rig.key("dns"));
    let changed = async |key| {
        let figures = rig.handle.figures().await.unwrap();
        crate::plan::wanted::service(&key).and_then(|service| figures.changed_slots.get(&service).copied()).unwrap_or(0)
    };
    assert_eq!((changed(web).await, changed(dns).await), (0, 0));
    let route = |slot| rig.tables().memory.route(&web, slot).map(|(id, _)| id);
    let before: Vec<_> = (0..251).map(route).collect();
    rig.report("10.0.0.2", false);
    rig.settle().await;
    let moved = (0..251).zip(&before).filter(|(slot, before)| route(*slot) != **before).count() as u64;
    assert!((83..120).contains(&moved), "a third had to move, and hardly more: {moved}");
    assert_eq!((changed(web).await, changed(dns).await), (moved, 0));
    rig.report("10.0.0.2", true);
    rig.settle().await;
    assert_eq!(changed(web).await, 2 * moved, "it got its slots back");
    rig.report_all(false);
    rig.settle().await;
    assert_eq!(changed(web).await, 2 * moved + 251, "all of them lead nowhere now");
}
