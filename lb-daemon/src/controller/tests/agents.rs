//! What agents want of backends that are up.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    backend,
    protected::{LIMITED, moved, slots, ten, watch, worst_of_ten},
    rig::{Rig, config},
};
use crate::{
    health::{Heard, Standing, Status, agent::Said},
    plan::wanted::Disposition,
};

const AGENT: &str = "agent = { port = 9707 }";

/// How it is with a backend whose checks pass and whose agent says this.
fn saying(line: &str) -> Standing {
    let mut agent = Heard { status: Status { up: true, ..Status::default() }, ..Heard::default() };
    agent.word.take(&Said::read(line.as_bytes()).unwrap());
    let (up, permille) = (!agent.word.takes_down(), agent.word.permille());
    let reason = if up { "200 OK".into() } else { format!("agent: {}", agent.word) };
    Standing { up, permille, reason, agent: Some(agent), ..Standing::default() }
}

async fn say(rig: &Rig, numbers: impl IntoIterator<Item = u32>, line: &str) {
    for number in numbers {
        rig.report_as(&format!("10.0.0.{number}"), &saying(line));
    }
    rig.settle().await;
}

fn own(rig: &Rig, name: &str) -> usize {
    let target = rig.target("web", name);
    slots(rig).into_iter().filter(|slot| *slot == Some(target)).count()
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_weight_is_in_force_at_once_and_told() {
    let rig = Rig::serving(&ten(AGENT, "")).await;
    assert!((100..=102).contains(&own(&rig, "b1")));
    say(&rig, [1], "25%").await;
    // A quarter of a backend among nine whole ones, of 1009 slots.
    assert!((26..=29).contains(&own(&rig, "b1")), "{}", own(&rig, "b1"));
    let told = backend(&rig, "web", "b1");
    assert_eq!((told.effect, told.up, told.reason.as_deref()), (Disposition::Serving, Some(true), Some("agent: 25%")));
    assert!((told.share - 0.25 / 9.25).abs() < 1e-9, "{}", told.share);
    say(&rig, [1], "drain").await;
    let told = backend(&rig, "web", "b1");
    assert_eq!((told.effect, told.reason.as_deref()), (Disposition::Draining, Some("agent: drain")));
    assert_eq!((own(&rig, "b1"), told.up, told.last_check.as_str()), (0, Some(true), "200 OK"));
    say(&rig, [1], "down #disk full").await;
    let told = backend(&rig, "web", "b1");
    assert_eq!((told.effect, told.reason.as_deref()), (Disposition::Down, Some("agent: down (#disk full)")));
    say(&rig, [1], "ready").await;
    let told = backend(&rig, "web", "b1");
    assert_eq!((told.effect, told.reason), (Disposition::Serving, None));
    assert!((100..=102).contains(&own(&rig, "b1")));
}

#[tokio::test(start_paused = true)]
async fn agents_that_turn_at_once_move_no_more_than_may() {
    let rig = Rig::serving(&ten(AGENT, LIMITED)).await;
    sleep(Duration::from_millis(500)).await;
    let before = slots(&rig);
    say(&rig, 1..=5, "1%").await;
    let first = moved(&before, &slots(&rig));
    assert!((60..=100).contains(&first), "{first} slots of the 100 that may");
    let told = backend(&rig, "web", "b3");
    assert_eq!((told.reason.as_deref(), told.waits), (Some("agent: 1%"), None), "it has more than its share, not less");
    let moves = watch(&rig, 120).await;
    assert!(worst_of_ten(&moves) <= 100, "{moves:?}");
    assert!((1..=4).contains(&own(&rig, "b3")), "{}", own(&rig, "b3"));
    // All of them: nobody is better off than the others.
    let before = slots(&rig);
    say(&rig, 6..=10, "1%").await;
    let moves = watch(&rig, 120).await;
    assert!(moved(&before, &slots(&rig)) > 300 && worst_of_ten(&moves) <= 100, "{moves:?}");
    assert!((100..=102).contains(&own(&rig, "b3")), "{}", own(&rig, "b3"));
}

#[tokio::test(start_paused = true)]
async fn where_all_agents_drain_a_limited_ring_stays_and_another_is_empty() {
    let rig = Rig::serving(&ten(AGENT, LIMITED)).await;
    let before = slots(&rig);
    say(&rig, 1..=10, "drain").await;
    let moves = watch(&rig, 60).await;
    assert_eq!((slots(&rig), moves.iter().sum::<usize>()), (before, 0));
    let told = backend(&rig, "web", "b1");
    assert_eq!((told.effect, told.reason.as_deref()), (Disposition::Serving, Some("agent: drain")));
    assert_eq!(told.waits.unwrap().why, "kept in the ring since nobody may take over");
    assert_eq!(rig.handle.snapshot().problems(), ["vip web is down: none of 10 backends healthy"]);

    let rig = Rig::serving(&ten(AGENT, "")).await;
    say(&rig, 1..=10, "drain").await;
    assert!(slots(&rig).iter().all(Option::is_none));
    assert_eq!(rig.handle.snapshot().problems(), ["vip web has no serving backend"]);
    assert_eq!(backend(&rig, "web", "b1").effect, Disposition::Draining);
}

#[tokio::test(start_paused = true)]
async fn too_many_that_drain_are_a_panic_where_that_is_asked_for() {
    let rig = Rig::serving(&ten(AGENT, "panic_threshold = \"50%\"\nmin_healthy = \"50%\"")).await;
    say(&rig, 1..=6, "drain").await;
    let told = backend(&rig, "web", "b1");
    assert_eq!(told.effect, Disposition::Serving);
    assert_eq!(told.reason.as_deref(), Some("agent: drain, used since too few backends are up"));
    assert!((told.share - 0.1).abs() < 1e-9, "{}", told.share);
    say(&rig, [1], "25% down").await;
    let told = backend(&rig, "web", "b1");
    assert_eq!(told.reason.as_deref(), Some("check fails (agent: 25% down), used since too few backends are up"));
    assert!((told.share - 0.1).abs() < 1e-9 && (100..=102).contains(&own(&rig, "b1")), "whole: {}", told.share);
    let problems = rig.handle.snapshot().problems();
    let lacks = "vip web is down: 4 of 10 backends healthy, min_healthy is 50%";
    assert_eq!(problems, [lacks, "vip web is in panic: 4 of 10 backends up, all used"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_ready_again_starts_slowly_and_keeps_to_its_part() {
    let rig = Rig::serving(&ten(&format!("{AGENT}\nslow_start = \"20s\""), "")).await;
    say(&rig, [1], "50% drain").await;
    assert_eq!(own(&rig, "b1"), 0);
    say(&rig, [1], "50% ready").await;
    let told = backend(&rig, "web", "b1");
    assert_eq!(told.reason.as_deref(), Some("agent: 50%"));
    assert!(own(&rig, "b1") <= 4 && told.waits.unwrap().why.starts_with("slow start"), "{}", own(&rig, "b1"));
    watch(&rig, 25).await;
    assert!((52..=54).contains(&own(&rig, "b1")), "half of a weight among nine whole ones: {}", own(&rig, "b1"));
    say(&rig, [1], "100% ready").await;
    watch(&rig, 2).await;
    assert!((100..=102).contains(&own(&rig, "b1")), "it serves already: a step or two, and no slow start");
}

#[tokio::test(start_paused = true)]
async fn who_drains_by_its_agent_drains_on_after_a_restart() {
    let text = ten(AGENT, "");
    let rig = Rig::serving(&text).await;
    say(&rig, [1], "drain").await;
    let rig = rig.restart(&text).await;
    rig.resolve_all();
    rig.settle().await;
    assert_eq!((backend(&rig, "web", "b1").effect, own(&rig, "b1")), (Disposition::Draining, 0));
    assert_eq!(backend(&rig, "web", "b2").effect, Disposition::Serving);
    say(&rig, 1..=10, "ready").await;
    assert_eq!(backend(&rig, "web", "b1").effect, Disposition::Serving);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_the_file_takes_back_is_over_with_the_restart() {
    let text = ten("", "");
    let drained = text.replace("name = \"b1\"", "state = \"drain\", name = \"b1\"");
    let rig = Rig::serving(&drained).await;
    assert_eq!(backend(&rig, "web", "b1").effect, Disposition::Draining);
    for (text, effect) in [(&drained, Disposition::Draining), (&text, Disposition::Serving)] {
        let rig = Rig::serving(&drained).await.restart(text).await;
        rig.resolve_all();
        rig.settle().await;
        assert_eq!(backend(&rig, "web", "b1").effect, effect);
    }
}

#[tokio::test(start_paused = true)]
async fn orders_of_operators_win_where_they_are_stricter_and_never_overrule_an_agent() {
    use crate::model::overrides::{BackendName, BackendOrder, Order};
    let rig = Rig::serving(&ten(AGENT, "")).await;
    let order = |order| Order::Backend(BackendName { pool: "web".into(), name: "b1".into() }, order);
    say(&rig, [1], "50%").await;
    rig.handle.order(order(BackendOrder::Weigh(Some(10))), None).await.unwrap();
    assert!((backend(&rig, "web", "b1").share - 5.0 / 905.0).abs() < 1e-9, "half of what the operator says");
    say(&rig, [1], "drain").await;
    rig.handle.order(order(BackendOrder::Enable), None).await.unwrap();
    assert_eq!(backend(&rig, "web", "b1").reason.as_deref(), Some("agent: drain"));
    rig.handle.order(order(BackendOrder::Disable), None).await.unwrap();
    assert_eq!(backend(&rig, "web", "b1").effect, Disposition::Down);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_into_the_file_moves_nothing() {
    for keys in ["", LIMITED] {
        let rig = Rig::serving(&ten("", keys)).await;
        let before = slots(&rig);
        rig.reload(config(&ten(AGENT, keys))).await.unwrap();
        rig.settle().await;
        assert_eq!(slots(&rig), before);
        say(&rig, [1], "50%").await;
        assert_ne!(slots(&rig), before);
        rig.reload(config(&ten("", keys))).await.unwrap();
        rig.report("10.0.0.1", true);
        rig.settle().await;
        watch(&rig, 30).await;
        assert!(moved(&before, &slots(&rig)) == 0, "what it said goes with it");
    }
}
