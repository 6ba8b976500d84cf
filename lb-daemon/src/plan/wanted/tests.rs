use std::{net::Ipv4Addr, time::Duration};

use super::*;
use crate::{
    health::Standing,
    model::{
        Access, Ask, Check, DaemonConfig, DaemonLoss, Health, MAX_WEIGHT, NextHopConfig, ServerId, SourceRoute, Tunnels,
    },
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

fn config(backends: Vec<Backend>, checked: bool, panic_threshold: u8) -> Config {
    let checks = if checked { vec![Check::of(Ask::Tcp)] } else { vec![] };
    let health = Arc::new(Health { checks, ..Health::default() });
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
        daemon: DaemonConfig {
            watch: false,
            state_dir: "/var/lib/lb".into(),
            on_loss: DaemonLoss::Keep,
            probe_mark: 0x1b00_0000,
            on_change: None,
        },
        api_read_only_socket: None,
        api_socket: "/run/lb/lb.sock".into(),
        metrics_listen: None,
        pools: [("web".into(), Pool { name: "web".into(), backends, health })].into(),
        vips: vec![Vip { panic_threshold, ..Vip::plain("web", service_80(), "web", 65_537) }],
    }
}

fn health(up: &[u8], down: &[u8]) -> HealthView {
    let status = |last: &u8, up| {
        let member = Member { service: service_80(), backend: address(*last) };
        (member, Standing { up, ..Standing::default() })
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
    let config = config(backends, true, 0);
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
fn the_mtu_that_the_operator_gives_counts_for_every_way() {
    let mut config = config(vec![backend(1, 100, AdminState::Active)], false, 0);
    let mtu = |config: &Config| {
        let wanted = plain(config, &HealthView::new(), &hops(&[1]));
        wanted.vips[&key(&service_80())].backends[&address(1)].next_hop.map(|hop| hop.mtu)
    };
    assert_eq!(mtu(&config), Some(1500));
    for given in [576, 9000] {
        config.dataplane.mtu = Some(given);
        assert_eq!(mtu(&config), Some(given));
    }
}

#[test]
fn without_a_check_backends_are_up() {
    let config = config(vec![backend(1, 1, AdminState::Active), backend(2, 1, AdminState::Drain)], false, 0);
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
    let config = config(backends, true, 50);
    let hops = hops(&[1, 2, 3, 5, 6, 7]);
    let at_threshold = plain(&config, &health(&[1, 2], &[3, 4]), &hops);
    assert_eq!(dispositions(&at_threshold), [Serving, Serving, Down, Down, Down, Down, Down]);
    // Backends that take no new flows anyway count neither way, nor are they used; one without a way cannot be.
    let below = plain(&config, &health(&[1, 5, 6, 7], &[2, 3, 4]), &hops);
    assert_eq!(dispositions(&below), [Serving, Serving, Serving, Down, Draining, Draining, Down]);
}

#[test]
fn who_was_not_asked_yet_makes_no_panic_and_is_not_used_by_one() {
    let config = config((1..=10).map(|last| backend(last, 1, AdminState::Active)).collect(), true, 50);
    let serving = |up: &[u8], down: &[u8]| -> Vec<u8> {
        let found = dispositions(&plain(&config, &health(up, down), &hops(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10])));
        (1..).zip(found).filter(|(_, taken)| *taken == Serving).map(|(last, _)| last).collect()
    };
    assert_eq!(serving(&[1, 2, 3], &[]), [1, 2, 3], "seven are new");
    assert_eq!(serving(&[], &[]), [0; 0], "nobody is known");
    assert_eq!(serving(&[1, 2], &[3, 4]), [1, 2], "half of the known");
    assert_eq!(serving(&[1], &[2, 3]), [1, 2, 3], "a panic of three");
    assert_eq!(serving(&[], &[2, 3]), [2, 3]);
}

#[test]
fn a_threshold_of_zero_never_panics() {
    let config = config(vec![backend(1, 1, AdminState::Active)], true, 0);
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

/// A configuration whose VIP leads some sources to another pool or to one backend.
fn routed() -> Config {
    let mut config = config(vec![backend(1, 2, AdminState::Active), backend(2, 0, AdminState::Active)], true, 0);
    let mut other = config.pools["web"].clone();
    other.name = "other".into();
    // 10.0.0.2 is in both pools.
    other.backends = vec![backend(2, 5, AdminState::Active), backend(3, 7, AdminState::Drain)];
    config.pools.insert("other".into(), other);
    let route = |source: &str, to| SourceRoute { source: source.parse().unwrap(), to };
    config.vips[0].source_routes = vec![
        route("203.0.113.0/24", RouteTo::Pool("other".into())),
        route("203.0.113.7/32", RouteTo::Backend("web-1".into())),
    ];
    config
}

#[test]
fn each_pool_decides_who_takes_its_flows() {
    let wanted = plain(&routed(), &health(&[1, 2, 3], &[]), &hops(&[1, 2, 3]));
    let vip = &wanted.vips[&key(&service_80())];
    let targets: Vec<_> = vip.backends.values().map(|target| (target.weight, target.disposition)).collect();
    assert_eq!(targets, [(2, Serving), (0, Serving), (0, Draining)], "weights are those of the VIP's own pool");
    let members: Vec<_> = vip.groups.iter().map(|group| (group.ring_size, group.members.clone())).collect();
    assert_eq!(members, [(65_537, [(address(2), 5)].into()), (1, [(address(1), 2)].into())]);
    assert_eq!((vip.flags, vip.routes.len()), (VipValue::SOURCE_ROUTES, 2));
    // What is down in both is down, and in no ring.
    let wanted = plain(&routed(), &health(&[3], &[]), &hops(&[1, 2, 3]));
    assert!(wanted.vips[&key(&service_80())].groups.iter().all(|group| group.members.is_empty()));
}

#[test]
fn server_ids_are_known_to_vips_that_go_by_them() {
    let mut config = routed();
    let ids = [("web", 0, 1), ("other", 0, 1), ("other", 1, 2)];
    for (pool, place, value) in ids {
        config.pools.get_mut(pool).unwrap().backends[place].server_id = Some(ServerId { value, len: None });
    }
    let servers =
        |config: &Config| plain(config, &HealthView::new(), &hops(&[])).vips[&key(&service_80())].servers.clone();
    assert_eq!(servers(&config), BTreeMap::new());
    config.vips[0].tcp_server_id = true;
    assert_eq!(servers(&config), [(1, address(1)), (2, address(3))].into(), "the own pool comes first");
}

#[test]
fn settings_become_flags_and_figures() {
    let mut config = config(vec![], false, 0);
    let vip =
        |config: &Config| plain(config, &HealthView::new(), &hops(&[])).vips[&key(&config.vips[0].service)].clone();
    assert_eq!(vip(&config).flags, 0);
    config.vips[0].quic = Quic::QuicLb([4, 0, 0, 0, 0, 0, 15]);
    config.vips[0].hash = HashMode::DestinationPort;
    config.vips[0].flow_tracking = crate::model::FlowTracking::Off;
    config.vips[0].max_new_flows_per_second = Some(3);
    config.dataplane.access.deny = vec!["198.51.100.0/24".parse().unwrap()];
    config.vips[0].access.allow = vec!["::/0".parse().unwrap()];
    let all = vip(&config);
    let flags = VipValue::QUIC_LB | VipValue::HASH_PORT | VipValue::UNTRACKED | VipValue::LIMIT_NEW;
    assert_eq!(all.flags, flags | VipValue::ACL_GLOBAL | VipValue::ACL);
    assert_eq!((all.quic_lengths, all.new_flow_ns), (0x0f00_0004, 333_333_333));
    assert_eq!((new_flow_ns(2_000_000_000), new_flow_ns(u32::MAX), new_flow_ns(1)), (1, 1, 1_000_000_000));
}

#[test]
fn local_backends_need_no_way_and_others_of_their_mac_address_one_without_router() {
    let mut config = config(vec![backend(1, 1, AdminState::Active), backend(2, 1, AdminState::Active)], false, 0);
    config.vips[0].encap = Encap::L2;
    config.pools.get_mut("web").unwrap().backends[0].local = true;
    let mut hops = hops(&[2]);
    assert_eq!(dispositions(&plain(&config, &HealthView::new(), &hops)), [Serving, Down]);
    hops.insert(address(2), Some(NextHop { on_link: true, ..HOP }));
    assert_eq!(dispositions(&plain(&config, &HealthView::new(), &hops)), [Serving, Serving]);
}

#[test]
fn prefixes_read_back() {
    for text in ["192.0.2.0/24", "2001:db8::/48"] {
        let net: ipnet::IpNet = text.parse().unwrap();
        let wildcard_bits = net.max_prefix_len() - net.prefix_len();
        let prefix = Service { wildcard_bits, ..Service::of(net.network(), 443, Protocol::Udp) };
        assert_eq!(key(&prefix).wildcard_bits, wildcard_bits);
        assert_eq!(service(&key(&prefix)), Some(prefix));
    }
}

/// Two backends of these weights, with agents that want these parts of them.
fn advised(weights: [u32; 2], parts: [u16; 2], panic_threshold: u8) -> Wanted {
    let active = |last, weight| backend(last, weight, AdminState::Active);
    let mut config = config(vec![active(1, weights[0]), active(2, weights[1])], true, panic_threshold);
    let pool = config.pools.get_mut("web").unwrap();
    pool.health = Arc::new(Health { agent: Some(Check::of_agent(9, None)), ..(*pool.health).clone() });
    let mut health = health(&[1, 2], &[]);
    for (standing, permille) in health.values_mut().zip(parts) {
        standing.permille = permille;
    }
    plain(&config, &health, &hops(&[1, 2]))
}

#[test]
fn an_agent_gives_a_part_of_the_weight_away_and_with_all_of_it_new_flows() {
    let weights = |wanted: &Wanted| {
        wanted.vips[&key(&service_80())].backends.values().map(|target| target.weight).collect::<Vec<_>>()
    };
    let proportions = |weights_of, parts| {
        let wanted = advised(weights_of, parts, 0);
        assert_eq!(dispositions(&wanted), [Serving, Serving]);
        let found = weights(&wanted);
        let sum: u32 = found.iter().sum();
        found.into_iter().map(|weight| f64::from(weight) / f64::from(sum)).collect::<Vec<_>>()
    };
    assert_eq!(proportions([100, 100], [1000, 1000]), [0.5, 0.5]);
    assert_eq!(proportions([100, 100], [250, 750]), [0.25, 0.75]);
    assert_eq!(proportions([1, 1], [250, 750]), [0.25, 0.75], "of a small weight too");
    assert!(proportions([1, MAX_WEIGHT], [10, 1000])[0] > 0.0, "one that serves keeps some");
    for part in [0, 1000] {
        let wanted = advised([100, 100], [part, 1000], 0);
        assert_eq!(dispositions(&wanted), [if part == 0 { Draining } else { Serving }, Serving]);
    }
    assert_eq!(weights(&advised([100, 100], [0, 500], 0)), [0, 50_000]);
}

#[test]
fn in_panic_backends_serve_whatever_their_agents_want_and_parts_stay() {
    assert_eq!(dispositions(&advised([100, 100], [0, 0], 0)), [Draining, Draining]);
    assert_eq!(dispositions(&advised([100, 100], [0, 1000], 50)), [Draining, Serving], "half is enough");
    let wanted = advised([100, 100], [0, 300], 60);
    assert_eq!(dispositions(&wanted), [Serving, Serving]);
    let weights: Vec<u32> = wanted.vips[&key(&service_80())].backends.values().map(|target| target.weight).collect();
    assert_eq!(weights, [100_000, 30_000]);
}
