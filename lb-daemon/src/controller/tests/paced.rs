//! Rings that change at a pace, while something else fails.

use tokio::time::sleep;

use super::{
    backend,
    protected::{LIMITED, SECOND, ten, watch, worst_of_ten},
    rig::{Rig, config},
};
use crate::plan::wanted::Disposition;

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
