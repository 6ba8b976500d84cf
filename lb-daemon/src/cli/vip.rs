//! `lb vip`: what is served, and whether.

use std::net::SocketAddr;

use anyhow::anyhow;
use serde::Serialize;

use super::{
    Exit, Global, Output, ask, backend, order, output,
    output::{columns, table},
    pins,
};
use crate::{
    api::{
        answers::word,
        types::{Backend, OrderRequest, Vip, VipSettings},
    },
    config,
};

/// Look at VIPs, and take one out of service
///
/// Orders hold until they are taken back, also over reloads and restarts; `lb status` lists them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List all VIPs
    List,
    /// Show one VIP with its backends
    Show {
        /// Its name in the configuration; without a daemon, its address as `lb vip list` shows it
        name: String,
    },
    /// Serve nobody: drop its packets, and remember its flows
    Disable {
        /// Its name in the configuration
        name: String,
    },
    /// Serve again; flows go on where they were
    Enable {
        /// Its name in the configuration
        name: String,
    },
}

/// A VIP and its backends.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    vip: Vip,
    members: Vec<Backend>,
}

/// Prints VIPs, or gives an order.
///
/// # Errors
/// When no daemon answers and nothing is pinned, there is no such VIP, the daemon refuses, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    match &args.verb {
        Verb::List => {
            let vips: Vec<Vip> = pins::get_or_read(global, "/v1/vips", pins::Tables::vips)?;
            output::print(global.output, &vips, |vips| list(vips, global.output == Output::Wide))?;
        }
        Verb::Show { name } => {
            // Both from the same place: the tables have other names than a daemon.
            let ask_all = || Ok((ask::get(global, "/v1/vips")?, ask::get(global, "/v1/backends")?));
            let (vips, mut members): (Vec<Vip>, Vec<Backend>) = pins::ask_or_read(global, ask_all, |tables| {
                pins::say_unmanaged(global);
                Ok((tables.vips()?, tables.backends()?))
            })?;
            let known = || vips.iter().map(|vip| word(&vip.name)).collect::<Vec<_>>().join(", ");
            let vip = vips
                .iter()
                .find(|vip| vip.name == *name)
                .ok_or_else(|| anyhow!("no vip {name}; there are: {}", known()))?;
            members.retain(|backend| backend.vip == *name);
            let wide = global.output == Output::Wide;
            output::print(global.output, &Shown { vip: vip.clone(), members }, |shown| show(shown, wide))?;
        }
        Verb::Disable { name } => return give(name, "disable", global),
        Verb::Enable { name } => return give(name, "enable", global),
    }
    Ok(Exit::Done)
}

fn give(name: &str, verb: &str, global: &Global) -> Result<Exit, anyhow::Error> {
    // It might lead to another resource.
    if !config::is_name(name) {
        return Err(anyhow!("no vip {name}; `lb vip list` shows all"));
    }
    order::give(global, &format!("vip {name}"), &format!("/v1/vips/{name}/{verb}"), &OrderRequest {})
}

fn list(vips: &[Vip], wide: bool) -> String {
    let mut headings = vec!["VIP", "SERVICE", "POOL", "SERVING", ">PACKETS", ">BYTES", ">NEW FLOWS"];
    if wide {
        headings.extend([">MOVED", "ENCAP", "HASH", "TRACKING", ">SLOTS"]);
    }
    let row = |vip: &Vip| {
        let mut row = vec![
            vip.name.clone(),
            service(vip),
            if vip.pool.is_empty() { "-".into() } else { vip.pool.clone() },
            match &vip.r#override {
                Some(given) => order::given(given),
                None if vip.problems.is_empty() => served(vip),
                None => format!("{}, {}", served(vip), if vip.up == Some(false) { "down" } else { "panic" }),
            },
            vip.traffic.packets.to_string(),
            vip.traffic.bytes.to_string(),
            vip.traffic.flows_created.to_string(),
        ];
        if wide {
            let set =
                |what: fn(&VipSettings) -> &String| vip.settings.as_ref().map_or("-".into(), |all| what(all).clone());
            row.extend([
                vip.traffic.flows_moved.to_string(),
                set(|all| &all.encap),
                set(|all| &all.hash),
                set(|all| &all.flow_tracking),
                vip.ring_slots.to_string(),
            ]);
        }
        row
    };
    columns(&headings, vips.iter().map(row))
}

