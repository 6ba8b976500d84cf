//! The flow table over time: how many flows go on, and those that ended make room.

use tracing::debug;

use super::{Controller, engine::Engine};
use crate::dataplane::{
    self, FlowCount,
    flows::{Liveness, PARTS},
};

impl<E: Engine> Controller<E> {
    /// Counts the flow table.
    pub(super) fn count_flows(&mut self) -> Result<FlowCount, dataplane::Error> {
        let rule = self.liveness();
        self.engine.flows(rule)
    }

    /// Empties entries of flows that ended, in the part of the table whose turn it is. All have had theirs after 4.3
    /// minutes, long before an entry could be older than its clock tells.
    pub(super) fn forget_ended(&mut self) {
        let rule = self.liveness();
        let forgotten = self.engine.forget_ended(rule, self.part);
        self.part = (self.part + 1) % PARTS;
        if forgotten > 0 {
            debug!(entries = forgotten, "entries of flows that ended were emptied");
        }
    }

    fn liveness(&self) -> Liveness {
        Liveness::now(self.engine.tuning().udp_idle)
    }
}
