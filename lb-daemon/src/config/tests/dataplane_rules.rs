//! Rules of `[dataplane]`, `[daemon]`, `[api]`, `[metrics]` and the file as a whole.

use std::{net::IpAddr, path::Path, time::Duration};

use ipnet::IpNet;

use super::{VALID, complaints, refuses, valid, warns, with};
use crate::model::{AttachMode, DaemonLoss, Interface, NextHopConfig, SourceLimit};

/// One value of `[dataplane]`.
fn dataplane(line: &str) -> String {
    with("#dataplane", line)
}

fn in_section(section: &str, line: &str) -> String {
    with("#end", &format!("[{section}]\n{line}"))
}

#[test]
fn accepts_the_file_that_the_rules_break() {
    assert_eq!(valid(VALID).vips.len(), 1);
}

#[test]
fn refuses_another_version_of_the_file() {
    refuses(&format!("version = 2\n{VALID}"), "invalid-value", "2", "version = 1");
    valid(&format!("version = 1\n{VALID}"));
}

#[test]
fn refuses_unknown_keys_and_names_the_nearest() {
    refuses(&dataplane("modes = \"auto\""), "unknown-key", "modes", "did you mean `mode`?");
    refuses(&format!("dataplan = 1\n{VALID}"), "unknown-key", "dataplan", "did you mean `dataplane`?");
    refuses(&dataplane("state_dir = \"/x\""), "unknown-key", "state_dir", "is a key of [daemon]");
    refuses(&dataplane("zzzzzzzz = 1"), "unknown-key", "zzzzzzzz", "the keys of [dataplane] are interfaces");
}

#[test]
fn reads_interfaces_in_both_forms() {
    let tables =
        "[[dataplane.interface]]\nname = \"eth1\"\nmode = \"generic\"\n[[dataplane.interface]]\nname = \"eth2\"";
    let text = dataplane(&format!("mode = \"native\"\n{tables}"));
    let interface = |name: &str, mode| Interface { name: name.into(), mode };
    assert_eq!(
        valid(&text).dataplane.interfaces,
        [
            interface("eth0", AttachMode::Native),
            interface("eth1", AttachMode::Generic),
            interface("eth2", AttachMode::Native)
        ]
    );
}

#[test]
fn refuses_an_interface_twice() {
    refuses(&with("[\"eth0\"]", "[\"eth0\", \"eth0\"]"), "duplicate", "\"eth0\"]", "once");
    refuses(&dataplane("[[dataplane.interface]]\nname = \"eth0\""), "duplicate", "\"eth0\"", "once");
}

#[test]
fn refuses_names_that_no_interface_can_have() {
    for name in ["", "a b", "a/b", "..", "sixteen-letters-", "a:1"] {
        refuses(&with("[\"eth0\"]", &format!("[\"{name}\"]")), "invalid-value", &format!("\"{name}\""), "ip link");
    }
}

#[test]
fn refuses_an_interface_without_name() {
    refuses(&dataplane("[[dataplane.interface]]"), "missing-key", "[[dataplane.interface]]", "name = \"eth0\"");
}

#[test]
fn warns_when_there_is_no_interface() {
    warns(&with("interfaces = [\"eth0\"]", ""), "no-interface", "[dataplane]", "--no-attach");
    warns(&with("[\"eth0\"]", "[]"), "no-interface", "[dataplane]", "interfaces = [\"eth0\"]");
}

#[test]
fn refuses_unknown_modes() {
    refuses(&dataplane("mode = \"nativ\""), "invalid-value", "\"nativ\"", "did you mean \"native\"?");
    refuses(&dataplane("mode = \"offload\""), "invalid-value", "\"offload\"", "\"native\", \"generic\" or \"auto\"");
}

#[test]
fn refuses_next_hops_that_are_no_hosts_mac_address() {
    for hop in ["10.0.0.1", "00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "02:00:00:00:00"] {
        let place = format!("\"{hop}\"");
        refuses(&dataplane(&format!("next_hop = {place}")), "invalid-value", &place, "\"auto\", or the gateway's MAC");
    }
    let hop = valid(&dataplane("next_hop = \"02:00:00:00:00:0a\"")).dataplane.next_hop;
    assert_eq!(hop, NextHopConfig::Gateway([2, 0, 0, 0, 0, 10]));
}