/// How many of its backends take new flows.
fn served(vip: &Vip) -> String {
    format!("{} of {}", vip.backends_serving, vip.backends)
}

fn show(shown: &Shown, wide: bool) -> String {
    let Shown { vip, members } = shown;
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.into(), value]);
    row("service", service(vip));
    row("pool", if vip.pool.is_empty() { "unknown".into() } else { vip.pool.clone() });
    if let Some(given) = &vip.r#override {
        row("override", format!("{}; {}", order::given(given), order::by(given)));
    }
    for problem in &vip.problems {
        row("problem", problem.clone());
    }
    row("ring", ring(vip));
    if let Some(settings) = &vip.settings {
        for (name, value) in described(settings) {
            row(name, value);
        }
    }
    row("forwarded", format!("{} packets, {} bytes", vip.traffic.packets, vip.traffic.bytes));
    row("flows", format!("{} created, {} moved", vip.traffic.flows_created, vip.traffic.flows_moved));
    format!("{}\n{}\n{}", vip.name, table(["", ""], rows).trim_start_matches('\n'), backend::list(members, wide))
}

/// Its ring in words.
fn ring(vip: &Vip) -> String {
    match (vip.ring_slots, vip.tracked_slots) {
        // The ring of when it was open goes on for the flows of then.
        (0, Some(tracked)) => format!("closed to new flows, {tracked} slots tracked"),
        (slots, Some(tracked)) => format!("{slots} slots, {tracked} of them tracked"),
        (slots, None) => format!("{slots} slots"),
    }
}

/// What is set of a VIP, in words; what is off is left out.
fn described(settings: &VipSettings) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("encap", settings.encap.clone()),
        ("hash", settings.hash.clone()),
        ("flow tracking", settings.flow_tracking.clone()),
        ("unknown ports", settings.unknown_port.clone()),
    ];
    let ids = server_ids(settings);
    if !ids.is_empty() {
        lines.push(("server ids", ids.join(", ")));
    }
    if let Some(limit) = settings.max_new_flows_per_second {
        lines.push(("limit", format!("{limit} new flows per second")));
    }
    if (settings.allow, settings.deny) != (0, 0) {
        lines.push(("access", format!("{} prefixes allowed, {} denied", settings.allow, settings.deny)));
    }
    if settings.source_routes > 0 {
        lines.push(("source routes", settings.source_routes.to_string()));
    }
    if settings.panic_threshold > 0 {
        lines.push(("panic threshold", format!("{}%", settings.panic_threshold)));
    }
    if let Some(least) = &settings.min_healthy {
        lines.push(("min healthy", least.clone()));
    }
    lines
}

/// Where server IDs are looked for.
fn server_ids(settings: &VipSettings) -> Vec<String> {
    let lengths = settings.quic_lb.iter().enumerate().filter(|(_, length)| **length > 0);
    let lengths: Vec<String> = lengths.map(|(config, length)| format!("{config}: {length}")).collect();
    let mut places = Vec::new();
    match settings.quic.as_str() {
        "off" => {}
        quic if lengths.is_empty() => places.push(format!("quic ({quic})")),
        quic => places.push(format!("quic ({quic}, bytes by configuration: {})", lengths.join(", "))),
    }
    if settings.tcp_server_id {
        places.push("tcp option".into());
    }
    if settings.udp_stable {
        places.push("udp stable-routing header".into());
    }
    places
}

