//! Backends that fail together leave a limited ring at its pace, and one that returns starts slowly.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::Balancer,
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Layout, vips},
    traffic::http,
    wait,
};

const PER: Duration = Duration::from_secs(4);
/// A tenth of a default ring.
const BUDGET: usize = 6553;

/// Address by slot, of the first VIP's ring.
fn ring(lb: &Balancer) -> Result<Vec<String>> {
    let ring = lb.json(&["ring", "show", "web-v4", "--slots"])?;
    let backends = ring["backends"].as_array().context("no backends")?;
    let address = |slot: &serde_json::Value| {
        let backend = usize::try_from(slot.as_u64()?).ok().and_then(|at| backends.get(at))?;
        Some(backend["address"].as_str()?.to_owned())
    };
    let slots = ring["slots"].as_array().context("no slots")?;
    slots.iter().map(|slot| address(slot).context("a slot of nobody")).collect()
}

#[test]
fn half_of_the_backends_fail_and_the_ring_moves_a_tenth_at_a_time() {
    scenario(&Layout::with_backends(10), |lab| {
        lab.log().expect("web-");
        let settings = Settings::web(lab, Health::Http(80))
            .each_vip("max_ring_change = \"10%\"")
            .each_vip("max_ring_change_per = \"4s\"")
            .each_vip("min_healthy = \"60%\"");
        let lb = Balancer::start(lab, &settings)?;
        let names: Vec<String> = (1..=10).map(|number| format!("web-{number}")).collect();
        lb.wait_up(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        assert_eq!(http::ask_many(&lab.client, vips(80)[0], 200).failed(), 0);

        let dead: Vec<String> = lab.backends.iter().take(5).map(|backend| backend.v4.to_string()).collect();
        for name in &names[..5] {
            lab.backend(name).stop();
        }
        // What moved since the last look, with the time before that look: no move is taken for older than it is.
        let (mut moves, mut before, mut looked) = (Vec::new(), ring(&lb)?, Instant::now());
        let mut waited = false;
        wait::until("the dead are out of the ring", Duration::from_secs(90), || {
            let now = ring(&lb)?;
            let changed = before.iter().zip(&now).filter(|(before, after)| before != after).count();
            if changed > 0 {
                moves.push((looked, Instant::now(), changed));
            }
            (before, looked) = (now, Instant::now());
            waited |= lb.reason("web-5")?.contains("waits: ring budget, ");
            Ok((!before.iter().any(|address| dead.contains(address))).then_some(()))
        })?;
        ensure!(waited, "nobody was told to wait");
        ensure!(moves.len() >= 5, "half of the ring moved in {} steps", moves.len());
        for (first, _, _) in &moves {
            let within = moves.iter().filter(|(from, until, _)| from >= first && *until < *first + PER);
            let slots: usize = within.map(|(_, _, moved)| moved).sum();
            ensure!(slots <= BUDGET, "{slots} slots in {PER:?}: {moves:?}");
        }
        let told: Vec<usize> = moves.iter().map(|(_, _, moved)| *moved).collect();
        eprintln!("slots that moved at a time, of {BUDGET} that may: {told:?}");
        let answers = http::ask_many(&lab.client, vips(80)[0], 300);
        assert_eq!(answers.failed(), 0, "{answers}");
        let up = lb.metrics()?.sum("lb_vip_up", &[("vip", "web-v4")])?;
        ensure!(up < 0.5, "five of ten are fewer than 60%");
        for name in &names[..5] {
            lab.backend(name).start()?;
        }
        Ok(())
    });
}

#[test]
fn a_backend_that_returns_gets_more_and_more_of_the_new_flows() {
    scenario(&Layout::with_backends(3), |lab| {
        lab.log().expect("web-2");
        let mut settings = Settings::web(lab, Health::Http(80));
        settings.pools[0].keys.push("slow_start = \"16s\"".into());
        let lb = Balancer::start(lab, &settings)?;
        lb.wait_up(&["web-1", "web-2", "web-3"])?;
        let asked = |number| {
            let answers = http::ask_many(&lab.client, vips(80)[0], number);
            ensure!(answers.failed() == 0, "{answers}");
            Ok(answers.of("web-2"))
        };
        ensure!(asked(600)? > 120, "none of the first results makes anybody start slowly");
        lab.backend("web-2").stop();
        lb.wait_up(&["web-1", "web-3"])?;
        lab.backend("web-2").start()?;
        lb.wait_up(&["web-1", "web-2", "web-3"])?;
        let begun = Instant::now();
        let mut shares = Vec::new();
        for at in [0, 7, 20] {
            thread::sleep(Duration::from_secs(at).saturating_sub(begun.elapsed()));
            let answers = http::ask_many(&lab.client, vips(80)[0], 600);
            ensure!(answers.failed() == 0, "{answers}");
            shares.push(answers.of("web-2"));
        }
        eprintln!("of 600 requests at once, after 7 s and after 20 s: {shares:?}");
        // 2.4 % to 9 % of the flows, then about a fifth, then a third.
        let [first, then, last] = shares[..] else { unreachable!("three looks") };
        ensure!(first < 70 && first * 3 / 2 < then && then < last && last > 150, "{shares:?}");
        Ok(())
    });
}
