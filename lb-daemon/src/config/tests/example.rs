//! The files in `config/`, and that file, schema and code know the same keys.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use certificates::Authority;

use super::{EXAMPLE, MINIMAL, VALID, check_beside, valid};
use crate::{
    config::{Checked, schema},
    model::{
        Access, AdminState, Ask, AttachMode, Backend, Check, Config, DaemonConfig, DaemonLoss, DataplaneConfig, Dns,
        Health, Http, Initial, Interface, Least, NextHopConfig, Passive, Payload, Pool, Protocol, Quic, Rcode,
        RecordType, RingChange, Route, RouteTo, ServerId, Service, SourceLimit, SourceRoute, Transport, Tunnels, Vip,
    },
};

fn backend(name: &str, address: &str, weight: u32, state: AdminState) -> Backend {
    Backend::plain(name, address.parse().unwrap(), weight, state)
}

/// A check of which the file gives the type alone.
fn checked(ask: Ask) -> Check {
    Check { route: Route::VipIfPossible, fast_interval: Some(Check::INTERVAL / 2), ..Check::of(ask) }
}

fn pool(name: &str, backends: Vec<Backend>, ask: Ask, port: Option<u16>) -> (String, Pool) {
    let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
    let check = Check { port, initial: Initial::Last, interval, timeout, rise: 2, fall: 3, ..checked(ask) };
    let health = Arc::new(Health { checks: vec![check], ..Health::default() });
    (name.into(), Pool { name: name.into(), backends, health })
}

/// The pool with what the example says of passive health.
fn listening((name, mut pool): (String, Pool)) -> (String, Pool) {
    let (window, eject_for) = (Duration::from_secs(10), Duration::from_secs(30));
    let passive = Passive { window, min_new_flows: 20, success_below: 50, eject_for, max_ejected: 50 };
    pool.health = Arc::new(Health { passive: Some(passive), ..(*pool.health).clone() });
    (name, pool)
}

fn vip(name: &str, service: &str, protocol: Protocol) -> Vip {
    let socket: SocketAddr = service.parse().unwrap();
    let service = Service::of(socket.ip(), socket.port(), protocol);
    Vip::plain(name, service, name, 65_537)
}

/// What a file without any optional key means.
fn defaults() -> Config {
    Config {
        dataplane: DataplaneConfig {
            interfaces: vec![Interface { name: "eth0".into(), mode: AttachMode::Auto }],
            next_hop: NextHopConfig::Auto,
            flow_table_entries: 1_048_576,
            hash_seed: 0x5eed,
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
            state_dir: PathBuf::from("/var/lib/lb"),
            on_loss: DaemonLoss::Keep,
            probe_mark: 0x1b00_0000,
            on_change: None,
        },
        api_socket: PathBuf::from("/run/lb/lb.sock"),
        api_read_only_socket: None,
        metrics_listen: Some("127.0.0.1:9650".parse().unwrap()),
        pools: BTreeMap::new(),
        vips: Vec::new(),
    }
}

#[test]
fn minimal_file_means_the_defaults() {
    let active = |name, address| backend(name, address, 100, AdminState::Active);
    let backends = vec![active("web-1", "10.0.0.11"), active("web-2", "10.0.0.12")];
    let wanted = Config {
        pools: BTreeMap::from([pool("web", backends, Ask::Tcp, None)]),
        vips: vec![vip("web", "192.0.2.10:443", Protocol::Tcp)],
        ..defaults()
    };
    assert_eq!(valid(MINIMAL), wanted);
}

