//! Flows that ended: not counted as live, and forgotten in time.

use std::time::Duration;

use lb_common::layout::flow::{FlowEntry, FlowState};
use tokio::time::sleep;

use super::rig::{Rig, TEXT};
use crate::dataplane::flows::{Liveness, PARTS};

#[tokio::test(start_paused = true)]
async fn entries_of_flows_that_ended_are_not_live_and_make_room_within_minutes() {
    let rig = Rig::serving(TEXT).await;
    let target = rig.target("web", "web-1");
    let now = Liveness::now(7).now;
    let flow = |tag, age, state| FlowEntry::new(tag, target, now.wrapping_sub(age), state);
    let entries = [
        flow(1, 3000, FlowState::Established),
        flow(2, 3600, FlowState::Established),
        flow(3, 10, FlowState::Closing),
        flow(4, 100, FlowState::Closing),
        flow(5, 20, FlowState::Datagram),
    ];
    for (entry, bucket) in entries.into_iter().zip([0, 1, 2, 3, 7]) {
        assert!(rig.tables().memory.remember(bucket, entry));
    }
    let flows = rig.handle.flows().await.unwrap();
    assert_eq!((flows.live, flows.by_state.iter().sum::<u64>()), (1, 5));
    assert_eq!(flows.live_backends.values().sum::<u64>(), 1);
    sleep(Duration::from_secs(u64::from(PARTS) + 1)).await;
    let kept: Vec<u32> = rig.tables().memory.remembered().map(FlowEntry::tag).collect();
    assert_eq!(kept, [1, 3], "the second one may yet be a pause");
    assert_eq!(rig.handle.flows().await.unwrap().live, 1);
}
