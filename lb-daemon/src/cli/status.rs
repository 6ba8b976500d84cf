//! `lb status`: how the daemon is, and what it says itself.

use std::fmt::Write;

use super::{Exit, Global, ask, history, order, output, output::table, pins};
use crate::api::types::{Condition, Places, Status};

/// Show how the daemon is; without one, what the pinned tables tell
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Exit with 2 when degraded: no daemon, a VIP without a serving backend, a refused reload, checks that cannot be
    /// made, tables that cannot be written
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
    let status = if args.pins {
        pins::Tables::open(global)?.status(global, "this is read from the tables; no daemon was asked".into())?
    } else {
        let read = |tables: &mut pins::Tables| tables.status(global, pins::unmanaged(global));
        pins::ask_or_read(global, || ask::get(global, "/v1/status"), read)?
    };
    output::print(global.output, &status, |status| text(status, global.verbose > 0))?;
    Ok(match status.state {
        Condition::Degraded | Condition::Unmanaged if args.check => Exit::Differs,
        // The tables answer, but it was the daemon that was asked.
        Condition::Unmanaged if !args.pins => Exit::Failed,
        _ => Exit::Done,
    })
}

/// The status for people, with what only some of them ask for.
fn text(status: &Status, verbose: bool) -> String {
    let mut rows: Vec<[String; 2]> = vec![["state".into(), status.state.name().into()]];
    let mut row = |name: &str, value: String| rows.push([name.into(), value]);
    row("version", status.version.clone());
    if let (Some(pid), Some(uptime)) = (status.pid, status.uptime_seconds) {
        row("process", format!("{pid}, up {}", ask::duration(uptime)));
    }
    if let Some(config) = &status.config {
        row("config", config.clone());
    }
    if let Some(one) = &status.in_force {
        let by = if one.uid.is_some() { format!(" by {}", history::author(one)) } else { String::new() };
        let differs = if status.differs_from_file == Some(true) { "; the file says something else" } else { "" };
        let (origin, at) = (history::origin(one), history::time(one.at));
        row("generation", format!("{}, {origin}{by}, {at}{differs}", one.generation));
        if let Some(waiting) = &one.waiting {
            let left = ask::duration(waiting.seconds_left);
            row("unconfirmed", format!("back to generation {} in {left}, unless `lb confirm` comes", waiting.back_to));
        }
    }
    let interfaces: Vec<String> = status.interfaces.iter().map(|one| format!("{} ({})", one.name, one.mode)).collect();
    row("interfaces", if interfaces.is_empty() { "none".into() } else { interfaces.join(", ") });
    row("pins", status.pin_path.clone());
    if let Some(features) = &status.features {
        row("features", if features.is_empty() { "none".into() } else { features.join(", ") });
    }
    row("vips", format!("{}, {} without a serving backend", status.vips, status.vips_without_backend.len()));
    row("backends", format!("{}, {} serving", status.backends, status.backends_serving));
    if let Some(confinement) = status.confinement.as_ref().filter(|_| verbose) {
        row("capabilities", confinement.capabilities.join(", "));
        row("while loading", confinement.while_loading.join(", "));
        row("landlock", confinement.files.clone());
        row("seccomp", confinement.calls.clone());
    }
    let overrides = status.overrides.as_deref().unwrap_or_default();
    if !overrides.is_empty() {
        row("overrides", overrides.len().to_string());
    }
    let mut out = table(["", ""], rows).trim_start().to_owned();
    for one in overrides {
        // As below.
        let _ = writeln!(out, "* {}", order::line(one));
    }
    for problem in &status.problems {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "! {problem}");
    }
    let fill =
        |(name, places): (&String, &Places)| [described(name), places.used.to_string(), places.capacity.to_string()];
    out.push('\n');
    out.push_str(&table(["TABLES", ">USED", ">PLACES"], status.tables.iter().map(fill)));
    out
}

/// What a place of a table takes.
fn described(table: &str) -> String {
    match table {
        "vips" => "addresses and ports of VIPs",
        "targets" => "backends of VIPs",
        "ring_blocks" => "blocks of rings, 32 slots each",
        "groups" => "groups that source routes lead to",
        "server_ids" => "server IDs of backends",
        "prefixes" => "prefixes of a list",
        other => other,
    }
    .to_owned()
}
