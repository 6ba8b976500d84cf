//! Rules of `[[vip]]`.

use super::{VALID, complaints, refuses, valid, warns, with};
use std::time::Duration;

use crate::model::{Encap, FlowTracking, HashMode, Least, Protocol, RingChange};

fn vip(line: &str) -> String {
    with("#vip", line)
}

/// A second VIP of the same pool.
fn second(name: &str, address: &str, port: u16, protocol: &str) -> String {
    let service = format!("address = \"{address}\"\nport = {port}\nprotocol = \"{protocol}\"");
    with("#end", &format!("[[vip]]\nname = \"{name}\"\n{service}\npool = \"web\""))
}

#[test]
fn refuses_a_vip_name_twice() {
    refuses(&second("web", "192.0.2.11", 80, "tcp"), "duplicate", "\"web\"", "its own name");
}

#[test]
fn refuses_a_vip_twice() {
    refuses(&second("again", "192.0.2.10", 443, "tcp"), "duplicate", "\"192.0.2.10\"", "address, port and protocol");
}

#[test]
fn allows_one_address_with_several_ports_and_protocols() {
    valid(&second("other", "192.0.2.10", 80, "tcp"));
    let text = second("other", "192.0.2.10", 443, "udp").replace("#health", "port = 8080");
    assert_eq!(valid(&text).vips[1].service.protocol, Protocol::Udp);
}

#[test]
fn refuses_a_vip_that_lacks_a_key() {
    for (line, hint) in [
        ("name = \"web\"\n", "name = \"web\""),
        ("address = \"192.0.2.10\"\n", "address = \"192.0.2.10\""),
        ("port = 443\n", "port = 443"),
        ("protocol = \"tcp\"\n", "protocol = \"tcp\""),
    ] {
        refuses(&with(line, ""), "missing-key", "[[vip]]", hint);
    }
}

#[test]
fn refuses_a_vip_without_a_pool() {
    refuses(&with("pool = \"web\"\n", ""), "missing-key", "[[vip]]", "pool = \"NAME\"");
}

#[test]
fn refuses_a_vip_with_an_unknown_pool() {
    refuses(&with("pool = \"web\"", "pool = \"wbe\""), "unknown-pool", "\"wbe\"", "did you mean \"web\"?");
    refuses(&with("pool = \"web\"", "pool = \"mail\""), "unknown-pool", "\"mail\"", "[pool.mail]");
}

#[test]
fn refuses_ports_and_protocols_that_do_not_exist() {
    refuses(&with("port = 443", "port = 65536"), "out-of-range", "65536", "0 to 65535");
    refuses(&with("port = 443", "port = \"https\""), "wrong-type", "\"https\"", "an integer");
    refuses(&with("\"tcp\"", "\"sctp\""), "invalid-value", "\"sctp\"", "\"tcp\"");
}

#[test]
fn refuses_vip_addresses_that_cannot_work() {
    for (address, hint) in [("0.0.0.0", "one host"), ("ff02::1", "one host"), ("::ffff:192.0.2.10", "\"192.0.2.10\"")] {
        refuses(&with("192.0.2.10", address), "unusable-address", &format!("\"{address}\""), hint);
    }
    refuses(&with("192.0.2.10", "192.0.2.10:443"), "invalid-value", "\"192.0.2.10:443\"", "`port`");
}

#[test]
fn refuses_adaptive_tracking_with_what_does_not_go_by_the_5_tuple() {
    for other in ["hash = \"source-ip\"", "tcp_server_id = true"] {
        let text = vip(&format!("flow_tracking = \"adaptive\"\n{other}"));
        let text = text.replace("address = \"10.0.0.11\"", "address = \"10.0.0.11\", server_id = 1");
        refuses(&text, "conflict", "\"adaptive\"", "flow_tracking = \"always\"");
    }
}

