//! `lb unload`: everything down.

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use super::{Exit, Global, output};
use crate::{dataplane::kernel::Kernel, telemetry};

/// Detach from all interfaces and remove every pin; forwarding stops and flows are forgotten
#[derive(Debug, clap::Args)]
pub struct Args {}

/// What was taken down.
#[derive(Debug, Serialize)]
struct Report {
    /// The pin path.
    pin_path: PathBuf,
    /// Interfaces that run the program no more.
    detached: Vec<String>,
    /// Pins that were removed, links aside.
    removed: Vec<PathBuf>,
    /// What else lies there and stays.
    left: Vec<PathBuf>,
}

/// Takes everything down. Nothing there is no error.
///
/// # Errors
/// When a daemon runs, or something cannot be removed.
pub fn run(_: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    telemetry::start(global.verbose)?;
    let done = Kernel::unload(&global.pin_path).context("cannot unload")?;
    let report =
        Report { pin_path: global.pin_path.clone(), detached: done.detached, removed: done.removed, left: done.left };
    output::print(global.output, &report, text)?;
    Ok(Exit::Done)
}

fn text(report: &Report) -> String {
    let at = report.pin_path.display();
    let mut lines: Vec<String> = report.detached.iter().map(|interface| format!("detached from {interface}")).collect();
    match report.removed.len() {
        0 if lines.is_empty() => lines.push(format!("nothing was loaded at {at}")),
        count => lines.push(format!("removed {count} pins from {at}")),
    }
    lines.extend(report.left.iter().map(|path| {
        let whose = if path.ends_with("decap") { " (`lb decap --remove` takes it off)" } else { "" };
        format!("left {}{whose}", path.display())
    }));
    lines.join("\n")
}
