//! Drains under way: each ends when no live flow is left, or at its deadline.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use lb_common::layout::{ring::UNTRACKED, target::Target, vip::Vip};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    controller::{Controller, engine::Engine, totals::Pair, work::chain},
    model::{
        self,
        overrides::{BackendName, Overrides},
    },
    plan::wanted::key,
};

/// Flows are counted no sooner than this after the last time, and after an order.
const PAUSE: Duration = Duration::from_secs(1);
/// Nor than this many times as long as counting took, since nothing else is done meanwhile.
const PAUSE_FACTOR: u32 = 20;

/// What is left to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Live flows.
    pub(super) flows: u64,
    /// Whether it still takes new ones, by the tables.
    open: bool,
    /// Whether flows that nobody has heard of since it takes no new ones may be there: those of adaptive VIPs.
    silent: bool,
}

impl<E: Engine> Controller<E> {
    /// Ends drains whose deadline has come, and those of backends that have no live flow left.
    pub(in crate::controller) fn watch_drains(&mut self) {
        let overrides = Arc::clone(self.keeper.overrides());
        let draining: BTreeSet<&BackendName> = overrides.drains().map(|(name, _)| name).collect();
        if draining.is_empty() {
            return;
        }
        let now = Instant::now();
        let is_late = |until: &BTreeMap<BackendName, Instant>, name| until.get(name).is_some_and(|until| *until <= now);
        let is_due = *self.keeper.next_count.get_or_insert(now + PAUSE) <= now;
        if !is_due && !draining.iter().any(|name| is_late(&self.keeper.until, *name)) {
            return;
        }
        let left = self.left(&draining);
        self.keeper.next_count = Some(now + PAUSE.max(now.elapsed() * PAUSE_FACTOR));
        let mut after = Overrides::clone(&overrides);
        for name in draining {
            let left = left.get(name);
            let flows = left.map_or(0, |left| left.flows);
            if is_late(&self.keeper.until, name) {
                info!(backend = %name, flows, "drain ended at its deadline");
            } else if is_due && left == Some(&Left::default()) {
                info!(backend = %name, "drain ended, no live flow is left");
            } else {
                continue;
            }
            after.end_drain(name);
        }
        if after != *overrides {
            self.keeper.keep(after);
            // What could not be written is logged, and tried again.
            let _ = self.override_anew();
        }
    }

    /// What is left to each of these backends, over all VIPs that it serves. Those that are not configured are left out, and all
    /// are when flows cannot be counted.
    pub(super) fn left(&mut self, names: &BTreeSet<&BackendName>) -> BTreeMap<BackendName, Left> {
        let count = match self.count_flows() {
            Ok(count) => count,
            Err(error) => {
                warn!(error = chain(&error), "flows cannot be counted, so drains end at their deadlines alone");
                return BTreeMap::new();
            }
        };
        let (pairs, mut left) = self.pairs(names);
        let silent = self.former_targets();
        for (id, pair) in self.totals.owners() {
            let flows = count.live_by_target.get(id).copied().unwrap_or(0);
            let target = self.state.targets.get(id);
            let open = target.is_some_and(|target| target.serves != 0 && target.flags & Target::DRAINING == 0);
            for name in pairs.get(pair).into_iter().flatten() {
                let left = left.entry(name).or_default();
                left.flows += flows;
                left.open |= open;
                left.silent |= silent.contains(id);
            }
        }
        left.into_iter().map(|(name, left)| (name.clone(), left)).collect()
    }

    /// Backends that may have flows of which nobody has heard since they take no new ones, if any backend drains.
    pub(in crate::controller) fn silent(&self) -> BTreeSet<Pair> {
        if self.keeper.overrides().drains().next().is_none() {
            return BTreeSet::new();
        }
        let owners = self.totals.owners();
        self.former_targets().iter().filter_map(|id| owners.get(id).copied()).collect()
    }

    /// Adaptive VIPs by which a backend is served and that have no backend for new flows: no slot of theirs ever gets another
    /// target, so nothing tells whether the backend has flows left.
    pub(super) fn closed_vips(&self, name: &BackendName) -> Vec<&str> {
        let is_closed =
            |vip: &&model::Vip| self.state.vips.get(&key(&vip.service)).is_some_and(|vip| vip.flags & Vip::CLOSED != 0);
        let serves = |vip: &&model::Vip| {
            let pools = self.lists.pools(&self.config, vip);
            pools.iter().any(|pool| pool.name == name.pool && pool.backends.iter().any(|one| one.name == name.name))
        };
        self.config.vips.iter().filter(is_closed).filter(serves).map(|vip| vip.name.as_str()).collect()
    }

    /// Targets of adaptive VIPs to which slots led before, and that may have flows nobody has heard of since.
    fn former_targets(&self) -> BTreeSet<u32> {
        let vips = self.state.vips.values().filter(|vip| vip.flags & (Vip::HISTORY | Vip::CLOSED) != 0);
        let named = vips.flat_map(|vip| {
            let (ring, history) = (self.engine.ring_in_force(vip), self.engine.history(vip));
            let closed = vip.flags & Vip::CLOSED != 0;
            let former = move |(slot, current): (usize, &u16)| match history.get(slot).filter(|one| **one != UNTRACKED)
            {
                Some(previous) => Some(*previous).filter(|previous| closed || previous != current),
                None => Some(*current).filter(|_| closed),
            };
            let places: BTreeSet<u16> = ring.iter().enumerate().filter_map(former).collect();
            places.into_iter().map(|place| vip.target_base + u32::from(place))
        });
        named.collect()
    }

    /// Which of these backends each pair of VIP and address is, in one pool or in several, and nothing yet of those that are
    /// configured.
    fn pairs<'n>(
        &self,
        names: &BTreeSet<&'n BackendName>,
    ) -> (BTreeMap<Pair, Vec<&'n BackendName>>, BTreeMap<&'n BackendName, Left>) {
        let (mut pairs, mut left) = (BTreeMap::<Pair, Vec<_>>::new(), BTreeMap::new());
        for &name in names {
            let pool = self.config.pools.get(&name.pool);
            let Some(backend) = pool.and_then(|pool| pool.backends.iter().find(|one| one.name == name.name)) else {
                continue;
            };
            left.insert(name, Left::default());
            for vip in &self.config.vips {
                if self.lists.pools(&self.config, vip).iter().any(|pool| pool.name == name.pool) {
                    pairs.entry((vip.service, backend.address.to_canonical())).or_default().push(name);
                }
            }
        }
        (pairs, left)
    }
}
