//! The keys of the file, table by table. `raw::Section` refuses every other key, and refuses reading one that is
//! not listed here, so this list, the code and `config/lb.example.toml` (a test) cannot drift apart.

/// A table of the file.
#[derive(Debug)]
pub(super) struct Schema {
    /// As it is written in the file.
    pub(super) title: &'static str,
    /// Its keys.
    pub(super) keys: &'static [&'static str],
}

/// The top of the file.
pub(super) const ROOT: Schema = Schema {
    title: "the main file",
    keys: &["version", "include", "dataplane", "daemon", "api", "metrics", "health", "pool", "vip"],
};

/// The top of a file that the main one includes.
pub(super) const INCLUDED: Schema = Schema { title: "an included file", keys: &["health", "pool", "vip"] };

pub(super) const DATAPLANE: Schema = Schema {
    title: "[dataplane]",
    keys: &[
        "interfaces",
        "interface",
        "mode",
        "next_hop",
        "flow_table_entries",
        "ring_size",
        "hash_seed",
        "udp_idle_timeout",
        "tunnel_source_v4",
        "tunnel_source_v6",
        "mtu",
        "unknown_port",
        "gue_port",
        "allow",
        "deny",
        "allow_file",
        "deny_file",
        "source_limit",
        "tunnels",
    ],
};

pub(super) const SOURCE_LIMIT: Schema = Schema {
    title: "[dataplane.source_limit]",
    keys: &["packets_per_second", "new_flows_per_second", "prefix_v4", "prefix_v6", "entries"],
};

pub(super) const TUNNELS: Schema = Schema { title: "[dataplane.tunnels]", keys: &["addresses", "sources"] };

pub(super) const INTERFACE: Schema = Schema { title: "[[dataplane.interface]]", keys: &["name", "mode"] };

pub(super) const DAEMON: Schema =
    Schema { title: "[daemon]", keys: &["watch", "state_dir", "on_daemon_loss", "probe_mark", "on_change"] };

pub(super) const ON_CHANGE: Schema =
    Schema { title: "[daemon.on_change]", keys: &["exec", "webhook", "timeout", "retries"] };

pub(super) const API: Schema = Schema { title: "[api]", keys: &["socket", "read_only_socket"] };

pub(super) const METRICS: Schema = Schema { title: "[metrics]", keys: &["listen"] };

pub(super) const POOL: Schema = Schema {
    title: "[pool.NAME]",
    keys: &["backends", "health", "health_match", "agent", "passive", "damping", "slow_start", "encap"],
};

pub(super) const BACKEND: Schema =
    Schema { title: "a backend", keys: &["name", "address", "weight", "state", "server_id", "local"] };

/// The keys of a check, after those `$first`.
macro_rules! check_keys {
    ($($first:literal),*) => {
        &[
            $($first,)*
            "type",
            "probe",
            "port",
            "method",
            "path",
            "host",
            "headers",
            "expect_status",
            "expect_body",
            "expect_body_regex",
            "verify",
            "sni",
            "ca_file",
            "service",
            "tls",
            "send",
            "expect",
            "query",
            "query_type",
            "expect_rcode",
            "expect_answer",
            "transport",
            "argv",
            "env",
            "initial",
            "interval",
            "fast_interval",
            "timeout",
            "rise",
            "fall",
        ]
    };
}

pub(super) const HEALTH: Schema = Schema { title: "[pool.NAME.health]", keys: check_keys!("template", "name") };

pub(super) const AGENT: Schema = Schema { title: "[pool.NAME.agent]", keys: &["port", "send", "interval", "timeout"] };

pub(super) const DAMPING: Schema = Schema { title: "[pool.NAME.damping]", keys: &["flaps", "within", "hold_for"] };

pub(super) const PASSIVE: Schema = Schema {
    title: "[pool.NAME.passive]",
    keys: &["window", "min_new_flows", "success_below", "eject_for", "max_ejected"],
};

/// What health sections of pools may take their keys from.
pub(super) const TEMPLATE: Schema = Schema { title: "[health.NAME]", keys: check_keys!() };

pub(super) const VIP: Schema = Schema {
    title: "[[vip]]",
    keys: &[
        "name",
        "address",
        "port",
        "protocol",
        "pool",
        "ring_size",
        "encap",
        "hash",
        "flow_tracking",
        "quic",
        "quic_lb",
        "panic_threshold",
        "min_healthy",
        "max_ring_change",
        "max_ring_change_per",
        "tcp_server_id",
        "udp_stable",
        "source_routes",
        "source_routes_file",
        "allow",
        "deny",
        "allow_file",
        "deny_file",
        "max_new_flows_per_second",
        "unknown_port",
    ],
};

pub(super) const QUIC_LB: Schema = Schema { title: "one of `quic_lb`", keys: &["config", "server_id_length"] };

pub(super) const SOURCE_ROUTE: Schema =
    Schema { title: "one of `source_routes`", keys: &["source", "pool", "backend"] };

/// All tables, the nearer to the top first.
pub(super) const ALL: [&Schema; 20] = [
    &ROOT,
    &INCLUDED,
    &DATAPLANE,
    &INTERFACE,
    &SOURCE_LIMIT,
    &TUNNELS,
    &DAEMON,
    &ON_CHANGE,
    &API,
    &METRICS,
    &TEMPLATE,
    &POOL,
    &BACKEND,
    &HEALTH,
    &AGENT,
    &DAMPING,
    &PASSIVE,
    &VIP,
    &QUIC_LB,
    &SOURCE_ROUTE,
];

/// The known word that `word` may have been meant to be.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let begins =
        |other: &str| word.len().min(other.len()) >= 3 && (word.starts_with(other) || other.starts_with(&word));
    let distance = |other: &str| {
        let lower = other.to_lowercase();
        let wrong = strsim::damerau_levenshtein(&word, &lower);
        // Of those that are as near, the one that has fewer letters wrong.
        (if begins(&lower) { wrong.min(1) } else { wrong }, wrong)
    };
    let ((near, _), meant) = known.into_iter().map(|other| (distance(other), other)).min()?;
    // One letter in three may be wrong; beyond that the guess helps nobody.
    (near <= (meant.chars().count() / 3).clamp(1, 3)).then_some(meant)
}

/// Words as a sentence names them: `a, b or c`.
pub(super) fn either<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let known = ["address", "name", "port", "protocol"];
        for (word, meant) in
            [("adress", Some("address")), ("prot", Some("port")), ("Port", Some("port")), ("weight", None), ("x", None)]
        {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        for (word, known, meant) in
            [("health_mach", ["health", "health_match"], "health_match"), ("get", ["HEAD", "GET"], "GET")]
        {
            assert_eq!(nearest(word, known), Some(meant), "{word}");
        }
    }

    #[test]
    fn names_choices_as_a_sentence_does() {
        assert_eq!(either(["tcp"]), "\"tcp\"");
        assert_eq!(either(["none", "tcp", "http"]), "\"none\", \"tcp\" or \"http\"");
    }
}