#[test]
fn refuses_flow_tables_that_are_no_power_of_two() {
    for (given, code, nearest) in [
        ("1000", "invalid-value", "1024"),
        ("1_048_577", "invalid-value", "1048576"),
        ("63", "out-of-range", "64"),
        ("0", "out-of-range", "64"),
        ("268_435_456", "out-of-range", "134217728"),
        ("\"3MiB\"", "invalid-value", "524288"),
    ] {
        refuses(&dataplane(&format!("flow_table_entries = {given}")), code, given, &format!("value is {nearest}"));
    }
    refuses(&dataplane("flow_table_entries = -1"), "out-of-range", "-1", "from 0");
}

#[test]
fn takes_the_flow_table_as_entries_or_memory() {
    for given in ["1_048_576", "\"8MiB\"", "0x10_0000"] {
        let config = valid(&dataplane(&format!("flow_table_entries = {given}")));
        assert_eq!(config.dataplane.flow_table_entries, 1 << 20, "{given}");
    }
}

#[test]
fn refuses_ring_sizes_that_are_not_prime_or_out_of_range() {
    refuses(&dataplane("ring_size = 65536"), "invalid-value", "65536", "nearest prime is 65537");
    refuses(&dataplane("ring_size = 241"), "out-of-range", "241", "from 251 to 1048573");
    refuses(&dataplane("ring_size = 1_048_583"), "out-of-range", "1_048_583", "from 251 to 1048573");
    assert_eq!(valid(&dataplane("ring_size = 1_048_573")).vips[0].ring_size, 1_048_573);
}

#[test]
fn refuses_seeds_that_are_not_64_bits() {
    for given in ["\"5eed\"", "\"0x\"", "\"0x1ffffffffffffffff\""] {
        refuses(&dataplane(&format!("hash_seed = {given}")), "invalid-value", given, "\"0x\"");
    }
    refuses(&dataplane("hash_seed = -1"), "out-of-range", "-1", "18446744073709551615");
    assert_eq!(valid(&dataplane("hash_seed = \"0xffffffffffffffff\"")).dataplane.hash_seed, u64::MAX);
    assert_eq!(valid(&dataplane("hash_seed = 7")).dataplane.hash_seed, 7);
}

#[test]
fn refuses_idle_timeouts_out_of_range_or_unreadable() {
    refuses(&dataplane("udp_idle_timeout = \"5h\""), "out-of-range", "\"5h\"", "\"1s\" to \"4h\"");
    refuses(&dataplane("udp_idle_timeout = \"30\""), "invalid-value", "\"30\"", "\"2s\"");
    refuses(&dataplane("udp_idle_timeout = 30"), "wrong-type", "30", "write \"30s\"");
    assert_eq!(valid(&dataplane("udp_idle_timeout = \"1m\"")).dataplane.udp_idle_timeout, Duration::from_mins(1));
}

#[test]
fn refuses_tunnel_sources_that_leave_flows_no_bits() {
    for (key, given, hint) in [
        ("v4", "172.16.1.0/16", "\"172.16.0.0/16\""),
        ("v4", "10.0.0.0/25", "8 to 24"),
        ("v4", "10.0.0.1", "8 to 24"),
        ("v4", "224.0.0.0/8", "8 to 24"),
        ("v4", "100::/64", "8 to 24"),
        ("v6", "100::1/64", "\"100::/64\""),
        ("v6", "100::/97", "32 to 96"),
        ("v6", "2000::/16", "32 to 96"),
        ("v6", "ff00::/64", "32 to 96"),
        ("v6", "10.0.0.0/8", "32 to 96"),
    ] {
        let text = dataplane(&format!("tunnel_source_{key} = \"{given}\""));
        refuses(&text, "invalid-value", &format!("\"{given}\""), hint);
    }
}

#[test]
fn reads_how_the_daemon_lives_and_ends() {
    let text = with("#daemon", "watch = true\non_daemon_loss = \"withdraw\"");
    let daemon = valid(&text).daemon;
    assert_eq!((daemon.watch, daemon.on_loss), (true, DaemonLoss::Withdraw));
    refuses(&text.replace("true", "\"yes\""), "wrong-type", "\"yes\"", "true or false");
    refuses(&text.replace("withdraw", "drop"), "invalid-value", "\"drop\"", "\"keep\", \"pass\" or \"withdraw\"");
}