#[test]
fn warns_of_mac_addresses_by_one_gateway() {
    let by_gateway = |text: &str| text.replace("[dataplane]", "[dataplane]\nnext_hop = \"02:00:00:00:00:01\"");
    let own = by_gateway(&vip("encap = \"l2\""));
    warns(&own, "doubtful-address", "\"l2\"", "next_hop = \"auto\"");
    let of_pool = by_gateway(&with("[pool.web]", "[pool.web]\nencap = \"l2\""));
    warns(&of_pool, "doubtful-address", "[[vip]]", "next_hop = \"auto\"");
    valid(&of_pool.replace("#vip", "encap = \"gue\""));
    valid(&vip("encap = \"l2\""));
}

#[test]
fn warns_of_a_limit_of_new_flows_where_none_is_known() {
    let limit = vip("flow_tracking = \"off\"\nmax_new_flows_per_second = 10");
    warns(&limit, "no-effect", "max_new_flows_per_second", "remove one of them");
    valid(&limit.replace("\"off\"", "\"always\""));
}

#[test]
fn reads_how_flows_are_steered() {
    let only = |line: &str| valid(&vip(line)).vips[0].clone();
    for (word, hash) in [
        ("5-tuple", HashMode::FiveTuple),
        ("source-ip", HashMode::SourceIp),
        ("source-ip-destination-port", HashMode::SourceIpDestinationPort),
        ("destination-port", HashMode::DestinationPort),
    ] {
        assert_eq!(only(&format!("hash = \"{word}\"")).hash, hash);
    }
    for (word, encap) in [("ipip", Encap::Ipip), ("gue", Encap::Gue), ("l2", Encap::L2)] {
        assert_eq!(only(&format!("encap = \"{word}\"")).encap, encap);
    }
    for (word, tracking) in
        [("always", FlowTracking::Always), ("adaptive", FlowTracking::Adaptive), ("off", FlowTracking::Off)]
    {
        assert_eq!(only(&format!("flow_tracking = \"{word}\"")).flow_tracking, tracking);
    }
    assert_eq!(only("max_new_flows_per_second = 1_000").max_new_flows_per_second, Some(1_000));
    refuses(&vip("hash = \"source\""), "invalid-value", "\"source\"", "did you mean \"source-ip\"?");
    for given in ["0", "1_000_000_001"] {
        let text = vip(&format!("max_new_flows_per_second = {given}"));
        refuses(&text, "out-of-range", given, "from 1 to 1000000000");
    }
}

#[test]
fn serves_prefixes() {
    let service = |address: &str| valid(&with("192.0.2.10", address)).vips[0].service;
    let v4 = service("192.0.2.0/24");
    assert_eq!((v4.to_string().as_str(), v4.wildcard_bits), ("192.0.2.0/24:443 tcp", 8));
    let v6 = service("2001:db8:1::/64");
    assert_eq!((v6.to_string().as_str(), v6.wildcard_bits), ("[2001:db8:1::/64]:443 tcp", 64));
    assert_eq!(service("192.0.2.10/32"), service("192.0.2.10"));
    assert_eq!(service("2001:db8::1/128"), service("2001:db8::1"));
}

#[test]
fn refuses_prefixes_that_no_vip_can_have() {
    for (address, code, hint) in [
        ("192.0.2.10/24", "invalid-value", "write \"192.0.2.0/24\""),
        ("2001:db8::1/64", "invalid-value", "write \"2001:db8::/64\""),
        ("::ffff:192.0.2.0/120", "invalid-value", "write \"192.0.2.0/24\""),
        ("192.0.2.0/33", "invalid-value", "such as \"203.0.113.0/24\""),
        ("0.0.0.0/0", "unusable-address", "0.0.0.0/8"),
        ("::/0", "unusable-address", "::/128"),
        ("192.0.0.0/2", "unusable-address", "224.0.0.0/4"),
        ("239.1.0.0/16", "unusable-address", "224.0.0.0/4"),
        ("240.0.0.0/4", "unusable-address", "255.255.255.255/32"),
        ("ff00::/12", "unusable-address", "ff00::/8"),
        ("::fffe:0:0/95", "unusable-address", "::ffff:0.0.0.0/96"),
        ("224.0.0.1/32", "unusable-address", "one host"),
    ] {
        refuses(&with("192.0.2.10", address), code, &format!("\"{address}\""), hint);
    }
}

