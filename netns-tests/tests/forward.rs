//! Traffic reaches the backends that it should, in every form that a VIP can have.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::Balancer,
    scenario::scenario,
    settings::{Family, Health, Settings},
    share,
    topology::{Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::{Answers, http, ping::ping, udp},
};

/// Names of the four pairs of (VIP's family, backends' family): the VIP, and the pool it is served by.
const PAIRS: [(&str, IpAddr, u16, u16, &str); 4] = [
    ("4-in-4", IpAddr::V4(VIP_V4), 80, 53, "v4"),
    ("4-in-6", IpAddr::V4(VIP_V4), 8080, 5353, "v6"),
    ("6-in-4", IpAddr::V6(VIP_V6), 8080, 5353, "v4"),
    ("6-in-6", IpAddr::V6(VIP_V6), 80, 53, "v6"),
];

fn four_pairs(lab: &Lab) -> Settings {
    let pools =
        Settings::empty(lab).pool("v4", lab, Family::V4, Health::None).pool("v6", lab, Family::V6, Health::None);
    PAIRS.into_iter().fold(pools, |settings, (name, vip, http, udp, pool)| {
        settings.vip(&format!("http-{name}"), (vip, http, "tcp"), pool).vip(
            &format!("udp-{name}"),
            (vip, udp, "udp"),
            pool,
        )
    })
}

fn all_ports(backends: u8) -> Layout {
    Layout { http_ports: vec![80, 8080], udp_ports: vec![53, 5353], ..Layout::with_backends(backends) }
}

/// Everything was answered, and each backend answered something.
fn spread(name: &str, answers: &Answers, backends: usize) -> Result<()> {
    ensure!(answers.failed() == 0 && answers.by_backend.len() == backends, "{name}: {answers}");
    Ok(())
}

#[test]
fn connections_reach_every_backend_in_proportion_to_its_weight() {
    scenario(&Layout::with_backends(4), |lab| {
        let mut settings = Settings::web(lab, Health::None);
        for (name, weight) in [("web-1", 100), ("web-2", 200), ("web-3", 50), ("web-4", 0)] {
            settings.backend(name).weight = weight;
        }
        let _lb = Balancer::start(lab, &settings)?;
        for to in vips(80) {
            let answers = http::ask_many(&lab.client, to, 2500);
            share::compare(&answers, &settings.weights()).map_err(anyhow::Error::msg)?;
            assert_eq!(answers.total(), 2500);
        }
        Ok(())
    });
}

#[test]
fn datagram_flows_are_spread_by_weight_and_each_stays_with_one_backend() {
    scenario(&Layout::with_backends(3), |lab| {
        let mut settings = Settings::empty(lab)
            .pool("dns", lab, Family::V4, Health::None)
            .vip("dns-v4", (VIP_V4, 53, "udp"), "dns")
            .vip("dns-v6", (VIP_V6, 53, "udp"), "dns");
        settings.backend("web-3").weight = 300;
        let _lb = Balancer::start(lab, &settings)?;
        for to in vips(53) {
            let answers = udp::ask_many(&lab.client, to, 2000, 3);
            share::compare(&answers, &settings.weights()).map_err(anyhow::Error::msg)?;
        }
        Ok(())
    });
}

#[test]
fn vips_of_both_families_are_served_by_backends_of_both_families() {
    scenario(&all_ports(2), |lab| {
        let _lb = Balancer::start(lab, &four_pairs(lab))?;
        for (name, vip, http, udp, _) in PAIRS {
            spread(name, &http::ask_many(&lab.client, SocketAddr::new(vip, http), 60), 2)?;
            spread(name, &udp::ask_many(&lab.client, SocketAddr::new(vip, udp), 60, 2), 2)?;
        }
        Ok(())
    });
}

#[test]
fn packets_that_fill_the_clients_link_fit_through_every_tunnel() {
    scenario(&all_ports(2), |lab| {
        let _lb = Balancer::start(lab, &four_pairs(lab))?;
        for (name, vip, _, udp, _) in PAIRS {
            // What is left of 1,500 bytes after the IP and UDP headers.
            let length = if vip.is_ipv4() { 1472 } else { 1452 };
            let answer = udp::Flow::open(&lab.client, SocketAddr::new(vip, udp))?.ask_with(length);
            assert!(answer.is_ok(), "{name}: {answer:?}");
        }
        Ok(())
    });
}

#[test]
fn a_vip_of_port_zero_serves_every_port_that_has_no_vip_of_its_own() {
    let layout = Layout { http_ports: vec![80, 8080, 9000], ..Layout::with_backends(3) };
    scenario(&layout, |lab| {
        let mut settings = Settings::empty(lab)
            .pool("any", lab, Family::V4, Health::None)
            .pool("own", lab, Family::V4, Health::None)
            .vip("any-v4", (VIP_V4, 0, "tcp"), "any")
            .vip("any-v6", (VIP_V6, 0, "tcp"), "any")
            .vip("own-v4", (VIP_V4, 8080, "tcp"), "own")
            .vip("own-v6", (VIP_V6, 8080, "tcp"), "own");
        settings.pools[0].backends.retain(|backend| backend.name != "web-3");
        settings.pools[1].backends.retain(|backend| backend.name == "web-3");
        let _lb = Balancer::start(lab, &settings)?;
        for to in vips(80).into_iter().chain(vips(9000)) {
            let answers = http::ask_many(&lab.client, to, 60);
            spread("any port", &answers, 2)?;
            assert_eq!(answers.of("web-3"), 0, "{to}: {answers}");
        }
        for to in vips(8080) {
            let answers = http::ask_many(&lab.client, to, 60);
            assert_eq!(answers.of("web-3"), 60, "{to}: {answers}");
        }
        Ok(())
    });
}

#[test]
fn packets_leave_by_the_interface_that_leads_to_the_backend() {
    scenario(&Layout { second_link: true, ..all_ports(2) }, |lab| {
        let _lb = Balancer::start(lab, &four_pairs(lab))?;
        for (name, vip, http, udp, _) in PAIRS {
            spread(name, &http::ask_many(&lab.client, SocketAddr::new(vip, http), 60), 2)?;
            spread(name, &udp::ask_many(&lab.client, SocketAddr::new(vip, udp), 60, 2), 2)?;
        }
        Ok(())
    });
}

#[test]
fn an_echo_request_to_a_vip_is_answered_by_the_balancer() {
    scenario(&Layout::with_backends(1), |lab| {
        let lb = Balancer::start(lab, &Settings::web(lab, Health::None))?;
        for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
            assert_eq!(ping(&lab.client, vip, 5)?, 5, "{vip}");
        }
        let answered = lb.metrics()?.sum("lb_packets_total", &[("verdict", "echo_replied")])?;
        ensure!((answered - 10.0).abs() < 0.5, "{answered} echo requests were answered by lb");
        Ok(())
    });
}
