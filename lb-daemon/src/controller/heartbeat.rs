//! Signs of life, by which the program tells whether a daemon looks after it. The controller's own loop shows them: one
//! that hangs is as good as lost.

use std::time::Duration;

use lb_common::maps::feature;
use tokio::time::Instant;
use tracing::{error, info};

use super::{Controller, engine::Engine, work::chain};

/// Time between two signs while there is much to do.
const EVERY: Duration = Duration::from_secs(1);

/// What was shown so far.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    /// The last sign.
    last: Option<Instant>,
    /// It could not be shown.
    failing: bool,
}

impl<E: Engine> Controller<E> {
    /// Shows a sign of life, if the program in force asks for any.
    pub(super) fn beat(&mut self) {
        if self.engine.tuning().features & feature::WITHDRAW == 0 {
            return;
        }
        self.heartbeat.last = Some(Instant::now());
        match self.engine.beat() {
            Ok(()) if !self.heartbeat.failing => {}
            Ok(()) => {
                self.heartbeat.failing = false;
                info!("signs of life are shown again");
            }
            // Said once, and not every second.
            Err(_) if self.heartbeat.failing => {}
            Err(problem) => {
                self.heartbeat.failing = true;
                error!(error = chain(&problem), "no sign of life can be shown: pings to VIPs will not be answered");
            }
        }
    }

    /// The same in the midst of long work, if the last one was some time ago.
    pub(super) fn beat_if_due(&mut self) {
        if self.heartbeat.last.is_some_and(|last| last.elapsed() >= EVERY) {
            self.beat();
        }
    }
}
