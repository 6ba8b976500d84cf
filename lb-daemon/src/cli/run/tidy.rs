//! Memory that was needed for a moment goes back to the system.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task,
    time::{sleep, timeout},
};

use crate::{controller::Snapshot, dataplane::kernel::give_memory_back, model::Config};

/// Plans, listings and scrapes let go of what they took whenever they end: often enough for them.
const EVERY: Duration = Duration::from_mins(1);
/// Until what a change of configuration took is no longer used.
const A_MOMENT: Duration = Duration::from_secs(1);

/// Gives memory back after the start, after each change of configuration, and every minute. Ends with the controller.
pub(super) async fn tidy(mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let Ok(mut desired) = next(&mut snapshots, |snapshot| snapshot.applied > 0).await else { return };
    loop {
        sleep(A_MOMENT).await;
        // Should it panic there is as much memory as before.
        let _ = task::spawn_blocking(give_memory_back).await;
        match timeout(EVERY, next(&mut snapshots, |snapshot| !Arc::ptr_eq(&snapshot.desired, &desired))).await {
            Ok(Ok(other)) => desired = other,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

/// The configuration of the next snapshot that is as it should be.
async fn next(
    snapshots: &mut watch::Receiver<Arc<Snapshot>>,
    is_it: impl Fn(&Snapshot) -> bool,
) -> Result<Arc<Config>, watch::error::RecvError> {
    Ok(Arc::clone(&snapshots.wait_for(|snapshot| is_it(snapshot)).await?.desired))
}
