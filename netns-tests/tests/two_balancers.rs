//! A balancer behind another: packets come to it in the first one's tunnel, and are steered on once.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Result, ensure};
use etherparse::{IpNumber, NetSlice, SlicedPacket};
use netns_tests::{
    balancer::{Balancer, LIMIT},
    capture::Capture,
    scenario::scenario,
    settings::{Family, Health, PoolBackend, Settings},
    topology::{
        LB_V4, LB_V6, Lab, Layout, VIP_V4, VIP_V6,
        extras::{OtherHost, ROUTER_TO_OTHER_LB},
        vips,
    },
    traffic::{any, are_silent, http, ping::ping, sessions::Sessions, udp, upload::upload},
    wait,
};

/// VIPs of both families for HTTP and UDP, of the pool `web`.
fn web(settings: Settings) -> Settings {
    settings
        .vip("web-v4", (VIP_V4, 80, "tcp"), "web")
        .vip("web-v6", (VIP_V6, 80, "tcp"), "web")
        .vip("dns-v4", (VIP_V4, 53, "udp"), "web")
        .vip("dns-v6", (VIP_V6, 53, "udp"), "web")
}

/// The first balancer's file: all it knows is the second, by these addresses.
fn first(lab: &Lab, tunnels: &[IpAddr]) -> Settings {
    let backend = |(number, tunnel): (usize, &IpAddr)| PoolBackend::new(&format!("other-{number}"), *tunnel);
    web(Settings::empty(lab).pool_of("web", tunnels.iter().enumerate().map(backend).collect()))
}

/// The second one's: it takes tunnel packets, and has the backends.
fn second(lab: &Lab, other: &OtherHost, sources: &str) -> Settings {
    let [v4, v6] = other.tunnels;
    web(Settings::empty_for_other(lab).pool("web", lab, Family::V4, Health::None))
        .dataplane(&format!("tunnels = {{ addresses = [\"{v4}\", \"{v6}\"], sources = [{sources}] }}"))
}

fn all_serve(lab: &Lab) -> Result<()> {
    let wanted = (0, lab.backends.len());
    for to in vips(80) {
        let answers = http::ask_many(&lab.client, to, 60);
        ensure!((answers.failed(), answers.by_backend.len()) == wanted, "{to}: {answers}");
    }
    for to in vips(53) {
        let answers = udp::ask_many(&lab.client, to, 60, 2);
        ensure!((answers.failed(), answers.by_backend.len()) == wanted, "{to}: {answers}");
    }
    Ok(())
}

fn silent(lab: &Lab) -> Result<()> {
    let pairs = vips(80).map(|to| (any(to), to));
    ensure!(are_silent(&lab.client, &pairs), "somebody answers");
    Ok(())
}

/// Destination and TTL of the outer headers of tunnel packets.
fn tunnels(capture: &Capture) -> BTreeSet<(IpAddr, u8)> {
    let outer = |bytes: &[u8]| match SlicedPacket::from_ethernet(bytes).ok()?.net? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let is_tunnel = [IpNumber::IPV4, IpNumber::IPV6].contains(&header.protocol());
            is_tunnel.then(|| (header.destination_addr().into(), header.ttl()))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let is_tunnel = [IpNumber::IPV4, IpNumber::IPV6].contains(&header.next_header());
            is_tunnel.then(|| (header.destination_addr().into(), header.hop_limit()))
        }
        NetSlice::Arp(_) => None,
    };
    capture.frames().iter().filter_map(|frame| outer(&frame.bytes)).collect()
}

