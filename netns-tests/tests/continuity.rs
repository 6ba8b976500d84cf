//! What operators do at noon, under a steady stream of numbered packets on 1,000 flows: none is lost, none comes twice, no
//! flow moves. Each test prints its figures.

use std::thread;

use netns_tests::{
    continuity::{self, BETWEEN, EVEN, under_a_stream},
    scenario::scenario,
    settings::{PoolBackend, Settings},
    topology::{Lab, Layout},
};

/// VIPs beside the stream's, of a pool of their own, whose backends have these weights.
fn with_others(lab: &Lab, vips: u16, weights: &[u32]) -> Settings {
    let backend = |(number, weight): (usize, &u32)| {
        let lab_backend = &lab.backends[number % lab.backends.len()];
        PoolBackend { weight: *weight, ..PoolBackend::new(&format!("other-{number}"), lab_backend.v4) }
    };
    let backends = weights.iter().enumerate().map(backend).collect();
    continuity::with_others(continuity::settings(lab, EVEN).pool_of("others", backends), vips, "others")
}

#[test]
fn kills_and_restarts() {
    scenario(&Layout::with_backends(3), |lab| {
        let settings = continuity::settings(lab, EVEN);
        under_a_stream("kill -9 and restart, three times", lab, &settings, |lb| {
            for _ in 0..3 {
                lb.kill()?;
                thread::sleep(BETWEEN);
                lb.start_again()?;
                thread::sleep(BETWEEN);
            }
            Ok(())
        })
    });
}

#[test]
fn reloads_of_an_unchanged_file() {
    scenario(&Layout::with_backends(3), |lab| {
        let settings = continuity::settings(lab, EVEN);
        under_a_stream("ten reloads of an unchanged file", lab, &settings, |lb| {
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
        under_a_stream("six reloads that add, remove and re-weight backends of other VIPs", lab, &start, |lb| {
            for settings in &changes {
                lb.reload(settings)?;
                thread::sleep(BETWEEN);
            }
            Ok(())
        })
    });
}
