//! All backends of a VIP are replaced at once.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    backend,
    rig::{Rig, TEXT, config},
};
use crate::{
    dataplane::Dataplane as _,
    nexthop::Unreachable,
    plan::{target::address_of, wanted::Disposition},
};

/// [`TEXT`] with other backends in the pool of two VIPs.
fn other() -> String {
    TEXT.replace("10.0.0.", "10.0.9.").replace("\"web-1\"", "\"new-1\"")
}

/// Backends that take new flows of VIP `web`.
fn serving(rig: &Rig) -> BTreeSet<String> {
    let state = rig.tables().memory.observe().unwrap();
    rig.steered_to("web").iter().map(|id| address_of(state.targets[id].outer_destination).to_string()).collect()
}

fn addresses(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(ToString::to_string).collect()
}

const OLD: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const NEW: [&str; 3] = ["10.0.9.1", "10.0.9.2", "10.0.9.3"];

/// A controller that has just replaced all backends of which nothing is known yet.
async fn replaced() -> Rig {
    let rig = Rig::serving(TEXT).await;
    let digest = |rig: &Rig| rig.handle.snapshot().vips[0].ring_digest;
    let before = digest(&rig);
    rig.reload(config(&other())).await.unwrap();
    assert_eq!(serving(&rig), addresses(&OLD));
    assert_eq!(digest(&rig), before, "no flow was steered anew");
    let snapshot = rig.handle.snapshot();
    assert_eq!(snapshot.problems(), Vec::<String>::new());
    assert_eq!(snapshot.vips.iter().map(|vip| vip.settling).collect::<Vec<_>>(), [true, true, false]);
    rig
}

#[tokio::test(start_paused = true)]
async fn those_of_before_serve_until_all_new_ones_are_known() {
    let rig = replaced().await;
    rig.resolve_all();
    rig.report("10.0.9.1", true);
    rig.report("10.0.9.2", false);
    rig.settle().await;
    assert_eq!(serving(&rig), addresses(&OLD), "the first to answer would get all traffic");
    rig.report("10.0.9.3", true);
    rig.settle().await;
    assert_eq!(serving(&rig), addresses(&["10.0.9.1", "10.0.9.3"]));
    let state = rig.tables().memory.observe().unwrap();
    let left =
        state.targets.values().filter(|target| OLD.contains(&&*address_of(target.outer_destination).to_string()));
    assert_eq!(left.count(), 0, "nothing is left of those of before");
    assert!(rig.handle.snapshot().vips.iter().all(|vip| !vip.settling));
    let observed = rig.tables().observed;
    rig.report("10.0.9.2", true);
    rig.settle().await;
    assert_eq!(serving(&rig), addresses(&NEW));
    assert_eq!(rig.tables().observed, observed, "plans are again for some VIPs alone");
}

#[tokio::test(start_paused = true)]
async fn those_of_before_leave_when_the_patience_is_over() {
    let rig = replaced().await;
    rig.resolve_all();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(serving(&rig), addresses(&OLD));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(serving(&rig), addresses(&[]), "timeout and half a second later");
    assert_eq!(rig.handle.snapshot().problems().len(), 2);
    rig.report_all(true);
    rig.settle().await;
    assert_eq!(serving(&rig), addresses(&NEW));
}

#[tokio::test(start_paused = true)]
async fn a_replacement_of_the_replacement_keeps_who_serves() {
    let rig = replaced().await;
    let third = TEXT.replace("10.0.0.", "10.0.7.");
    rig.reload(config(&third)).await.unwrap();
    assert_eq!(serving(&rig), addresses(&OLD));
    rig.resolve_all();
    for backend in ["10.0.7.1", "10.0.7.2", "10.0.7.3"] {
        rig.report(backend, true);
    }
    rig.settle().await;
    assert_eq!(serving(&rig), addresses(&["10.0.7.1", "10.0.7.2", "10.0.7.3"]));
    rig.reload(config(&other())).await.unwrap();
    assert_eq!(serving(&rig), addresses(&["10.0.7.1", "10.0.7.2", "10.0.7.3"]));
}

#[tokio::test(start_paused = true)]
async fn an_operator_who_disables_all_is_obeyed_meanwhile() {
    let rig = replaced().await;
    let web = crate::model::overrides::Order::DisableVip("web".into());
    rig.handle.order(web, None).await.unwrap();
    assert_eq!(serving(&rig), addresses(&[]));
    assert_eq!(rig.steered_to("web-v6").len(), 3, "the other VIP waits on");
}

#[tokio::test(start_paused = true)]
async fn those_that_are_to_drain_do_so_when_others_serve_and_disabled_ones_end_at_once() {
    for (state, meanwhile) in [("drain", &OLD[..]), ("disabled", &[])] {
        let rig = Rig::serving(TEXT).await;
        let mut text = TEXT.replace("{ name = \"web-", &format!("{{ state = \"{state}\", name = \"web-"));
        text = text.replacen("backends = [\n", "backends = [\n  { name = \"new-1\", address = \"10.0.9.1\" },\n", 1);
        rig.reload(config(&text)).await.unwrap();
        assert_eq!(serving(&rig), addresses(meanwhile), "{state}");
        rig.report_all(true);
        rig.settle().await;
        assert_eq!(serving(&rig), addresses(&["10.0.9.1"]));
        let left = if state == "drain" { Disposition::Draining } else { Disposition::Down };
        assert_eq!(backend(&rig, "web", "web-1").effect, left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_way_is_not_waited_for() {
    let rig = Rig::serving(TEXT).await;
    let text = TEXT.replace("10.0.1.1", "10.0.8.1");
    rig.reload(config(&text)).await.unwrap();
    let start = Instant::now();
    assert_eq!(rig.steered_to("dns").len(), 1);
    rig.lose("10.0.8.1", Unreachable::NoRoute);
    rig.settle().await;
    assert!(start.elapsed() < Duration::from_millis(100));
    assert_eq!(rig.steered_to("dns").len(), 0);
    assert_eq!(rig.handle.snapshot().problems(), ["vip dns has no serving backend"]);
}

#[tokio::test(start_paused = true)]
async fn a_vip_that_is_new_is_no_problem_until_it_could_be_known() {
    let rig = Rig::serving(TEXT).await;
    let more = format!(
        "{TEXT}\n[pool.more]\nbackends = [{{ name = \"more-1\", address = \"10.0.6.1\" }}]\nhealth = {{ type = \"none\" }}\n\
         [[vip]]\nname = \"more\"\naddress = \"192.0.2.11\"\nport = 53\nprotocol = \"udp\"\npool = \"more\"\n"
    );
    rig.reload(config(&more)).await.unwrap();
    assert_eq!(rig.handle.snapshot().problems(), Vec::<String>::new());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.handle.snapshot().problems(), ["vip more has no serving backend"]);
    assert_eq!(rig.steered_to("web").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_op_is_made_up_for() {
    for after in 0..12 {
        let rig = Rig::serving(TEXT).await;
        rig.tables().memory.fail_after(after);
        rig.reload(config(&other())).await.unwrap();
        assert_eq!(serving(&rig), addresses(&OLD), "op {after}");
        rig.report_all(true);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(serving(&rig), addresses(&NEW), "op {after}");
    }
}
