//! The daemon is killed at each phase of an apply, under a steady stream of numbered packets on 1,000 flows: no packet is
//! lost or misled meanwhile, and the next daemon brings about what was asked for.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    scenario::scenario,
    settings::{PoolBackend, Settings},
    topology::{Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::numbered::{PORT, Stream},
    wait,
};

/// Time that packets have to show what a step did.
const BETWEEN: Duration = Duration::from_millis(200);

/// The stream's VIPs, with backends of these weights, so that a change of them gives the VIPs other rings; and one that
/// comes and goes and needs another program.
fn settings(lab: &Lab, weights: [u32; 3], other: bool) -> Settings {
    let backends = lab.backends.iter().zip(weights);
    let backends =
        backends.map(|(backend, weight)| PoolBackend { weight, ..PoolBackend::new(backend.name(), backend.v4) });
    let settings = Settings::empty(lab).pool_of("stream", backends.collect());
    let settings =
        settings.vip("stream-v4", (VIP_V4, PORT, "udp"), "stream").vip("stream-v6", (VIP_V6, PORT, "udp"), "stream");
    if !other {
        return settings;
    }
    let mut settings = settings.vip("other", (VIP_V4, 8000, "tcp"), "stream");
    if let Some(vip) = settings.vips.last_mut() {
        vip.keys.push("hash = \"source-ip\"".into());
    }
    settings
}

/// Phases of an apply; a number says at which of several the daemon dies. At a start over tables that need nothing it comes
/// to none of them before, but to the program's once.
const PHASES: [&str; 11] = [
    "generation-temp",
    "generation-written",
    "program-staged:2",
    "program-swapped:2",
    "apply-op:1",
    "apply-op:2",
    "apply-op:3",
    "apply-op:4",
    "apply-op:5",
    "apply-op:6",
    "apply-op:7",
];

#[test]
fn an_apply_that_is_cut_short_anywhere_is_completed_by_the_next_daemon() {
    scenario(&Layout::with_backends(3), |lab| {
        let files = [settings(lab, [1, 1, 1], false), settings(lab, [9, 1, 3], true)];
        let mut lb = Balancer::start(lab, &files[0])?;
        let stream = Stream::start(lab, vips(PORT))?;
        let mut died = 0;
        for (phase, file) in PHASES.into_iter().zip(files.iter().cycle().skip(1)) {
            lb.stop()?;
            lb.set("LB_LATCH", phase);
            lb.start_again()?;
            lb.write(&file.to_string())?;
            let config = lb.config().display().to_string();
            let applied = lb.cli(&["apply", &config])?;
            if applied.status.success() {
                // It has fewer ops than that.
                ensure!(phase.starts_with("apply-op"), "the daemon lived through {phase}");
                lb.stop()?;
            } else {
                died += 1;
                lb.wait_killed().with_context(|| format!("at {phase}"))?;
            }
            thread::sleep(BETWEEN);
            lb.set("LB_LATCH", "");
            lb.start_again()?;
            wait::until(&format!("what was cut short at {phase} is in force"), LIMIT, || {
                let plan = lb.cli(&["plan", &config])?;
                Ok((plan.status.code() == Some(0)).then_some(()))
            })?;
            thread::sleep(BETWEEN);
        }
        ensure!(died >= 9, "the daemon died {died} times only");
        let report = stream.finish()?;
        println!("killed at {died} phases of applies: {report}");
        ensure!(report.is_whole(), "{report}");
        Ok(())
    });
}

#[test]
fn applies_and_rollbacks() {
    scenario(&Layout::with_backends(3), |lab| {
        let (first, second) = (settings(lab, [1, 1, 1], false), settings(lab, [9, 1, 3], true));
        let lb = Balancer::start(lab, &first)?;
        let stream = Stream::start(lab, vips(PORT))?;
        let ok = |arguments: &[&str]| -> Result<()> {
            let output = lb.cli(arguments)?;
            ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            thread::sleep(BETWEEN);
            Ok(())
        };
        lb.write(&second.to_string())?;
        let config = lb.config().display().to_string();
        ok(&["apply", &config, "--confirm", "60s"])?;
        ok(&["confirm"])?;
        ok(&["rollback"])?;
        ok(&["apply", &config, "--confirm", "1s"])?;
        wait::until("it goes back unconfirmed", LIMIT, || {
            Ok((lb.json(&["status"])?["in_force"]["origin"] == "rollback").then_some(()))
        })?;
        lab.log().expect("not confirmed in time");
        thread::sleep(BETWEEN);
        let report = stream.finish()?;
        println!("applies, a confirmation, a rollback and an expiry: {report}");
        ensure!(report.is_whole(), "{report}");
        Ok(())
    });
}
