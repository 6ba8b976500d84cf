//! `lb plan`: what would a configuration change?

use std::{
    io::{self, Write},
    path::PathBuf,
};

use super::{Exit, Global, ask, load_bundle, output, pins};
use crate::api::types::{Against, PlanRequest, Preview};

pub(super) mod text;

/// Tell what a configuration would change, against the running tables; nothing is written
///
/// Exits with 0 if nothing differs, 2 if something does, 3 if the file is refused.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Compares a file with what runs.
///
/// # Errors
/// When the file is refused, the daemon refuses, or what is pinned cannot be read.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let (bundle, config) = load_bundle(&args.file, global)?;
    let preview: Preview = match ask::post(global, "/v1/plan", &PlanRequest { bundle }) {
        Err(error) if ask::found_no_daemon(&error) => pins::preview(global, &config)?,
        answer => answer?,
    };
    if let Some(note) = unmanaged(&preview, global) {
        // Whoever closed stderr does not want to know.
        let _ = writeln!(io::stderr(), "! {note}");
    }
    output::print(global.output, &preview, text::whole)?;
    Ok(if preview.differs { Exit::Differs } else { Exit::Done })
}

/// What it means that no daemon was asked.
fn unmanaged(preview: &Preview, global: &Global) -> Option<String> {
    let (socket, pins) = (global.socket().display(), global.pin_path.display());
    match preview.against {
        Against::Daemon => None,
        Against::Tables => Some(format!(
            "no daemon answers on {socket}: compared with the tables at {pins}, which know addresses, but no names and weights"
        )),
        Against::Nothing => Some(format!("no daemon answers on {socket} and nothing is loaded at {pins}: all is new")),
    }
}
