//! Datagrams that are longer than a link carries: all their fragments go to one backend.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::{Balancer, stats::Stats},
    scenario::scenario,
    settings::{Family, Health, Settings},
    topology::{Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::{Answers, udp::Flow},
};

fn settings(lab: &Lab, family: Family) -> Settings {
    Settings::empty(lab).pool("dns", lab, family, Health::None).vip("dns-v4", (VIP_V4, 53, "udp"), "dns").vip(
        "dns-v6",
        (VIP_V6, 53, "udp"),
        "dns",
    )
}

/// A flow in which datagrams with and without fragments take turns, all of which one backend must answer.
fn ask_once(lab: &Lab, to: SocketAddr) -> Result<String> {
    let mut flow = Flow::open(&lab.client, to)?;
    let name = flow.ask_with(4000)?;
    for length in [32, 8000, 1600] {
        let other = flow.ask_with(length)?;
        ensure!(other == name, "{length} bytes were answered by {other}, and 4,000 by {name}");
    }
    Ok(name)
}

fn ask(lab: &Lab, flows: usize) -> Result<()> {
    for to in vips(53) {
        let mut answers = Answers::default();
        for _ in 0..flows {
            answers.add(ask_once(lab, to));
        }
        ensure!((answers.failed(), answers.by_backend.len()) == (0, lab.backends.len()), "{to}: {answers}");
    }
    Ok(())
}

/// 4,000 bytes are 3 fragments, 8,000 are 6, and 1,600 are 2.
fn counted(stats: &Stats, datagrams: u64) -> Result<()> {
    let [first, followed, late] =
        ["fragment_first", "fragment_followed", "fragment_late"].map(|event| stats.event(event));
    let seen = (first?, followed?, late?);
    ensure!(seen == (datagrams * 3, datagrams * 8, 0), "first, followed, late: {seen:?}");
    ensure!(stats.drops().is_empty(), "{:?}", stats.drops());
    Ok(())
}

#[test]
fn all_fragments_of_a_datagram_reach_the_backend_of_its_flow() {
    for family in [Family::V4, Family::V6] {
        scenario(&Layout::default(), |lab| {
            let lb = Balancer::start(lab, &settings(lab, family))?;
            ask(lab, 30)?;
            counted(&lb.stats()?, 60)
        });
    }
}

#[test]
fn fragments_find_their_backend_however_it_is_chosen() {
    scenario(&Layout::default(), |lab| {
        let base = settings(lab, Family::V4);
        let lb = Balancer::start(lab, &base.clone().each_vip("flow_tracking = \"off\""))?;
        ask(lab, 30)?;
        counted(&lb.stats()?, 60)?;
        ensure!(lb.stats()?.flows()? == 0, "flows were remembered");
        // The client's flows all go to one backend.
        lb.reload(&base.each_vip("hash = \"source-ip\""))?;
        for to in vips(53) {
            let mut answers = Answers::default();
            for _ in 0..20 {
                answers.add(Flow::open(&lab.client, to)?.ask_with(4000));
            }
            ensure!((answers.failed(), answers.by_backend.len()) == (0, 1), "{to}: {answers}");
        }
        Ok(())
    });
}
