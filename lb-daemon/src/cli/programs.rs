//! `lb run-programs`: the process that runs programs for a daemon, which alone starts it.

use std::{io, os::fd::AsFd};

use anyhow::Context;

use super::Exit;
use crate::runner;

/// Serves the socket that is its standard input.
///
/// # Errors
/// When that is none, or breaks.
pub(super) fn run() -> Result<Exit, anyhow::Error> {
    let socket = io::stdin().as_fd().try_clone_to_owned().context("cannot take the daemon's socket")?;
    runner::serve(socket).context("cannot run programs")?;
    Ok(Exit::Done)
}
