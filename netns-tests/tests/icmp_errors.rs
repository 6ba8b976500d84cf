//! ICMP errors about backends' answers: they are addressed to the VIP, and must reach the backend that sent the answer.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    scenario::scenario,
    settings::{Family, Health, Settings},
    topology::{CLIENT_V4, CLIENT_V6, Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::{download::Download, http::Connection},
    wait,
};

const BYTES: u64 = 2_000_000;
const NARROW: u32 = 1400;

fn settings(lab: &Lab, family: Family) -> Settings {
    Settings::empty(lab).pool("web", lab, family, Health::None).vip("web-v4", (VIP_V4, 80, "tcp"), "web").vip(
        "web-v6",
        (VIP_V6, 80, "tcp"),
        "web",
    )
}

/// Backends that learnt how little the client's link carries.
fn knowing(lab: &Lab, vip: IpAddr) -> Result<Vec<&str>> {
    let client: IpAddr = if vip.is_ipv4() { CLIENT_V4.into() } else { CLIENT_V6.into() };
    let mut names = Vec::new();
    for backend in &lab.backends {
        if lab.learnt_mtu(&backend.namespace, vip, client)? == Some(NARROW) {
            names.push(backend.name());
        }
    }
    Ok(names)
}

#[test]
fn a_download_goes_on_when_a_link_to_the_client_carries_less_than_the_backend_thinks() {
    for family in [Family::V4, Family::V6] {
        scenario(&Layout::default(), |lab| {
            let lb = Balancer::start(lab, &settings(lab, family))?;
            lab.narrow_client_link(NARROW)?;
            for (number, to) in vips(80).into_iter().enumerate() {
                ensure!(knowing(lab, to.ip())?.is_empty(), "{to}: it is known before");
                // Who takes the download is told by who learns: the errors reach him alone.
                let download = Download::start(&lab.client, to, BYTES, 100 * BYTES, BYTES)?;
                assert_eq!(download.finish()?, BYTES);
                wait::until("one backend knows", LIMIT, || {
                    let knowing = knowing(lab, to.ip())?;
                    ensure!(knowing.len() == 1, "{to}: {knowing:?}");
                    Ok(Some(()))
                })?;
                let steered = lb.stats()?.event("icmp_steered")?;
                ensure!(steered > number as u64, "{steered} errors were steered");
            }
            ensure!(lb.stats()?.drops().is_empty(), "{:?}", lb.stats()?.drops());
            Ok(())
        });
    }
}

#[test]
fn every_backend_gets_the_errors_about_its_own_flows() {
    scenario(&Layout::default(), |lab| {
        let _lb = Balancer::start(lab, &settings(lab, Family::V4))?;
        lab.narrow_client_link(NARROW)?;
        for to in vips(80) {
            let mut asked = Vec::new();
            // Until all of them were asked; the ring decides which is next.
            while asked.len() < lab.backends.len() {
                let mut connection = Connection::open(&lab.client, to)?;
                let name = connection.ask()?;
                let answer = connection.get("/big?bytes=200000&rate=100000000", "close")?;
                ensure!(answer.body.len() == 200_000, "{to}: {} bytes of {name}", answer.body.len());
                if !asked.contains(&name) {
                    asked.push(name);
                }
                asked.sort();
                assert_eq!(knowing(lab, to.ip())?, asked, "{to}");
            }
        }
        Ok(())
    });
}
