//! `lb confirm`: lets a configuration stay that was applied with `--confirm`.

use super::{Exit, Global, ask, output};
use crate::api::types::{ConfirmRequest, Confirmed};

/// Let the configuration stay that was applied with `lb apply --confirm`
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Asks the daemon, and tells what stays.
///
/// # Errors
/// When no daemon answers, or nothing waits for confirmation.
pub fn run(_: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let confirmed: Confirmed = ask::post(global, "/v1/confirm", &ConfirmRequest {})?;
    output::print(global.output, &confirmed, |confirmed| {
        format!("generation {} stays in force", confirmed.generation)
    })?;
    Ok(Exit::Done)
}
