//! No link carries more than the clients' do: lb tells clients how much fits beside the outer header.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use netns_tests::{
    balancer::{Balancer, binary},
    capture::verify::GUE_PORT,
    scenario::scenario,
    settings::{Family, Health, Settings},
    topology::{CLIENT_V4, CLIENT_V6, Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::{udp::Flow, upload::upload},
};

const BYTES: usize = 3_000_000;

fn narrow() -> Layout {
    Layout { mtu: 1500, http_ports: vec![80], ..Layout::with_backends(2) }
}

fn settings(lab: &Lab, family: Family) -> Settings {
    Settings::empty(lab)
        .pool("web", lab, family, Health::None)
        .vip("web-v4", (VIP_V4, 80, "tcp"), "web")
        .vip("web-v6", (VIP_V6, 80, "tcp"), "web")
        .vip("dns-v4", (VIP_V4, 53, "udp"), "web")
        .vip("dns-v6", (VIP_V6, 53, "udp"), "web")
}

/// Uploads to both VIPs, whose sender has to learn what fits: 1,500 bytes less `outer`.
fn uploads_fit(lab: &Lab, outer: u32) -> Result<()> {
    for to in vips(80) {
        let done = upload(&lab.client, to, BYTES).with_context(|| format!("upload to {to}"))?;
        ensure!(done.mtu == 1500 - outer, "{to}: {done:?}");
        let source: IpAddr = if to.is_ipv4() { CLIENT_V4.into() } else { CLIENT_V6.into() };
        let learnt = lab.learnt_mtu(&lab.client, source, to.ip())?;
        ensure!(learnt == Some(1500 - outer), "{to}: the client's route says {learnt:?}");
    }
    Ok(())
}

#[test]
fn an_upload_goes_on_once_the_client_knows_what_fits() {
    scenario(&narrow(), |lab| {
        let lb = Balancer::start(lab, &settings(lab, Family::V4))?;
        uploads_fit(lab, 20)?;
        let stats = lb.stats()?;
        let answered = stats.verdict("too_big_answered")?;
        // Packets under way when the first was answered are answered or dropped as well; none later.
        ensure!((2..100).contains(&answered), "{answered} answers");
        ensure!(stats.verdict("too_big")? == 0, "{:?}", stats.drops());
        Ok(())
    });
}

#[test]
fn an_upload_through_a_longer_outer_header_learns_of_it() {
    scenario(&narrow(), |lab| {
        let lb = Balancer::start(lab, &settings(lab, Family::V6))?;
        uploads_fit(lab, 40)?;
        // What is longer still comes with a live change: the clients learn again.
        let lb_binary = binary()?;
        for backend in &lab.backends {
            backend.attach_decap_with(&lb_binary, &["--gue-port", &GUE_PORT.to_string()])?;
        }
        let gue = settings(lab, Family::V6).dataplane(&format!("gue_port = {GUE_PORT}")).each_vip("encap = \"gue\"");
        lb.reload(&gue)?;
        uploads_fit(lab, 48)
    });
}

#[test]
fn a_long_datagram_is_fragmented_by_the_client_once_it_knows_what_fits() {
    scenario(&narrow(), |lab| {
        let lb = Balancer::start(lab, &settings(lab, Family::V4))?;
        for to in vips(53) {
            let mut flow = Flow::open(&lab.client, to)?;
            let name = flow.ask()?;
            let longest = if to.is_ipv4() { 1472 } else { 1452 };
            // The first is lost by finding out.
            flow.wait_at_most(std::time::Duration::from_millis(300))?;
            ensure!(flow.ask_with(longest).is_err(), "{to}: more came through than fits");
            flow.wait_at_most(netns_tests::traffic::ANSWER_LIMIT)?;
            ensure!(flow.ask_with(longest)? == name, "{to}: another backend answered");
        }
        let stats = lb.stats()?;
        ensure!(stats.verdict("too_big_answered")? == 2 && stats.event("fragment_followed")? == 2, "{stats:?}");
        Ok(())
    });
}

#[test]
fn what_the_operator_says_of_the_mtu_counts_for_more_than_the_links() {
    scenario(&Layout::with_backends(2), |lab| {
        let _lb = Balancer::start(lab, &settings(lab, Family::V4).dataplane("mtu = 1400"))?;
        for to in vips(80) {
            let done = upload(&lab.client, SocketAddr::new(to.ip(), 80), BYTES / 4)?;
            ensure!(done.mtu == 1380, "{to}: {done:?}");
        }
        Ok(())
    });
}
