//! What a configuration would change, by a running controller.

use lb_common::layout::flow::{FlowEntry, FlowState};

use super::{rig::ROOMY, *};
use crate::{
    dataplane::{Dataplane, flows::Liveness},
    plan::{
        Capacity,
        preview::{Against, BackendChange, Change, Moved, Preview, Setting, VipChange},
    },
};

/// Backends of which the first goes, the second has another weight, and a fourth comes.
const CHANGES: [(&str, &str); 3] = [
    ("  { name = \"web-1\", address = \"10.0.0.1\" },\n", ""),
    ("\"10.0.0.2\" }", "\"10.0.0.2\", weight = 50 }"),
    ("  { name = \"web-3\"", "  { name = \"web-4\", address = \"10.0.0.4\" },\n  { name = \"web-3\""),
];

pub(super) fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(TEXT.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

pub(super) async fn preview(rig: &Rig, text: &str) -> Preview {
    rig.handle.preview(config(text)).await.unwrap()
}

fn vip<'p>(preview: &'p Preview, name: &str) -> &'p VipChange {
    preview.vips.iter().find(|vip| vip.name == name).unwrap()
}

fn member<'p>(vip: &'p VipChange, name: &str) -> &'p BackendChange {
    vip.backends.iter().find(|backend| backend.name == name).unwrap()
}

fn setting(key: &str, from: &str, to: &str) -> Setting {
    Setting { key: key.into(), from: from.into(), to: to.into() }
}

/// Gives so many live flows to a VIP's backend.
pub(super) fn flows(rig: &Rig, vip: &str, backend: &str, count: u32) {
    let target = rig.target(vip, backend);
    let now = Liveness::now(7).now;
    for tag in 0..count {
        let entry = FlowEntry::new(target * 100 + tag, target, now, FlowState::Established);
        assert!((0..8).any(|bucket| rig.tables().memory.remember(bucket, entry)));
    }
}

