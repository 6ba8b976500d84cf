//! A new `lb` over the tables of the one before, which have another layout: flows go on where they were. Needs an `lb` that
//! was built with the feature `next-layout`, which `LB_NEXT_BIN` names.

use std::{fs, path::Path, thread};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::{self, Balancer},
    continuity::{BETWEEN, EVEN, UNEVEN, settings, under_a_stream},
    scenario::{is_root, scenario},
    topology::Layout,
};

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
        under_a_stream("an upgrade to another layout", lab, &even, |lb| {
            let before = lb.metrics()?.value("lb_flow_table_entries")?;
            let link = lb.link()?;
            lb.kill()?;
            lb.install(next.clone());
            lb.start_again()?;
            only(lb, "v4")?;
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
            ensure!(said.contains("v4") && said.contains("run the lb that made them"), "no remedy: {said}");
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
        let (even, uneven) = (settings(lab, EVEN), settings(lab, UNEVEN));
        under_a_stream("an upgrade that is killed at three places", lab, &even, |lb| {
            lb.stop()?;
            lb.write(&uneven.to_string())?;
            lb.install(next);
            for latch in ["tables-copied", "program-staged", "program-swapped"] {
                lb.start_cut_short(latch)?;
                thread::sleep(BETWEEN);
            }
            lb.start_again()?;
            only(lb, "v4")
        })
    });
}
