//! Rules of `[pool.NAME]`, its backends and its health check.

use std::time::Duration;

use super::{VALID, refuses, valid, warns, with};
use crate::model::{AdminState, Damping, Encap, Initial, Matching, Route};

/// A third backend.
fn backend(table: &str) -> String {
    with("#backend", &format!("{{ {table} }},"))
}

/// A second pool with these backends, and a VIP that uses it.
fn second_pool(backends: &str) -> String {
    let vip = "[[vip]]\nname = \"b\"\naddress = \"192.0.2.11\"\nport = 1\nprotocol = \"udp\"\npool = \"b\"";
    with("#end", &format!("[pool.b]\nbackends = [{backends}]\n{vip}"))
}

fn health(line: &str) -> String {
    with("#health", line)
}

#[test]
fn refuses_a_backend_twice() {
    let text = backend("name = \"web-1\", address = \"10.0.0.13\"");
    refuses(&text, "duplicate", "\"web-1\", address = \"10.0.0.13\"", "its own name");
}

#[test]
fn refuses_a_backend_address_twice() {
    let text = backend("name = \"web-3\", address = \"10.0.0.11\"");
    refuses(&text, "duplicate", "\"10.0.0.11\" }", "larger `weight`");
    let text = second_pool("{ name = \"a\", address = \"::1:2\" }, { name = \"b\", address = \"0::1:2\" }");
    refuses(&text, "duplicate", "\"0::1:2\"", "once in a pool");
}

#[test]
fn allows_one_backend_in_two_pools() {
    let text = second_pool("{ name = \"web-1\", address = \"10.0.0.11\" }");
    assert_eq!(valid(&text).pools.len(), 2);
}

#[test]
fn refuses_a_backend_without_name_or_address() {
    refuses(&backend("address = \"10.0.0.13\""), "missing-key", "{ address", "name = \"web-1\"");
    refuses(&backend("name = \"web-3\""), "missing-key", "{ name", "address = \"10.0.0.11\"");
}

#[test]
fn refuses_weights_out_of_range() {
    let weight = |weight: &str| backend(&format!("name = \"web-3\", address = \"10.0.0.13\", weight = {weight}"));
    refuses(&weight("65_536"), "out-of-range", "65_536", "0 to 65535");
    refuses(&weight("-1"), "out-of-range", "-1", "0 to 65535");
    refuses(&weight("99999999999999999999999"), "out-of-range", "9999", "0 to 65535");
    refuses(&weight("1.5"), "wrong-type", "1.5", "an integer");
    assert_eq!(valid(&weight("65_535")).pools["web"].backends[2].weight, 65_535);
    assert_eq!(valid(&weight("0")).pools["web"].backends[2].weight, 0);
    assert_eq!(valid(VALID).pools["web"].backends[0].weight, 100);
}

#[test]
fn refuses_unknown_states_of_a_backend() {
    let state = |state: &str| backend(&format!("name = \"web-3\", address = \"10.0.0.13\", state = \"{state}\""));
    refuses(&state("drained"), "invalid-value", "\"drained\"", "did you mean \"drain\"?");
    assert_eq!(valid(&state("disabled")).pools["web"].backends[2].state, AdminState::Disabled);
}

#[test]
fn refuses_backend_addresses_that_cannot_work() {
    for (address, hint) in [
        ("0.0.0.0", "one host"),
        ("::", "one host"),
        ("224.0.0.1", "one host"),
        ("ff02::1", "one host"),
        ("255.255.255.255", "one host"),
        ("::ffff:10.0.0.13", "write \"10.0.0.13\""),
        ("fe80::1", "routed"),
    ] {
        let text = backend(&format!("name = \"web-3\", address = \"{address}\""));
        refuses(&text, "unusable-address", &format!("\"{address}\""), hint);
    }
}

#[test]
fn refuses_what_is_no_address() {
    for (address, hint) in [
        ("10.0.0", "in digits"),
        ("web-3.example", "in digits"),
        ("10.0.0.13:80", "alone"),
        ("[2001:db8::1]:80", "alone"),
        ("10.0.0.13/32", "leave out `/`"),
        ("fe80::1%eth0", "in digits"),
    ] {
        let text = backend(&format!("name = \"web-3\", address = \"{address}\""));
        refuses(&text, "invalid-value", &format!("\"{address}\""), hint);
    }
}

#[test]
fn warns_of_a_loopback_backend() {
    let text = backend("name = \"web-3\", address = \"127.0.0.1\"");
    warns(&text, "doubtful-address", "\"127.0.0.1\"", "that the network routes");
}

#[test]
fn refuses_names_that_metrics_and_paths_cannot_carry() {
    for name in ["", "a b", "a/b", "-a", "é"] {
        let text = backend(&format!("name = \"{name}\", address = \"10.0.0.13\""));
        refuses(&text, "invalid-value", &format!("\"{name}\""), "letters, digits");
    }
    let long = "x".repeat(64);
    let text = backend(&format!("name = \"{long}\", address = \"10.0.0.13\""));
    refuses(&text, "invalid-value", &format!("\"{long}\""), "up to 63");
    let text = VALID.replace("[pool.web", "[pool.\"a b\"").replace("pool = \"web\"", "pool = \"a b\"");
    refuses(&text, "invalid-value", "\"a b\"]", "letters, digits");
}

