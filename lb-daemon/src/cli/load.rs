//! `lb load`: the dataplane filled and pinned once, without a daemon.

use std::{net::IpAddr, path::PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::{Exit, Global, load_config, output, output::table};
use crate::{
    controller::{beliefs, engine, hop_targets, room, tuning},
    dataplane::{
        Dataplane,
        kernel::{Kernel, Opened, Options},
    },
    model::{Config, DaemonLoss, NextHopConfig},
    nexthop::{self, NextHop, NextHops, Snapshot, Unreachable as Lost},
    plan::{
        RingCache,
        diff::{self, plan},
        lists::Lists,
    },
    telemetry,
};

/// Fill and pin the dataplane, all reachable backends taken as healthy, and exit
///
/// What is loaded forwards until `lb unload`. Nothing follows health, next hops or the file; `lb run` does.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Bind to no interface: for packet tests and benchmarks
    #[arg(long)]
    no_attach: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Report {
    pin_path: PathBuf,
    /// Whether the tables were there already.
    adopted: bool,
    /// Number of the program, as in `bpftool prog`.
    program: u32,
    /// Instructions that the verifier processed, where the kernel tells.
    verified_instructions: Option<u32>,
    flow_table_entries: u32,
    #[serde(flatten)]
    filled: Filled,
}

/// What was written and bound.
#[derive(Debug, Serialize)]
struct Filled {
    /// Writes to the tables that it took.
    writes: usize,
    vips: usize,
    targets: usize,
    interfaces: Vec<Interface>,
    unreachable: Vec<Unreachable>,
}

#[derive(Debug, Serialize)]
struct Interface {
    interface: String,
    mode: &'static str,
}

/// A backend without a next hop.
#[derive(Debug, Serialize)]
struct Unreachable {
    backend: IpAddr,
    reason: String,
    /// Whether it takes packets all the same, which then leave with a next hop of zeros.
    placeholder: bool,
}

/// Loads, fills, attaches, reports.
///
/// # Errors
/// When the config is refused, a daemon runs, the kernel refuses, or an interface cannot be bound. Tables that were there
/// before serve on; those that were just made are removed.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    telemetry::start(global.verbose)?;
    let mut config = load_config(&args.config, global)?;
    // No daemon is to come and be lost.
    config.daemon.on_loss = DaemonLoss::Keep;
    let lists = Lists::of(&config);
    let options = Options {
        pin_path: global.pin_path.clone(),
        capacity: diff::needs(&beliefs::best_case(&config, &lists)),
        flow_entries: config.dataplane.flow_table_entries,
        tuning: tuning::tuning(&config),
    };
    let mut opened = Opened::new(&options)?;
    let adopted = opened.adopted();
    let room = room(&opened.observe()?, &config, &lists)?;
    if !args.no_attach {
        opened.require(&config.dataplane.interfaces)?;
    }
    let mut kernel = opened.take_over(&room)?;
    match fill(&mut kernel, &config, &lists, args.no_attach) {
        Ok(filled) => {
            let report = Report {
                pin_path: global.pin_path.clone(),
                adopted,
                program: kernel.program_id()?,
                verified_instructions: kernel.verified_instructions(),
                flow_table_entries: config.dataplane.flow_table_entries,
                filled,
            };
            output::print(global.output, &report, text)?;
            Ok(Exit::Done)
        }
        Err(error) => {
            drop(kernel);
            if !adopted {
                Kernel::unload(&global.pin_path).context("what was just pinned could not be removed")?;
            }
            Err(error)
        }
    }
}

