use std::{net::Ipv4Addr, time::Duration};

use super::*;
use crate::{
    health::Status,
    model::{Access, DaemonConfig, DataplaneConfig, Health, NextHopConfig, Tunnels},
};

const HOP: NextHop =
    NextHop { ifindex: 2, source_mac: [2; 6], mac: [4; 6], mtu: 1500, tags: [[0; 4]; 2], on_link: false };

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn backend(last: u8, weight: u32, state: AdminState) -> Backend {
    Backend::plain(&format!("web-{last}"), address(last), weight, state)
}

fn service_80() -> Service {
    Service::of(Ipv4Addr::new(192, 0, 2, 10).into(), 80, Protocol::Tcp)
}

fn config(backends: Vec<Backend>, check: Check, panic_threshold: u8) -> Config {
    let health = Health {
        check,
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
    };
    Config {
        dataplane: DataplaneConfig {
            interfaces: vec![],
            next_hop: NextHopConfig::Auto,
            flow_table_entries: 64,
            hash_seed: 0,
            udp_idle_timeout: Duration::from_secs(30),
            tunnel_source_v4: "172.16.0.0/16".parse().unwrap(),
            tunnel_source_v6: "100::/64".parse().unwrap(),
            mtu: None,
            gue_port: 6080,
            access: Access::default(),
            source_limit: None,
            tunnels: Tunnels::default(),
        },
        daemon: DaemonConfig { watch: false, state_dir: "/var/lib/lb".into() },
        api_socket: "/run/lb/lb.sock".into(),
        metrics_listen: None,
        pools: [("web".into(), Pool { name: "web".into(), backends, health })].into(),
        vips: vec![Vip { panic_threshold, ..Vip::plain("web", service_80(), "web", 65_537) }],
    }
}

fn health(up: &[u8], down: &[u8]) -> HealthView {
    let status = |last: &u8, up| {
        let check = CheckId { service: service_80(), backend: address(*last) };
        (check, Status { up, ..Status::default() })
    };
    up.iter().map(|last| status(last, true)).chain(down.iter().map(|last| status(last, false))).collect()
}

fn hops(to: &[u8]) -> NextHops {
    to.iter().map(|last| (address(*last), Some(HOP))).collect()
}

fn plain(config: &Config, health: &HealthView, hops: &NextHops) -> Wanted {
    wanted(config, &Lists::of(config), health, hops, &BTreeMap::new())
}

/// What each backend may take, by the last byte of its address.
fn dispositions(wanted: &Wanted) -> Vec<Disposition> {
    wanted.vips[&key(&service_80())].backends.values().map(|target| target.disposition).collect()
}

use Disposition::{Down, Draining, Serving};

#[test]
fn state_health_and_way_decide_what_a_backend_takes() {
    let backends = vec![
        backend(1, 100, AdminState::Active),
        backend(2, 100, AdminState::Drain),
        backend(3, 100, AdminState::Disabled),
        backend(4, 0, AdminState::Active),
        backend(5, 100, AdminState::Active), // unhealthy
        backend(6, 100, AdminState::Active), // not checked yet
        backend(7, 100, AdminState::Active), // no way known
        backend(8, 100, AdminState::Drain),  // unhealthy
    ];
    let config = config(backends, Check::Tcp, 0);
    let mut hops = hops(&[1, 2, 3, 4, 5, 6, 8]);
    hops.insert(address(7), None);
    let wanted = plain(&config, &health(&[1, 2, 3, 4, 7], &[5, 8]), &hops);
    assert_eq!(dispositions(&wanted), [Serving, Draining, Down, Draining, Down, Down, Down, Down]);
    let vip = &wanted.vips[&key(&service_80())];
    assert_eq!(vip.ring_size, 65_537);
    assert_eq!(vip.backends[&address(5)].next_hop, Some(HOP));
    assert_eq!(vip.backends[&address(7)].next_hop, None);
}

#[test]
fn without_a_check_backends_are_up() {
    let config = config(vec![backend(1, 1, AdminState::Active), backend(2, 1, AdminState::Drain)], Check::None, 0);
    assert_eq!(dispositions(&plain(&config, &HealthView::new(), &hops(&[1, 2]))), [Serving, Draining]);
}

#[test]
fn below_the_panic_threshold_unhealthy_backends_serve() {
    let backends = vec![
        backend(1, 1, AdminState::Active),
        backend(2, 1, AdminState::Active),
        backend(3, 1, AdminState::Active),
        backend(4, 1, AdminState::Active),
        backend(5, 0, AdminState::Active),
        backend(6, 1, AdminState::Drain),
        backend(7, 1, AdminState::Disabled),
    ];
    let config = config(backends, Check::Tcp, 50);
    let hops = hops(&[1, 2, 3, 5, 6, 7]);
    let at_threshold = plain(&config, &health(&[1, 2], &[]), &hops);
    assert_eq!(dispositions(&at_threshold), [Serving, Serving, Down, Down, Down, Down, Down]);
    // Backends that take no new flows anyway count neither way, nor are they used; one without a way cannot be.
    let below = plain(&config, &health(&[1, 5, 6, 7], &[]), &hops);
    assert_eq!(dispositions(&below), [Serving, Serving, Serving, Down, Draining, Draining, Down]);
}

#[test]
fn a_threshold_of_zero_never_panics() {
    let config = config(vec![backend(1, 1, AdminState::Active)], Check::Tcp, 0);
    assert_eq!(dispositions(&plain(&config, &health(&[], &[1]), &hops(&[1]))), [Down]);
}

#[test]
fn keys_are_in_network_order_and_read_back() {
    let key_80 = key(&service_80());
    assert_eq!((key_80.port, key_80.protocol), ([0, 80], TCP));
    assert_eq!(key_80.address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 10]);
    assert_eq!(service(&key_80), Some(service_80()));
    let v6 = Service::of("2001:db8::1".parse().unwrap(), 0, Protocol::Udp);
    assert_eq!(service(&key(&v6)), Some(v6));
    assert_eq!(service(&VipKey::address(key_80.address, lb_common::layout::vip::ICMP)), None);
}
