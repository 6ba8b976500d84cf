//! Limits for the share of live flows that a configuration may take from their backends.

use super::{
    previewed::{flows, preview, with},
    *,
};
use crate::{
    controller::{Reloaded, Terms},
    plan::preview::{Moved, Outline},
};

/// Takes three of twenty flows from their backend.
const ONE_GOES: (&str, &str) = ("  { name = \"web-1\", address = \"10.0.0.1\" },\n", "");
/// Takes none.
const ONE_WEIGHS: (&str, &str) = ("\"10.0.0.2\" }", "\"10.0.0.2\", weight = 50 }");

async fn busy() -> Rig {
    let rig = Rig::serving(TEXT).await;
    for (vip, backend, count) in [("web", "web-1", 3), ("web", "web-2", 2), ("web", "web-3", 4), ("dns", "dns-1", 11)] {
        flows(&rig, vip, backend, count);
    }
    rig
}

async fn within(rig: &Rig, text: &str, most: f64) -> Result<Reloaded, ReloadError> {
    rig.apply_on(text, Terms { max_disruption: Some(most), ..Terms::default() }).await
}

/// What the tables, the history and the configuration are.
fn held(rig: &Rig) -> (usize, u64, usize) {
    let snapshot = rig.handle.snapshot();
    (rig.tables().applied, snapshot.in_force.about.number, snapshot.config.pools["web"].backends.len())
}

#[tokio::test(start_paused = true)]
async fn what_takes_more_flows_than_may_be_changes_nothing() {
    let rig = busy().await;
    let (before, text) = (held(&rig), with(&[ONE_GOES]));
    let refused = refusal(within(&rig, &text, 0.149).await);
    assert_eq!(
        refused.to_string(),
        "3 of 20 live flows (15%) would lose their backend, more than the 14.9% that may; `lb plan` shows which, `lb backend \
         drain` lets them end first"
    );
    assert_eq!(held(&rig), before);
    let terms = Terms { max_disruption: Some(0.0), confirm: Some(SECOND) };
    refusal(rig.apply_on(&text, terms).await);
    assert_eq!((held(&rig), rig.handle.snapshot().in_force.pending.clone()), (before, None), "nothing waits either");

    let done = within(&rig, &text, 0.15).await.unwrap();
    assert_eq!((done.generation, done.plan.unwrap().flows), (2, Some(Moved::new(3, 20))));
    assert_eq!(held(&rig).2, 2);
}

#[tokio::test(start_paused = true)]
async fn what_takes_no_flow_is_within_any_limit_and_none_is_counted() {
    let rig = busy().await;
    let text = with(&[ONE_WEIGHS]);
    let seen = |rig: &Rig| {
        let tables = rig.tables();
        (tables.observed, tables.flows_counted)
    };
    let told = preview(&rig, &text).await.outline();
    let before = seen(&rig);
    let done = within(&rig, &text, 0.0).await.unwrap();
    assert_eq!(seen(&rig), before, "two VIPs of many are looked at alone");
    assert_eq!(done.plan, Some(Outline { flows: None, ..told }));
    assert_eq!(done.plan.unwrap().vips_changed, 2);
    let again = within(&rig, &text, 0.0).await.unwrap();
    assert_eq!((again.new, again.plan), (false, None));
}

#[tokio::test(start_paused = true)]
async fn the_part_and_the_whole_come_to_the_same() {
    // The second also takes a VIP away, which is a matter of the whole.
    let gone =
        ("[[vip]]\nname = \"dns\"\naddress = \"192.0.2.10\"\nport = 53\nprotocol = \"udp\"\npool = \"dns\"\n", "");
    for (changes, moved) in [(&[ONE_GOES, ONE_WEIGHS][..], 3), (&[ONE_GOES, gone], 14)] {
        let rig = busy().await;
        let text = with(changes);
        let told = preview(&rig, &text).await.outline();
        let done = rig.apply(&text, None).await.unwrap();
        assert_eq!((done.plan, told.flows), (Some(told), Some(Moved::new(moved, 20))));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_counted_is_no_reason_without_a_limit() {
    let rig = busy().await;
    rig.tables().uncountable = true;
    let text = with(&[ONE_GOES]);
    assert!(matches!(refusal(within(&rig, &text, 1.0).await), Refusal::Observe(_)));
    let done = rig.apply(&text, None).await.unwrap();
    assert_eq!((done.generation, done.plan), (2, None));
}