#[test]
fn refuses_a_prefix_twice_and_allows_prefixes_in_prefixes() {
    let text = |first: &str, second_: &str| second("again", second_, 443, "tcp").replace("192.0.2.10", first);
    let hint = "address, port and protocol";
    refuses(&text("192.0.2.0/24", "192.0.2.0/24"), "duplicate", "\"192.0.2.0/24\"", hint);
    assert_eq!(valid(&text("192.0.2.0/24", "192.0.2.0/25")).vips.len(), 2);
    assert_eq!(valid(&text("192.0.2.0/24", "192.0.2.0")).vips.len(), 2);
}

#[test]
fn refuses_a_prefix_that_holds_its_own_backend() {
    refuses(&with("192.0.2.10", "10.0.0.8/29"), "conflict", "\"10.0.0.8/29\"", "the backend's own address");
    valid(&with("192.0.2.10", "10.0.0.16/29"));
}

#[test]
fn refuses_panic_thresholds_that_are_no_share() {
    for given in ["101%", "50", "-1%", "0.5%"] {
        let place = format!("\"{given}\"");
        refuses(&vip(&format!("panic_threshold = {place}")), "invalid-value", &place, "\"0%\" to \"100%\"");
    }
    refuses(&vip("panic_threshold = 50"), "wrong-type", "50", "write \"50%\"");
    refuses(&vip("panic_threshold = 0.5"), "wrong-type", "0.5", "in quotes, such as \"5%\"");
    assert_eq!(valid(&vip("panic_threshold = \"50%\"")).vips[0].panic_threshold, 50);
}

#[test]
fn refuses_least_numbers_of_healthy_backends_that_mean_nothing() {
    let refused = [
        ("0", "out-of-range", "1"),
        ("\"0%\"", "invalid-value", "leave the key out"),
        ("\"101%\"", "invalid-value", "\"1%\" to \"100%\""),
        ("\"2\"", "invalid-value", "write 2, or a share"),
        ("true", "wrong-type", "such as \"50%\""),
    ];
    for (given, code, hint) in refused {
        refuses(&vip(&format!("min_healthy = {given}")), code, given, hint);
    }
    let least = |given: &str| valid(&vip(&format!("min_healthy = {given}"))).vips[0].min_healthy;
    refuses(&vip("min_healthy = 4"), "conflict", "4", "at most 2");
    assert_eq!([least("2"), least("\"50%\"")], [Some(Least::Count(2)), Some(Least::Share(50))]);
    assert_eq!(valid(&vip("")).vips[0].min_healthy, None);
}

#[test]
fn refuses_changes_of_a_ring_that_limit_nothing_or_everything() {
    let refused = [
        ("max_ring_change = \"0%\"", "invalid-value", "\"0%\"", "leave the key out"),
        ("max_ring_change = 10", "wrong-type", "10", "write \"10%\""),
        ("max_ring_change_per = \"10s\"", "no-effect", "max_ring_change_per", "add `max_ring_change"),
        ("max_ring_change = \"1%\"\nmax_ring_change_per = \"1ms\"", "out-of-range", "\"1ms\"", "\"1s\" to \"1h\""),
        ("ring_size = 1009\nmax_ring_change = \"5%\"", "conflict", "\"5%\"", "at least \"10%\""),
    ];
    for (lines, code, place, hint) in refused {
        match code {
            "no-effect" => warns(&vip(lines), code, place, hint),
            _ => refuses(&vip(lines), code, place, hint),
        }
    }
    let change = |lines: &str| valid(&vip(lines)).vips[0].max_ring_change;
    let of = |percent, seconds| Some(RingChange { percent, per: Duration::from_secs(seconds) });
    assert_eq!(change("max_ring_change = \"1%\""), of(1, 10));
    assert_eq!(change("max_ring_change = \"100%\"\nmax_ring_change_per = \"1m\""), of(100, 60));
    assert_eq!(change("ring_size = 1009\nmax_ring_change = \"10%\""), of(10, 10));
}