#[test]
fn what_comes_in_another_balancers_tunnel_is_steered_on_once() {
    scenario(&Layout::default(), |lab| {
        let other = lab.add_other_balancer()?;
        let wire = Capture::start(&lab.router, ROUTER_TO_OTHER_LB)?;
        let far = Balancer::start_other(lab, &other, &second(lab, &other, "\"172.16.0.0/16\", \"100::/64\""))?;
        let near = Balancer::start(lab, &first(lab, &other.tunnels))?;
        all_serve(lab)?;
        let mut sessions = Sessions::open(&lab.client, &vips(80), 20)?;
        // The second one knows its flows whichever way they come.
        near.reload(&first(lab, &other.tunnels[1..]))?;
        sessions.all_stay()?;
        all_serve(lab)?;
        // Fragments and an upload that fills the client's link.
        for to in vips(53) {
            udp::Flow::open(&lab.client, to)?.ask_with(4000)?;
        }
        for to in vips(80) {
            upload(&lab.client, to, 300_000)?;
            assert_eq!(ping(&lab.client, to.ip(), 2)?, 2);
        }
        let (near_stats, far_stats) = (near.stats()?, far.stats()?);
        ensure!(near_stats.event("resteered")? == 0, "the first one unwraps");
        ensure!(far_stats.event("resteered")? > 500, "{} were steered on", far_stats.event("resteered")?);
        ensure!(far_stats.drops().is_empty(), "{:?}", far_stats.drops());
        // Frames to the second one, and on from there with one hop less to live than they came with.
        wait::until("all ways are seen", LIMIT, || {
            let seen = tunnels(&wire);
            let onward: BTreeSet<_> = lab.backends.iter().map(|backend| backend.v4).collect();
            let to: BTreeSet<IpAddr> = seen.iter().map(|(to, _)| *to).collect();
            ensure!(to == onward.iter().copied().chain(other.tunnels).collect(), "{seen:?}");
            let (most, least) = (64, 62);
            let right = |(to, ttl): &(IpAddr, u8)| if onward.contains(to) { *ttl == least } else { *ttl == most - 1 };
            ensure!(seen.iter().all(right), "{seen:?}");
            Ok(Some(()))
        })?;
        assert_eq!(wire.faults(), Vec::<String>::new());
        Ok(())
    });
}

#[test]
fn tunnel_packets_from_elsewhere_are_dropped() {
    scenario(&Layout::with_backends(2), |lab| {
        let other = lab.add_other_balancer()?;
        let far = Balancer::start_other(lab, &other, &second(lab, &other, "\"172.17.0.0/16\""))?;
        let _near = Balancer::start(lab, &first(lab, &other.tunnels[..1]))?;
        silent(lab)?;
        let dropped = far.stats()?.verdict("tunnel_source")?;
        ensure!(dropped >= 2, "{dropped} were dropped");
        // Without sources they may come from anywhere.
        far.reload(&second(lab, &other, ""))?;
        all_serve(lab)
    });
}

#[test]
fn packets_that_two_balancers_send_to_each_other_die_out() {
    scenario(&Layout::with_backends(1), |lab| {
        let other = lab.add_other_balancer()?;
        let tunnels = |addresses: [IpAddr; 2]| {
            format!("tunnels = {{ addresses = [\"{}\", \"{}\"] }}", addresses[0], addresses[1])
        };
        // Addresses for tunnels alone; the router's way to lb leads there.
        let ours: [IpAddr; 2] = ["10.0.0.9".parse()?, "fd00::9".parse()?];
        lab.lb.ip("addr add 10.0.0.9/24 dev eth0\naddr add fd00::9/64 dev eth0 nodad\n")?;
        let back = web(Settings::empty_for_other(lab).pool_of("web", vec![PoolBackend::new("first", ours[0])]));
        let far = Balancer::start_other(lab, &other, &back.dataplane(&tunnels(other.tunnels)))?;
        let near = Balancer::start(lab, &first(lab, &other.tunnels[..1]).dataplane(&tunnels(ours)))?;
        silent(lab)?;
        // Each lb on the way takes a hop, and the router between them another.
        let (near, far) = (near.stats()?, far.stats()?);
        let steered = near.event("resteered")? + far.event("resteered")?;
        ensure!((40..64 * 4).contains(&steered), "packets went round {steered} times: {near:?} {far:?}");
        for host in [IpAddr::from(LB_V4), LB_V6.into()] {
            assert_eq!(ping(&lab.client, host, 1)?, 1, "{host}");
        }
        Ok(())
    });
}
