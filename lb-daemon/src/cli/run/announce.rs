//! What the log says of states as they come.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{sync::watch, task};
use tracing::{info, warn};

use crate::{
    controller::{
        Snapshot,
        snapshot::{BackendView, VipView},
    },
    dataplane::kernel::give_memory_back,
    plan::wanted::Disposition,
};

/// Logs when the daemon is ready, when a backend takes more or less than before, and when a VIP loses its last backend or
/// has one again. After a change of configuration it gives back what memory that took for a moment.
pub(super) async fn announce(mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut ready = false;
    let mut empty = BTreeSet::new();
    let mut last: Option<Arc<Snapshot>> = None;
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update().clone();
        if snapshot.applied == 0 {
            continue;
        }
        for (vip, backend) in changed(last.as_deref(), &snapshot) {
            let BackendView { name, address, reason, .. } = backend;
            let (vip, reason) = (&vip.name, reason.as_deref());
            match backend.effect {
                Disposition::Serving => info!(vip, backend = name, %address, reason, "backend serving"),
                Disposition::Draining => info!(vip, backend = name, %address, reason, "backend draining"),
                Disposition::Down => info!(vip, backend = name, %address, reason, "backend down"),
            }
        }
        let now: BTreeSet<String> = snapshot.without_backend().map(|vip| vip.name.clone()).collect();
        for vip in now.difference(&empty) {
            warn!(vip, "vip has no serving backend; its packets are dropped");
        }
        for vip in empty.difference(&now).filter(|vip| snapshot.vips.iter().any(|known| known.name == **vip)) {
            info!(vip, "vip has a serving backend again");
        }
        empty = now;
        let is_other = last.as_ref().is_none_or(|last| !Arc::ptr_eq(&last.desired, &snapshot.desired));
        last = Some(Arc::clone(&snapshot));
        if is_other {
            // Nobody waits for it.
            drop(task::spawn_blocking(give_memory_back));
        }
        if !ready && !snapshot.settling && snapshot.failing.is_none() {
            ready = true;
            info!(generation = snapshot.in_force.about.number, "serving");
        }
    }
}

/// Backends that take more or less than before. Of those that were not there before, the ones that do not serve: a line for
/// each that is as it should be would bury them.
fn changed<'s>(before: Option<&'s Snapshot>, now: &'s Snapshot) -> Vec<(&'s VipView, &'s BackendView)> {
    fn pairs(snapshot: &Snapshot) -> impl Iterator<Item = (&VipView, &BackendView)> {
        snapshot.vips.iter().flat_map(|vip| vip.backends.iter().map(move |backend| (vip, backend)))
    }
    let known = before.into_iter().flat_map(pairs);
    let known: BTreeMap<_, _> =
        known.map(|(vip, backend)| ((vip.name.as_str(), backend.address), backend.effect)).collect();
    let effect_before = |vip: &VipView, backend: &BackendView| {
        known.get(&(vip.name.as_str(), backend.address)).copied().unwrap_or(Disposition::Serving)
    };
    pairs(now).filter(|(vip, backend)| effect_before(vip, backend) != backend.effect).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::rig::{Rig, TEXT};

    fn told<'s>(changed: &[(&'s VipView, &'s BackendView)]) -> Vec<(&'s str, &'s str, Disposition)> {
        changed.iter().map(|(vip, backend)| (vip.name.as_str(), backend.name.as_str(), backend.effect)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn backends_that_take_more_or_less_are_told_by_name() {
        let rig = Rig::serving(TEXT).await;
        let first = rig.handle.snapshot();
        assert_eq!(told(&changed(None, &first)), [], "all serve, as they should");
        rig.report("10.0.0.2", false);
        rig.settle().await;
        let second = rig.handle.snapshot();
        let both = |effect| [("web", "web-2", effect), ("web-v6", "web-2", effect)];
        assert_eq!(told(&changed(Some(&first), &second)), both(Disposition::Down));
        assert_eq!(told(&changed(None, &second)), both(Disposition::Down), "of new ones, who is down");
        assert_eq!(told(&changed(Some(&second), &first)), both(Disposition::Serving));
        assert_eq!(told(&changed(Some(&second), &second)), []);
    }
}