#[test]
fn refuses_a_vip_that_is_its_own_backend() {
    refuses(&with("192.0.2.10", "10.0.0.11"), "conflict", "\"10.0.0.11\"", "the backend's own address");
}

#[test]
fn refuses_a_check_without_a_port_to_ask() {
    refuses(&with("port = 443", "port = 0"), "conflict", "\"192.0.2.10\"", "`port` to [pool.web.health]");
    let text = with("port = 443", "port = 0").replace("#health", "port = 8080");
    assert_eq!(valid(&text).vips[0].service.port, 0);
}

#[test]
fn warns_of_a_tcp_check_at_a_udp_port() {
    warns(&with("\"tcp\"", "\"udp\""), "no-effect", "\"192.0.2.10\"", "`port` to [pool.web.health]");
}

#[test]
fn warns_of_a_ring_too_small_for_its_backends() {
    let backends: Vec<String> = (1..=10).map(|n| format!("{{ name = \"w{n}\", address = \"10.0.1.{n}\" }},")).collect();
    let text = with("#backend", &backends.concat());
    warns(&text.replace("#vip", "ring_size = 997"), "small-ring", "[[vip]]", "at least 1200");
    assert_eq!(valid(&text.replace("#vip", "ring_size = 1201")).vips[0].ring_size, 1201);
}

#[test]
fn warns_of_a_pool_that_no_vip_uses() {
    let text = with("#end", "[pool.mail]\nbackends = [{ name = \"m\", address = \"10.0.0.20\" }]");
    warns(&text, "unused-pool", "mail]", "pool = \"mail\"");
}

#[test]
fn warns_when_nothing_is_served() {
    assert_eq!(complaints("[dataplane]\ninterfaces = [\"eth0\"]\n"), ["1:1 no-vip"]);
}

#[test]
fn refuses_one_vip_in_single_brackets() {
    refuses(&with("[[vip]]", "[vip]"), "wrong-type", "[vip]", "[[vip]]");
}

/// Backends with names and addresses of their own.
fn many_backends(count: u32) -> String {
    let table = |n| format!("{{ name = \"b{n}\", address = \"10.1.{}.{}\" }},\n", n / 256, n % 256);
    (0..count).map(table).collect::<Vec<_>>().concat()
}

#[test]
fn refuses_more_backends_than_the_tables_hold() {
    let pool = format!("[pool.big]\nbackends = [\n{}]\n", many_backends(10_000));
    let with_vips = |count: u32| {
        let vip = |n| {
            format!(
                "[[vip]]\nname = \"v{n}\"\naddress = \"192.0.2.10\"\nport = {n}\nprotocol = \"tcp\"\npool = \"big\"\n"
            )
        };
        let vips: Vec<String> = (0..count).map(vip).collect();
        format!("[dataplane]\ninterfaces = [\"eth0\"]\nring_size = 1_048_573\n{pool}{}", vips.concat())
    };
    assert_eq!(complaints(&with_vips(104)), Vec::<String>::new());
    assert_eq!(complaints(&with_vips(105)), ["1:1 too-many"]);
}

#[test]
fn refuses_more_backends_than_a_slot_can_name() {
    let text = VALID.replace("#dataplane", "ring_size = 1_048_573").replace("#backend", &many_backends(65_534));
    let found = complaints(&text);
    assert_eq!(found.first().map(String::as_str), Some("6:7 too-many"));
    assert!(found.last().is_some_and(|last| last.ends_with("small-ring")), "{found:?}");
    assert_eq!(found.len(), 2);
}
