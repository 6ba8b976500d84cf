//! The signals that concern the daemon.

use std::{
    io::{self, IsTerminal, Write},
    process,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, info, warn};

use crate::{
    cli::output,
    config::Diagnostics,
    controller::{
        Handle,
        reloader::{Failure, Reloader},
    },
    notify::{Notifier, summary},
    state::Author,
};

/// Exit code of a daemon that was told twice to stop: what it was at is not done.
const ENDED_EARLY: i32 = 1;

/// SIGHUP reloads; SIGTERM and SIGINT stop, and when they come again, end the process at once.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// What a reload needs.
pub(super) struct Reloads<'a> {
    /// Reads the file.
    pub(super) reloader: &'a Reloader,
    /// Shows what came of it.
    pub(super) controller: &'a Handle,
    /// Hears of it.
    pub(super) notifier: &'a Notifier,
}

impl Signals {
    /// From now on they wait to be asked for, and end nothing by themselves. Any runtime may ask.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reloads upon SIGHUP; returns upon SIGTERM or SIGINT, also while a reload is under way: the controller carries that
    /// through before it stops.
    pub(super) async fn until_stopped(&mut self, reloads: &Reloads<'_>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {}
            }
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                () = reload(reloads) => {}
            }
        }
    }

    /// Ends the process upon the next SIGTERM or SIGINT, whatever it is at: whoever asks twice does not want to wait.
    pub(super) async fn end_at_once(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        warn!("told again to stop; ending at once");
        process::exit(ENDED_EARLY);
    }
}

/// Reloads once and tells what came of it.
pub(super) async fn reload(reloads: &Reloads<'_>) {
    reloads.notifier.reloading();
    // Who sends a signal is not known.
    match reloads.reloader.reload(Author::default()).await {
        Ok(done) => info!(generation = done.generation, new = done.new, ops = done.ops, "reloaded"),
        // The controller has logged why; excerpts of the file are for people, as at the start.
        Err(Failure::Invalid(diagnostics)) => show(&diagnostics),
        Err(refused) => debug!(%refused, "nothing changed"),
    }
    // A refusal is noted after we hear of it; whoever reads the status line should see it there. No answer is the end.
    let _ = reloads.controller.ping().await;
    reloads.notifier.reloaded(&summary(&reloads.controller.snapshot()));
}

/// Prints complaints with the lines they are about.
fn show(diagnostics: &Diagnostics) {
    let text = diagnostics.render(output::colours(io::stderr().is_terminal()));
    // A closed stderr must not end the daemon.
    let _ = io::stderr().write_all(text.as_bytes());
}
