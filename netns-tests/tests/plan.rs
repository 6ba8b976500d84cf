//! `lb plan` tells what a file would change, changes nothing, and is right.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    netns::output,
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Lab, Layout, vips},
    traffic::udp::Flow,
    wait,
};
use serde_json::Value;

/// Live flows, half of them over each family.
const FLOWS: usize = 300;

/// Two VIPs by UDP over one pool.
fn settings(lab: &Lab) -> Settings {
    let mut settings = Settings::web(lab, Health::None);
    settings.vips.iter_mut().for_each(|vip| (vip.port, vip.protocol) = (53, "udp"));
    settings
}

/// The same with a backend less and another weight.
fn changed(lab: &Lab) -> Settings {
    let mut settings = settings(lab).only(&["web-1", "web-2", "web-3"]);
    settings.backend("web-1").weight = 300;
    settings
}

/// Flows that have asked once, with who answered.
fn flows(lab: &Lab) -> Result<Vec<(Flow, String)>> {
    let to = vips(53).into_iter().cycle().take(FLOWS);
    to.map(|vip| {
        let mut flow = Flow::open(&lab.client, vip)?;
        let name = flow.ask()?;
        Ok((flow, name))
    })
    .collect()
}

/// Runs `lb plan` for this text, beside the file that the daemon reads. Returns the exit code, what was printed, and what
/// was said on stderr.
fn plan(lb: &Balancer, lab: &Lab, text: &str, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let file = lab.folder().join("asked.toml");
    fs::write(&file, text)?;
    let output = lb.command().arg("plan").arg(&file).args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

/// The same as JSON, of a file that differs from what runs, or not.
fn told(lb: &Balancer, lab: &Lab, text: &str, differs: bool) -> Result<Value> {
    let (code, printed, said) = plan(lb, lab, text, &["-o", "json"])?;
    ensure!(code == Some(if differs { 2 } else { 0 }), "exit {code:?}: {printed}{said}");
    let told: Value = serde_json::from_str(&printed).with_context(|| printed.clone())?;
    ensure!(told["differs"] == differs, "{told}");
    Ok(told)
}

/// What the tables hold and count.
fn tables(lb: &Balancer) -> Result<(Value, Value, Vec<String>)> {
    let counters = ["lb_ring_changed_slots_total", "lb_vip_packets_total", "lb_backend_packets_total"];
    let metrics = lb.metrics()?;
    let samples = counters.iter().flat_map(|name| metrics.all(name).map(|one| format!("{one:?}")));
    Ok((lb.json(&["ring", "digest"])?, lb.json(&["flow", "count"])?, samples.collect()))
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no number"))
}

#[test]
fn what_is_told_is_what_a_reload_does_and_telling_it_does_nothing() {
    scenario(&Layout::with_backends(4), |lab| {
        let lb = Balancer::start(lab, &settings(lab))?;
        let mut flows = flows(lab)?;
        let before = tables(&lb)?;
        let asked = changed(lab).to_string();
        let told = told(&lb, lab, &asked, true)?;
        let (_, text, _) = plan(&lb, lab, &asked, &[])?;
        ensure!(tables(&lb)? == before, "{before:?}, then {:?}", tables(&lb)?);

        let on_web_4 = flows.iter().filter(|(_, name)| name == "web-4").count() as u64;
        ensure!(on_web_4 > 0, "nobody has a flow to lose");
        let lost = number(&told["flows"]["moved"])?;
        ensure!((lost, number(&told["flows"]["total"])?) == (on_web_4, FLOWS as u64), "{on_web_4} on web-4: {told}");
        ensure!(text.contains(&format!("{lost} of {FLOWS} live flows")), "{text}");
        let slots = number(&told["slots"]["moved"])?;
        ensure!(slots > 0 && told["vips_changed"] == 2, "{told}");

        let changed_slots = || lb.metrics()?.sum("lb_ring_changed_slots_total", &[]);
        let unchanged = changed_slots()?;
        lb.reload_text(&asked)?;
        // A reading of the counters serves for up to a second, on a machine where it takes long.
        wait::until("the slots that were told have changed", LIMIT, || {
            #[expect(clippy::cast_precision_loss, reason = "slots of two rings")]
            let differing = (changed_slots()? - unchanged - slots as f64).abs();
            ensure!(differing < 0.5, "{slots} slots were told, {} changed", changed_slots()? - unchanged);
            Ok(Some(()))
        })?;
        let mut moved = 0;
        for (flow, name) in &mut flows {
            moved += u64::from(flow.ask()? != *name);
        }
        println!("told and moved: {slots} slots, {moved} of {FLOWS} flows");
        ensure!(moved == lost, "{lost} flows were to move, {moved} did");
        Ok(())
    });
}

#[test]
fn a_file_that_says_the_same_in_other_words_is_no_difference() {
    scenario(&Layout::with_backends(3), |lab| {
        let lb = Balancer::start(lab, &settings(lab))?;
        let mut other = settings(lab);
        other.pools[0].backends.reverse();
        let text = other.to_string().replace("[[vip]]", "# a VIP\n[[vip]]");
        let told = told(&lb, lab, &text, false)?;
        ensure!(told["writes"] == 0 && told["vips"] == Value::Array(Vec::new()), "{told}");
        let (code, text, said) = plan(&lb, lab, &text, &[])?;
        ensure!(code == Some(0) && text.contains("no difference"), "{code:?}: {text}{said}");
        Ok(())
    });
}

#[test]
fn a_broken_file_is_refused_with_its_place() {
    scenario(&Layout::with_backends(2), |lab| {
        let lb = Balancer::start(lab, &settings(lab))?;
        let text = settings(lab).to_string().replace("[daemon]", "[daemon]\n  colour = 3");
        let line = text.lines().position(|line| line.contains("colour")).context("no line")? + 1;
        let before = tables(&lb)?;
        let (code, printed, said) = plan(&lb, lab, &text, &[])?;
        let place = format!("asked.toml:{line}:3");
        ensure!(code == Some(3) && said.contains(&place) && printed.is_empty(), "{place}: {code:?}: {printed}{said}");
        ensure!(tables(&lb)? == before, "it has changed something");
        Ok(())
    });
}

#[test]
fn without_a_daemon_it_is_told_of_what_is_pinned_and_of_nothing() {
    scenario(&Layout::with_backends(4), |lab| {
        let mut lb = Balancer::start(lab, &settings(lab))?;
        let flows = flows(lab)?;
        let with_daemon = told(&lb, lab, &changed(lab).to_string(), true)?;
        lb.stop()?;

        let pinned = told(&lb, lab, &changed(lab).to_string(), true)?;
        ensure!(pinned["against"] == "tables", "{pinned}");
        for key in ["slots", "flows", "vips_changed"] {
            ensure!(pinned[key] == with_daemon[key], "{key}: {} by the daemon, {}", with_daemon[key], pinned[key]);
        }
        ensure!(number(&pinned["flows"]["total"])? == flows.len() as u64, "{pinned}");
        let same = told(&lb, lab, &settings(lab).to_string(), false)?;
        ensure!(same["writes"] == 0, "{same}");
        let (_, _, said) = plan(&lb, lab, &settings(lab).to_string(), &[])?;
        ensure!(said.contains("no daemon answers"), "{said}");

        output(lb.command().arg("unload"))?;
        let nothing = told(&lb, lab, &settings(lab).to_string(), true)?;
        ensure!(nothing["against"] == "nothing" && nothing["vips_added"] == 2, "{nothing}");
        ensure!(!lb.pin_path().join("maps").exists(), "it has loaded something");
        Ok(())
    });
}
