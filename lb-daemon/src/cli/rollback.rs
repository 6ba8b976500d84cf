//! `lb rollback`: puts an older configuration in force.

use super::{Exit, Global, apply, ask};
use crate::api::types::RollbackRequest;

/// Put an older configuration in force, as a new generation
///
/// While a generation waits for confirmation, this ends the wait: without a number, the one before it comes back at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose texts, by their number in `lb history` [default: those in force before; asked for again, those before them]
    #[arg(value_name = "N")]
    generation: Option<u64>,
    /// Why, for `lb history`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Asks the daemon, and tells what came of it.
///
/// # Errors
/// When no daemon answers, or it refuses.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let request = RollbackRequest { generation: args.generation, reason: args.reason.clone() };
    apply::told(&ask::post(global, "/v1/rollback", &request)?, global)
}
