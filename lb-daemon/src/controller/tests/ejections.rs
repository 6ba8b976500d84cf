//! What traffic tells of backends, from the counters in the tables to what the judge hears.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::rig::{Rig, TEXT};
use crate::health::Ejections;

const PASSIVE: &str = "[pool.web.passive]\nmax_ejected = \"34%\"\n[pool.web.health]";

fn listening() -> String {
    TEXT.replace("[pool.web.health]", PASSIVE)
}

/// So much time in which each backend of the VIP gets 400 new flows a second, all of which go on but those of `silent`.
async fn traffic(rig: &Rig, vip: &str, silent: &[&str], time: Duration) {
    let targets = ["web-1", "web-2", "web-3"].map(|name| (name, rig.target(vip, name)));
    let end = Instant::now() + time;
    while Instant::now() < end {
        for (name, target) in targets {
            let mut tables = rig.tables();
            let counters = tables.memory.target_counters(target).unwrap();
            counters.syns += 4;
            counters.handshakes += if silent.contains(&name) { 0 } else { 4 };
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn ejected(rig: &Rig) -> Vec<String> {
    let ejections: &Ejections = &rig.ejections.borrow();
    ejections.keys().map(|member| format!("{} of {}", member.backend, member.service.address)).collect()
}

async fn counted(rig: &Rig) -> u64 {
    rig.handle.figures().await.unwrap().ejections.values().sum()
}

#[tokio::test(start_paused = true)]
async fn a_backend_whose_handshakes_do_not_complete_is_told_to_the_judge_for_that_vip_alone() {
    let rig = Rig::serving(&listening()).await;
    traffic(&rig, "web", &[], Duration::from_secs(3)).await;
    assert_eq!((ejected(&rig), counted(&rig).await), (vec![], 0));
    traffic(&rig, "web", &["web-2"], Duration::from_millis(900)).await;
    assert_eq!((ejected(&rig), counted(&rig).await), (vec!["10.0.0.2 of 192.0.2.10".into()], 1));
    let first = rig.ejections.borrow().values().next().unwrap().clone();
    assert!(first.reason.starts_with("ejected: 0 of "), "{}", first.reason);
    // What is known of it stays over a reload of something else.
    rig.reload(super::rig::config(&listening().replace("timeout = \"1s\"", "timeout = \"500ms\""))).await.unwrap();
    assert_eq!(rig.ejections.borrow().values().next(), Some(&first));
    traffic(&rig, "web", &[], Duration::from_secs(31)).await;
    assert_eq!((ejected(&rig), counted(&rig).await), (vec![], 1), "its time is over");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_down_by_its_check_leaves_no_room_for_an_ejection() {
    let rig = Rig::serving(&listening()).await;
    rig.report("10.0.0.3", false);
    traffic(&rig, "web", &["web-2"], Duration::from_secs(3)).await;
    assert_eq!(ejected(&rig), [""; 0]);
    rig.report("10.0.0.3", true);
    traffic(&rig, "web", &["web-2"], Duration::from_secs(1)).await;
    assert_eq!(ejected(&rig), ["10.0.0.2 of 192.0.2.10"]);
}

#[tokio::test(start_paused = true)]
async fn ejections_end_with_the_section_and_for_who_takes_no_new_flows() {
    let rig = Rig::serving(&listening()).await;
    traffic(&rig, "web", &["web-2"], Duration::from_secs(1)).await;
    assert_eq!(ejected(&rig), ["10.0.0.2 of 192.0.2.10"]);
    rig.reload(super::rig::config(TEXT)).await.unwrap();
    assert_eq!(ejected(&rig), [""; 0]);
    traffic(&rig, "web", &["web-2"], Duration::from_secs(2)).await;
    assert_eq!(ejected(&rig), [""; 0], "nobody looks");
    rig.reload(super::rig::config(&listening())).await.unwrap();
    traffic(&rig, "web", &["web-2"], Duration::from_secs(1)).await;
    assert_eq!(ejected(&rig), ["10.0.0.2 of 192.0.2.10"]);
    let text = listening().replace("\"10.0.0.2\" }", "\"10.0.0.2\", state = \"drain\" }");
    rig.reload(super::rig::config(&text)).await.unwrap();
    assert_eq!(ejected(&rig), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn flows_that_are_not_remembered_tell_nothing() {
    let text = listening().replace("port = 80\n", "port = 80\nflow_tracking = \"off\"\n");
    let rig = Rig::serving(&text).await;
    traffic(&rig, "web", &["web-2"], Duration::from_secs(3)).await;
    assert_eq!(ejected(&rig), [""; 0]);
}
