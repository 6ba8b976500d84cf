//! Ways to a backend without a tunnel: it is on the balancer's own network, or it is the balancer's host.

use anyhow::{Result, ensure};
use etherparse::{NetSlice, SlicedPacket};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    capture::Capture,
    host::server::Server,
    scenario::scenario,
    settings::{PoolBackend, Settings},
    topology::{LB_V4, Lab, Layout, VIP_V4, VIP_V6, extras::DIRECT_INTERFACE, vips},
    traffic::{http, ping::ping, sessions::Sessions, udp, upload::upload},
    wait,
};

/// Both backends on the balancer's networks, by their IPv4 addresses there, for VIPs of both families.
fn on_link(lab: &mut Lab) -> Result<Settings> {
    let mut backends = Vec::new();
    for number in 1..=2 {
        let [v4, _] = lab.join_directly(number)?;
        backends.push(PoolBackend::new(&format!("web-{number}"), v4));
    }
    let settings = Settings::empty(lab)
        .pool_of("web", backends)
        .vip("web-v4", (VIP_V4, 80, "tcp"), "web")
        .vip("web-v6", (VIP_V6, 80, "tcp"), "web")
        .vip("dns-v4", (VIP_V4, 53, "udp"), "web")
        .vip("dns-v6", (VIP_V6, 53, "udp"), "web");
    Ok(settings.each_vip("encap = \"l2\""))
}

/// Whether a frame is an IP packet, and to whom.
fn destination(frame: &[u8]) -> Option<(std::net::IpAddr, usize)> {
    match SlicedPacket::from_ethernet(frame).ok()?.net? {
        NetSlice::Ipv4(ip) => Some((ip.header().destination_addr().into(), usize::from(ip.header().total_len()))),
        NetSlice::Ipv6(ip) => {
            Some((ip.header().destination_addr().into(), usize::from(ip.header().payload_length()) + 40))
        }
        NetSlice::Arp(_) => None,
    }
}

#[test]
fn backends_on_the_balancers_network_get_packets_as_they_came() {
    scenario(&Layout::with_backends(2), |lab| {
        let settings = on_link(lab)?;
        let wires = [0, 1].map(|number| Capture::start(&lab.backends[number].namespace, DIRECT_INTERFACE));
        let lb = Balancer::start(lab, &settings)?;
        for to in vips(80) {
            let answers = http::ask_many(&lab.client, to, 40);
            ensure!((answers.failed(), answers.by_backend.len()) == (0, 2), "{to}: {answers}");
            // A packet that fills the client's link goes through whole: there is no outer header.
            let done = upload(&lab.client, to, 500_000)?;
            assert_eq!(done.mtu, 1500, "{to}");
        }
        for to in vips(53) {
            let answers = udp::ask_many(&lab.client, to, 40, 3);
            ensure!((answers.failed(), answers.by_backend.len()) == (0, 2), "{to}: {answers}");
            udp::Flow::open(&lab.client, to)?.ask_with(4000)?;
        }
        assert_eq!(ping(&lab.client, VIP_V4.into(), 2)?, 2);
        let mut longest = 0;
        for wire in wires {
            let wire = wire?;
            let seen: Vec<_> = wire.frames().iter().filter_map(|frame| destination(&frame.bytes)).collect();
            for vip in vips(0) {
                ensure!(seen.iter().any(|(to, _)| *to == vip.ip()), "nothing for {vip} came by that network");
            }
            longest = seen.iter().map(|(_, length)| *length).max().max(Some(longest)).unwrap_or(0);
            assert_eq!(wire.faults(), Vec::<String>::new());
        }
        assert_eq!(longest, 1500);
        for backend in &lab.backends {
            let counters = backend.decap_counters(&netns_tests::balancer::binary()?)?;
            ensure!(!counters.iter().any(|(name, count)| name.contains("unwrapped") && *count > 0), "{counters:?}");
        }
        ensure!(lb.stats()?.drops().is_empty(), "{:?}", lb.stats()?.drops());
        Ok(())
    });
}

#[test]
fn the_balancers_host_can_be_a_backend_itself() {
    scenario(&Layout::with_backends(2), |lab| {
        lab.lb.ip(&format!("addr add {VIP_V4}/32 dev lo\naddr add {VIP_V6}/128 dev lo nodad\n"))?;
        let _server = Server::start(&lab.lb, "lb-host", &[80], &vips(53))?;
        let mut local = PoolBackend::new("lb-host", LB_V4);
        local.keys.push("local = true".into());
        let mut backends: Vec<_> =
            lab.backends.iter().map(|backend| PoolBackend::new(backend.name(), backend.v4)).collect();
        backends.push(local);
        let mut settings = Settings::empty(lab)
            .pool_of("web", backends)
            .vip("web-v4", (VIP_V4, 80, "tcp"), "web")
            .vip("web-v6", (VIP_V6, 80, "tcp"), "web")
            .vip("dns-v4", (VIP_V4, 53, "udp"), "web")
            .vip("dns-v6", (VIP_V6, 53, "udp"), "web");
        let lb = Balancer::start(lab, &settings)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 30)?;
        ensure!(sessions.of("lb-host") > 0, "no session is the host's");
        for to in vips(53) {
            let answers = udp::ask_many(&lab.client, to, 60, 2);
            ensure!((answers.failed(), answers.by_backend.len()) == (0, 3), "{to}: {answers}");
        }
        let stats = lb.stats()?;
        ensure!(stats.verdict("local")? > 100, "only {} packets stayed here", stats.verdict("local")?);
        // The host's share is counted as any backend's.
        wait::until("the host's packets are counted", LIMIT, || {
            let counted = lb.metrics()?.sum("lb_backend_packets_total", &[("backend", "lb-host")])?;
            ensure!(counted > 100.0, "{counted} packets");
            Ok(Some(()))
        })?;
        // It drains as any other does.
        settings.backend("lb-host").keys.push("state = \"drain\"".into());
        lb.reload(&settings)?;
        sessions.all_stay()?;
        for to in vips(80) {
            let answers = http::ask_many(&lab.client, to, 40);
            ensure!(
                (answers.failed(), answers.of("lb-host"), answers.by_backend.len()) == (0, 0, 2),
                "{to}: {answers}"
            );
        }
        sessions.all_stay()
    });
}