#[test]
fn reads_two_sockets_that_are_not_the_same() {
    let api = |keys: &str| in_section("api", keys);
    let read_only = "read_only_socket = \"/run/lb/read.sock\"";
    let found = valid(&api(read_only));
    assert_eq!(found.api_socket, Path::new("/run/lb/lb.sock"));
    assert_eq!(found.api_read_only_socket.as_deref(), Some(Path::new("/run/lb/read.sock")));
    refuses(&api("read_only_socket = \"/run/lb/lb.sock\""), "conflict", "\"/run/lb/lb.sock\"", "a path of its own");
    let both = format!("{read_only}\nsocket = \"/run/lb//read.sock\"");
    refuses(&api(&both), "conflict", "\"/run/lb/read.sock\"", "a path of its own");
    refuses(&api("read_only_socket = \"r\""), "invalid-value", "\"r\"", "slash");
}

#[test]
fn takes_an_mtu_as_a_number_of_bytes_or_from_the_way() {
    refuses(&dataplane("mtu = \"1500\""), "invalid-value", "\"1500\"", "\"auto\"");
    refuses(&dataplane("mtu = 575"), "out-of-range", "575", "from 576 to 65535");
    refuses(&dataplane("mtu = 65_536"), "out-of-range", "65_536", "from 576 to 65535");
    refuses(&dataplane("mtu = true"), "wrong-type", "true", "use \"auto\"");
    assert_eq!(valid(&dataplane("mtu = \"auto\"")).dataplane.mtu, None);
    assert_eq!(valid(&dataplane("mtu = 576")).dataplane.mtu, Some(576));
    assert_eq!(valid(&dataplane("mtu = 65535")).dataplane.mtu, Some(65_535));
}

#[test]
fn reads_the_port_of_gue() {
    for given in ["0", "65536"] {
        refuses(&dataplane(&format!("gue_port = {given}")), "out-of-range", given, "from 1 to 65535");
    }
    assert_eq!(valid(&dataplane("gue_port = 6081")).dataplane.gue_port, 6081);
}

#[test]
fn vips_take_from_the_dataplane_what_becomes_of_unknown_ports() {
    refuses(&dataplane("unknown_port = \"reject\""), "invalid-value", "\"reject\"", "\"pass\" or \"drop\"");
    let drops = |text: &str| valid(text).vips[0].drops_unknown_port;
    assert!(!drops(VALID));
    assert!(drops(&dataplane("unknown_port = \"drop\"")));
    assert!(drops(&with("#vip", "unknown_port = \"drop\"")));
    assert!(!drops(&dataplane("unknown_port = \"drop\"").replace("#vip", "unknown_port = \"pass\"")));
}

#[test]
fn reads_limits_of_sources() {
    assert_eq!(valid(VALID).dataplane.source_limit, None);
    let limit = valid(&in_section("dataplane.source_limit", "packets_per_second = 1_000_000_000"));
    let wanted = SourceLimit {
        packets_per_second: Some(1_000_000_000),
        new_flows_per_second: None,
        prefix_v4: 32,
        prefix_v6: 64,
        entries: 65_536,
    };
    assert_eq!(limit.dataplane.source_limit, Some(wanted));
    let lines = "new_flows_per_second = 1\nprefix_v4 = 8\nprefix_v6 = 128\nentries = 2";
    let wanted = SourceLimit {
        packets_per_second: None,
        new_flows_per_second: Some(1),
        prefix_v4: 8,
        prefix_v6: 128,
        entries: 2,
    };
    assert_eq!(valid(&in_section("dataplane.source_limit", lines)).dataplane.source_limit, Some(wanted));
}

#[test]
fn refuses_limits_of_sources_that_limit_nothing_or_cannot_be_kept() {
    let limit = |lines: &str| in_section("dataplane.source_limit", lines);
    refuses(&limit(""), "missing-key", "[dataplane.source_limit]", "packets_per_second = ");
    for (line, code, hint) in [
        ("packets_per_second = 0", "out-of-range", "from 1 to 1000000000"),
        ("new_flows_per_second = 1_000_000_001", "out-of-range", "from 1 to 1000000000"),
        ("prefix_v4 = 7", "out-of-range", "from 8 to 32"),
        ("prefix_v4 = 33", "out-of-range", "from 8 to 32"),
        ("prefix_v6 = 15", "out-of-range", "from 16 to 128"),
        ("prefix_v6 = 129", "out-of-range", "from 16 to 128"),
        ("entries = 1", "out-of-range", "value is 2"),
        ("entries = 100", "invalid-value", "value is 128"),
        ("entries = 33_554_432", "out-of-range", "value is 16777216"),
    ] {
        let given = line.split(' ').next_back().unwrap();
        let other = if line.starts_with("new") { "packets_per_second = 9" } else { "new_flows_per_second = 9" };
        let text = if line.starts_with("packets") {
            limit(&format!("{line}\n{other}"))
        } else {
            limit(&format!("{other}\n{line}"))
        };
        refuses(&text, code, given, hint);
    }
}

