//! What is told of a VIP while many of its backends are down.

use super::{
    super::snapshot::VipView,
    backend,
    rig::{Rig, TEXT},
};
use crate::nexthop::Unreachable;

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
