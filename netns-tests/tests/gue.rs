//! Tunnels of GUE, variant 1.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::ensure;
use etherparse::{SlicedPacket, TransportSlice};
use netns_tests::{
    balancer::{Balancer, LIMIT, binary},
    capture::{Capture, verify::GUE_PORT},
    scenario::scenario,
    settings::{Family, Health, Settings},
    topology::{Lab, Layout, ROUTER_TO_LB, VIP_V4, VIP_V6},
    traffic::{http, is_silent, udp},
    wait,
};

/// The four pairs of (VIP's family, backends' family): the VIP, its TCP and UDP ports, and the pool it is served by.
const PAIRS: [(IpAddr, u16, u16, &str); 4] = [
    (IpAddr::V4(VIP_V4), 80, 53, "v4"),
    (IpAddr::V4(VIP_V4), 8080, 5353, "v6"),
    (IpAddr::V6(VIP_V6), 8080, 5353, "v4"),
    (IpAddr::V6(VIP_V6), 80, 53, "v6"),
];

fn layout() -> Layout {
    Layout { http_ports: vec![80, 8080], udp_ports: vec![53, 5353], ..Layout::with_backends(2) }
}

fn settings(lab: &Lab) -> Settings {
    let pools = Settings::empty(lab)
        .dataplane(&format!("gue_port = {GUE_PORT}"))
        .pool("v4", lab, Family::V4, Health::None)
        .pool("v6", lab, Family::V6, Health::None);
    let all = PAIRS.into_iter().fold(pools, |settings, (vip, http, udp, pool)| {
        settings.vip(&format!("http-{vip}-{pool}").replace(':', "."), (vip, http, "tcp"), pool).vip(
            &format!("udp-{vip}-{pool}").replace(':', "."),
            (vip, udp, "udp"),
            pool,
        )
    });
    all.each_vip("encap = \"gue\"")
}

/// Outer source ports of the GUE packets of a capture, by outer destination.
fn tunnels(capture: &Capture) -> BTreeMap<IpAddr, BTreeSet<u16>> {
    let mut seen = BTreeMap::<IpAddr, BTreeSet<u16>>::new();
    for frame in capture.frames() {
        let Ok(packet) = SlicedPacket::from_ethernet(&frame.bytes) else { continue };
        let (Some(ip), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else { continue };
        if udp.destination_port() == GUE_PORT {
            let to = match ip {
                etherparse::NetSlice::Ipv4(v4) => IpAddr::from(v4.header().destination_addr()),
                etherparse::NetSlice::Ipv6(v6) => v6.header().destination_addr().into(),
                etherparse::NetSlice::Arp(_) => continue,
            };
            seen.entry(to).or_default().insert(udp.source_port());
        }
    }
    seen
}

#[test]
fn vips_of_both_families_are_served_through_gue_by_backends_of_both_families() {
    scenario(&layout(), |lab| {
        let lb_binary = binary()?;
        for backend in &lab.backends {
            backend.attach_decap_with(&lb_binary, &["--gue-port", &GUE_PORT.to_string()])?;
        }
        let wire = Capture::start(&lab.router, ROUTER_TO_LB)?;
        let lb = Balancer::start(lab, &settings(lab))?;
        for (vip, http, udp, pool) in PAIRS {
            let answers = http::ask_many(&lab.client, SocketAddr::new(vip, http), 60);
            ensure!((answers.failed(), answers.by_backend.len()) == (0, 2), "TCP {vip} {pool}: {answers}");
            let answers = udp::ask_many(&lab.client, SocketAddr::new(vip, udp), 60, 3);
            ensure!((answers.failed(), answers.by_backend.len()) == (0, 2), "UDP {vip} {pool}: {answers}");
            // What fills the client's link fits with its outer headers.
            let whole = if vip.is_ipv4() { 1472 } else { 1452 };
            udp::Flow::open(&lab.client, SocketAddr::new(vip, udp))?.ask_with(whole)?;
        }
        // Each backend has both addresses, and flows are told apart by the outer source port.
        let wanted: BTreeSet<IpAddr> = lab.backends.iter().flat_map(|backend| [backend.v4, backend.v6]).collect();
        wait::until("GUE to every backend", LIMIT, || {
            let seen = tunnels(&wire);
            Ok((seen.keys().copied().collect::<BTreeSet<_>>() == wanted).then_some(()))
        })?;
        for (to, ports) in tunnels(&wire) {
            ensure!(ports.len() > 20, "{to}: only source ports {ports:?}");
        }
        for backend in &lab.backends {
            let counters = backend.decap_counters(&lb_binary)?;
            let of = |name: &str| counters.get(name).copied().unwrap_or(0);
            ensure!(of("gue_unwrapped_v4") > 100 && of("gue_unwrapped_v6") > 100, "{}: {counters:?}", backend.name());
            ensure!(of("unwrapped_v4") + of("unwrapped_v6") + of("malformed") == 0, "{counters:?}");
        }
        ensure!(lb.stats()?.drops().is_empty(), "{:?}", lb.stats()?.drops());
        Ok(())
    });
}

#[test]
fn a_backend_that_takes_gue_at_another_port_is_not_reached_until_it_is_told() {
    scenario(&layout(), |lab| {
        let lb_binary = binary()?;
        // On the default port so far.
        let _lb = Balancer::start(lab, &settings(lab))?;
        let to = SocketAddr::new(VIP_V4.into(), 80);
        ensure!(is_silent(&lab.client, to), "somebody unwraps what is not for him");
        for backend in &lab.backends {
            backend.attach_decap_with(&lb_binary, &["--gue-port", &GUE_PORT.to_string()])?;
        }
        let answers = http::ask_many(&lab.client, to, 20);
        ensure!(answers.failed() == 0, "{answers}");
        Ok(())
    });
}
