//! What operators order by hand: connections stay, new ones obey, and a restart forgets nothing.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::Balancer,
    scenario::scenario,
    settings::{Health, Settings, TRACKED},
    share,
    topology::{CLIENT_V4, Layout, vips},
    traffic::{http, is_silent, sessions::Sessions},
    wait,
};
use serde_json::Value;

/// A closed flow counts as live for up to 18 s more.
const ENDED: Duration = Duration::from_mins(1);

/// The override of a backend as `lb status` lists it, or null.
fn given(lb: &Balancer, name: &str) -> Result<Value> {
    let status = lb.json(&["status"])?;
    let overrides = status["overrides"].as_array().with_context(|| format!("no overrides: {status}"))?;
    Ok(overrides.iter().find(|one| one["name"] == name).cloned().unwrap_or_default())
}

/// Asks both VIPs and demands that everybody answers but these.
fn all_but(lab: &netns_tests::topology::Lab, out: &[&str]) -> Result<()> {
    for to in vips(80) {
        let answers = http::ask_many(&lab.client, to, 200);
        let wrong = ["web-1", "web-2", "web-3"].iter().find(|name| out.contains(name) == (answers.of(name) > 0));
        ensure!(answers.failed() == 0 && wrong.is_none(), "{answers} at {to} without {out:?}");
    }
    Ok(())
}

#[test]
fn a_drain_keeps_connections_outlives_the_daemon_and_ends_with_the_last_of_them() {
    scenario(&Layout::with_backends(3), |lab| {
        let mut lb = Balancer::start(lab, &Settings::web(lab, Health::Http(80)))?;
        lb.wait_up(&["web-1", "web-2", "web-3"])?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 40)?;
        let held = sessions.of("web-1");
        ensure!(held > 0 && sessions.of("web-2") > 0, "the connections are not spread");
        let ordered = lb.json(&["backend", "drain", "web/web-1", "--deadline", "10m"])?;
        ensure!(ordered["override"]["state"] == "draining", "{ordered}");
        let begun = given(&lb, "web-1")?;
        ensure!(begun["flows_at_start"] == held && begun["flows_left"] == held, "{held} connections, {begun}");
        all_but(lab, &["web-1"])?;
        sessions.all_stay()?;

        lb.kill()?;
        sessions.all_stay()?;
        lb.start_again()?;
        let after = given(&lb, "web-1")?;
        for key in ["state", "since", "uid", "deadline", "flows_at_start"] {
            ensure!(after[key] == begun[key] && !after[key].is_null(), "{key}: {begun}, then {after}");
        }
        sessions.all_stay()?;
        all_but(lab, &["web-1"])?;
        thread::sleep(Duration::from_secs(3));
        ensure!(given(&lb, "web-1")?["state"] == "draining", "it ended with {held} connections open");

        sessions.forget("web-1");
        wait::until("the drain ends", ENDED, || Ok((given(&lb, "web-1")?["state"] == "drained").then_some(())))?;
        sessions.all_stay()?;
        all_but(lab, &["web-1"])?;
        lb.json(&["backend", "enable", "web-1"])?;
        ensure!(given(&lb, "web-1")?.is_null());
        lb.wait_up(&["web-1", "web-2", "web-3"])?;
        sessions.all_stay()?;
        all_but(lab, &[])
    });
}

#[test]
fn a_drain_of_an_adaptive_vip_keeps_connections_that_nobody_counts() {
    scenario(&Layout::with_backends(3), |lab| {
        let mut lb = Balancer::start(lab, &Settings::web(lab, Health::None).tracked("adaptive"))?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 40)?;
        ensure!(sessions.of("web-1") > 0 && sessions.of("web-2") > 0, "the connections are not spread");
        let ordered = lb.json(&["backend", "drain", "web-1", "--deadline", "10m"])?;
        let begun = &ordered["override"];
        ensure!(begun["flows_at_start"] == 0 && begun["silent_flows"] == true, "{ordered}");
        all_but(lab, &["web-1"])?;
        lb.kill()?;
        lb.start_again()?;
        thread::sleep(Duration::from_secs(3));
        // Nothing was heard of them until now.
        sessions.all_stay()?;
        ensure!(given(&lb, "web-1")?["state"] == "draining", "it ended with connections open");
        lab.log().expect("backend");
        sessions.forget("web-2");
        lb.json(&["backend", "drain", "web-2", "--deadline", "10m"])?;
        let endless = lb.json(&["backend", "drain", "web-3"])?;
        ensure!(endless["warnings"].to_string().contains("ends only by an order"), "{endless}");
        // Nobody takes new flows; known ones go on where they were.
        ensure!(is_silent(&lab.client, vips(80)[0]), "the VIP takes new flows");
        sessions.all_stay()?;
        for backend in ["web-1", "web-2", "web-3"] {
            lb.json(&["backend", "enable", backend])?;
        }
        sessions.all_stay()?;
        all_but(lab, &[])
    });
}

