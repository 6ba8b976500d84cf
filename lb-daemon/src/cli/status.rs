//! `lb status`: how the daemon is, and what it says itself.

use std::fmt::Write;

use super::{Exit, Global, ask, output, output::table, pins};
use crate::api::{
    client::ClientError,
    types::{Condition, Status},
};

/// Show how the daemon is; without one, what the pinned tables tell
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Exit with 2 when degraded: no daemon, a VIP without a serving backend, a refused reload, tables that cannot be
    /// written
    #[arg(long)]
    check: bool,
    /// Read the pinned tables instead of asking the daemon
    #[arg(long, conflicts_with = "check")]
    pins: bool,
}

/// Prints the daemon's status; without a daemon, what the pinned tables tell.
///
/// # Errors
/// When no daemon answers and nothing is pinned, or stdout fails.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let status = if args.pins { pins::status(global)? } else { ask_or_read(global)? };
    output::print(global.output, &status, text)?;
    Ok(match status.state {
        Condition::Degraded | Condition::Unmanaged if args.check => Exit::Differs,
        // The tables answer, but it was the daemon that was asked.
        Condition::Unmanaged if !args.pins => Exit::Failed,
        _ => Exit::Done,
    })
}

/// Asks the daemon; where none runs, reads the tables, and if there are none says that no daemon runs.
fn ask_or_read(global: &Global) -> Result<Status, anyhow::Error> {
    match ask::get(global, "/v1/status") {
        Err(error) if matches!(error.downcast_ref(), Some(ClientError::NoDaemon { .. })) => {
            pins::status(global).map_err(|unreadable| error.context(format!("{unreadable:#}")))
        }
        answer => answer,
    }
}

/// The status for people.
fn text(status: &Status) -> String {
    let mut rows: Vec<[String; 2]> = vec![["state".into(), status.state.name().into()]];
    let mut row = |name: &str, value: String| rows.push([name.into(), value]);
    row("version", status.version.clone());
    if let (Some(pid), Some(uptime)) = (status.pid, status.uptime_seconds) {
        row("process", format!("{pid}, up {}", ask::duration(uptime)));
    }
    if let Some(config) = &status.config {
        row("config", config.clone());
    }
    if let Some(generation) = status.generation {
        row("generation", generation.to_string());
    }
    let interfaces: Vec<String> = status.interfaces.iter().map(|one| format!("{} ({})", one.name, one.mode)).collect();
    row("interfaces", if interfaces.is_empty() { "none".into() } else { interfaces.join(", ") });
    row("pins", status.pin_path.clone());
    row("vips", format!("{}, {} without a serving backend", status.vips, status.vips_without_backend.len()));
    row("backends", format!("{}, {} serving", status.backends, status.backends_serving));
    for (name, places) in &status.tables {
        row(name, format!("{} of {}", places.used, places.capacity));
    }
    let mut out = table(["", ""], rows).trim_start().to_owned();
    for problem in &status.problems {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "! {problem}");
    }
    out
}
