//! All backends of a VIP are replaced at once, or a VIP comes whose backends nobody knows yet: nothing is lost meanwhile.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    continuity::{BETWEEN, with_stream},
    scenario::scenario,
    settings::{Family, Health, Settings},
    topology::{Lab, Layout, VIP_V4, vips},
    traffic::{
        numbered::{FLOWS, PORT, Report, Stream},
        udp::Flow,
    },
};

/// Longest time for first results of checks.
const KNOWN: Duration = Duration::from_secs(2);

/// What `only` leaves of a VIP for the stream over each family.
fn stream(lab: &Lab, health: Health, only: &[&str]) -> Settings {
    let settings = Settings::empty(lab).pool("stream", lab, Family::V4, health).only(only);
    with_stream(settings)
}

#[test]
fn no_packet_is_lost_while_all_backends_are_replaced() {
    // What serves the checks listens at the port of HTTP; the sinks of the stream don't answer.
    for health in [Health::None, Health::Http(80)] {
        scenario(&Layout::with_backends(4), |lab| {
            let first = stream(lab, health.clone(), &["web-1", "web-2"]);
            let second = stream(lab, health.clone(), &["web-3", "web-4"]);
            let lb = Balancer::start(lab, &first)?;
            let stream = Stream::start(lab, vips(PORT))?;
            for (settings, names) in
                [(&second, ["web-3", "web-4"]), (&first, ["web-1", "web-2"]), (&second, ["web-3", "web-4"])]
            {
                lb.reload(settings)?;
                lb.wait_up(&names)?;
                thread::sleep(BETWEEN);
            }
            let report = stream.finish()?;
            println!("all backends replaced, three times, {health:?}: {report}");
            let Report { flows, lost, duplicated, moved, .. } = report;
            ensure!((flows, lost, duplicated) == (FLOWS.into(), 0, 0), "{health:?}: {report}");
            ensure!(moved == u64::from(FLOWS), "{health:?}: {report}, and each had to move");
            Ok(())
        });
    }
}

/// Asks on a new flow again and again while all backends are replaced. Returns how often.
fn ask_meanwhile(lab: &Lab, health: Health) -> Result<usize> {
    let mut all = Settings::web(lab, health);
    all.vips.iter_mut().for_each(|vip| (vip.port, vip.protocol) = (53, "udp"));
    let lb = Balancer::start(lab, &all.clone().only(&["web-1", "web-2"]))?;
    lb.wait_up(&["web-1", "web-2"])?;
    lb.write(&all.only(&["web-3", "web-4"]).to_string())?;
    lb.hang_up()?;
    let (start, mut asked, mut seen) = (Instant::now(), 0, BTreeSet::new());
    while start.elapsed() < KNOWN || !["web-3", "web-4"].iter().all(|name| seen.contains(*name)) {
        ensure!(start.elapsed() < LIMIT, "only {seen:?} answered");
        let answer = Flow::open(&lab.client, vips(53)[0])?.ask();
        seen.insert(answer.with_context(|| format!("new flow {asked}, {:?} after the reload", start.elapsed()))?);
        asked += 1;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(asked)
}

#[test]
fn every_new_flow_is_served_while_all_backends_are_replaced() {
    for health in [Health::Http(80), Health::None] {
        scenario(&Layout::with_backends(4), |lab| {
            let asked = ask_meanwhile(lab, health.clone())?;
            println!("{asked} new flows while all backends are replaced, {health:?}: all answered");
            Ok(())
        });
    }
}

#[test]
fn a_new_vip_that_waits_for_its_next_hops_is_no_warning() {
    scenario(&Layout::with_backends(2), |lab| {
        let start = stream(lab, Health::None, &["web-1"]);
        let lb = Balancer::start(lab, &start)?;
        let mark = lb.log().mark();
        lb.reload(&start.pool("more", lab, Family::V6, Health::None).vip("more", (VIP_V4, 53, "udp"), "more"))?;
        thread::sleep(KNOWN);
        let mut flow = Flow::open(&lab.client, vips(53)[0])?;
        flow.ask()?;
        let warned: Vec<String> =
            lb.log().lines().split_off(mark).into_iter().filter(|line| line.contains("no serving backend")).collect();
        ensure!(warned.is_empty(), "{warned:?}");
        Ok(())
    });
}