#[test]
fn reads_tunnels() {
    let lines = "addresses = [\"10.9.0.1\", \"2001:db8:9::1\"]\nsources = [\"10.9.0.0/16\", \"2001:db8:9::2\"]";
    let tunnels = valid(&in_section("dataplane.tunnels", lines)).dataplane.tunnels;
    assert_eq!(tunnels.addresses, ["10.9.0.1".parse::<IpAddr>().unwrap(), "2001:db8:9::1".parse().unwrap()]);
    assert_eq!(tunnels.sources, ["10.9.0.0/16".parse().unwrap(), "2001:db8:9::2/128".parse::<IpNet>().unwrap()]);
}

#[test]
fn refuses_tunnels_that_cannot_work() {
    let tunnels = |lines: &str| in_section("dataplane.tunnels", lines);
    refuses(&tunnels(""), "missing-key", "[dataplane.tunnels]", "addresses = [");
    refuses(&tunnels("addresses = []"), "invalid-value", "[]", "an address of this host");
    refuses(&tunnels("addresses = [\"10.9.0.0/16\"]"), "invalid-value", "\"10.9.0.0/16\"", "leave out `/`");
    refuses(&tunnels("addresses = [\"ff02::1\"]"), "unusable-address", "\"ff02::1\"", "one host");
    let twice = tunnels("addresses = [\"10.9.0.1\", \"10.9.0.1\"]");
    refuses(&twice, "duplicate", "\"10.9.0.1\"]", "each address once");
    let sources = |list: &str| tunnels(&format!("addresses = [\"10.9.0.1\"]\nsources = [{list}]"));
    refuses(&sources("\"10.9.0.1/16\""), "invalid-value", "\"10.9.0.1/16\"", "write \"10.9.0.0/16\"");
    refuses(&sources("\"10.9.0.1\", \"10.9.0.1/32\""), "duplicate", "\"10.9.0.1/32\"", "each prefix once");
}

#[test]
fn refuses_a_tunnel_address_that_a_vip_has() {
    let text = in_section("dataplane.tunnels", "addresses = [\"192.0.2.10\"]");
    refuses(&text, "conflict", "\"192.0.2.10\"]", "an address for tunnel packets");
    let text = in_section("dataplane.tunnels", "addresses = [\"192.0.2.77\"]").replace("2.10\"", "2.0/24\"");
    refuses(&text, "conflict", "\"192.0.2.77\"]", "an address for tunnel packets");
}

#[test]
fn refuses_paths_that_depend_on_where_the_daemon_starts() {
    refuses(&with("#daemon", "state_dir = \"lb\""), "invalid-value", "\"lb\"", "slash");
    refuses(&with("#daemon", "probe_mark = 0x1b000001"), "invalid-value", "0x1b000001", "ends in 00000");
    refuses(&with("#daemon", "probe_mark = 7"), "out-of-range", "7", "ends in 00000");
    refuses(&with("#daemon", "probe_mark = 0x1_0000_0000"), "out-of-range", "0x1_0000_0000", "such as 0x1b000000");
    refuses(&with("#daemon", "probe_mark = \"0x1b000000\""), "wrong-type", "\"0x1b000000\"", "quotes: 0x1b000000");
    assert_eq!(valid(&with("#daemon", "probe_mark = 0xfff00000")).daemon.probe_mark, 0xfff0_0000);
    refuses(&in_section("api", "socket = \"lb.sock\""), "invalid-value", "\"lb.sock\"", "slash");
    let long = format!("\"/{}\"", "x".repeat(107));
    refuses(&in_section("api", &format!("socket = {long}")), "invalid-value", &long, "shorter");
}

#[test]
fn refuses_to_listen_at_what_is_no_address() {
    for given in ["\"localhost:9650\"", "\"127.0.0.1\"", "\"\""] {
        refuses(&in_section("metrics", &format!("listen = {given}")), "invalid-value", given, "\"off\"");
    }
    assert_eq!(valid(&in_section("metrics", "listen = \"off\"")).metrics_listen, None);
}

#[test]
fn takes_an_empty_file_for_one_that_serves_nothing() {
    assert_eq!(complaints(""), ["1:1 no-vip", "1:1 no-interface"]);
}
