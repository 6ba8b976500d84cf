use super::*;
use crate::api::types::{PoolChange, Restart, RouteChange, TableGrowth};

fn backend(name: &str, change: Change, shares: [f64; 2], flows: Moved) -> BackendChange {
    BackendChange {
        pool: "web".into(),
        name: name.into(),
        address: Some([10, 0, 0, 1].into()),
        change,
        share_before: shares[0],
        share_after: shares[1],
        flows,
        ..BackendChange::default()
    }
}

fn setting(key: &str, from: &str, to: &str) -> Setting {
    Setting { key: key.into(), from: from.into(), to: to.into() }
}

fn web() -> VipChange {
    let weight = vec![setting("weight", "100", "50")];
    let states = [Some("serving".into()), Some("draining".into())];
    let [state_before, state_after] = states;
    VipChange {
        name: "web".into(),
        service: "192.0.2.10:80 tcp".into(),
        change: Change::Changed,
        settings: vec![setting("encap", "ipip", "gue")],
        slots: Moved::new(6554, 65537),
        flows: Moved::new(1312, 10_240),
        backends: vec![
            backend("web-1", Change::Removed, [0.25, 0.0], Moved::new(1312, 1312)),
            BackendChange { settings: weight, ..backend("web-2", Change::Changed, [0.25, 0.2], Moved::new(0, 8928)) },
            BackendChange {
                state_before,
                state_after,
                ..backend("web-3", Change::Changed, [0.25, 0.0], Moved::default())
            },
            backend("web-4", Change::Unchanged, [0.25, 0.4], Moved::default()),
            backend("web-5", Change::Unchanged, [0.1, 0.1], Moved::default()),
        ],
        routes: vec![RouteChange { to: "pool canary".into(), change: Change::Changed, slots: Moved::new(10, 251) }],
    }
}

fn dns() -> VipChange {
    let (name, service) = ("dns".into(), "192.0.2.10:53 udp".into());
    VipChange { name, service, change: Change::Added, ..VipChange::default() }
}

fn preview() -> Preview {
    Preview {
        differs: true,
        vips_added: 1,
        vips_changed: 1,
        slots: Moved::new(6554, 131_074),
        flows: Moved::new(1312, 10_240),
        vips: vec![dns(), web()],
        pools: vec![
            PoolChange { name: "dns".into(), change: Change::Added, settings: Vec::new() },
            PoolChange {
                name: "web".into(),
                change: Change::Changed,
                settings: vec![setting("health.rise", "2", "5")],
            },
        ],
        settings: vec![setting("dataplane.mtu", "auto", "1400")],
        features_added: vec!["gue".into()],
        tables: vec![TableGrowth { table: "RINGS".into(), bytes: 524_544 }],
        restart: vec![Restart {
            setting: setting("metrics.listen", "off", "[::1]:9650"),
            remedy: "restart the daemon".into(),
        }],
        assumptions: vec!["dns-1: taken to be reachable, which has not been tried yet".into()],
        ..Preview::default()
    }
}

#[test]
fn a_preview_reads_from_the_summary_to_the_details() {
    let text = whole(&preview());
    assert_eq!(text, include_str!("preview.txt"), "{text}");
}

#[test]
fn the_summary_says_what_happens_and_how_much_moves() {
    assert_eq!(summary(&Outline::default()), "no difference");
    let only = |vips_changed, slots, flows| Preview { differs: true, vips_changed, slots, flows, ..Preview::default() };
    let (none, some) = (Moved::new(0, 251), Moved::new(25, 251));
    for (preview, said) in [
        (only(0, none, none), "no VIP changes; no slot and no live flow moves"),
        (only(1, some, Moved::default()), "1 VIP changes; 10.0% of slots move, and no live flow"),
        (only(1200, none, Moved::new(2, 100)), "1,200 VIPs change; no slot and 2 of 100 live flows (2.0%) move"),
        (preview(), "1 VIP changes, 1 is added; 5.0% of slots and 1,312 of 10,240 live flows (12.8%) move"),
    ] {
        assert_eq!(summary(&preview.outline()), said);
    }
}

#[test]
fn many_vips_are_told_of_in_part() {
    let vips = (0..1000).map(|number| VipChange { name: format!("vip-{number}"), ..web() }).collect();
    let text = whole(&Preview { vips, vips_changed: 1000, ..preview() });
    assert!(text.lines().count() < 450, "{} lines", text.lines().count());
    assert!(text.ends_with("details of 980 more VIPs: -o json\n"));
}
