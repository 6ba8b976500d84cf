//! Slots of an adaptive VIP become untracked again, and nobody notices. The daemon's hold is short here: `LB_HOLD`.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::Balancer,
    scenario::scenario,
    settings::{Health, Settings},
    topology::{Layout, vips},
    traffic::{http, sessions::Sessions},
    wait,
};

/// Longest time until slots that changed a moment ago are untracked: three units of the clock, and some looks.
const SETTLED: Duration = Duration::from_secs(30);

/// Slots of all VIPs that are tracked.
fn tracked(lb: &Balancer) -> Result<u64> {
    let vips = lb.json(&["vip", "list"])?;
    let vips = vips.as_array().with_context(|| format!("no list: {vips}"))?;
    let slots = vips.iter().map(|vip| vip["tracked_slots"].as_u64().with_context(|| format!("not adaptive: {vip}")));
    slots.sum()
}

#[test]
fn connections_stay_while_their_slots_become_untracked_and_change_again() {
    scenario(&Layout::with_backends(5), |lab| {
        let all = Settings::web(lab, Health::None).tracked("adaptive");
        let of = |backends: &[&str]| all.clone().only(backends);
        let mut lb = Balancer::prepare(lab, &of(&["web-1", "web-2", "web-3"]))?;
        lb.set("LB_HOLD", "1");
        lb.start_again()?;
        lab.quiet_offloads_of_balancer()?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 40)?;
        // Slots that are tracked when the VIP gets its first history wait for some minutes more, so it changes twice.
        lb.reload(&of(&["web-1", "web-2", "web-3", "web-4"]))?;
        lb.wait_up(&["web-1", "web-2", "web-3", "web-4"])?;
        sessions.all_stay()?;
        let first = tracked(&lb)?;
        lb.reload(&all)?;
        lb.wait_up(&["web-1", "web-2", "web-3", "web-4", "web-5"])?;
        sessions.all_stay()?;
        let second = tracked(&lb)?;
        ensure!(first > 0 && second > first, "{first} slots tracked, then {second}");
        wait::until("slots are untracked", SETTLED, || {
            sessions.all_stay()?;
            Ok((tracked(&lb)? < second).then_some(()))
        })?;
        sessions.all_stay()?;

        // These are known by the ring alone where their slots are untracked; of some nothing is heard before it changes again.
        let mut new = Sessions::open(&lab.client, &vips(80), 40)?;
        lb.reload(&of(&["web-1", "web-2", "web-3", "web-5"]))?;
        for sessions in [&mut sessions, &mut new] {
            sessions.forget("web-4");
            sessions.all_stay()?;
        }
        let answers = http::ask_many(&lab.client, vips(80)[0], 200);
        ensure!(answers.failed() == 0 && answers.by_backend.len() == 4, "{answers}");
        thread::sleep(Duration::from_secs(1));
        sessions.all_stay()?;
        new.all_stay()
    });
}
