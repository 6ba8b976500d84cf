//! What a VIP's own keys change: which addresses and ports it serves, and who gets which flow.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Result, ensure};
use netns_tests::{
    balancer::Balancer,
    host::server::Server,
    scenario::scenario,
    settings::{Family, Health, PoolBackend, Settings},
    topology::{CLIENT_V4, CLIENT_V6, Lab, Layout, VIP_V4, VIP_V6, vips},
    traffic::{any, are_silent, http, http::Connection, is_silent, ping::ping, sessions::Sessions},
};

/// Prefixes of VIPs, and within them a longer one.
const PREFIXES: [&str; 2] = ["192.0.2.64/26", "2001:db8:10:0:1::/80"];
const LONGER: [&str; 2] = ["192.0.2.96/28", "2001:db8:10:0:1:2::/96"];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A pool of one backend, named after it.
fn one_each(lab: &Lab) -> Settings {
    let pool = |settings: Settings, backend: &netns_tests::host::Backend| {
        settings.pool_of(backend.name(), vec![PoolBackend::new(backend.name(), backend.v4)])
    };
    lab.backends.iter().fold(Settings::empty(lab), pool)
}

/// Everything asked there is answered by this backend alone.
fn only(lab: &Lab, to: SocketAddr, name: &str) -> Result<()> {
    let answers = http::ask_many(&lab.client, to, 8);
    ensure!((answers.of(name), answers.failed()) == (8, 0), "{to}: {answers}, not {name}");
    Ok(())
}

#[test]
fn every_address_of_a_prefix_is_served_and_the_longest_prefix_decides() {
    let layout = Layout { http_ports: vec![80, 8080], ..Layout::with_backends(4) };
    scenario(&layout, |lab| {
        for prefix in PREFIXES {
            lab.add_vip_prefix(prefix)?;
        }
        let mut settings = one_each(lab);
        for (family, (prefix, longer)) in PREFIXES.into_iter().zip(LONGER).enumerate() {
            let exact = if family == 0 { "192.0.2.100" } else { "2001:db8:10:0:1:2::7" };
            settings = settings
                .vip(&format!("prefix-{family}"), (prefix, 80, "tcp"), "web-1")
                .vip(&format!("longer-{family}"), (longer, 80, "tcp"), "web-2")
                .vip(&format!("exact-{family}"), (exact, 80, "tcp"), "web-3")
                .vip(&format!("any-port-{family}"), (prefix, 0, "tcp"), "web-4");
        }
        let lb = Balancer::start(lab, &settings)?;
        for (to, at_80) in [
            ("192.0.2.64", "web-1"),
            ("192.0.2.95", "web-1"),
            ("192.0.2.96", "web-2"),
            ("192.0.2.100", "web-3"),
            ("192.0.2.111", "web-2"),
            ("192.0.2.112", "web-1"),
            ("192.0.2.127", "web-1"),
            ("2001:db8:10:0:1::", "web-1"),
            ("2001:db8:10:0:1:ffff:ffff:ffff", "web-1"),
            ("2001:db8:10:0:1:2:ffff:1", "web-2"),
            ("2001:db8:10:0:1:2::7", "web-3"),
        ] {
            let to = address(to);
            only(lab, SocketAddr::new(to, 80), at_80)?;
            assert_eq!(ping(&lab.client, to, 1)?, 1, "{to}");
        }
        for to in ["192.0.2.80", "2001:db8:10:0:1:9::1"] {
            only(lab, SocketAddr::new(address(to), 8080), "web-4")?;
        }
        // Next to the prefix.
        ensure!(is_silent(&lab.client, SocketAddr::new(address("192.0.2.128"), 80)), "served beyond the prefix");
        // A live change takes the longer prefix away.
        settings.vips.retain(|vip| !vip.name.starts_with("longer"));
        lb.reload(&settings)?;
        only(lab, SocketAddr::new(address("192.0.2.96"), 80), "web-1")?;
        only(lab, SocketAddr::new(address("2001:db8:10:0:1:2:ffff:1"), 80), "web-1")
    });
}

#[test]
fn a_port_that_no_vip_serves_is_the_hosts_or_nobodys_as_the_file_says() {
    scenario(&Layout::with_backends(1), |lab| {
        // The host has the VIPs too, and serves another port of theirs.
        lab.lb.ip(&format!("addr add {VIP_V4}/32 dev lo\naddr add {VIP_V6}/128 dev lo nodad\n"))?;
        let _server = Server::start(&lab.lb, "lb-host", &[8080], &[])?;
        let passing = Settings::web(lab, Health::None);
        let lb = Balancer::start(lab, &passing)?;
        for to in vips(8080) {
            only(lab, to, "lb-host")?;
        }
        lb.reload(&passing.clone().dataplane("unknown_port = \"drop\""))?;
        let pairs = vips(8080).map(|to| (any(to), to));
        ensure!(are_silent(&lab.client, &pairs), "an unknown port is still answered");
        for to in vips(80) {
            only(lab, to, "web-1")?;
            assert_eq!(ping(&lab.client, to.ip(), 1)?, 1, "{to}");
        }
        let dropped = lb.stats()?.verdict("unknown_port")?;
        ensure!(dropped >= 2, "{dropped} packets to unknown ports");
        // The host's own addresses are none of its business.
        for host in [address("10.0.0.2"), address("fd00::2")] {
            only(lab, SocketAddr::new(host, 8080), "lb-host")?;
        }
        lb.reload(&passing)?;
        for to in vips(8080) {
            only(lab, to, "lb-host")?;
        }
        Ok(())
    });
}

