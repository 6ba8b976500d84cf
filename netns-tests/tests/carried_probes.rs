//! Health probes that are carried, where there is more than one way for them: beside another lb, through one gateway, on a
//! tagged link, after a reload that has them go elsewhere, and when the daemon takes all down.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT, binary},
    netns::Namespace,
    scenario::scenario,
    settings::{Family, Health, Settings},
    topology::{
        LB_SECOND_INTERFACE, LB_V4, LB_V6, Lab, Layout, ROUTER_TO_LB, VIP_V4, VIP_V6, extras::OtherHost, vips, vlans,
    },
    traffic::{http, sessions::Sessions},
    wait,
};

const BOTH: [&str; 2] = ["web-1", "web-2"];

/// The usual VIPs over backends of both families, with checks that go to the VIP or are not made.
fn settings(lab: &Lab) -> String {
    let settings = Settings::empty(lab)
        .pool("v4", lab, Family::V4, Health::Http(80))
        .pool("v6", lab, Family::V6, Health::Http(80))
        .vip("web-v4", (VIP_V4, 80, "tcp"), "v4")
        .vip("web-v6", (VIP_V6, 80, "tcp"), "v6");
    insisting(&settings)
}

fn insisting(settings: &Settings) -> String {
    settings.to_string().replace(".health]\n", ".health]\nprobe = \"vip\"\n")
}

/// All that probes need of a host: interfaces, rules, routes and programs of tc.
fn traces(namespace: &Namespace) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for arguments in [
        &["-o", "link"][..],
        &["rule"],
        &["-6", "rule"],
        &["route", "show", "table", "all"],
        &["-6", "route", "show", "table", "all"],
    ] {
        let shown = namespace.run("ip", arguments)?;
        let ours = shown.lines().filter(|line| ["lbp-", "fwmark"].iter().any(|word| line.contains(word)));
        found.extend(ours.map(str::to_owned));
    }
    let disciplines = namespace.run("tc", &["qdisc", "show"])?;
    found.extend(disciplines.lines().filter(|line| line.contains("clsact")).map(str::to_owned));
    Ok(found)
}

/// Demands that the VIPs are served by both backends.
fn all_serve(lab: &Lab) -> Result<()> {
    for vip in vips(80) {
        let answers = http::ask_many(&lab.client, vip, 40);
        ensure!((answers.failed(), answers.by_backend.len()) == (0, 2), "{vip}: {answers}");
    }
    Ok(())
}

/// Breaks the tunnel to the second backend, or mends it: only what is carried finds that.
fn unwraps(lab: &Lab, does: bool) -> Result<()> {
    let (backend, lb) = (lab.backends.get(1).context("a second backend")?, binary()?);
    if does { backend.attach_decap(&lb) } else { backend.detach_decap(&lb) }
}

#[test]
fn two_lbs_of_one_host_carry_their_own_probes_and_one_that_leaves_disturbs_no_other() {
    scenario(&Layout { second_link: true, ..Layout::with_backends(2) }, |lab| {
        lab.log().expect("probe_mark");
        let first = Settings { interfaces: vec!["eth0".into()], ..Settings::web(lab, Health::Http(80)) };
        let one = Balancer::start_text(lab, &insisting(&first))?;
        one.wait_up(&BOTH)?;
        let alone = traces(&lab.lb)?;
        let host = OtherHost { namespace: Arc::clone(&lab.lb), tunnels: [LB_V4.into(), LB_V6.into()] };
        let second = Settings {
            interfaces: vec![LB_SECOND_INTERFACE.into()],
            metrics: SocketAddr::from(([127, 0, 0, 1], 9651)),
            socket: lab.folder().join("other.sock"),
            state_dir: lab.folder().join("other"),
            ..first.clone()
        };
        let mut other = Balancer::start_other(lab, &host, &second)?;
        // It has the mark of the first: says so, and asks directly until it has one of its own.
        wait::until("the second says whose the mark is", LIMIT, || {
            let status = other.json(&["status"])?.to_string();
            ensure!(status.contains("probe_mark"), "{status}");
            Ok(Some(()))
        })?;
        other.wait_up(&BOTH)?;
        ensure!(traces(&lab.lb)? == alone, "{:?}", traces(&lab.lb)?);
        other.reload_text(&second.to_string().replace("[daemon]\n", "[daemon]\nprobe_mark = 0x1c000000\n"))?;
        other.wait_up(&BOTH)?;
        ensure!(traces(&lab.lb)?.len() == 2 * alone.len(), "{:?}", traces(&lab.lb)?);
        unwraps(lab, false)?;
        one.wait_up(&BOTH[..1])?;
        other.wait_up(&BOTH[..1])?;
        other.stop()?;
        ensure!(other.cli(&["unload"])?.status.success(), "lb unload failed");
        ensure!(traces(&lab.lb)? == alone, "{:?}", traces(&lab.lb)?);
        unwraps(lab, true)?;
        one.wait_up(&BOTH)?;
        unwraps(lab, false)?;
        one.wait_up(&BOTH[..1])
    });
}

