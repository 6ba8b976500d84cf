//! The daemon is killed at each phase of an apply, under a steady stream of numbered packets on 1,000 flows: no packet is
//! lost or misled meanwhile, and the next daemon brings about what was asked for.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::LIMIT,
    continuity::{BETWEEN, EVEN, UNEVEN, settings, under_a_stream},
    scenario::scenario,
    settings::Settings,
    topology::{Lab, Layout, VIP_V4},
    wait,
};

/// Both files: the second gives the stream's VIPs other rings, and has one more, which needs another program.
fn files(lab: &Lab) -> [Settings; 2] {
    let mut second = settings(lab, UNEVEN).vip("other", (VIP_V4, 8000, "tcp"), "stream");
    if let Some(vip) = second.vips.last_mut() {
        vip.keys.push("hash = \"source-ip\"".into());
    }
    [settings(lab, EVEN), second]
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
        let files = files(lab);
        under_a_stream("killed at phases of applies", lab, &files[0], |lb| {
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
            println!("the daemon died at {died} of {} phases", PHASES.len());
            ensure!(died >= 9, "the daemon died {died} times only");
            Ok(())
        })
    });
}

#[test]
fn applies_and_rollbacks() {
    scenario(&Layout::with_backends(3), |lab| {
        let [first, second] = files(lab);
        under_a_stream("applies, a confirmation, a rollback and an expiry", lab, &first, |lb| {
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
            lab.log().expect("not confirmed in time");
            ok(&["apply", &config, "--confirm", "1s"])?;
            wait::until("it goes back unconfirmed", LIMIT, || {
                Ok((lb.json(&["status"])?["in_force"]["origin"] == "rollback").then_some(()))
            })
        })
    });
}
