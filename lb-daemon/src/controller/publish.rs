//! Shows the newest state to those who look at it.

use std::sync::Arc;

use super::{
    Controller,
    engine::Engine,
    features,
    snapshot::{LOSES_STRAYS, Snapshot},
    view,
};

impl<E: Engine> Controller<E> {
    /// Shows the newest state.
    pub(super) fn publish(&self) {
        self.show_ways();
        self.snapshots.send_replace(Arc::new(Snapshot {
            in_force: self.history.in_force(),
            applied: self.applied,
            settling: self.settling.is_some(),
            fresh: self.fresh,
            desired: self.desired.clone(),
            config: self.config.clone(),
            overrides: self.keeper.overrides().clone(),
            trouble: self.keeper.trouble().cloned(),
            vips: view::views(&view::Known {
                settling: self.settling.is_some(),
                config: &self.config,
                lists: &self.lists,
                overrides: self.keeper.overrides(),
                state: &self.state,
                reports: &self.reports,
                governor: &self.governor,
            }),
            features: features::of(&self.engine),
            tuning: features::tuning(&self.engine),
            attached: self.attached.clone(),
            used: view::used(&self.state),
            capacity: self.state.capacity,
            unanswered: self.unanswered(),
            hindered: self.hindered(),
            crowded: self.loses_strays.then_some(LOSES_STRAYS),
            runner_gone: *self.wires.runner_gone.borrow(),
            failing: self.failing.clone(),
            last_reload: self.last_reload.clone(),
        }));
    }
}