#[test]
fn a_drain_moves_what_is_left_at_its_deadline() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(3), |lab| {
            let lb = Balancer::start(lab, &Settings::web(lab, Health::None).tracked(tracking))?;
            let sessions = Sessions::open(&lab.client, &vips(80), 20)?;
            ensure!(sessions.of("web-2") > 0, "the connections are not spread");
            let waited = lb.cli(&["backend", "drain", "web-2", "--deadline", "4s", "--wait"])?;
            let said = String::from_utf8_lossy(&waited.stderr).into_owned();
            ensure!(waited.status.success() && said.contains("live flows left of"), "{waited:?}");
            ensure!(given(&lb, "web-2")?["state"] == "drained");
            all_but(lab, &["web-2"])
        });
    }
}

#[test]
fn a_weight_by_hand_takes_its_share_until_the_file_counts_again() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(3), |lab| {
            let settings = Settings::web(lab, Health::None).tracked(tracking);
            let mut lb = Balancer::start(lab, &settings)?;
            let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
            lb.json(&["backend", "weight", "web-3", "400"])?;
            lb.kill()?;
            lb.start_again()?;
            let mut weights = settings.weights();
            let of_file = weights.insert("web-3".into(), 400);
            let answers = http::ask_many(&lab.client, vips(80)[0], 2000);
            share::compare(&answers, &weights).map_err(anyhow::Error::msg)?;
            lb.json(&["backend", "weight", "web-3", "file"])?;
            weights.extend(of_file.map(|weight| ("web-3".into(), weight)));
            let answers = http::ask_many(&lab.client, vips(80)[0], 2000);
            share::compare(&answers, &weights).map_err(anyhow::Error::msg)?;
            sessions.all_stay()
        });
    }
}

#[test]
fn a_disabled_vip_is_silent_and_its_connections_go_on_when_it_is_enabled() {
    for tracking in TRACKED {
        scenario(&Layout::with_backends(3), |lab| {
            let lb = Balancer::start(lab, &Settings::web(lab, Health::None).tracked(tracking))?;
            let mut sessions = Sessions::open(&lab.client, &vips(80), 30)?;
            let [v4, v6] = vips(80);
            lb.json(&["vip", "disable", "web-v4"])?;
            ensure!(is_silent(&lab.client, v4), "the VIP still serves");
            assert_eq!(http::ask_many(&lab.client, v6, 100).failed(), 0);
            ensure!(lb.cli(&["status", "--check"])?.status.success(), "what was ordered is no problem");
            let dropped = lb.stats()?.verdict("no_backend")?;
            ensure!(dropped > 0, "nothing was dropped");
            let explained = lb.json(&["explain", &format!("tcp {CLIENT_V4}:51000 {v4}")])?;
            ensure!(explained["why"].to_string().contains("an operator disabled vip web-v4"), "{explained}");
            lb.json(&["vip", "enable", "web-v4"])?;
            sessions.all_stay()?;
            assert_eq!(http::ask_many(&lab.client, v4, 100).failed(), 0);
            ensure!(lb.metrics()?.value("lb_flows_moved_total")? < 0.5, "flows moved");
            let unknown = lb.cli(&["vip", "disable", "web-v5"])?;
            let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
            ensure!(unknown.status.code() == Some(1) && said.contains("did you mean web-v"), "{said}");
            Ok(())
        });
    }
}
