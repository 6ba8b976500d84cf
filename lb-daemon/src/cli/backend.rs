//! `lb backend`: who serves.

use anyhow::anyhow;

use super::{
    Exit, Global, Output, ask, output,
    output::{columns, table},
    pins,
};
use crate::api::types::Backend;

/// Look at backends
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the backends of all VIPs
    List,
    /// Show all that is known of a backend, for each VIP that it serves
    Show {
        /// Its name in the configuration; without a daemon, its address
        name: String,
    },
}

/// Prints backends.
///
/// # Errors
/// When no daemon answers and nothing is pinned, there is no such backend, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let backends: Vec<Backend> = pins::ask_or_read(
        global,
        || ask::get(global, "/v1/backends"),
        |tables| {
            pins::say_unmanaged(global);
            tables.backends()
        },
    )?;
    match &args.verb {
        Verb::List => {
            output::print(global.output, &backends, |backends| list(backends, global.output == Output::Wide))?;
        }
        Verb::Show { name } => {
            let found: Vec<Backend> = backends.into_iter().filter(|backend| backend.name == *name).collect();
            if found.is_empty() {
                return Err(anyhow!("no backend {name}; `lb backend list` shows all"));
            }
            output::print(global.output, &found, |found| found.iter().map(show).collect::<Vec<_>>().join("\n"))?;
        }
    }
    Ok(Exit::Done)
}

/// One line for each backend.
pub(super) fn list(backends: &[Backend], wide: bool) -> String {
    let mut headings =
        vec!["POOL/VIP", "BACKEND", "ADDRESS", "STATE", ">WEIGHT", ">SHARE", ">PACKETS", ">FLOWS", "LAST CHECK"];
    if wide {
        headings.extend([
            "WANTED",
            ">BYTES",
            ">NEW FLOWS",
            ">MOVED",
            ">SYNS",
            ">REPEATED",
            ">TARGET",
            "NEXT HOP",
            ">IF",
        ]);
    }
    let row = |backend: &Backend| {
        let Backend { traffic, .. } = backend;
        let mut row = vec![
            if backend.pool.is_empty() { backend.vip.clone() } else { format!("{}/{}", backend.pool, backend.vip) },
            backend.name.clone(),
            backend.address.to_string(),
            state(backend),
            backend.weight.map_or_else(unknown, |weight| weight.to_string()),
            backend.share.map_or_else(unknown, ask::percent),
            traffic.packets.to_string(),
            backend.live_flows.unwrap_or(backend.flows).to_string(),
            known(&backend.last_check),
        ];
        if wide {
            row.extend([
                backend.admin_state.clone().unwrap_or_else(unknown),
                traffic.bytes.to_string(),
                traffic.flows_created.to_string(),
                traffic.flows_moved.to_string(),
                traffic.syns.to_string(),
                traffic.syn_retransmits.to_string(),
                backend.target.map_or_else(unknown, |target| target.to_string()),
                backend.next_hop.clone().unwrap_or_else(unknown),
                backend.ifindex.to_string(),
            ]);
        }
        row
    };
    columns(&headings, backends.iter().map(row))
}

/// What is said of what only a daemon knows.
fn unknown() -> String {
    "-".into()
}

/// The text, if there is one.
fn known(text: &str) -> String {
    if text.is_empty() { unknown() } else { text.to_owned() }
}

/// What a backend takes, and why.
fn state(backend: &Backend) -> String {
    match &backend.reason {
        // The last column tells what the check found.
        Some(reason) if *reason != backend.last_check => format!("{} ({reason})", backend.state.name()),
        _ => backend.state.name().into(),
    }
}

fn show(backend: &Backend) -> String {
    let next_hop = match (&backend.next_hop, backend.ifindex) {
        (None, _) => "none".into(),
        (Some(mac), 0) => format!("{mac}, by the interface that a packet came in by"),
        (Some(mac), ifindex) => format!("{mac}, by interface number {ifindex}"),
    };
    let traffic = &backend.traffic;
    let weight = backend.weight.zip(backend.share);
    let weight = weight.map(|(weight, share)| format!("{weight}, {} of new flows", ask::percent(share)));
    let now = match backend.live_flows {
        Some(live) => format!("{live} live, {} remembered", backend.flows),
        None => format!("{} now", backend.flows),
    };
    let rows: [[String; 2]; 13] = [
        ["vip".into(), backend.vip.clone()],
        ["pool".into(), known(&backend.pool)],
        ["address".into(), backend.address.to_string()],
        ["state".into(), state(backend)],
        ["wanted".into(), backend.admin_state.clone().unwrap_or_else(unknown)],
        ["weight".into(), weight.unwrap_or_else(unknown)],
        ["last check".into(), known(&backend.last_check)],
        ["next hop".into(), next_hop],
        ["target".into(), backend.target.map_or("none".into(), |target| target.to_string())],
        ["forwarded".into(), format!("{} packets, {} bytes", traffic.packets, traffic.bytes)],
        ["flows".into(), format!("{now}, {} created, {} moved here", traffic.flows_created, traffic.flows_moved)],
        [
            "tcp".into(),
            format!("{} openings, {} repeated, {} answered", traffic.syns, traffic.syn_retransmits, traffic.handshakes),
        ],
        ["tcp ends".into(), format!("{} by FIN, {} by RST", traffic.fins, traffic.rsts)],
    ];
    format!("{}\n{}", backend.name, table(["", ""], rows).trim_start_matches('\n'))
}
