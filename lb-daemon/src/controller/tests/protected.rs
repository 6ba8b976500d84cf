//! What is told of a VIP while many of its backends are down.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::sleep;

use super::{
    super::snapshot::VipView,
    backend,
    rig::{Rig, TEXT, config},
};
use crate::{
    health::{Standing, Status},
    nexthop::Unreachable,
    plan::wanted::Disposition,
};

/// The first VIP with these lines.
fn with(lines: &str) -> String {
    TEXT.replacen("name = \"web\"\naddress", &format!("name = \"web\"\n{lines}\naddress"), 1)
}

fn web(rig: &Rig) -> VipView {
    rig.handle.snapshot().vips.iter().find(|vip| vip.name == "web").unwrap().clone()
}

async fn report(rig: &Rig, backend: &str, up: bool) {
    rig.report(backend, up);
    rig.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_vip_with_too_few_healthy_backends_is_down_and_serves_on() {
    let rig = Rig::serving(&with("min_healthy = \"60%\"")).await;
    assert!(web(&rig).is_up());
    report(&rig, "10.0.0.1", false).await;
    assert!(web(&rig).is_up(), "two of three are what 60% asks for");
    report(&rig, "10.0.0.2", false).await;
    let vip = web(&rig);
    assert!(!vip.is_up());
    assert_eq!(vip.lacks().as_deref(), Some("1 of 3 backends healthy, min_healthy is 60%"));
    assert_eq!(rig.steered_to("web"), [rig.target("web", "web-3")].into(), "what it forwards does not change");
    let problems = rig.handle.snapshot().problems();
    assert_eq!(problems, ["vip web is down: 1 of 3 backends healthy, min_healthy is 60%"]);
    report(&rig, "10.0.0.1", true).await;
    assert_eq!((web(&rig).is_up(), rig.handle.snapshot().problems()), (true, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_healthy_backend_without_a_way_is_none() {
    let rig = Rig::serving(&with("min_healthy = 3")).await;
    let (neighbour, interface) = ("10.0.0.1".parse().unwrap(), String::from("eth0"));
    rig.lose("10.0.0.1", Unreachable::Silent { neighbour, interface });
    rig.settle().await;
    assert_eq!(web(&rig).lacks().as_deref(), Some("2 of 3 backends healthy, min_healthy is 3"));
}

#[tokio::test(start_paused = true)]
async fn a_vip_that_is_disabled_or_waits_is_not_told_to_lack_backends() {
    use crate::model::overrides::Order;
    let rig = Rig::serving(&with("min_healthy = 1")).await;
    rig.handle.order(Order::DisableVip("web".into()), None).await.unwrap();
    let vip = web(&rig);
    assert_eq!((vip.is_up(), vip.lacks(), vip.panic()), (false, None, None));
    let rig = Rig::new(&with("min_healthy = 1"));
    rig.settle().await;
    assert_eq!((web(&rig).is_up(), web(&rig).lacks()), (false, None), "first results are waited for");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_told_while_it_lasts() {
    let rig = Rig::serving(&with("panic_threshold = \"60%\"")).await;
    report(&rig, "10.0.0.1", false).await;
    assert_eq!((web(&rig).panic(), rig.steered_to("web").len()), (None, 2));
    report(&rig, "10.0.0.2", false).await;
    let vip = web(&rig);
    assert_eq!(vip.panic().as_deref(), Some("panic: 1 of 3 backends up, all used"));
    assert_eq!(rig.steered_to("web").len(), 3);
    assert_eq!(rig.handle.snapshot().problems(), ["vip web is in panic: 1 of 3 backends up, all used"]);
    let reason = backend(&rig, "web", "web-1").reason.unwrap();
    assert_eq!(reason, "check fails (as the test says), used since too few backends are up");
    report(&rig, "10.0.0.2", true).await;
    assert_eq!((web(&rig).panic(), rig.steered_to("web").len()), (None, 2));
}

/// The numbers of those of ten that new flows come to.
fn used(rig: &Rig) -> Vec<u32> {
    let found: BTreeSet<u32> = slots(rig).into_iter().flatten().collect();
    (1..=10).filter(|number| found.contains(&rig.target("web", &format!("b{number}")))).collect()
}

/// How it is with a backend whose check begins as down.
fn presumed() -> Standing {
    let status = Status { last: "not checked yet".into(), ..Status::default() };
    Standing { reason: status.last.clone(), checks: [("one".into(), status)].into(), ..Standing::default() }
}

#[tokio::test(start_paused = true)]
async fn backends_that_a_reload_adds_make_no_panic_and_are_not_used_by_one() {
    for begins_down in [false, true] {
        let all = ten("", "panic_threshold = \"50%\"");
        let is_new = |line: &str| (4..=10).any(|number| line.contains(&format!("\"b{number}\"")));
        let few: Vec<&str> = all.lines().filter(|line| !is_new(line)).collect();
        let rig = Rig::serving(&few.join("\n")).await;
        rig.reload(config(&all)).await.unwrap();
        rig.resolve_all();
        for number in (4..=10).filter(|_| begins_down) {
            rig.report_as(&format!("10.0.0.{number}"), &presumed());
        }
        sleep(SECOND * 6).await;
        assert_eq!((used(&rig), web(&rig).panic()), (vec![1, 2, 3], None), "{begins_down}");
        for number in 4..=7 {
            assert_eq!((used(&rig), web(&rig).panic()), (vec![1, 2, 3], None), "{number} is not heard of yet");
            report(&rig, &format!("10.0.0.{number}"), false).await;
        }
        assert_eq!(web(&rig).panic().as_deref(), Some("panic: 3 of 7 backends up, all used"));
        assert_eq!(used(&rig), [1, 2, 3, 4, 5, 6, 7], "{begins_down}");
        report(&rig, "10.0.0.8", true).await;
        assert_eq!((used(&rig), web(&rig).panic()), (vec![1, 2, 3, 8], None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_whose_checks_begin_as_down_uses_all_that_served() {
    let text = ten("", "panic_threshold = \"50%\"");
    let rig = Rig::serving(&text).await.restart(&text).await;
    rig.resolve_all();
    (1..=10).for_each(|number| rig.report_as(&format!("10.0.0.{number}"), &presumed()));
    rig.settle().await;
    assert_eq!(web(&rig).panic().as_deref(), Some("panic: 0 of 10 backends up, all used"));
    assert_eq!(used(&rig), (1..=10).collect::<Vec<_>>());
    for number in 1..=5 {
        report(&rig, &format!("10.0.0.{number}"), true).await;
    }
    assert_eq!((used(&rig), web(&rig).panic()), (vec![1, 2, 3, 4, 5], None));
}

/// How it is with a backend whose check could never be made.
fn unknown() -> Standing {
    let status = Status { last: "cannot be run".into(), unknown: true, ..Status::default() };
    Standing { reason: status.last.clone(), checks: [("one".into(), status)].into(), ..Standing::default() }
}

#[tokio::test(start_paused = true)]
async fn backends_serve_on_whose_new_check_cannot_be_made_and_others_do_not_begin() {
    let all = ten("", "panic_threshold = \"50%\"");
    let few: Vec<&str> = all.lines().filter(|line| !line.contains("\"b10\"")).collect();
    let rig = Rig::serving(&few.join("\n")).await;
    report(&rig, "10.0.0.9", false).await;
    rig.reload(config(&all)).await.unwrap();
    rig.resolve_all();
    (1..=10).for_each(|number| rig.report_as(&format!("10.0.0.{number}"), &unknown()));
    sleep(SECOND * 6).await;
    assert_eq!((used(&rig), web(&rig).panic()), ((1..=8).collect(), None));
    let of = |number: u32| backend(&rig, "web", &format!("b{number}"));
    assert_eq!(
        (of(1).reason, of(9).reason.as_deref(), of(10).reason.as_deref()),
        (None, Some("cannot be run"), Some("cannot be run"))
    );
    assert_eq!(rig.handle.snapshot().problems(), [""; 0], "what is hindered is told apart");
    // Once it can be made it counts.
    report(&rig, "10.0.0.1", false).await;
    report(&rig, "10.0.0.10", true).await;
    assert_eq!(used(&rig), [2, 3, 4, 5, 6, 7, 8, 10]);
}

#[tokio::test(start_paused = true)]
async fn before_first_results_of_probes_by_the_vip_nobody_panics() {
    let text = TEXT.replace("probe = \"direct\"", "probe = \"vip\"");
    let rig = Rig::new(&text.replace("name = \"web\"", "name = \"web\"\npanic_threshold = \"60%\""));
    rig.resolve_all();
    rig.settle().await;
    assert_eq!((backend(&rig, "web", "web-1").target.is_some(), rig.steered_to("web").len()), (true, 0));
    for (backend, used) in [("10.0.0.1", 0), ("10.0.0.2", 0), ("10.0.0.3", 3)] {
        rig.report(backend, backend == "10.0.0.3");
        rig.settle().await;
        assert_eq!(rig.steered_to("web").len(), used, "{backend}");
    }
}

/// A pool of ten, with these keys of the pool and the VIP.
pub(super) fn ten(pool: &str, vip: &str) -> String {
    let backend = |number| format!("{{ name = \"b{number}\", address = \"10.0.0.{number}\" }},\n");
    let backends = (1..=10).map(backend).collect::<Vec<_>>().concat();
    format!(
        "[dataplane]\ninterfaces = [\"eth0\"]\nring_size = 1009\n[pool.web]\nbackends = [{backends}]\n{pool}\n\
         [pool.web.health]\ntype = \"tcp\"\n[[vip]]\nname = \"web\"\naddress = \"192.0.2.10\"\nport = 80\n\
         protocol = \"tcp\"\npool = \"web\"\n{vip}\n"
    )
}

pub(super) const LIMITED: &str = "max_ring_change = \"10%\"\nmax_ring_change_per = \"10s\"";
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Where the slots lead, as a packet would meet them.
pub(super) fn slots(rig: &Rig) -> Vec<Option<u32>> {
    let key = rig.key("web");
    let tables = rig.tables();
    (0..1009).map(|slot| tables.memory.route(&key, slot).map(|(id, _)| id)).collect()
}

pub(super) fn moved(before: &[Option<u32>], after: &[Option<u32>]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

/// Lets so many seconds pass, and returns the slots that moved in each.
pub(super) async fn watch(rig: &Rig, seconds: usize) -> Vec<usize> {
    let mut moves = Vec::new();
    let mut before = slots(rig);
    for _ in 0..seconds {
        sleep(SECOND).await;
        let after = slots(rig);
        moves.push(moved(&before, &after));
        before = after;
    }
    moves
}

pub(super) fn worst_of_ten(moves: &[usize]) -> usize {
    moves.windows(10).map(|window| window.iter().sum()).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn many_that_fail_at_once_leave_the_ring_at_its_pace() {
    let rig = Rig::serving(&ten("", LIMITED)).await;
    sleep(SECOND / 2).await;
    let before = slots(&rig);
    for number in 1..=5 {
        rig.report(&format!("10.0.0.{number}"), false);
    }
    rig.settle().await;
    let first = moved(&before, &slots(&rig));
    assert!((60..=100).contains(&first), "{first} slots of the 100 that may");
    let held = backend(&rig, "web", "b3");
    assert_eq!((held.up, held.effect), (Some(false), Disposition::Serving));
    assert_eq!(held.reason.as_deref(), Some("check fails (as the test says)"));
    assert_eq!(held.waits.unwrap().why, "waits: ring budget");
    assert_eq!(backend(&rig, "web", "b7").waits, None);
    let moves = watch(&rig, 120).await;
    assert!(worst_of_ten(&moves) <= 100, "{moves:?}");
    let alive: BTreeSet<u32> = (6..=10).map(|number| rig.target("web", &format!("b{number}"))).collect();
    assert_eq!(slots(&rig).into_iter().flatten().collect::<BTreeSet<_>>(), alive);
    assert_eq!(backend(&rig, "web", "b3").effect, Disposition::Down);
    assert_eq!(watch(&rig, 120).await.iter().sum::<usize>(), 0, "it is where it should be");
}

#[tokio::test(start_paused = true)]
async fn what_operators_files_and_the_kernel_change_is_not_limited() {
    use crate::model::overrides::{BackendName, BackendOrder, Order};
    let rig = Rig::serving(&ten("", LIMITED)).await;
    let name = |name: &str| BackendName { pool: "web".into(), name: name.into() };
    for number in 1..=3 {
        let order = Order::Backend(name(&format!("b{number}")), BackendOrder::Disable);
        rig.handle.order(order, None).await.unwrap();
    }
    let (neighbour, interface) = ("10.0.0.4".parse().unwrap(), String::from("eth0"));
    rig.lose("10.0.0.4", Unreachable::Silent { neighbour, interface });
    rig.settle().await;
    let serving = |rig: &Rig| slots(rig).into_iter().flatten().collect::<BTreeSet<_>>().len();
    assert_eq!(serving(&rig), 6);
    rig.reload(config(&ten("", LIMITED).replace("{ name = \"b5\", address = \"10.0.0.5\" },", ""))).await.unwrap();
    assert_eq!(serving(&rig), 5);
    rig.report("10.0.0.6", false);
    rig.settle().await;
    assert_eq!(serving(&rig), 5, "what health does is limited: a tenth of the fifth that it has");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_returns_starts_slowly_in_all_vips_of_its_pool_at_once() {
    let other = "[[vip]]\nname = \"other\"\naddress = \"192.0.2.11\"\nport = 80\nprotocol = \"tcp\"\npool = \"web\"";
    let rig = Rig::serving(&ten("slow_start = \"20s\"", other)).await;
    rig.report("10.0.0.1", false);
    rig.settle().await;
    assert_eq!(backend(&rig, "web", "b1").effect, Disposition::Down, "down is at once");
    let applied = rig.handle.snapshot().applied;
    rig.report("10.0.0.1", true);
    rig.settle().await;
    let target = rig.target("web", "b1");
    let own = || slots(&rig).into_iter().filter(|slot| *slot == Some(target)).count();
    assert_eq!(backend(&rig, "web", "b1").waits.unwrap().why, "slow start, 5% of its weight");
    assert!((backend(&rig, "other", "b1").share - 0.05 / 9.05).abs() < 1e-4);
    let mut shares = vec![own()];
    for _ in 0..22 {
        sleep(SECOND).await;
        shares.push(own());
    }
    assert!(shares.is_sorted(), "{shares:?}");
    assert!(shares[0] <= 6 && *shares.last().unwrap() >= 100, "{shares:?}");
    assert_eq!(rig.handle.snapshot().applied, applied + 20, "a plan for each step, of both VIPs together");
    assert_eq!(backend(&rig, "web", "b1").waits, None);
}

#[tokio::test(start_paused = true)]
async fn a_ring_under_way_is_no_difference_and_a_changed_one_is_told_as_it_will_be() {
    let text = ten("slow_start = \"20s\"", LIMITED);
    let rig = Rig::serving(&text).await;
    report(&rig, "10.0.0.1", false).await;
    sleep(SECOND * 11).await;
    report(&rig, "10.0.0.1", true).await;
    for number in 2..=5 {
        rig.report(&format!("10.0.0.{number}"), false);
    }
    rig.settle().await;
    for second in 0..30 {
        let told = rig.handle.preview(config(&text)).await.unwrap();
        assert!(!told.differs && told.slots.moved == 0, "after {second} s: {told:?}");
        sleep(SECOND).await;
    }
    let other = text.replace("address = \"10.0.0.9\"", "address = \"10.0.0.9\", weight = 50");
    let told = rig.handle.preview(config(&other)).await.unwrap();
    let whole = "taken to have what their slow start or the ring's budget will come to";
    assert!(told.differs && told.assumptions.iter().any(|line| line.ends_with(whole)), "{told:?}");
    let b5 = told.vips[0].backends.iter().find(|backend| backend.name == "b5").unwrap();
    assert!(b5.share_before > 0.0 && b5.share_after == 0.0, "{b5:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_the_tables_are() {
    let text = ten("slow_start = \"20s\"", LIMITED);
    let rig = Rig::serving(&text).await;
    for number in 1..=5 {
        rig.report(&format!("10.0.0.{number}"), false);
    }
    rig.settle().await;
    let before = slots(&rig);
    let health = rig.health.borrow().clone();
    let rig = rig.restart(&text).await;
    rig.resolve_all();
    rig.settle().await;
    let rounded = moved(&before, &slots(&rig));
    assert!(rounded <= 20, "{rounded} slots, although nobody has reported yet");
    rig.health.send_replace(health);
    rig.settle().await;
    let went = moved(&before, &slots(&rig));
    assert!(went <= 110, "{went} slots");
    let moves = watch(&rig, 120).await;
    assert!(worst_of_ten(&moves) <= 100, "{moves:?}");
    assert_eq!(slots(&rig).into_iter().flatten().collect::<BTreeSet<_>>().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_ring_without_a_healthy_backend_stays_and_says_so() {
    let rig = Rig::serving(&ten("", LIMITED)).await;
    let before = slots(&rig);
    rig.report_all(false);
    rig.settle().await;
    assert_eq!(slots(&rig), before);
    assert_eq!(rig.handle.snapshot().problems(), ["vip web is down: none of 10 backends healthy"]);
    assert!(!web(&rig).is_up());
    assert_eq!(backend(&rig, "web", "b1").waits.unwrap().why, "kept in the ring since nobody may take over");
}
