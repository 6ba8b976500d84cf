//! A new `lb` over the tables of the one before, which have another layout: flows go on where they were. Needs an `lb` that
//! was built with the feature `next-layout`, which `LB_NEXT_BIN` names.

use std::{fs, os::unix::process::ExitStatusExt, path::Path, thread, time::Duration};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::{self, Balancer},
    scenario::{is_root, scenario},
    settings::{PoolBackend, Settings},
    topology::{Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::numbered::{PORT, Stream},
};

/// Time that the stream goes on before and after each step, for packets to show what it did.
const BETWEEN: Duration = Duration::from_millis(300);

/// A VIP for the stream over each family, with backends of these weights. With other weights the ring is another one: flows
/// stay only because they are known.
fn settings(lab: &Lab, weights: [u32; 3]) -> Settings {
    let backends = lab.backends.iter().zip(weights).enumerate().map(|(number, (backend, weight))| PoolBackend {
        weight,
        ..PoolBackend::new(&format!("stream-{number}"), backend.v4)
    });
    let stream = Settings::empty(lab).pool_of("stream", backends.collect());
    stream.vip("stream-v4", (VIP_V4, PORT, "udp"), "stream").vip("stream-v6", (VIP_V6, PORT, "udp"), "stream")
}

/// Shares of the backends.
const EVEN: [u32; 3] = [1, 1, 1];
const UNEVEN: [u32; 3] = [9, 1, 3];

fn under_a_stream(what: &str, lab: &Lab, steps: impl FnOnce(&mut Balancer) -> Result<()>) -> Result<()> {
    let mut lb = Balancer::start(lab, &settings(lab, EVEN))?;
    let stream = Stream::start(lab, vips(PORT))?;
    thread::sleep(BETWEEN);
    steps(&mut lb)?;
    thread::sleep(BETWEEN);
    let report = stream.finish()?;
    println!("{what}: {report}");
    ensure!(report.is_whole(), "{what}: {report}");
    Ok(())
}

/// Demands that just the tables of this version are there.
fn only(lb: &Balancer, version: &str) -> Result<()> {
    let alias = fs::read_link(lb.pin_path().join("maps"))?;
    ensure!(alias == Path::new(version).join("maps"), "maps leads to {}", alias.display());
    let names: Vec<_> = lb.pin_path().read_dir()?.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    let versions = names.iter().filter(|name| name.to_string_lossy().starts_with('v')).count();
    ensure!(versions == 1 && !names.iter().any(|name| name.to_string_lossy().contains("next")), "{names:?} are there");
    Ok(())
}

#[test]
fn a_new_lb_with_another_layout_takes_over_with_all_flows() {
    if !is_root() {
        return;
    }
    let next = balancer::next_binary().expect("an lb of the next layout");
    scenario(&Layout::with_backends(3), |lab| {
        let (even, uneven) = (settings(lab, EVEN), settings(lab, UNEVEN));
        under_a_stream("an upgrade to another layout", lab, |lb| {
            let before = lb.metrics()?.value("lb_flow_table_entries")?;
            let link = lb.link()?;
            lb.kill()?;
            lb.install(next.clone());
            lb.start_again()?;
            only(lb, "v3")?;
            ensure!(lb.link()?.id == link.id, "the link was made anew");
            let after = lb.metrics()?.value("lb_flow_table_entries")?;
            ensure!(after >= before && before > 900.0, "{before} flows were known, then {after}");

            lb.reload(&uneven)?;
            thread::sleep(BETWEEN);
            lb.reload(&even)?;

            // The way back is closed, and says so; flows go on meanwhile.
            lb.stop()?;
            lb.install(balancer::binary()?);
            let config = lb.config().display().to_string();
            let output = lb.cli(&["run", "--config", &config])?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
            ensure!(said.contains("v3") && said.contains("run the lb that made them"), "no remedy: {said}");
            lb.install(next);
            lb.start_again()
        })
    });
}

#[test]
fn an_upgrade_that_is_killed_is_completed_by_the_next_start() {
    if !is_root() {
        return;
    }
    let next = balancer::next_binary().expect("an lb of the next layout");
    scenario(&Layout::with_backends(3), |lab| {
        let uneven = settings(lab, UNEVEN);
        under_a_stream("an upgrade that is killed at three places", lab, |lb| {
            lb.stop()?;
            lb.write(&uneven.to_string())?;
            lb.install(next);
            for latch in ["tables-copied", "program-staged", "program-swapped"] {
                let config = lb.config().display().to_string();
                let output = lb.command().args(["run", "--config", &config]).env("LB_LATCH", latch).output()?;
                ensure!(output.status.signal() == Some(9), "it was not killed at {latch}: {output:?}");
                thread::sleep(BETWEEN);
            }
            lb.start_again()?;
            only(lb, "v3")
        })
    });
}
