//! Rings that change at a pace, while something else fails.

use lb_common::layout::vip::Vip;
use tokio::time::sleep;

use super::{
    backend,
    protected::{LIMITED, SECOND, moved, ten, watch, worst_of_ten},
    rig::{Rig, config},
};
use crate::{dataplane::Dataplane as _, nexthop::Unreachable, plan::wanted::Disposition};

fn five_fail(rig: &Rig) {
    for number in 1..=5 {
        rig.report(&format!("10.0.0.{number}"), false);
    }
}

#[tokio::test(start_paused = true)]
async fn probes_that_cannot_be_carried_hold_up_nothing_else() {
    let text = ten("", LIMITED);
    let rig = Rig::serving(&text).await;
    {
        let mut tables = rig.tables();
        (tables.mark_taken, tables.carried) = (Some(77), None);
    }
    sleep(SECOND * 3).await;
    let snapshot = rig.handle.snapshot();
    assert_eq!(snapshot.failing, None);
    assert!(snapshot.problems().iter().any(|one| one.contains("to table 77")), "{:?}", snapshot.problems());
    rig.reload(config(&text.replace("\"10.0.0.9\"", "\"10.0.0.9\", weight = 50"))).await.unwrap();
    five_fail(&rig);
    let moves = watch(&rig, 120).await;
    assert!(worst_of_ten(&moves) <= 100, "{moves:?}");
    assert!(moves[90..].iter().all(|moved| *moved == 0), "it goes on at its pace: {moves:?}");
    assert_eq!(backend(&rig, "web", "b5").effect, Disposition::Down);
    rig.tables().mark_taken = None;
    sleep(SECOND * 11).await;
    assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
    assert!(rig.tables().carried.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_has_not_moved() {
    let rig = Rig::serving(&ten("", LIMITED)).await;
    sleep(SECOND).await;
    rig.tables().broken = true;
    five_fail(&rig);
    sleep(SECOND * 60).await;
    rig.tables().broken = false;
    let moves = watch(&rig, 120).await;
    assert!(worst_of_ten(&moves) <= 100, "{moves:?}");
    assert_eq!(backend(&rig, "web", "b5").effect, Disposition::Down);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_elsewhere_gives_no_ring_another_budget() {
    let lone = "[pool.lone]\nbackends = [{ name = \"lone\", address = \"10.0.1.1\" }]\n[[vip]]\nname = \"lone\"\n\
                address = \"192.0.2.11\"\nport = 80\nprotocol = \"tcp\"\npool = \"lone\"\n";
    let rig = Rig::serving(&ten("", &format!("{LIMITED}\n{lone}"))).await;
    five_fail(&rig);
    let mut moves = watch(&rig, 3).await;
    assert!((60..=100).contains(&moves.iter().sum::<usize>()), "{moves:?}");
    rig.tables().broken = true;
    rig.lose("10.0.1.1", Unreachable::Silent { neighbour: "10.0.1.1".parse().unwrap(), interface: "eth0".into() });
    moves.extend(watch(&rig, 2).await);
    assert!(rig.handle.snapshot().failing.is_some());
    assert_eq!(backend(&rig, "web", "b5").waits.unwrap().why, "waits: ring budget", "it is not forgotten");
    rig.tables().broken = false;
    moves.extend(watch(&rig, 120).await);
    assert!(worst_of_ten(&moves) <= 100, "{moves:?}");
    assert_eq!(backend(&rig, "web", "b5").effect, Disposition::Down);
}

/// Where the slots of the only source route lead.
fn routed(rig: &Rig) -> Vec<Option<u32>> {
    let state = rig.tables().memory.observe().unwrap();
    let group = state.groups.values().next().unwrap();
    let vip = state.vips[&rig.key("web")];
    let places = rig.tables().memory.ring(&Vip { ring_base: group.ring_base, ring_slots: group.ring_slots, ..vip });
    places.into_iter().map(|place| Some(vip.target_base + u32::from(place))).collect()
}

#[tokio::test(start_paused = true)]
async fn rings_of_source_routes_go_on_after_a_failed_write_and_a_restart() {
    let route = "source_routes = [{ source = \"203.0.113.0/24\", pool = \"web\" }]";
    let text = ten(
        "",
        &format!("{LIMITED}\n{route}\n[pool.lone]\nbackends = [{{ name = \"lone\", address = \"10.0.1.1\" }}]\n"),
    );
    let text = text.replace("protocol = \"tcp\"\npool = \"web\"", "protocol = \"tcp\"\npool = \"lone\"");
    let mut rig = Rig::serving(&text).await;
    tokio::time::sleep(SECOND).await;
    let mut before = routed(&rig);
    let mut moves = Vec::new();
    five_fail(&rig);
    for second in 0..130 {
        match second {
            3 => {
                rig.tables().broken = true;
                let neighbour = "10.0.1.1".parse().unwrap();
                rig.lose("10.0.1.1", Unreachable::Silent { neighbour, interface: "eth0".into() });
            }
            5 => rig.tables().broken = false,
            30 => {
                let health = rig.health.borrow().clone();
                rig = rig.restart(&text).await;
                rig.resolve_all();
                rig.health.send_replace(health);
            }
            _ => {}
        }
        sleep(SECOND).await;
        let after = routed(&rig);
        moves.push(moved(&before, &after));
        before = after;
    }
    assert!((60..=100).contains(&moves[0]), "{moves:?}");
    assert!(worst_of_ten(&moves[..30]) <= 100, "{moves:?}");
    // The log of moves begins anew with a daemon, and shares are approximated.
    assert!(moves[30] <= 120 && worst_of_ten(&moves[31..]) <= 100, "{moves:?}");
    assert!(moves[120..].iter().all(|moved| *moved == 0), "{moves:?}");
    let five: std::collections::BTreeSet<_> = routed(&rig).into_iter().collect();
    assert_eq!(five.len(), 5);
}
