//! `lb reload`: what SIGHUP does, with an answer.

use super::{Exit, Global, ask, output};
use crate::api::types::{ReloadRequest, Reloaded};

/// Have the daemon read its configuration file again, and tell what came of it
///
/// Does what SIGHUP does. A file that is refused changes nothing.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Reloads.
///
/// # Errors
/// When no daemon answers, or it refuses the file; the old configuration then serves on.
pub fn run(_: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let done: Reloaded = ask::post(global, "/v1/reload", &ReloadRequest {})?;
    output::print(global.output, &done, text)?;
    Ok(if done.pending.is_some() { Exit::Failed } else { Exit::Done })
}

fn text(done: &Reloaded) -> String {
    let Reloaded { generation, ops, pending } = done;
    match pending {
        Some(why) => format!("not all is in force yet, and is tried again: {why}\n"),
        None if *ops == 0 => format!("generation {generation} is in force; the tables are as it wants them\n"),
        None => format!("generation {generation} is in force, {ops} writes to the tables\n"),
    }
}
