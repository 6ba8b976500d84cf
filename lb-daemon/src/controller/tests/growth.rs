//! Tables that become too small.

use super::{
    SECOND, refusal,
    rig::{ROOMY, Rig, TEXT, config},
};
use crate::{
    controller::Refusal,
    plan::{Capacity, Room},
};

const TIGHT: Capacity = Capacity { ring_blocks: 40, ..ROOMY };

fn large() -> String {
    TEXT.replace("ring_size = 251", "ring_size = 4099")
}

async fn serving(capacity: Capacity) -> Rig {
    let rig = Rig::within(capacity, TEXT).unwrap();
    rig.report_all(true);
    rig.settle().await;
    rig
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_needs_more_room_gets_it_and_is_applied() {
    let rig = serving(TIGHT).await;
    let done = rig.reload(config(&large())).await.unwrap();
    assert!(done.ops > 0 && done.pending.is_none(), "{done:?}");
    let grown = rig.tables().resized.clone();
    assert_eq!(grown.len(), 1, "once: {grown:?}");
    assert!(grown[0].capacity.ring_blocks >= 80);
    assert_eq!(Capacity { ring_blocks: 40, ..grown[0].capacity }, TIGHT, "and nothing else");
    assert_eq!(rig.handle.snapshot().capacity, grown[0].capacity);
    assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
    rig.reload(config(TEXT)).await.unwrap();
    assert_eq!(rig.tables().resized.len(), 1, "what has grown stays");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_for_which_there_is_no_memory_is_refused_whole() {
    let rig = serving(TIGHT).await;
    rig.tables().no_memory = true;
    let before = rig.tables().applied;
    let seeded = large().replace("[dataplane]\n", "[dataplane]\nhash_seed = \"0x7\"\n");
    let refused = refusal(rig.reload(config(&seeded)).await);
    assert!(matches!(refused, Refusal::Install(_)), "{refused:?}");
    assert_eq!(rig.tables().applied, before);
    assert_eq!(rig.tables().tuning.hash_seed, config(TEXT).dataplane.hash_seed, "the program is the one of before");
    assert_eq!(*rig.handle.snapshot().config, config(TEXT));
    assert_eq!(rig.steered_to("web").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_no_tables_can_hold_is_refused_whole() {
    let rig = serving(TIGHT).await;
    let mut crowded = config(TEXT);
    let pool = crowded.pools.get_mut("dns").unwrap();
    let one = pool.backends[0].clone();
    pool.backends.extend((0..65_536_u32).map(|number| {
        let address = std::net::Ipv4Addr::from_bits(0x0a80_0000 + number).into();
        crate::model::Backend { name: format!("more-{number}"), address, ..one.clone() }
    }));
    let refused = refusal(rig.reload(crowded).await);
    assert!(matches!(refused, Refusal::Plan(_)), "{refused:?}");
    assert_eq!(rig.tables().resized, []);
}

#[tokio::test(start_paused = true)]
async fn the_flow_table_takes_the_size_that_the_file_says() {
    let rig = Rig::serving(TEXT).await;
    for entries in [4096, 65_536] {
        let text = TEXT.replace("[dataplane]\n", &format!("[dataplane]\nflow_table_entries = {entries}\n"));
        rig.reload(config(&text)).await.unwrap();
        assert_eq!(rig.tables().resized.last(), Some(&Room { capacity: ROOMY, flow_entries: entries }));
    }
}

#[tokio::test(start_paused = true)]
async fn tables_that_are_too_small_at_the_start_grow_before_the_first_plan_and_again_where_that_failed() {
    let rig = Rig::within(TIGHT, &large()).unwrap();
    rig.tables().no_memory = true;
    rig.report_all(true);
    rig.settle().await;
    let message = rig.handle.snapshot().failing.as_ref().map(|failing| failing.message.clone()).unwrap_or_default();
    assert!(message.contains("larger ones") && message.contains("no memory"), "{message}");
    rig.tables().no_memory = false;
    tokio::time::sleep(60 * SECOND).await;
    assert!(rig.handle.snapshot().failing.is_none());
    assert_eq!(rig.steered_to("web").len(), 3);
}
