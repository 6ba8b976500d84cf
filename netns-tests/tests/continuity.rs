//! What operators do at noon, under a steady stream of numbered packets on 1,000 flows: none is lost, none comes twice, no
//! flow moves. Each test prints its figures.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::Balancer,
    scenario::scenario,
    settings::{Family, Health, PoolBackend, Settings},
    topology::{Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::numbered::{PORT, Stream},
};

/// Time that the stream goes on before and after each step, for packets to show what it did.
const BETWEEN: Duration = Duration::from_millis(300);

/// A VIP for the stream over each family, of three backends.
fn settings(lab: &Lab) -> Settings {
    let stream = Settings::empty(lab).pool("stream", lab, Family::V4, Health::None);
    stream.vip("stream-v4", (VIP_V4, PORT, "udp"), "stream").vip("stream-v6", (VIP_V6, PORT, "udp"), "stream")
}

/// The same with further VIPs of a pool of their own, whose backends have these weights.
fn with_others(lab: &Lab, vips: u16, weights: &[u32]) -> Settings {
    let backend = |(number, weight): (usize, &u32)| {
        let lab_backend = &lab.backends[number % lab.backends.len()];
        PoolBackend { weight: *weight, ..PoolBackend::new(&format!("other-{number}"), lab_backend.v4) }
    };
    let settings = settings(lab).pool_of("others", weights.iter().enumerate().map(backend).collect());
    (0..vips).fold(settings, |settings, number| {
        settings.vip(&format!("other-{number}"), (VIP_V4, 8000 + number, "tcp"), "others")
    })
}

/// Runs `steps` under a stream and demands that it noticed nothing.
fn under_a_stream(
    what: &str,
    start: &Settings,
    lab: &Lab,
    steps: impl FnOnce(&mut Balancer) -> Result<()>,
) -> Result<()> {
    let mut lb = Balancer::start(lab, start)?;
    let stream = Stream::start(lab, vips(PORT))?;
    steps(&mut lb)?;
    thread::sleep(BETWEEN);
    let report = stream.finish()?;
    println!("{what}: {report}");
    ensure!(report.is_whole(), "{what}: {report}");
    Ok(())
}

#[test]
fn kills_and_restarts() {
    scenario(&Layout::with_backends(3), |lab| {
        let settings = settings(lab);
        under_a_stream("kill -9 and restart, three times", &settings, lab, |lb| {
            for _ in 0..3 {
                thread::sleep(BETWEEN);
                lb.kill()?;
                thread::sleep(BETWEEN);
                lb.start_again()?;
            }
            Ok(())
        })
    });
}

#[test]
fn reloads_of_an_unchanged_file() {
    scenario(&Layout::with_backends(3), |lab| {
        let settings = settings(lab);
        under_a_stream("ten reloads of an unchanged file", &settings, lab, |lb| {
            for _ in 0..10 {
                lb.hang_up()?;
                thread::sleep(BETWEEN / 2);
            }
            Ok(())
        })
    });
}

#[test]
fn reloads_that_change_other_vips() {
    scenario(&Layout::with_backends(3), |lab| {
        let start = with_others(lab, 4, &[1, 1]);
        let changes: [(u16, &[u32]); 6] =
            [(4, &[1, 1, 1]), (4, &[9, 1, 1]), (8, &[9, 1]), (2, &[0, 1]), (1, &[1]), (6, &[5, 0, 3])];
        let changes = changes.map(|(vips, weights)| with_others(lab, vips, weights));
        under_a_stream("six reloads that add, remove and re-weight backends of other VIPs", &start, lab, |lb| {
            for settings in &changes {
                lb.reload(settings)?;
                thread::sleep(BETWEEN);
            }
            Ok(())
        })
    });
}
