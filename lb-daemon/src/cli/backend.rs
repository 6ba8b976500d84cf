//! `lb backend`: who serves, and who is to.

use std::time::Duration;

use anyhow::anyhow;

mod show;

use super::{Exit, Global, Output, ask, order, output, output::columns, pins};
use crate::{
    api::types::{Backend, DrainRequest, OrderRequest, Override, WeightRequest},
    config,
    model::MAX_WEIGHT,
};

/// Look at backends, and override what the configuration says of them
///
/// Orders hold until they are taken back, also over reloads and restarts; `lb status` lists them.
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
        /// Its name in the configuration, NAME or POOL/NAME; without a daemon, its address
        name: String,
    },
    /// Give it no new flows; when no live flow is left it is off, until it is enabled
    Drain {
        /// NAME or POOL/NAME
        name: String,
        /// Off after this time, whatever is left then: "90s", "30m"
        #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
        deadline: Option<Duration>,
        /// Wait until it is drained, and say how it goes
        #[arg(long)]
        wait: bool,
    },
    /// Have it serve: takes drain and disable back, and overrides the file's state
    Enable {
        /// NAME or POOL/NAME
        name: String,
    },
    /// Give it nothing; its flows move to others
    Disable {
        /// NAME or POOL/NAME
        name: String,
    },
    /// Set its weight beside the file
    Weight {
        /// NAME or POOL/NAME
        name: String,
        /// 0 to 65535, or `file` for what the file says
        #[arg(value_name = "WEIGHT", value_parser = weight)]
        weight: Weight,
    },
}

/// A weight, or none to take that of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weight(Option<u32>);

fn weight(text: &str) -> Result<Weight, String> {
    if text == "file" {
        return Ok(Weight(None));
    }
    let number = text.parse().ok().filter(|number| *number <= MAX_WEIGHT);
    number.map(|number| Weight(Some(number))).ok_or_else(|| format!("write 0 to {MAX_WEIGHT}, or `file`"))
}

/// Prints backends, or gives an order.
///
/// # Errors
/// When no daemon answers and nothing is pinned, there is no such backend, the daemon refuses, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    match &args.verb {
        Verb::List => look(None, global),
        Verb::Show { name } => look(Some(name), global),
        Verb::Drain { name, deadline, wait } => drain(name, *deadline, *wait, global),
        Verb::Enable { name } => give(name, "enable", &OrderRequest {}, global),
        Verb::Disable { name } => give(name, "disable", &OrderRequest {}, global),
        Verb::Weight { name, weight } => give(name, "weight", &WeightRequest { weight: weight.0 }, global),
    }
}

fn give(name: &str, verb: &str, request: &impl serde::Serialize, global: &Global) -> Result<Exit, anyhow::Error> {
    let (pool, name) = order::backend(global, name)?;
    order::give(global, &format!("backend {pool}/{name}"), &format!("/v1/backends/{pool}/{name}/{verb}"), request)
}

fn drain(name: &str, deadline: Option<Duration>, wait: bool, global: &Global) -> Result<Exit, anyhow::Error> {
    let (pool, name) = order::backend(global, name)?;
    let request = DrainRequest { deadline_seconds: deadline.map(ask::seconds) };
    let exit = give(&format!("{pool}/{name}"), "drain", &request, global)?;
    if wait { order::wait(global, &pool, &name) } else { Ok(exit) }
}

/// Prints all backends, or those that are named so.
fn look(named: Option<&String>, global: &Global) -> Result<Exit, anyhow::Error> {
    let path = match named.map(|name| (name.as_str(), name.split_once('/'))) {
        None => "/v1/backends".to_owned(),
        Some((_, Some((pool, name)))) => {
            format!("/v1/backends?pool={}&backend={}", ask::escape(pool), ask::escape(name))
        }
        Some((name, None)) => format!("/v1/backends?backend={}", ask::escape(name)),
    };
    let backends: Vec<Backend> = pins::get_or_read(global, &path, pins::Tables::backends)?;
    match named {
        None => {
            output::print(global.output, &backends, |backends| list(backends, global.output == Output::Wide))?;
        }
        Some(name) => {
            // Tables know of no query.
            let is_named = |backend: &Backend| match name.split_once('/') {
                Some((pool, name)) => backend.pool == pool && backend.name == name,
                None => backend.name == *name,
            };
            let found: Vec<Backend> = backends.into_iter().filter(is_named).collect();
            if found.is_empty() {
                return Err(anyhow!("no backend {name}; `lb backend list` shows all"));
            }
            let found = show::with_health(found, global)?;
            output::print(global.output, &found, |found| found.iter().map(show::text).collect::<Vec<_>>().join("\n"))?;
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
            weight_of(backend),
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

/// Its weight, with a mark if it is an operator's.
fn weight_of(backend: &Backend) -> String {
    let overridden = backend.r#override.as_ref().is_some_and(|given| given.weight.is_some());
    let mark = if overridden { "*" } else { "" };
    backend.weight.map_or_else(unknown, |weight| format!("{weight}{mark}"))
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
        _ if let Some(given) = backend.r#override.as_ref().filter(|given| given.state.is_some()) => {
            // What was ordered of its weight stands in another column.
            let given = Override { weight: None, ..given.clone() };
            let (state, given) = (backend.state.name(), order::given(&given));
            match given.strip_prefix(state).map(|more| more.trim_start_matches(", ")) {
                Some("") => format!("{state} (override)"),
                Some(more) => format!("{state} (override: {more})"),
                None => format!("{state} (override: {given})"),
            }
        }
        // The last column tells what the check found.
        Some(reason) if *reason != backend.last_check => format!("{} ({reason})", backend.state.name()),
        _ => backend.state.name().into(),
    }
}
