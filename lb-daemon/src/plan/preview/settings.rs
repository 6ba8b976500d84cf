//! What is set otherwise between two configurations, told as the file would say it.

use std::{collections::BTreeSet, time::Duration};

use lb_common::layout::vip::Vip as Value;

mod health;

use super::report::{Change, PoolChange, Setting};
use crate::model::{
    Access, Backend, Config, DaemonConfig, DataplaneConfig, NextHopConfig, OnChange, Quic, RingChange, RouteTo,
    SourceRoute, Vip,
};

/// Keys and values in a fixed order.
type Described = Vec<(&'static str, String)>;

/// Values that differ; a key that only one side has is `none` on the other.
fn differing<K: AsRef<str> + Ord>(old: &[(K, String)], new: &[(K, String)]) -> Vec<Setting> {
    let none = || String::from("none");
    let value = |described: &[(K, String)], key: &K| {
        described.iter().find(|(known, _)| known == key).map_or_else(none, |(_, value)| value.clone())
    };
    let keys = old.iter().chain(new).map(|(key, _)| key);
    let mut seen = BTreeSet::new();
    let each = keys.filter(|key| seen.insert(*key));
    let settings = each.map(|key| Setting { key: key.as_ref().into(), from: value(old, key), to: value(new, key) });
    settings.filter(|setting| setting.from != setting.to).collect()
}

/// A list that differs, however it is ordered.
fn list<T: Ord>(key: &str, things: &str, old: &[T], new: &[T]) -> Option<Setting> {
    let (old, new): (BTreeSet<&T>, BTreeSet<&T>) = (old.iter().collect(), new.iter().collect());
    let (gone, come) = (old.difference(&new).count(), new.difference(&old).count());
    let told = |set: &BTreeSet<&T>| format!("{} {things}", set.len());
    (gone + come > 0).then(|| Setting {
        key: key.into(),
        from: told(&old),
        to: format!("{} ({come} new, {gone} gone)", told(&new)),
    })
}

fn access(prefix: &str, old: &Access, new: &Access) -> impl Iterator<Item = Setting> {
    let lists = [("allow", &old.allow, &new.allow), ("deny", &old.deny, &new.deny)];
    let prefix = prefix.to_owned();
    lists.into_iter().filter_map(move |(key, old, new)| list(&format!("{prefix}{key}"), "prefixes", old, new))
}

/// What is set otherwise of a VIP, but for its backends.
pub(super) fn of_vip(old: &Vip, new: &Vip) -> Vec<Setting> {
    let routes = |vip: &Vip| -> Vec<(String, RouteTo)> {
        vip.source_routes.iter().map(|SourceRoute { source, to }| (source.to_string(), to.clone())).collect()
    };
    let routes = list("source_routes", "routes", &routes(old), &routes(new));
    let access = access("", &old.access, &new.access);
    differing(&vip(old), &vip(new)).into_iter().chain(routes).chain(access).collect()
}

fn vip(vip: &Vip) -> Described {
    // Lists are told apart by what is in them; the service is what a VIP is known by.
    let Vip {
        name,
        service: _,
        pool,
        ring_size,
        panic_threshold,
        min_healthy,
        max_ring_change,
        encap,
        hash,
        flow_tracking,
        quic,
        tcp_server_id,
        udp_stable,
        source_routes: _,
        access: _,
        max_new_flows_per_second,
        drops_unknown_port,
        disabled,
    } = vip;
    let quic = match quic {
        Quic::QuicLb(lengths) => format!("{quic} {lengths:?}"),
        Quic::Off | Quic::Katran => quic.to_string(),
    };
    vec![
        ("name", name.clone()),
        ("pool", pool.clone()),
        ("ring_size", ring_size.to_string()),
        ("panic_threshold", format!("{panic_threshold}%")),
        ("min_healthy", min_healthy.map_or_else(|| "none".into(), |least| least.to_string())),
        (
            "max_ring_change",
            max_ring_change
                .map_or_else(|| "none".into(), |RingChange { percent, per }| format!("{percent}% in {}", time(per))),
        ),
        ("encap", encap.to_string()),
        ("hash", hash.to_string()),
        ("flow_tracking", flow_tracking.to_string()),
        ("quic", quic),
        ("tcp_server_id", tcp_server_id.to_string()),
        ("udp_stable", udp_stable.to_string()),
        ("max_new_flows_per_second", limit(*max_new_flows_per_second)),
        ("unknown_port", if *drops_unknown_port { "drop" } else { "pass" }.into()),
        ("served", if *disabled { "no, disabled by an operator" } else { "yes" }.into()),
    ]
}

/// What is set otherwise of a VIP, as far as the tables tell.
pub(super) fn of_value(old: &Value, new: &Value) -> Vec<Setting> {
    let word = |flag: u32| [(flag, "on")];
    let described = |value: &Value| -> Described {
        let on = |flags: &[(u32, &str)], off: &str| {
            let set = flags.iter().find(|(flag, _)| value.flags & flag != 0);
            set.map_or(off, |(_, word)| word).to_owned()
        };
        let hashes = [
            (Value::HASH_SOURCE, "source-ip"),
            (Value::HASH_SOURCE_PORT, "source-ip-destination-port"),
            (Value::HASH_PORT, "destination-port"),
        ];
        vec![
            ("hash", on(&hashes, "5-tuple")),
            ("flow_tracking", on(&[(Value::UNTRACKED, "off"), (Value::ADAPTIVE, "adaptive")], "always")),
            ("quic", on(&[(Value::QUIC_LB, "quic-lb"), (Value::QUIC_KATRAN, "katran")], "off")),
            ("quic_lb", format!("{:#x}", value.quic_lengths)),
            ("tcp_server_id", on(&word(Value::TCP_SERVER_ID), "off")),
            ("udp_stable", on(&word(Value::UDP_SERVER_ID), "off")),
            ("source_routes", on(&word(Value::SOURCE_ROUTES), "off")),
            ("access", on(&word(Value::ACL | Value::ACL_GLOBAL), "off")),
            ("source_limit", on(&word(Value::LIMIT_SOURCES), "off")),
            ("ns_between_new_flows", value.new_flow_ns.to_string()),
        ]
    };
    let mut settings = differing(&described(old), &described(new));
    if old.ring_slots != new.ring_slots && old.ring_slots.min(new.ring_slots) > 0 {
        let told = |value: &Value| vec![("ring_size", value.ring_slots.to_string())];
        settings.extend(differing(&told(old), &told(new)));
    }
    settings
}

/// What is set otherwise of a backend.
pub(super) fn of_backend(old: (&str, &Backend), new: (&str, &Backend)) -> Vec<Setting> {
    let described = |(pool, backend): (&str, &Backend)| {
        let Backend { name, address, weight, state, server_id, local } = backend;
        vec![
            ("pool", pool.to_owned()),
            ("name", name.clone()),
            ("address", address.to_string()),
            ("weight", weight.to_string()),
            ("state", state.to_string()),
            ("server_id", server_id.map_or_else(|| "none".into(), |id| id.to_string())),
            ("local", local.to_string()),
        ]
    };
    differing(&described(old), &described(new))
}

/// The pools that come, go, or are checked otherwise.
pub(super) fn of_pools(old: &Config, new: &Config) -> Vec<PoolChange> {
    let names: BTreeSet<&String> = old.pools.keys().chain(new.pools.keys()).collect();
    let change = |name: &String| {
        let (change, settings) = match (old.pools.get(name), new.pools.get(name)) {
            (None, _) => (Change::Added, Vec::new()),
            (_, None) => (Change::Removed, Vec::new()),
            (Some(old), Some(new)) => (Change::Changed, health::differing(&old.health, &new.health)),
        };
        PoolChange { name: name.clone(), change, settings }
    };
    let changes = names.into_iter().map(change);
    changes.filter(|pool| pool.change != Change::Changed || !pool.settings.is_empty()).collect()
}

/// What is set otherwise for all VIPs and for the daemon, but for what needs a restart.
pub(super) fn of_all(old: &Config, new: &Config) -> Vec<Setting> {
    let (before, after) = (&old.dataplane, &new.dataplane);
    let interfaces = |settings: &DataplaneConfig| -> Described {
        let mut names: Vec<String> =
            settings.interfaces.iter().map(|one| format!("{} ({})", one.name, one.mode)).collect();
        names.sort();
        vec![("dataplane.interfaces", names.join(", "))]
    };
    let mut settings = differing(&interfaces(before), &interfaces(after));
    settings.extend(differing(&dataplane(before), &dataplane(after)));
    if before.hash_seed != after.hash_seed {
        // It is a secret.
        let told = |what: &str| what.to_owned();
        settings.push(Setting { key: told("dataplane.hash_seed"), from: told("one"), to: told("another") });
    }
    settings.extend(access("dataplane.", &before.access, &after.access));
    let (tunnels, others) = (&before.tunnels, &after.tunnels);
    settings.extend(list("dataplane.tunnels.addresses", "addresses", &tunnels.addresses, &others.addresses));
    settings.extend(list("dataplane.tunnels.sources", "prefixes", &tunnels.sources, &others.sources));
    let daemon = |config: &Config| {
        let DaemonConfig { watch, probe_mark, on_change, .. } = &config.daemon;
        vec![
            ("daemon.watch", watch.to_string()),
            ("daemon.probe_mark", format!("{probe_mark:#x}")),
            ("daemon.on_change", on_change.as_ref().map_or_else(|| "none".into(), |on_change| told(on_change))),
        ]
    };
    settings.extend(differing(&daemon(old), &daemon(new)));
    settings
}

fn told(on_change: &OnChange) -> String {
    let OnChange { exec, webhook, timeout, retries } = on_change;
    let program = (!exec.is_empty()).then(|| exec.join(" "));
    let ways: Vec<&str> = program.iter().chain(webhook).map(String::as_str).collect();
    format!("{}, timeout {}, {retries} retries", ways.join(" and "), self::time(*timeout))
}

fn dataplane(settings: &DataplaneConfig) -> Described {
    let next_hop = match settings.next_hop {
        NextHopConfig::Auto => "auto".into(),
        NextHopConfig::Gateway(mac) => mac.map(|byte| format!("{byte:02x}")).join(":"),
    };
    let mut described = vec![
        ("dataplane.next_hop", next_hop),
        ("dataplane.flow_table_entries", settings.flow_table_entries.to_string()),
        ("dataplane.udp_idle_timeout", time(settings.udp_idle_timeout)),
        ("dataplane.tunnel_source_v4", settings.tunnel_source_v4.to_string()),
        ("dataplane.tunnel_source_v6", settings.tunnel_source_v6.to_string()),
        ("dataplane.mtu", settings.mtu.map_or_else(|| "auto".into(), |mtu| mtu.to_string())),
        ("dataplane.gue_port", settings.gue_port.to_string()),
    ];
    if let Some(source) = &settings.source_limit {
        described.extend([
            ("dataplane.source_limit.packets_per_second", limit(source.packets_per_second)),
            ("dataplane.source_limit.new_flows_per_second", limit(source.new_flows_per_second)),
            ("dataplane.source_limit.prefix_v4", source.prefix_v4.to_string()),
            ("dataplane.source_limit.prefix_v6", source.prefix_v6.to_string()),
            ("dataplane.source_limit.entries", source.entries.to_string()),
        ]);
    }
    described
}

fn limit(limit: Option<u32>) -> String {
    limit.map_or_else(|| "none".into(), |limit| limit.to_string())
}

/// A time as the file would say it.
fn time(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}