/// Writes what is wanted and binds the interfaces.
fn fill(kernel: &mut Kernel, config: &Config, lists: &Lists, no_attach: bool) -> Result<Filled, anyhow::Error> {
    let found = next_hops(config)?;
    let (hops, unreachable) = completed(config, &found, no_attach);
    let needed = tuning::needed(config, &found);
    kernel.retune(&tuning::either(kernel.tuning(), &needed))?;
    let observed = kernel.observe()?;
    let wanted = beliefs::all_up(config, lists, &hops, &found.bonds);
    let ops = plan(&observed, &wanted, &mut RingCache::default())?;
    for op in &ops {
        kernel.apply(op)?;
    }
    // Until now also what the tables of before needed.
    kernel.retune(&needed)?;
    let attached = if no_attach { Vec::new() } else { engine::attach(kernel, &config.dataplane)? };
    let state = kernel.observe()?;
    Ok(Filled {
        writes: ops.len(),
        vips: state.vips.keys().filter(|key| !key.is_address()).count(),
        targets: state.targets.len(),
        interfaces: attached.into_iter().map(|one| Interface { interface: one.interface, mode: one.mode }).collect(),
        unreachable,
    })
}

/// The ways to all backends, as far as the kernel knows them now, or the one gateway.
fn next_hops(config: &Config) -> Result<Snapshot, anyhow::Error> {
    if let NextHopConfig::Gateway(mac) = config.dataplane.next_hop {
        let backends = config.pools.values().flat_map(|pool| &pool.backends).map(|backend| backend.address).collect();
        // Nobody knows how large the gateway's packets may be: no limit.
        return Ok(Snapshot { hops: nexthop::gateway(&backends, mac, 0), ..Snapshot::default() });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a runtime to look up next hops")?;
    runtime.block_on(nexthop::resolve_once(&hop_targets(config))).context("cannot look up next hops")
}

/// The next hops, and the backends without one. For packet tests these get one of zeros.
fn completed(config: &Config, found: &Snapshot, placeholders: bool) -> (NextHops, Vec<Unreachable>) {
    let zeros = NextHop { ifindex: 0, source_mac: [0; 6], mac: [0; 6], mtu: 0, tags: [[0; 4]; 2], on_link: true };
    let mut unreachable = Vec::new();
    let mut hops = found.hops.clone();
    for backend in hop_targets(config) {
        let hop = hops.entry(backend).or_default();
        if hop.is_none() {
            let reason = found.reason(backend).map_or_else(|| "no answer".to_owned(), reason);
            unreachable.push(Unreachable { backend, reason, placeholder: placeholders });
            *hop = placeholders.then_some(zeros);
        }
    }
    (hops, unreachable)
}

/// Why there is no next hop, told by a command that waits no longer.
fn reason(lost: &Lost) -> String {
    match lost.clone() {
        Lost::Unresolved { neighbour, interface } => Lost::Silent { neighbour, interface }.to_string(),
        other => other.to_string(),
    }
}

fn text(report: &Report) -> String {
    let how = if report.adopted { "adopted" } else { "created" };
    let facts = [
        ("pinned at", format!("{} ({how})", report.pin_path.display())),
        ("program", report.program.to_string()),
        ("instructions verified", report.verified_instructions.map_or_else(|| "unknown".to_owned(), |n| n.to_string())),
        ("VIPs", report.filled.vips.to_string()),
        ("targets", report.filled.targets.to_string()),
        ("flow table entries", report.flow_table_entries.to_string()),
        ("table writes", report.filled.writes.to_string()),
    ];
    let mut parts = vec![table(["LOADED", ""], facts.map(|(name, value)| [name.to_owned(), value]))];
    if report.filled.interfaces.is_empty() {
        parts.push("attached to no interface\n".to_owned());
    } else {
        let rows = report.filled.interfaces.iter().map(|one| [one.interface.clone(), one.mode.to_owned()]);
        parts.push(table(["INTERFACE", "MODE"], rows));
    }
    if !report.filled.unreachable.is_empty() {
        let rows = report.filled.unreachable.iter().map(|one| {
            let treated = if one.placeholder { "a next hop of zeros" } else { "down" };
            [one.backend.to_string(), one.reason.clone(), treated.to_owned()]
        });
        parts.push(table(["UNREACHABLE", "REASON", "TREATED AS"], rows));
        parts.push("nobody tries these again; `lb run` does\n".to_owned());
    }
    parts.join("\n")
}
