//! The flow table over time: how many flows go on, and those that ended make room.

use std::{mem, time::Duration};

use lb_common::layout::vip::Vip;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{Controller, chain, engine::Engine};
use crate::{
    dataplane::{
        self, FlowCount,
        flows::{Liveness, PARTS},
        settle::Trackers,
    },
    plan::history::{self, tracker::Hold},
};

/// How often it is looked which slots nobody needs tracked any more.
const SETTLE: Duration = Duration::from_mins(1);
/// Nor sooner than this many times as long as looking took.
const SETTLE_FACTOR: u32 = 20;

/// For how long slots stay tracked, and how often it is looked.
#[cfg(not(debug_assertions))]
fn hold() -> (Hold, Duration) {
    (Hold::default(), SETTLE)
}

/// The same. A test cannot wait for hours: `LB_HOLD=UNITS` has slots wait for so long, and looks each second.
#[cfg(debug_assertions)]
fn hold() -> (Hold, Duration) {
    let asked = std::env::var("LB_HOLD").ok().and_then(|units| units.parse().ok());
    let short = |units| (Hold { silence: units, handshake: units }, Duration::from_secs(1));
    asked.map_or((Hold::default(), SETTLE), short)
}

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

    /// Untracks slots of adaptive VIPs whose flows are all where the ring says, once a minute.
    pub(super) fn settle_slots(&mut self) {
        let now = Instant::now();
        if now < self.settle_at {
            return;
        }
        if !self.state.vips.values().any(Vip::has_history) {
            // The last look was at histories that are gone: what is lost until there is another one concerns nobody.
            self.trackers = Trackers::default();
            if mem::take(&mut self.loses_strays) {
                self.publish();
            }
            return;
        }
        let (hold, pause) = hold();
        let (unit, begun_anew) = (self.liveness().now, self.trackers.begun_anew());
        let settled = self.trackers.settle(&mut self.engine, &self.state.vips, unit, hold);
        // As long as it took, many times over, nothing else was done.
        self.settle_at = now + pause.max(now.elapsed() * SETTLE_FACTOR);
        let loses = self.trackers.begun_anew() > begun_anew;
        if loses && !mem::replace(&mut self.loses_strays, true) {
            warn!("the flow table is too small: slots of adaptive VIPs stay tracked");
            self.publish();
        }
        match settled {
            Ok(0) => {}
            Ok(slots) => {
                // Who waits no more had no loss for as long as it waited.
                self.loses_strays = loses;
                self.state.histories = history::counts(self.state.vips.values(), |vip| self.engine.history(vip));
                info!(slots, "slots of adaptive VIPs are not tracked any more");
                self.publish();
            }
            Err(error) => warn!(error = chain(&error), "slots of adaptive VIPs stay tracked"),
        }
    }

    pub(super) fn liveness(&self) -> Liveness {
        Liveness { now: self.engine.now(), udp_idle: self.engine.tuning().udp_idle }
    }
}
