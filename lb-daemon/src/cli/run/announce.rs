//! What the log says of states as they come.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::controller::Snapshot;

/// Logs when the daemon is ready, and when a VIP loses its last backend or has one again.
pub(super) async fn announce(mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut ready = false;
    let mut empty = BTreeSet::new();
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update().clone();
        if snapshot.generation == 0 {
            continue;
        }
        let now: BTreeSet<String> = snapshot.without_backend().map(|vip| vip.name.clone()).collect();
        for vip in now.difference(&empty) {
            warn!(vip, "vip has no serving backend; its packets are dropped");
        }
        for vip in empty.difference(&now).filter(|vip| snapshot.vips.iter().any(|known| known.name == **vip)) {
            info!(vip, "vip has a serving backend again");
        }
        empty = now;
        if !ready && !snapshot.settling && snapshot.failing.is_none() {
            ready = true;
            info!(generation = snapshot.generation, "serving");
        }
    }
}
