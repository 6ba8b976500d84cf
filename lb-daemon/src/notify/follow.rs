//! Tells the service manager of states as they come, and that the controller lives.

use std::{future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{Notice, Notifier, summary};
use crate::controller::{Handle, Snapshot};

/// Tells of the end of the start, and of the state whenever its summary changes. Ends with the controller.
pub async fn states(notifier: Notifier, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut told = String::new();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let line = summary(&snapshot);
        if is_started(&snapshot) && !notifier.is_ready() {
            notifier.ready(&line);
        } else if line != told {
            notifier.tell(&[Notice::Status(&line)]);
        }
        told = line;
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// Says each `every` that the daemon lives, as long as the controller answers: one that hangs applies nothing more, and
/// only a new process mends that. A controller that is at work answers afterwards, late. Never ends.
pub async fn watchdog(notifier: Notifier, every: Duration, controller: Handle) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if controller.ping().await.is_err() {
            // It has ended, and so does the daemon.
            return future::pending().await;
        }
        notifier.tell(&[Notice::Watchdog]);
    }
}

/// Whether who waits for the start need wait no longer: the first plan is in force, or it was tried in vain. The latter is
/// tried again, and a manager that gave up on the daemon would only put that off.
fn is_started(snapshot: &Snapshot) -> bool {
    snapshot.applied > 0 && !snapshot.fresh || snapshot.failing.is_some()
}
