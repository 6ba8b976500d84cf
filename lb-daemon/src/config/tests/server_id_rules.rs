//! Rules of `server_id` and of VIPs that route by it.

use super::{refuses, valid, with};
use crate::model::{Quic, ServerId};

/// The two backends with these server IDs (`-` for none), and lines of a UDP VIP.
fn udp(ids: [&str; 2], lines: &str) -> String {
    tcp(ids, lines).replace("\"tcp\"", "\"udp\"")
}

/// The same of a TCP VIP.
fn tcp([first, second]: [&str; 2], lines: &str) -> String {
    let id = |id: &str| if id == "-" { String::new() } else { format!(", server_id = {id}") };
    with("#vip", lines)
        .replace("\"10.0.0.11\"", &format!("\"10.0.0.11\"{}", id(first)))
        .replace("\"10.0.0.12\"", &format!("\"10.0.0.12\"{}", id(second)))
        .replace("#health", "port = 80")
}

fn quic(text: &str) -> Quic {
    valid(text).vips[0].quic
}

#[test]
fn reads_server_ids_as_numbers_and_as_bytes() {
    let ids = |given: [&str; 2]| {
        let config = valid(&tcp(given, ""));
        [0, 1].map(|place| config.pools["web"].backends[place].server_id.unwrap())
    };
    let id = |value, len| ServerId { value, len };
    assert_eq!(ids(["0", "9223372036854775807"]), [id(0, None), id((1 << 63) - 1, None)]);
    assert_eq!(ids(["\"0x00ff\"", "\"0AbC\""]), [id(255, Some(2)), id(0xabc, Some(2))]);
    let long = format!("\"{}\"", "ff".repeat(15));
    assert_eq!(ids([&long, "0x10"]), [id((1 << 120) - 1, Some(15)), id(16, None)]);
    assert_eq!((id(0, None).bytes(), id(255, None).bytes(), id(256, None).bytes()), (1, 1, 2));
}

#[test]
fn refuses_what_is_no_server_id() {
    for (given, code, hint) in [
        ("-1", "out-of-range", "from 0"),
        ("\"\"", "invalid-value", "2 to 30"),
        ("\"abc\"", "invalid-value", "\"0abc\""),
        ("\"xy\"", "invalid-value", "2 to 30"),
        ("\"0x\"", "invalid-value", "2 to 30"),
        ("\"00112233445566778899aabbccddeeff\"", "invalid-value", "2 to 30"),
        ("1.5", "wrong-type", "a whole number"),
        ("true", "wrong-type", "a whole number"),
    ] {
        refuses(&tcp(["1", given], ""), code, given, hint);
    }
}

#[test]
fn refuses_a_server_id_twice_by_value() {
    refuses(&tcp(["1", "1"], ""), "duplicate", "1 }", "its own server ID");
    refuses(&tcp(["1", "\"0001\""], ""), "duplicate", "\"0001\"", "leading zeros");
}

#[test]
fn refuses_a_server_id_twice_among_the_pools_of_a_vip() {
    let pool = "[pool.b]\nbackends = [{ name = \"b\", address = \"10.0.1.1\", server_id = 1 }]";
    let route = "tcp_server_id = true\nsource_routes = [{ source = \"::/0\", pool = \"b\" }]";
    let text = tcp(["1", "2"], route).replace("#end", pool);
    refuses(&text, "duplicate", "1 }]", "server IDs of their own");
    valid(&text.replace("server_id = 1 }]", "server_id = 3 }]"));
    // The same backend in both.
    valid(&text.replace("10.0.1.1", "10.0.0.11"));
}

#[test]
fn refuses_to_route_by_server_ids_that_nobody_has() {
    let hint = "add `server_id` to the backends of pool web";
    refuses(&udp(["-", "-"], "quic = \"quic-lb\""), "no-server-ids", "\"quic-lb\"", hint);
    refuses(&udp(["-", "-"], "quic = \"katran\""), "no-server-ids", "\"katran\"", hint);
    refuses(&udp(["-", "-"], "udp_stable = true"), "no-server-ids", "true", hint);
    refuses(&tcp(["-", "-"], "tcp_server_id = true"), "no-server-ids", "true", hint);
    assert!(valid(&tcp(["-", "7"], "tcp_server_id = true")).vips[0].tcp_server_id);
    // Those of a route's pool will do.
    let pool = "[pool.b]\nbackends = [{ name = \"b\", address = \"10.0.1.1\", server_id = 1 }]";
    let route = "tcp_server_id = true\nsource_routes = [{ source = \"::/0\", pool = \"b\" }]";
    valid(&tcp(["-", "-"], route).replace("#end", pool));
}