#[test]
fn example_file_means_what_it_says() {
    let id = |value| Some(ServerId { value, len: None });
    let web = vec![
        Backend { server_id: id(1), ..backend("web-1", "10.0.0.11", 100, AdminState::Active) },
        Backend { server_id: id(2), ..backend("web-2", "10.0.0.12", 100, AdminState::Active) },
        backend("web-3", "2001:db8::13", 50, AdminState::Drain),
    ];
    let http = Ask::Http(Http {
        path: "/healthz".into(),
        host: Some("www.example.org".into()),
        headers: BTreeMap::from([("X-Check".into(), "lb".into())]),
        ..Http::default()
    });
    let question = Ask::Dns(Dns {
        query: "www.example.org".into(),
        query_type: RecordType::A,
        expect_rcode: Rcode::NoError,
        expect_answer: None,
        transport: Transport::Udp,
    });
    let dns = vec![
        backend("dns-1", "10.0.1.11", 100, AdminState::Active),
        backend("dns-2", "10.0.1.12", 100, AdminState::Active),
    ];
    let route = |source: &str, to| SourceRoute { source: source.parse().unwrap(), to };
    let source_routes = vec![
        route("203.0.113.0/24", RouteTo::Pool("dns".into())),
        route("203.0.113.9/32", RouteTo::Backend("web-2".into())),
    ];
    let quic = vip("quic", "192.0.2.10:443", Protocol::Udp);
    let mut wanted = Config {
        pools: BTreeMap::from([listening(pool("web", web, http, Some(8080))), pool("dns", dns, question, Some(53))]),
        vips: vec![
            Vip { source_routes, ..vip("web", "192.0.2.10:443", Protocol::Tcp) },
            Vip { pool: "web".into(), quic: Quic::QuicLb([4, 0, 0, 0, 0, 0, 0]), ..quic },
            vip("dns", "[2001:db8:1::53]:53", Protocol::Udp),
        ],
        ..defaults()
    };
    wanted.dataplane.interfaces.push(Interface { name: "eth1".into(), mode: AttachMode::Native });
    assert_eq!(valid(EXAMPLE), wanted);
}

/// The example with the keys set that it only shows.
fn shown() -> String {
    let set = |line: &'static str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => key,
        _ => line,
    };
    EXAMPLE.lines().flat_map(|line| [set(line), "\n"]).collect()
}

#[test]
fn example_file_is_valid_with_all_that_it_shows() {
    let names =
        ["pools.toml", "conf.d/x.toml", "allow.txt", "deny.txt", "web-allow.txt", "web-deny.txt", "web-routes.txt"];
    let list = |name: &'static str| (name, if name.contains("allow") { b"203.0.113.0/24".as_slice() } else { b"" });
    let authority = Authority::new().unwrap().pem();
    let files: Vec<_> = names.map(list).into_iter().chain([("authorities.pem", authority.as_bytes())]).collect();
    let Checked { config, diagnostics } = check_beside(&shown(), &files);
    assert!(diagnostics.is_empty(), "{diagnostics}");
    let config = config.expect("a valid configuration");
    let limit = SourceLimit {
        packets_per_second: Some(100_000),
        new_flows_per_second: Some(1_000),
        prefix_v4: 32,
        prefix_v6: 64,
        entries: 65_536,
    };
    assert_eq!(config.dataplane.source_limit, Some(limit));
    let tunnels =
        Tunnels { addresses: vec!["198.51.100.1".parse().unwrap()], sources: vec!["172.16.0.0/16".parse().unwrap()] };
    assert_eq!(config.dataplane.tunnels, tunnels);
    assert_eq!(config.vips[0].max_new_flows_per_second, Some(10_000));
    assert_eq!(config.vips[0].min_healthy, Some(Least::Share(50)));
    let change = RingChange { percent: 10, per: Duration::from_secs(10) };
    assert_eq!(config.vips[0].max_ring_change, Some(change));
    assert_eq!(config.pools["web"].health.slow_start, Some(Duration::from_secs(30)));
    let agent = Check::of_agent(9707, Some(Payload(b"web-1\n".into())));
    assert_eq!(config.pools["web"].health.agent, Some(agent));
}