#[test]
fn refuses_a_pool_without_backends() {
    let hint = "backends = [{ name = \"web-1\"";
    for pool in ["[pool.empty]", "[pool.empty]\nbackends = []"] {
        let vip = "[[vip]]\nname = \"b\"\naddress = \"192.0.2.11\"\nport = 1\nprotocol = \"tcp\"\npool = \"empty\"";
        refuses(&with("#end", &format!("{pool}\n{vip}")), "no-backends", "empty]", hint);
    }
}

#[test]
fn warns_of_a_pool_that_takes_no_new_flows() {
    let text = VALID
        .replace("\"10.0.0.11\"", "\"10.0.0.11\", weight = 0")
        .replace("\"10.0.0.12\"", "\"10.0.0.12\", state = \"drain\"");
    warns(&text, "idle-pool", "web]", "weight above 0");
}

#[test]
fn a_check_goes_by_the_vip_unless_it_says_otherwise_or_runs_a_program() {
    let route = |text: &str| valid(text).pools["web"].health.checks[0].route;
    assert_eq!(route(VALID), Route::VipIfPossible);
    assert_eq!(route(&health("probe = \"vip\"")), Route::Vip);
    assert_eq!(route(&health("probe = \"direct\"")), Route::Direct);
    refuses(&health("probe = \"tunnel\""), "invalid-value", "\"tunnel\"", "\"vip\" or \"direct\"");
}

#[test]
fn refuses_a_health_check_without_type() {
    refuses(&with("type = \"http\"", ""), "missing-key", "[pool.web.health]", "type = \"tcp\"");
    refuses(&with("\"http\"", "\"htttp\""), "invalid-value", "\"htttp\"", "did you mean \"http\"?");
}

#[test]
fn refuses_intervals_and_timeouts_out_of_range() {
    refuses(&health("interval = \"99ms\""), "out-of-range", "\"99ms\"", "\"100ms\" to \"1h\"");
    refuses(&health("interval = \"2h\""), "out-of-range", "\"2h\"", "\"100ms\" to \"1h\"");
    refuses(&health("timeout = \"9ms\""), "out-of-range", "\"9ms\"", "\"10ms\" to \"1h\"");
}

#[test]
fn refuses_a_timeout_longer_than_the_interval() {
    refuses(&health("interval = \"1s\"\ntimeout = \"2s\""), "conflict", "\"2s\"", "at most \"1s\"");
    refuses(&health("timeout = \"3s\""), "conflict", "\"3s\"", "at most \"2s\"");
}

#[test]
fn takes_the_timing_of_a_check() {
    let check = |keys: &str| valid(&health(keys)).pools["web"].health.checks[0].clone();
    let plain = check("");
    assert_eq!((plain.initial, plain.fast_interval), (Initial::Last, Some(Duration::from_secs(1))));
    for (word, initial) in [("down", Initial::Down), ("up", Initial::Up), ("last", Initial::Last)] {
        assert_eq!(check(&format!("initial = \"{word}\"")).initial, initial);
    }
    refuses(&health("initial = \"dwon\""), "invalid-value", "\"dwon\"", "did you mean \"down\"?");
    assert_eq!(check("fast_interval = \"2s\"").fast_interval, Some(Duration::from_secs(2)));
    refuses(&health("fast_interval = \"99ms\""), "out-of-range", "\"99ms\"", "\"100ms\" to \"1h\"");
    refuses(&health("fast_interval = \"3s\""), "conflict", "\"3s\"", "at most \"2s\", or a longer `interval`");
}

#[test]
fn takes_damping_beside_a_check() {
    let damping = |keys: &str| valid(&health(&format!("[pool.web.damping]\n{keys}"))).pools["web"].health.damping;
    assert_eq!(valid(VALID).pools["web"].health.damping, None);
    let minute = Duration::from_mins(1);
    assert_eq!(damping(""), Some(Damping { flaps: 3, within: minute, hold_for: minute }));
    let given = Damping { flaps: 5, within: Duration::from_mins(2), hold_for: Duration::from_hours(1) };
    assert_eq!(damping("flaps = 5\nwithin = \"2m\"\nhold_for = \"1h\""), Some(given));
    for (keys, shown, hint) in [
        ("flaps = 1", "1", "2 to 100"),
        ("within = \"0s\"", "\"0s\"", "\"1s\" to \"24h\""),
        ("hold_for = \"25h\"", "\"25h\"", "\"1s\" to \"24h\""),
    ] {
        refuses(&health(&format!("[pool.web.damping]\n{keys}")), "out-of-range", shown, hint);
    }
    let unchecked = with("type = \"http\"", "type = \"none\"\n[pool.web.damping]");
    warns(&unchecked, "no-effect", "damping", "add a health check");
}

