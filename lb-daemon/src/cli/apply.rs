//! `lb apply`: puts a configuration in force through the daemon.

use std::{fmt::Write, path::PathBuf, time::Duration};

use super::{Exit, Global, ask, history::time, load_bundle, output, plan::text::summary};
use crate::{
    api::types::{Applied, ApplyRequest},
    config,
};

/// Put a configuration in force
///
/// The daemon takes it whole or refuses it whole. Its own file stays as it is: `lb status` says so if the two differ, and
/// whoever wants the daemon to start afresh from the file changes the file or sends SIGHUP.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file; the daemon gets its text, and those of the files that it names
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Refuse if a larger share of live flows would lose their backend: "5%", "0.5%", "0%"
    #[arg(long, value_name = "SHARE", value_parser = config::parse_share)]
    max_disruption: Option<f64>,
    /// Roll back unless `lb confirm` comes within this time, also if the daemon dies meanwhile: "90s", "5m"
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    confirm: Option<Duration>,
    /// Why, for `lb history`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Sends the file's texts to the daemon and tells what came of it.
///
/// # Errors
/// When the file is refused, no daemon answers, or it refuses.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let (bundle, _) = load_bundle(&args.file, global)?;
    let confirm_seconds = args.confirm.map(ask::seconds);
    let (max_disruption, reason) = (args.max_disruption, args.reason.clone());
    let request = ApplyRequest { bundle, confirm_seconds, max_disruption, reason };
    told(&ask::post(global, "/v1/apply", &request)?, global)
}

/// Tells what is in force now.
pub(super) fn told(applied: &Applied, global: &Global) -> Result<Exit, anyhow::Error> {
    output::print(global.output, applied, text)?;
    Ok(if applied.pending.is_some() { Exit::Failed } else { Exit::Done })
}

/// What was done, for people.
fn text(applied: &Applied) -> String {
    let Applied { generation, new, ops, pending, waiting, plan } = applied;
    let mut out = plan.as_ref().map(|plan| format!("{}\n", summary(plan))).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = if *new {
        writeln!(out, "generation {generation} is in force, {ops} writes to the tables")
    } else {
        writeln!(out, "no difference: generation {generation} stays in force")
    };
    if let Some(waiting) = waiting {
        let _ = writeln!(
            out,
            "it goes back to generation {} in {}, at {}, unless `lb confirm` comes before",
            waiting.back_to,
            ask::duration(waiting.seconds_left),
            time(waiting.deadline)
        );
    }
    if let Some(why) = pending {
        let _ = writeln!(out, "! not all could be written yet, and it is tried again: {why}");
    }
    out
}