#[test]
fn refuses_protocols_that_carry_no_such_server_id() {
    for (text, key) in [
        (tcp(["1", "2"], "quic = \"katran\""), "quic"),
        (tcp(["1", "2"], "quic = \"quic-lb\""), "quic"),
        (tcp(["1", "2"], "udp_stable = true"), "udp_stable"),
    ] {
        let place = if key == "quic" { "\"" } else { "true" };
        refuses(&text, "conflict", place, &format!("write `protocol = \"udp\"`, or remove `{key}`"));
    }
    refuses(&udp(["1", "2"], "tcp_server_id = true"), "conflict", "true", "write `protocol = \"tcp\"`");
    refuses(&udp(["1", "2"], "quic = \"katran\"\nudp_stable = true"), "conflict", "true", "remove one of them");
    for line in ["quic = \"off\"", "udp_stable = false", "tcp_server_id = false"] {
        assert!(!valid(&tcp(["-", "-"], line)).vips[0].routes_by_server_id());
    }
}

#[test]
fn refuses_server_ids_that_packets_cannot_carry() {
    let all = (1_u64 << 32) - 1;
    let few = (1 << 24) - 1;
    for (line, last) in [("quic = \"katran\"", all), ("udp_stable = true", few)] {
        let hint = format!("from 1 to {last}");
        refuses(&udp(["1", "0"], line), "out-of-range", "0 }", &hint);
        refuses(&udp(["1", &(last + 1).to_string()], line), "out-of-range", &(last + 1).to_string(), &hint);
        assert!(valid(&udp(["1", &last.to_string()], line)).vips[0].routes_by_server_id());
    }
    let line = "tcp_server_id = true";
    refuses(&tcp(["1", "0x1_0000_0000"], line), "out-of-range", "0x1_0000_0000", "from 1 to 4294967295");
    refuses(&tcp(["1", "\"0100000000\""], line), "out-of-range", "\"0100000000\"", "from 1 to 4294967295");
    valid(&tcp(["1", "\"ffffffff\""], line));
}

#[test]
fn takes_the_length_of_quic_server_ids_from_the_backends() {
    let line = "quic = \"quic-lb\"";
    assert_eq!(quic(&udp(["\"00000001\"", "\"00000002\""], line)), Quic::QuicLb([4; 7]));
    assert_eq!(quic(&udp(["0", "-"], line)), Quic::QuicLb([1; 7]));
    assert_eq!(quic(&udp(["255", "256"], line)), Quic::QuicLb([2; 7]));
    assert_eq!(quic(&udp(["\"0001\"", "7"], line)), Quic::QuicLb([2; 7]));
    refuses(&udp(["\"0001\"", "\"02\""], line), "conflict", "\"02\"", "add `quic_lb = [");
    refuses(&udp(["\"01\"", "256"], line), "conflict", "256", "add `quic_lb = [");
}

#[test]
fn takes_the_lengths_of_quic_server_ids_from_the_vip() {
    let config = |config: &str| format!("quic = \"quic-lb\"\nquic_lb = [{config}]");
    let two = config("{ config = 0, server_id_length = 1 }, { config = 6, server_id_length = 15 }");
    assert_eq!(quic(&udp(["\"0a\"", "255"], &two)), Quic::QuicLb([1, 0, 0, 0, 0, 0, 15]));
    refuses(&udp(["\"0a\"", "256"], &two), "invalid-value", "256", "below 256^1");
    refuses(&udp(["\"0a\"", "\"0b0b\""], &two), "invalid-value", "\"0b0b\"", "write 1 or 15 bytes");
    for (given, code, place, hint) in [
        ("{ config = 7, server_id_length = 4 }", "out-of-range", "7", "from 0 to 6"),
        ("{ config = 1, server_id_length = 0 }", "out-of-range", "0", "from 1 to 15"),
        ("{ config = 1, server_id_length = 16 }", "out-of-range", "16", "from 1 to 15"),
        ("{ server_id_length = 4 }", "missing-key", "{ server_id_length", "config = 0"),
        ("{ config = 1 }", "missing-key", "{ config", "server_id_length = 4"),
        ("", "invalid-value", "[]", "server_id_length = 4"),
    ] {
        refuses(&udp(["1", "2"], &config(given)), code, place, hint);
    }
    let twice = config("{ config = 1, server_id_length = 4 }, { config = 0x1, server_id_length = 5 }");
    refuses(&udp(["1", "2"], &twice), "duplicate", "0x1", "once");
}

#[test]
fn refuses_lengths_without_quic_lb() {
    let line = "quic_lb = [{ config = 0, server_id_length = 4 }]";
    refuses(&udp(["1", "2"], line), "conflict", "quic_lb", "write `quic = \"quic-lb\"`");
    refuses(&udp(["1", "2"], &format!("quic = \"katran\"\n{line}")), "conflict", "quic_lb", "remove `quic_lb`");
}