fn service(vip: &Vip) -> String {
    let Vip { address, prefix_length, port, protocol, .. } = vip;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    // Length 0, which no VIP has, is what a daemon says that knows no prefixes.
    let is_one = *prefix_length == whole || *prefix_length == 0;
    match (is_one, *port, address.is_ipv4()) {
        (true, 0, _) => format!("{address} {protocol}"),
        (true, port, _) => format!("{} {protocol}", SocketAddr::new(*address, port)),
        (false, 0, _) => format!("{address}/{prefix_length} {protocol}"),
        (false, port, true) => format!("{address}/{prefix_length}:{port} {protocol}"),
        (false, port, false) => format!("[{address}/{prefix_length}]:{port} {protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::types::Traffic,
        model::{Protocol, Service},
    };

    fn vip(service: &Service, settings: Option<VipSettings>) -> Vip {
        Vip {
            name: "web".into(),
            address: service.address,
            prefix_length: service.prefix().prefix_len(),
            port: service.port,
            protocol: service.protocol.to_string(),
            pool: "web".into(),
            settings,
            r#override: None,
            backends: 0,
            backends_serving: 0,
            backends_healthy: None,
            up: None,
            problems: Vec::new(),
            ring_slots: 251,
            tracked_slots: None,
            ring_digest: None,
            traffic: Traffic::default(),
        }
    }

    fn plain() -> VipSettings {
        VipSettings {
            encap: "ipip".into(),
            hash: "5-tuple".into(),
            flow_tracking: "always".into(),
            unknown_port: "pass".into(),
            panic_threshold: 0,
            min_healthy: None,
            quic: "off".into(),
            quic_lb: Vec::new(),
            tcp_server_id: false,
            udp_stable: false,
            max_new_flows_per_second: None,
            allow: 0,
            deny: 0,
            source_routes: 0,
        }
    }

    #[test]
    fn services_are_told_as_the_log_tells_them() {
        for net in ["192.0.2.10/32", "192.0.2.0/24", "2001:db8::1/128", "2001:db8::/64"] {
            for port in [0, 443] {
                let service = Service::of_prefix(net.parse().unwrap(), port, Protocol::Udp);
                assert_eq!(super::service(&vip(&service, None)), service.to_string());
            }
        }
    }

    #[test]
    fn the_ring_of_an_adaptive_vip_is_told_with_its_tracked_slots() {
        let service = Service::of([192, 0, 2, 1].into(), 443, Protocol::Tcp);
        let told = |ring_slots, tracked_slots| ring(&Vip { ring_slots, tracked_slots, ..vip(&service, None) });
        assert_eq!(told(251, None), "251 slots");
        assert_eq!(told(251, Some(84)), "251 slots, 84 of them tracked");
        assert_eq!(told(0, Some(84)), "closed to new flows, 84 slots tracked");
    }

    #[test]
    fn a_vip_shows_what_is_set_and_nothing_that_is_off() {
        let service = Service::of([192, 0, 2, 1].into(), 443, Protocol::Udp);
        let text = |settings| show(&Shown { vip: vip(&service, Some(settings)), members: Vec::new() }, false);
        let short = text(plain());
        for line in ["encap          ipip", "hash           5-tuple", "flow tracking  always", "unknown ports  pass"] {
            assert!(short.lines().any(|found| found == line), "{line} is not in:\n{short}");
        }
        for word in ["server ids", "limit", "access", "source routes"] {
            assert!(!short.contains(word), "{word} is in:\n{short}");
        }
        let long = text(VipSettings {
            quic: "quic-lb".into(),
            quic_lb: vec![4, 0, 8, 0, 0, 0, 0],
            max_new_flows_per_second: Some(70),
            deny: 100_000,
            source_routes: 12,
            panic_threshold: 50,
            min_healthy: Some("2".into()),
            ..plain()
        });
        for line in [
            "server ids       quic (quic-lb, bytes by configuration: 0: 4, 2: 8)",
            "limit            70 new flows per second",
            "access           0 prefixes allowed, 100000 denied",
            "source routes    12",
            "panic threshold  50%",
            "min healthy      2",
        ] {
            assert!(long.lines().any(|found| found == line), "{line} is not in:\n{long}");
        }
        let others =
            server_ids(&VipSettings { quic: "katran".into(), tcp_server_id: true, udp_stable: true, ..plain() });
        assert_eq!(others, ["quic (katran)", "tcp option", "udp stable-routing header"]);
    }
}