#[test]
fn half_the_interval_is_a_timeout_and_a_fast_interval() {
    let health = valid(&health("interval = \"500ms\"")).pools["web"].health.checks[0].clone();
    let half = Duration::from_millis(250);
    assert_eq!((health.interval, health.timeout, health.fast_interval), (2 * half, half, Some(half)));
    let shortest =
        valid(&with("type = \"http\"", "type = \"http\"\ninterval = \"100ms\"")).pools["web"].health.checks[0].clone();
    assert_eq!((shortest.timeout, shortest.fast_interval), (Duration::from_millis(50), Some(shortest.interval)));
    let longest =
        valid(&with("type = \"http\"", "type = \"http\"\ninterval = \"1h\"")).pools["web"].health.checks[0].clone();
    assert_eq!((longest.timeout, longest.fast_interval), (Duration::from_secs(1), Some(Duration::from_mins(30))));
}

#[test]
fn refuses_streaks_out_of_range() {
    for key in ["rise", "fall"] {
        refuses(&health(&format!("{key} = 0")), "out-of-range", "0", "from 1 to 100");
        refuses(&health(&format!("{key} = 101")), "out-of-range", "101", "from 1 to 100");
    }
}

#[test]
fn refuses_ports_out_of_range() {
    refuses(&health("port = 0"), "out-of-range", "0", "1 to 65535");
    refuses(&health("port = 65536"), "out-of-range", "65536", "1 to 65535");
}

#[test]
fn refuses_http_keys_in_a_tcp_check() {
    let text = with("type = \"http\"", "type = \"tcp\"\npath = \"/x\"");
    refuses(&text, "conflict", "path", "remove `path`");
}

#[test]
fn warns_of_keys_without_effect() {
    let text = with("type = \"http\"", "type = \"none\"\nrise = 3");
    warns(&text, "no-effect", "rise", "change `type`");
    assert!(valid(&with("type = \"http\"", "type = \"none\"")).pools["web"].health.checks.is_empty());
}

#[test]
fn a_pool_may_have_several_checks_each_with_a_name_of_its_own() {
    let several = "[[pool.web.health]]\ntype = \"tcp\"\n[[pool.web.health]]\nname = \"site\"\ntype = \"http\"\n";
    let text = with("[pool.web.health]\ntype = \"http\"\n", several);
    let health = valid(&text).pools["web"].health.clone();
    let names: Vec<&str> = health.checks.iter().map(|check| &*check.name).collect();
    assert_eq!((names, health.matching), (vec!["tcp", "site"], Matching::All));
    let any = text
        .replace("[[pool.web.health]]\ntype = \"tcp\"", "health_match = \"any\"\n[[pool.web.health]]\ntype = \"tcp\"");
    assert_eq!(valid(&any).pools["web"].health.matching, Matching::Any);
    refuses(&text.replace("\"site\"", "\"tcp\""), "duplicate", "[[pool.web.health]]", "`name` of its own");
    refuses(&text.replace("type = \"tcp\"", "type = \"none\""), "conflict", "[[pool.web.health]]", "remove it");
}

#[test]
fn refuses_slow_starts_of_no_length() {
    let pool = |line: &str| with("[pool.web]\n", &format!("[pool.web]\n{line}\n"));
    refuses(&pool("slow_start = \"0s\""), "out-of-range", "\"0s\"", "\"1s\" to \"1h\"");
    refuses(&pool("slow_start = 30"), "wrong-type", "30", "write \"30s\"");
    let start = |line: &str| valid(&pool(line)).pools["web"].health.slow_start;
    assert_eq!([start(""), start("slow_start = \"30s\"")], [None, Some(std::time::Duration::from_secs(30))]);
}

#[test]
fn takes_a_pool_without_health_section_as_always_up() {
    let text = with("[pool.web.health]\ntype = \"http\"\n", "");
    assert!(valid(&text).pools["web"].health.checks.is_empty());
}

#[test]
fn a_pools_encapsulation_is_the_default_of_its_vips() {
    let encap = |text: &str| valid(text).vips[0].encap;
    assert_eq!(encap(VALID), Encap::Ipip);
    let pool = with("[pool.web]", "[pool.web]\nencap = \"l2\"");
    assert_eq!(encap(&pool), Encap::L2);
    assert_eq!(encap(&pool.replace("#vip", "encap = \"gue\"")), Encap::Gue);
    refuses(&pool.replace("\"l2\"", "\"l3\""), "invalid-value", "\"l3\"", "\"l2\"?");
}

#[test]
fn one_backend_of_a_pool_may_be_this_host() {
    let local = |address: &str| format!("name = \"me\", address = \"{address}\", local = true");
    let backends = &valid(&backend(&local("127.0.0.1"))).pools["web"].backends;
    assert_eq!(backends.iter().map(|backend| backend.local).collect::<Vec<_>>(), [false, false, true]);
    // The VIP's address, which this host has.
    assert!(valid(&backend(&local("192.0.2.10"))).pools["web"].backends[2].local);
    let two = format!("{} }}, {{ {}", local("10.0.0.13"), local("10.0.0.14").replace("\"me\"", "\"also-me\""));
    refuses(&backend(&two), "conflict", "true },", "to one of them");
}