/// Who answers each client, by its address; a client whom two answer is an error.
fn by_client(lab: &Lab, clients: &[[IpAddr; 2]], to: SocketAddr) -> Result<BTreeMap<IpAddr, String>> {
    let mut chosen = BTreeMap::new();
    for addresses in clients {
        let source = addresses[usize::from(to.is_ipv6())];
        let answers = http::ask_many_from(&lab.client, source, to, 8);
        ensure!((answers.failed(), answers.by_backend.len()) == (0, 1), "{source} to {to}: {answers}");
        chosen.extend(answers.by_backend.into_keys().map(|name| (source, name)));
    }
    Ok(chosen)
}

fn names(chosen: &BTreeMap<IpAddr, String>) -> BTreeSet<&str> {
    chosen.values().map(String::as_str).collect()
}

#[test]
fn the_hash_decides_which_flows_stay_together() {
    let layout = Layout { http_ports: (8000..8016).collect(), ..Layout::with_backends(3) };
    scenario(&layout, |lab| {
        let mut clients = vec![[IpAddr::from(CLIENT_V4), CLIENT_V6.into()]];
        for host in 20..31 {
            clients.push(lab.add_client_address(host)?);
        }
        let settings = Settings::empty(lab)
            .pool("web", lab, Family::V4, Health::None)
            .vip("v4", (VIP_V4, 0, "tcp"), "web")
            .vip("v6", (VIP_V6, 0, "tcp"), "web");
        let lb = Balancer::start(lab, &settings.clone().each_vip("hash = \"source-ip\""))?;
        for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
            let first = by_client(lab, &clients, SocketAddr::new(vip, 8000))?;
            ensure!(names(&first).len() == 3, "{first:?}");
            assert_eq!(by_client(lab, &clients, SocketAddr::new(vip, 8001))?, first, "the port made a difference");
        }
        lb.reload(&settings.clone().each_vip("hash = \"source-ip-destination-port\""))?;
        for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
            let first = by_client(lab, &clients, SocketAddr::new(vip, 8002))?;
            let second = by_client(lab, &clients, SocketAddr::new(vip, 8003))?;
            ensure!(first != second, "the port made no difference");
        }
        lb.reload(&settings.each_vip("hash = \"destination-port\""))?;
        for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
            let mut all = BTreeSet::new();
            for port in 8004..8016 {
                let chosen = by_client(lab, &clients[..3], SocketAddr::new(vip, port))?;
                ensure!(names(&chosen).len() == 1, "port {port}: {chosen:?}");
                all.extend(chosen.into_values());
            }
            ensure!(all.len() == 3, "all ports went to {all:?}");
        }
        Ok(())
    });
}

#[test]
fn flows_that_are_not_tracked_go_by_the_ring_alone() {
    scenario(&Layout::with_backends(3), |lab| {
        let tracked = Settings::web(lab, Health::None);
        let settings = tracked.clone().each_vip("flow_tracking = \"off\"");
        let lb = Balancer::start(lab, &settings)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 30)?;
        sessions.all_stay()?;
        assert_eq!(lb.stats()?.flows()?, 0);
        for to in vips(80) {
            let answers = http::ask_many(&lab.client, to, 100);
            ensure!((answers.failed(), answers.by_backend.len()) == (0, 3), "{answers}");
        }
        // Nothing is remembered, so what drains loses its flows at once, and the others keep theirs.
        let mut drained = settings.clone();
        drained.backend("web-3").keys.push("state = \"drain\"".into());
        let mut lost = Connection::open(&lab.client, vips(80)[0])?;
        while lost.ask()? != "web-3" {
            lost = Connection::open(&lab.client, vips(80)[0])?;
        }
        lb.reload(&drained)?;
        ensure!(lost.ask().is_err(), "a flow stayed with a backend that drains");
        sessions.forget("web-3");
        sessions.all_stay()?;
        let answers = http::ask_many(&lab.client, vips(80)[1], 60);
        ensure!((answers.of("web-3"), answers.failed()) == (0, 0), "{answers}");
        // With tracking again, the same change moves nothing.
        lb.reload(&tracked)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 30)?;
        ensure!(lb.stats()?.flows()? >= 30, "flows are not remembered");
        let mut drained = tracked.clone();
        drained.backend("web-3").keys.push("state = \"drain\"".into());
        lb.reload(&drained)?;
        sessions.all_stay()
    });
}
