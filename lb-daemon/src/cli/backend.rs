//! `lb backend`: who serves.

use anyhow::anyhow;

use super::{Exit, Global, ask, output, output::table};
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
        /// Its name in the configuration
        name: String,
    },
}

/// Prints backends.
///
/// # Errors
/// When no daemon answers, it knows no such backend, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let backends: Vec<Backend> = ask::get(global, "/v1/backends")?;
    match &args.verb {
        Verb::List => output::print(global.output, &backends, |backends| list(backends))?,
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
pub(super) fn list(backends: &[Backend]) -> String {
    let row = |backend: &Backend| {
        [
            format!("{}/{}", backend.pool, backend.vip),
            backend.name.clone(),
            backend.address.to_string(),
            state(backend),
            backend.weight.to_string(),
            ask::percent(backend.share),
            backend.traffic.packets.to_string(),
            backend.flows.to_string(),
            backend.last_check.clone(),
        ]
    };
    let headings = ["POOL/VIP", "BACKEND", "ADDRESS", "STATE", ">WEIGHT", ">SHARE", ">PACKETS", ">FLOWS", "LAST CHECK"];
    table(headings, backends.iter().map(row))
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
    let rows: [[String; 2]; 13] = [
        ["vip".into(), backend.vip.clone()],
        ["pool".into(), backend.pool.clone()],
        ["address".into(), backend.address.to_string()],
        ["state".into(), state(backend)],
        ["wanted".into(), backend.admin_state.clone()],
        ["weight".into(), format!("{}, {} of new flows", backend.weight, ask::percent(backend.share))],
        ["last check".into(), backend.last_check.clone()],
        ["next hop".into(), next_hop],
        ["target".into(), backend.target.map_or("none".into(), |target| target.to_string())],
        ["forwarded".into(), format!("{} packets, {} bytes", traffic.packets, traffic.bytes)],
        [
            "flows".into(),
            format!("{} now, {} created, {} moved here", backend.flows, traffic.flows_created, traffic.flows_moved),
        ],
        [
            "tcp".into(),
            format!("{} openings, {} repeated, {} answered", traffic.syns, traffic.syn_retransmits, traffic.handshakes),
        ],
        ["tcp ends".into(), format!("{} by FIN, {} by RST", traffic.fins, traffic.rsts)],
    ];
    format!("{}\n{}", backend.name, table(["", ""], rows).trim_start_matches('\n'))
}
