//! Tables that become too small, or are asked for in another size, under a steady stream of numbered packets on 1,000 flows.

use std::{os::unix::process::ExitStatusExt, thread, time::Duration};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::Balancer,
    scenario::scenario,
    settings::{PoolBackend, Settings},
    topology::{Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::numbered::{PORT, Stream},
};

/// Time that the stream goes on before and after each step, for packets to show what it did.
const BETWEEN: Duration = Duration::from_millis(300);

/// A VIP for the stream over each family, with backends of these weights, and so many others. With other weights the ring is
/// another one: flows stay only because they are known.
fn settings(lab: &Lab, others: u16, weights: [u32; 3]) -> Settings {
    let backends = lab.backends.iter().zip(weights).enumerate().map(|(number, (backend, weight))| PoolBackend {
        weight,
        ..PoolBackend::new(&format!("stream-{number}"), backend.v4)
    });
    let settings = Settings::empty(lab).pool_of("stream", backends.collect());
    let settings =
        settings.vip("stream-v4", (VIP_V4, PORT, "udp"), "stream").vip("stream-v6", (VIP_V6, PORT, "udp"), "stream");
    (0..others).fold(settings, |settings, number| {
        settings.vip(&format!("other-{number}"), (VIP_V4, 8000 + number, "tcp"), "stream")
    })
}

/// The file with another size of the flow table.
fn sized(settings: &Settings, entries: u32) -> String {
    let text = settings.to_string();
    let line = "flow_table_entries = 131_072";
    assert!(text.contains(line), "{text}");
    text.replace(line, &format!("flow_table_entries = {entries}"))
}

/// Shares of the backends.
const EVEN: [u32; 3] = [1, 1, 1];
const UNEVEN: [u32; 3] = [9, 1, 3];

fn under_a_stream(what: &str, lab: &Lab, steps: impl FnOnce(&mut Balancer) -> Result<()>) -> Result<()> {
    let mut lb = Balancer::start(lab, &settings(lab, 0, EVEN))?;
    let stream = Stream::start(lab, vips(PORT))?;
    steps(&mut lb)?;
    thread::sleep(BETWEEN);
    let report = stream.finish()?;
    println!("{what}: {report}");
    ensure!(report.is_whole(), "{what}: {report}");
    let names = lb.pin_path().join("maps").read_dir()?.filter_map(Result::ok);
    let left: Vec<_> =
        names.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().contains("next")).collect();
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

#[test]
fn tables_grow_and_the_flow_table_shrinks_at_a_reload() {
    scenario(&Layout::with_backends(3), |lab| {
        let (few, many) = (settings(lab, 0, EVEN), settings(lab, 100, UNEVEN));
        under_a_stream("tables grow three times and the flow table shrinks twice", lab, |lb| {
            let of_vips = |lb: &Balancer| -> Result<u64> {
                let table = lb.json(&["status"])?["tables"].clone();
                Ok(table["vips"]["capacity"].as_u64().or(table["capacity"]["vips"].as_u64()).unwrap_or_default())
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
                let config = lb.config().display().to_string();
                let output = lb.command().args(["run", "--config", &config]).env("LB_LATCH", latch).output()?;
                ensure!(output.status.signal() == Some(9), "it was not killed at {latch}: {output:?}");
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