/// The part of the example that sets a table's keys.
fn part(title: &str) -> String {
    let shown = shown();
    match title {
        "the main file" | "an included file" => shown.replace(['[', ']'], " "),
        "a backend" => shown.split("[pool.web]").nth(1).unwrap().split("[[pool.web.health]]").next().unwrap().into(),
        // Some of its keys are for one of the checks, some for another; a template has the same.
        "[pool.NAME.health]" | "[health.NAME]" => {
            shown.split_once("[[pool.web.health]]").unwrap().1.split("[pool.dns]").next().unwrap().into()
        }
        // Some of its keys are for one of the VIPs, some for another.
        "[[vip]]" | "one of `quic_lb`" | "one of `source_routes`" => shown.split_once("[[vip]]").unwrap().1.into(),
        title => {
            let header = format!("\n{}\n", title.replace("NAME", "web"));
            let after = shown.split_once(&header).unwrap_or_else(|| panic!("{title} is missing")).1;
            after.split("\n[").next().unwrap().into()
        }
    }
}

#[test]
fn example_file_sets_every_key() {
    for schema in schema::ALL {
        let part = part(schema.title);
        let words: Vec<&str> = part.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        // [[dataplane.interface]], [pool.web.health] and the like are set by their headers.
        let headers = ["interface", "health", "agent", "damping", "passive", "on_change", "source_limit", "tunnels"];
        for key in schema.keys.iter().filter(|key| !headers.contains(key)) {
            let set = words.contains(key);
            assert!(set, "{} lacks {key} in config/lb.example.toml", schema.title);
        }
    }
}

#[test]
fn example_file_comments_every_key() {
    let mut previous = "";
    let shown = shown();
    // The second pool and further VIPs show that there may be several, and set a few keys that the first cannot have.
    let (before, after) = shown.split_once("[pool.dns]").unwrap();
    let first_vip = after.split("[[vip]]").nth(1).unwrap();
    let quic = ["quic = ", "quic_lb = ", "udp_stable = "];
    let further = after
        .split("[[vip]]")
        .nth(2)
        .unwrap()
        .split_inclusive('\n')
        .filter(|line| line.starts_with('#') || quic.iter().any(|key| line.starts_with(key)));
    // The keys of a template are those of a pool's check.
    let (before, template) = before.split_once("[health.web]\n").unwrap();
    let before = before.lines().chain(template.split_once("\n\n").unwrap().1.lines());
    for line in before.chain(first_vip.lines()).chain(further) {
        let sets = line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_alphanumeric() || c == '_'));
        let documented = line.contains(" # ") || previous.starts_with('#') || SECOND_OF_TWO.contains(&line);
        assert!(!sets || documented, "no comment for: {line}");
        previous = line;
    }
}

/// Lines that the comment of the line before speaks of too.
const SECOND_OF_TWO: [&str; 5] = [
    "tunnel_source_v6 = \"100::/64\"",
    "deny = []",
    "allow_file = \"web-allow.txt\"",
    "deny_file = \"deny.txt\"",
    "deny_file = \"web-deny.txt\"",
];

/// A table as a file that gives `key` a date, which no key takes.
fn file_with(title: &str, key: &str) -> String {
    let line = format!("{key} = 1979-05-27\n");
    match title {
        "the main file" => line,
        "an included file" => "include = [\"x.toml\"]".into(),
        "a backend" => format!("[pool.x]\nbackends = [{{ {key} = 1979-05-27 }}]\n"),
        "one of `quic_lb`" => format!("[[vip]]\nquic_lb = [{{ {key} = 1979-05-27 }}]\n"),
        "one of `source_routes`" => format!("[[vip]]\nsource_routes = [{{ {key} = 1979-05-27 }}]\n"),
        title => format!("{}\n{line}", title.replace("NAME", "x")),
    }
}

#[test]
fn every_known_key_is_read() {
    for schema in schema::ALL {
        for key in schema.keys {
            let beside = format!("{key} = 1979-05-27");
            let found = check_beside(&file_with(schema.title, key), &[("x.toml", beside.as_bytes())]).diagnostics;
            let ignored = !found.iter().any(|one| one.code.name() == "wrong-type");
            assert!(!ignored, "{key} of {} is accepted, but nothing reads it", schema.title);
        }
    }
}

#[test]
fn a_file_with_windows_line_ends_means_the_same() {
    assert_eq!(valid(&VALID.replace('\n', "\r\n")), valid(VALID));
}