/// The backend that each slot of a VIP's ring leads to.
fn leads(rig: &Rig, vip: &str) -> Vec<[u8; 16]> {
    let key = rig.key(vip);
    let tables = rig.tables();
    (0..251).map(|slot| tables.memory.route(&key, slot).unwrap().1.outer_destination).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_preview_says_is_what_a_reload_does() {
    let rig = Rig::serving(TEXT).await;
    for (backend, count) in [("web-1", 3), ("web-2", 2), ("web-3", 4)] {
        flows(&rig, "web", backend, count);
    }
    let written = || {
        let mut tables = rig.tables();
        (tables.applied, tables.memory.observe().unwrap())
    };
    let before = written();
    let said = preview(&rig, &with(&CHANGES)).await;
    assert_eq!(written(), before, "nothing is written");
    assert_eq!((said.differs, said.against), (true, Against::Daemon));
    assert_eq!((said.vips_added, said.vips_removed, said.vips_changed), (0, 0, 2));
    assert_eq!(said.flows, Moved::new(3, 9));
    assert_eq!(said.assumptions.len(), 2, "{:?}", said.assumptions);
    let web = vip(&said, "web");
    assert_eq!((web.change, web.flows, web.settings.len()), (Change::Changed, Moved::new(3, 9), 0));
    let told = |name: &str| {
        let one = member(web, name);
        (one.change, one.settings.clone(), one.flows)
    };
    assert_eq!(told("web-1"), (Change::Removed, vec![], Moved::new(3, 3)));
    assert_eq!(told("web-2"), (Change::Changed, vec![setting("weight", "100", "50")], Moved::new(0, 2)));
    assert_eq!(told("web-3"), (Change::Unchanged, vec![], Moved::new(0, 4)));
    assert_eq!(told("web-4"), (Change::Added, vec![], Moved::new(0, 0)));

    let leads_before = leads(&rig, "web");
    rig.reload(config(&with(&CHANGES))).await.unwrap();
    assert_eq!(rig.tables().memory.remembered().count(), 6);
    // As was assumed.
    rig.report_all(true);
    rig.settle().await;
    let moved = leads_before.iter().zip(leads(&rig, "web")).filter(|(before, after)| **before != *after).count();
    assert_eq!(web.slots, Moved::new(moved as u64, 251));
    let slots = 251.0;
    let snapshot = rig.handle.snapshot();
    let view = snapshot.vips.iter().find(|vip| vip.name == "web").unwrap();
    for backend in &view.backends {
        let said = member(web, &backend.name).share_after;
        assert!((said - backend.share).abs() < 1.0 / slots, "{}: {said}", backend.name);
    }
    let again = preview(&rig, &with(&CHANGES)).await;
    assert!(!again.differs && again.vips.is_empty() && again.assumptions.is_empty(), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn order_and_comments_make_no_difference() {
    let rig = Rig::serving(TEXT).await;
    let (head, pools) = TEXT.split_once("[[vip]]").unwrap();
    let mut vips: Vec<&str> = pools.split("[[vip]]").collect();
    vips.reverse();
    let vips: Vec<String> = vips.into_iter().map(|vip| format!("# another order\n[[vip]]{vip}\n")).collect();
    let lines = head.replace("  { name = \"web-1\", address = \"10.0.0.1\" },\n", "");
    let head =
        lines.replace("  { name = \"web-3\"", "  { name = \"web-1\", address = \"10.0.0.1\" },\n  { name = \"web-3\"");
    let said = preview(&rig, &format!("{head}{}", vips.concat())).await;
    assert_eq!(said, Preview { slots: said.slots, flows: said.flows, ..Preview::default() });
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_known_by_its_name_else_by_its_address() {
    let rig = Rig::serving(TEXT).await;
    let moved = preview(&rig, &with(&[("10.0.0.2", "10.0.0.9")])).await;
    let backend = member(vip(&moved, "web"), "web-2");
    assert_eq!(
        (backend.change, &*backend.settings),
        (Change::Changed, &[setting("address", "10.0.0.2", "10.0.0.9")][..])
    );
    assert!(backend.share_before > 0.3 && backend.share_after > 0.3, "{backend:?}");
    let renamed = preview(&rig, &with(&[("name = \"web-2\"", "name = \"web-b\"")])).await;
    let backend = member(vip(&renamed, "web"), "web-b");
    assert_eq!((backend.change, &*backend.settings), (Change::Changed, &[setting("name", "web-2", "web-b")][..]));
    assert_eq!((renamed.slots.moved, renamed.writes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn vips_that_come_and_go_are_told_by_name() {
    let rig = Rig::serving(TEXT).await;
    let said = preview(
        &rig,
        &with(&[("name = \"dns\"\naddress = \"192.0.2.10\"", "name = \"dns2\"\naddress = \"192.0.2.11\"")]),
    )
    .await;
    assert_eq!((said.vips_added, said.vips_removed, said.vips_changed), (1, 1, 0));
    let (old, new) = (vip(&said, "dns"), vip(&said, "dns2"));
    assert_eq!((old.change, old.slots.share, member(old, "dns-1").change), (Change::Removed, 1.0, Change::Removed));
    assert_eq!((new.change, new.slots.total, member(new, "dns-1").change), (Change::Added, 0, Change::Added));
    assert!((member(new, "dns-1").share_after - 1.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn settings_are_told_as_the_file_says_them() {
    let rig = Rig::serving(TEXT).await;
    let said = preview(
        &rig,
        &with(&[
            ("timeout = \"1s\"", "timeout = \"500ms\"\nrise = 5"),
            (
                "ring_size = 251",
                "ring_size = 251\nudp_idle_timeout = \"10s\"\nhash_seed = \"0x1\"\nflow_table_entries = 128\n[metrics]\nlisten = \"off\"",
            ),
            (
                "name = \"dns\"\n",
                "name = \"dns\"\nencap = \"gue\"\npanic_threshold = \"20%\"\ndeny = [\"203.0.113.0/24\"]\n",
            ),
        ]),
    )
    .await;
    let dns = vip(&said, "dns");
    let keys: Vec<String> = dns.settings.iter().map(|one| format!("{} {} {}", one.key, one.from, one.to)).collect();
    assert_eq!(keys, ["panic_threshold 0% 20%", "encap ipip gue", "deny 0 prefixes 1 prefixes (1 new, 0 gone)"]);
    let [pool] = &said.pools[..] else { panic!("{:?}", said.pools) };
    assert_eq!(pool.name, "web");
    let rise = pool.settings.iter().find(|one| one.key == "health.rise").unwrap();
    assert_eq!((rise.to.as_str(), pool.settings.len()), ("5", 2));
    let settings: Vec<&str> = said.settings.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(settings, ["dataplane.flow_table_entries", "dataplane.udp_idle_timeout", "dataplane.hash_seed"]);
    assert!(!format!("{:?}", said.settings).contains("0x1"), "the seed is a secret");
    assert_eq!(said.features_added, ["access_lists", "gue"]);
    let [restart] = &said.restart[..] else { panic!("{:?}", said.restart) };
    assert_eq!((restart.setting.key.as_str(), said.tables[0].table.as_str()), ("metrics.listen", "FLOWS"));
}

#[tokio::test(start_paused = true)]
async fn all_flows_are_steered_anew_by_another_seed() {
    let rig = Rig::serving(TEXT).await;
    flows(&rig, "web", "web-1", 5);
    let said = preview(&rig, &with(&[("ring_size = 251", "ring_size = 251\nhash_seed = \"0x1\"")])).await;
    assert_eq!((said.flows, said.slots.moved), (Moved::new(5, 5), 0));
}

#[tokio::test(start_paused = true)]
async fn tables_that_are_too_small_are_named_with_what_they_need() {
    let rig = Rig::within(Capacity { targets: 24, ..ROOMY }, TEXT);
    let rig = rig.unwrap();
    rig.report_all(true);
    rig.settle().await;
    let more = |number| format!("  {{ name = \"more-{number}\", address = \"10.0.0.{number}\" }},\n");
    let more = (10..30).map(more).collect::<Vec<_>>().concat();
    let said = preview(&rig, &with(&[("  { name = \"web-3\"", &format!("{more}  {{ name = \"web-3\""))])).await;
    let tables: Vec<&str> = said.tables.iter().map(|one| one.table.as_str()).collect();
    assert_eq!(tables, ["TARGETS", "TARGET_COUNTERS", "TRAFFIC"]);
    assert_eq!(said.memory_bytes, said.tables.iter().map(|one| one.bytes).sum::<u64>());
    assert!(said.memory_bytes > 2 * 24 * 64, "{}", said.memory_bytes);
    assert_eq!(vip(&said, "web").backends.len(), 23);
    assert_eq!(
        said.assumptions[0],
        "more-10, more-11, more-12, more-13, more-14 and 15 more: taken to pass their checks, which have not been run yet"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_known_to_be_down_stays_down() {
    let rig = Rig::serving(TEXT).await;
    rig.report("10.0.0.3", false);
    rig.settle().await;
    let said = preview(&rig, &with(&[("\"10.0.0.2\" }", "\"10.0.0.2\", state = \"disabled\" }")])).await;
    let web = vip(&said, "web");
    let state = |name: &str| member(web, name).state_after.clone().unwrap();
    assert_eq!(["web-1", "web-2", "web-3"].map(state), ["serving", "down", "down"]);
    assert_eq!(member(web, "web-2").settings, [setting("state", "active", "disabled")]);
    assert!((member(web, "web-1").share_after - 1.0).abs() < 1e-9);
    assert_eq!(said.assumptions, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn overrides_are_part_of_both_sides_and_shown() {
    use crate::model::overrides::{BackendName, BackendOrder, Order};
    let rig = Rig::serving(TEXT).await;
    let name = BackendName { pool: "web".into(), name: "web-1".into() };
    rig.handle.order(Order::Backend(name, BackendOrder::Disable), None).await.unwrap();
    let same = preview(&rig, TEXT).await;
    assert_eq!((same.differs, &*same.overrides), (false, &["backend web/web-1: disabled".to_owned()][..]));
    let said = preview(&rig, &with(&[("\"10.0.0.2\" }", "\"10.0.0.2\", weight = 50 }")])).await;
    assert!(member(vip(&said, "web"), "web-1").share_after < 1e-9, "it stays disabled");
}

#[tokio::test(start_paused = true)]
async fn who_is_told_of_changes_may_come_and_go_if_there_was_one_at_the_start() {
    let told = format!("{TEXT}\n[daemon.on_change]\nwebhook = \"https://example.org/\"\nretries = 1\n");
    let change = setting("daemon.on_change", "none", "https://example.org/, timeout 5s, 1 retries");
    let rig = Rig::serving(TEXT).await;
    let said = preview(&rig, &told).await;
    assert_eq!(said.settings, std::slice::from_ref(&change));
    let [restart] = &said.restart[..] else { panic!("{:?}", said.restart) };
    assert_eq!(restart.setting.key, "daemon.on_change");
    let refused = rig.reload(config(&told)).await.unwrap_err().to_string();
    assert!(refused.contains("daemon.on_change") && refused.contains("restart the daemon"), "{refused}");

    let rig = Rig::serving(&told).await;
    rig.reload(config(TEXT)).await.unwrap();
    let said = preview(&rig, &told).await;
    assert_eq!((said.settings, said.restart), (vec![change], vec![]));
    rig.reload(config(&told)).await.unwrap();
}
