//! Tables that become too small, or are asked for in another size, under a steady stream of numbered packets on 1,000 flows.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::Balancer,
    continuity::{self, BETWEEN, EVEN, UNEVEN, with_others},
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Lab, Layout, vips},
    traffic::sessions::Sessions,
};

/// The stream's VIPs, with backends of these weights, and so many others.
fn settings(lab: &Lab, others: u16, weights: [u32; 3]) -> Settings {
    with_others(continuity::settings(lab, weights), others, "stream")
}

/// The file with another size of the flow table.
fn sized(settings: &Settings, entries: u32) -> String {
    let text = settings.to_string();
    let line = "flow_table_entries = 131_072";
    assert!(text.contains(line), "{text}");
    text.replace(line, &format!("flow_table_entries = {entries}"))
}

fn under_a_stream(what: &str, lab: &Lab, steps: impl FnOnce(&mut Balancer) -> Result<()>) -> Result<()> {
    continuity::under_a_stream(what, lab, &settings(lab, 0, EVEN), |lb| {
        steps(lb)?;
        let names = lb.pin_path().join("maps").read_dir()?.filter_map(Result::ok);
        let left: Vec<_> =
            names.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().contains("next")).collect();
        ensure!(left.is_empty(), "{left:?} are left");
        Ok(())
    })
}

#[test]
fn tables_grow_and_the_flow_table_shrinks_at_a_reload() {
    scenario(&Layout::with_backends(3), |lab| {
        let (few, many) = (settings(lab, 0, EVEN), settings(lab, 100, UNEVEN));
        under_a_stream("tables grow three times and the flow table shrinks twice", lab, |lb| {
            let of_vips = |lb: &Balancer| -> Result<u64> {
                let status = lb.json(&["status"])?;
                status["tables"]["vips"]["capacity"].as_u64().with_context(|| format!("no capacity: {status}"))
            };
            let before = of_vips(lb)?;
            let texts = [
                sized(&few, 1_048_576),
                sized(&many, 1_048_576),
                sized(&many, 32_768),
                sized(&few, 65_536),
                sized(&few, 16_384),
            ];
            for text in texts {
                lb.reload_text(&text)?;
                thread::sleep(BETWEEN);
            }
            ensure!(
                (lb.metrics()?.value("lb_flow_table_capacity")? - 16_384.0).abs() < 0.5,
                "the size is not as the file says"
            );
            let after = of_vips(lb)?;
            ensure!(after >= 2 * before && before > 0, "room for {before} VIPs, then for {after}");
            Ok(())
        })
    });
}

#[test]
fn a_start_over_tables_that_are_too_small_makes_them_larger() {
    scenario(&Layout::with_backends(3), |lab| {
        let (few, many) = (settings(lab, 0, EVEN), settings(lab, 100, UNEVEN));
        under_a_stream("restarts with larger and smaller tables", lab, |lb| {
            for text in [sized(&many, 524_288), sized(&few, 32_768)] {
                lb.kill()?;
                lb.write(&text)?;
                lb.start_again()?;
                thread::sleep(BETWEEN);
            }
            Ok(())
        })
    });
}

#[test]
fn a_daemon_that_is_killed_while_tables_are_replaced_is_followed_by_one_that_completes_it() {
    scenario(&Layout::with_backends(3), |lab| {
        let weighted = [UNEVEN, EVEN, UNEVEN].map(|weights| settings(lab, 0, weights));
        under_a_stream("killed at three places of a growth", lab, |lb| {
            let latches = [("tables-copied", 262_144), ("program-staged", 524_288), ("program-swapped", 1_048_576)];
            for ((latch, entries), settings) in latches.into_iter().zip(&weighted) {
                lb.kill()?;
                lb.write(&sized(settings, entries))?;
                lb.start_cut_short(latch)?;
                thread::sleep(BETWEEN);
                lb.start_again()?;
                thread::sleep(BETWEEN);
                let now = lb.metrics()?.value("lb_flow_table_capacity")?;
                ensure!((now - f64::from(entries)).abs() < 0.5, "after {latch} the flow table has {now} entries");
            }
            Ok(())
        })
    });
}

#[test]
fn connections_of_adaptive_vips_stay_while_rings_and_tables_grow() {
    scenario(&Layout::with_backends(6), |lab| {
        let web = |others| with_others(Settings::web(lab, Health::None), others, "web").tracked("adaptive");
        let lb = Balancer::start(lab, &web(0).only(&["web-1", "web-2", "web-3"]))?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 40)?;
        // Of these nothing is heard meanwhile.
        let mut silent = Sessions::open(&lab.client, &vips(80), 40)?;
        for (settings, entries) in [(web(100), 262_144), (web(0), 16_384)] {
            lb.reload_text(&sized(&settings, entries))?;
            lb.wait_up(&["web-1", "web-2", "web-3", "web-4", "web-5", "web-6"])?;
            sessions.all_stay()?;
        }
        silent.all_stay()
    });
}