#[test]
fn a_daemon_that_takes_forwarding_down_leaves_nothing_of_its_probes() {
    scenario(&Layout::with_backends(2), |lab| {
        let before = traces(&lab.lb)?;
        let mut lb = Balancer::prepare(lab, &Settings::empty(lab))?;
        lb.write(&settings(lab))?;
        lb.argue("--detach-on-exit");
        lb.start_again()?;
        lab.quiet_offloads_of_balancer()?;
        lb.wait_up(&BOTH)?;
        ensure!(traces(&lab.lb)? != before, "nothing is seen of probes");
        lb.stop()?;
        ensure!(traces(&lab.lb)? == before && !lb.pin_path().exists(), "{:?}", traces(&lab.lb)?);
        // The next one makes all anew, and leaves it to the one after it.
        let mut lb = Balancer::start_text(lab, &settings(lab))?;
        lb.wait_up(&BOTH)?;
        all_serve(lab)?;
        let there = traces(&lab.lb)?;
        lb.stop()?;
        ensure!(traces(&lab.lb)? == there, "{:?}", traces(&lab.lb)?);
        lb.start_again()?;
        lb.wait_up(&BOTH)?;
        ensure!(traces(&lab.lb)? == there, "{:?}", traces(&lab.lb)?);
        unwraps(lab, false)?;
        lb.wait_up(&BOTH[..1])
    });
}

#[test]
fn probes_go_by_the_one_gateway_and_on_links_whose_frames_are_tagged() {
    let through_gateway = |lab: &Lab| -> Result<String> {
        let shown = lab.router.run("ip", &["-brief", "link", "show", ROUTER_TO_LB])?;
        let mac = shown.split_whitespace().nth(2).context("the router's MAC address")?;
        Ok(settings(lab).replace("[dataplane]", &format!("[dataplane]\nnext_hop = {mac:?}")))
    };
    // The tag that lb's frames leave with, and whether there is one gateway for all.
    for (tag, gateway) in [(None, true), (Some(0), false), (Some(100), true)] {
        scenario(&Layout::with_backends(2), |lab| {
            println!("tag {tag:?}, gateway {gateway}");
            let _ports = tag.map(|tag| vlans::tag_plain_link(lab, tag)).transpose()?;
            let text = if gateway { through_gateway(lab)? } else { settings(lab) };
            let lb = Balancer::start_text(lab, &text)?;
            lb.wait_up(&BOTH)?;
            all_serve(lab)?;
            unwraps(lab, false)?;
            lb.wait_up(&BOTH[..1])
        });
    }
}

#[test]
fn reloads_that_have_probes_go_directly_and_by_the_vip_again_move_no_flow() {
    scenario(&Layout::with_backends(2), |lab| {
        let by_vip = settings(lab);
        let directly = by_vip.replace("probe = \"vip\"", "probe = \"direct\"");
        let lb = Balancer::start_text(lab, &by_vip)?;
        lb.wait_up(&BOTH)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
        let carried = traces(&lab.lb)?;
        for turn in 0..2 {
            lb.reload_text(&directly)?;
            wait::until("nothing is left", LIMIT, || Ok(traces(&lab.lb)?.is_empty().then_some(())))?;
            lb.wait_up(&BOTH)?;
            all_serve(lab).with_context(|| format!("directly, turn {turn}"))?;
            lb.reload_text(&by_vip)?;
            wait::until("all is there again", LIMIT, || Ok((traces(&lab.lb)?.len() == carried.len()).then_some(())))?;
            lb.wait_up(&BOTH)?;
            all_serve(lab).with_context(|| format!("by the vip, turn {turn}"))?;
            sessions.all_stay()?;
        }
        // What each way finds is its own, at once.
        unwraps(lab, false)?;
        lb.wait_up(&BOTH[..1])?;
        lb.reload_text(&directly)?;
        lb.wait_up(&BOTH)?;
        lb.reload_text(&by_vip)?;
        lb.wait_up(&BOTH[..1])
    });
}
