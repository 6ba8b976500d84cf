//! The work itself: observe, plan, apply.

use std::{collections::BTreeSet, error::Error, sync::Arc, time::SystemTime};

use lb_common::layout::{
    counter::TargetCounters,
    vip::{Vip, VipKey},
};
use tokio::time::Instant;
use tracing::{debug, error, info, info_span};

use super::{
    Controller, Reports, beliefs,
    concerned::{self, Inputs},
    engine::{self, Engine, InstallError},
    former::{self, Former},
    governor, probing,
    snapshot::Failing,
};
use crate::{
    dataplane::{self, kernel::AttachError},
    latch,
    model::Service,
    plan::{
        Op, Room, UNCOUNTED, diff, history, patch, room,
        wanted::{self, Wanted},
    },
};

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot compare the tables with what is wanted")]
    Observe(#[source] dataplane::Error),
    #[error("the program does not run on every interface")]
    Attach(#[source] AttachError),
    #[error("the program cannot be replaced by one that does what is wanted")]
    Retune(#[source] InstallError),
    #[error("the tables cannot be replaced by larger ones")]
    Room(#[source] InstallError),
    #[error("no tables can hold what is wanted")]
    Plan(#[from] diff::PlanError),
    #[error("op {number} of {of} failed")]
    Apply {
        number: usize,
        of: usize,
        #[source]
        source: dataplane::Error,
    },
}

/// Ops, and the VIPs that they are about if not all.
struct Plan {
    ops: Vec<Op>,
    part: Option<Vec<VipKey>>,
}

/// What was done: so many ops, for all VIPs or for some.
struct Done {
    ops: usize,
    whole: bool,
}

impl<E: Engine> Controller<E> {
    /// Writes what could not be written before, and brings the tables to what is wanted now.
    pub(super) fn reconcile(&mut self) {
        self.history.save();
        self.keeper.save();
        // A failure is logged, shown and tried again.
        let _ = self.bring_now();
    }

    /// Brings the tables to what is wanted now, and shows the outcome. Returns the ops that it took.
    ///
    /// # Errors
    /// What went wrong, in words; it is tried again.
    pub(super) fn bring_now(&mut self) -> Result<usize, String> {
        self.hear();
        self.settle(Instant::now());
        let done = if self.settling.is_some() && self.state.vips.is_empty() && probing::settings(&self.config).is_none()
        {
            // Nothing serves yet, so nothing is lost by waiting for a whole picture; but for probes that need targets.
            self.clock.succeeded(Instant::now());
            Some(0)
        } else {
            self.attempt()
        };
        self.publish();
        done.ok_or_else(|| self.failing.as_ref().map(|failing| failing.message.clone()).unwrap_or_default())
    }

    /// Takes the newest reports. What comes in while ops are applied is for the next plan.
    pub(super) fn hear(&mut self) {
        let (health, hops) = (&mut self.wires.health, &mut self.wires.hops);
        self.reports = Reports { health: health.borrow_and_update().clone(), hops: hops.borrow_and_update().clone() };
    }

    /// Waits for first results of what a changed configuration brought. What served until `before` it serves on meanwhile,
    /// where nobody else does.
    pub(super) fn unsettle(&mut self, before: &Inputs, now: Instant) {
        let after = self.inputs();
        let changed = concerned::concerned(&Inputs { reports: after.reports.clone(), ..before.clone() }, &after);
        let waiting = former::waiting(&after, changed.as_ref());
        if !waiting.is_empty() {
            let until = now + beliefs::patience(&self.config);
            self.settling = Some(self.settling.map_or(until, |already| already.max(until)));
            self.former.note(&waiting, before, &self.state);
        }
    }

    /// Ends the wait for first results once they are in or late.
    pub(super) fn settle(&mut self, now: Instant) {
        let Some(until) = self.settling else { return };
        if now >= until || beliefs::complete(&self.config, &self.reports.health, &self.reports.hops) {
            (self.settling, self.fresh) = (None, false);
            self.former = Former::default();
        }
    }

    /// One attempt, with its log lines and its consequence for the next one. `None` when it failed.
    fn attempt(&mut self) -> Option<usize> {
        let span = info_span!("reconcile", generation = self.history.current().number);
        let _entered = span.enter();
        // The tables do not wait for an interface.
        let held = self.hold();
        self.carry();
        let brought = self.bring_about();
        if brought.is_err() {
            let Self { engine, governor, state, .. } = self;
            governor.failed(Instant::now(), |which| engine::slots(engine, state, which));
        }
        match brought.and_then(|done| held.map(|()| done)) {
            Ok(Done { ops, whole }) => {
                if whole {
                    self.clock.succeeded(Instant::now());
                } else {
                    self.clock.changes_made();
                }
                if let Some(failing) = self.failing.take() {
                    info!(attempts = failing.attempts, "applying works again");
                }
                Some(ops)
            }
            Err(failure) => {
                self.clock.failed(Instant::now());
                self.note_failure(chain(&failure));
                None
            }
        }
    }

    /// Logs a failure once, however often it repeats.
    fn note_failure(&mut self, message: String) {
        let repeated = self.failing.as_ref().is_some_and(|failing| failing.message == message);
        if repeated {
            debug!(error = message, "the state still cannot be applied");
        } else {
            error!(
                error = message,
                "the state cannot be applied; what was applied before serves on, and it is tried again"
            );
        }
        let (since, attempts) = match &self.failing {
            Some(failing) => (failing.since, failing.attempts),
            None => (SystemTime::now(), 0),
        };
        self.failing = Some(Failing { since, attempts: attempts + 1, message });
    }

    /// Sees to it that the program runs on all interfaces that exist.
    fn hold(&mut self) -> Result<(), Failure> {
        let settings = &self.config.dataplane;
        self.lost = self.engine.lost(settings);
        if self.lost.is_empty() {
            return Ok(());
        }
        let (attached, outcome) = self.engine.attach_again(settings);
        self.attached = attached;
        self.lost = self.engine.lost(settings);
        outcome.map_err(Failure::Attach)
    }

    /// Observes, plans and applies.
    fn bring_about(&mut self) -> Result<Done, Failure> {
        let inputs = self.inputs();
        let plan = match self.reached.take().and_then(|reached| self.plan_part(&reached, &inputs)) {
            Some(plan) => plan,
            None => self.plan_whole(&inputs)?,
        };
        let Plan { ops, part } = plan;
        let whole = part.is_none();
        if !ops.is_empty() {
            self.widen().map_err(Failure::Retune)?;
            let applied = self.apply(&ops);
            if applied.is_ok() {
                self.governor.applied(Instant::now());
            }
            match (applied, part) {
                (Ok(()), Some(keys)) => {
                    for op in &ops {
                        self.state.note(op);
                    }
                    self.count_histories(&keys);
                    self.totals.learn_part(&patch::part(&self.state, keys.iter()).unwrap_or_default());
                }
                (applied, _) => {
                    // Also after a failure: what was written before it is in force, and is to be shown.
                    let observed = self.engine.observe().map_err(Failure::Observe).map(|state| self.state = state);
                    self.totals.learn(&self.state);
                    applied.and(observed)?;
                }
            }
        }
        self.narrow().map_err(Failure::Retune)?;
        self.reached = Some(inputs).filter(|_| self.settling.is_none());
        if !ops.is_empty() || self.applied == 0 {
            self.applied += 1;
            let (vips, backends) = (self.config.vips.len(), super::members(&self.config).count());
            info!(applied = self.applied, ops = ops.len(), vips, backends, "state applied");
        }
        Ok(Done { ops: ops.len(), whole })
    }

    /// What the tables are to be brought to.
    pub(super) fn inputs(&self) -> Inputs {
        let (config, lists) = (Arc::clone(&self.config), Arc::clone(&self.lists));
        Inputs { config, lists, reports: self.reports.clone() }
    }

    /// Plans the way from what is observed to what the configuration and the newest reports want. Tables that are too small
    /// for it are replaced by larger ones.
    fn plan_whole(&mut self, inputs: &Inputs) -> Result<Plan, Failure> {
        self.state = self.engine.observe().map_err(Failure::Observe)?;
        self.totals.learn(&self.state);
        let health = self.believed();
        let mut wanted = beliefs::wanted(&self.config, &self.lists, &self.state, &health, &self.reports.hops);
        let governed = governor::governed(&self.config, &self.lists);
        self.governor.keep(&governed);
        self.govern(&mut wanted, &governed);
        if !self.former.is_empty() {
            let mut held = wanted.clone();
            self.former.hold(&mut held, inputs);
            // Where there is no room for both, what is configured comes first.
            if let Ok(ops) = diff::plan(&self.state, &held, &mut self.rings) {
                return Ok(Plan { ops, part: None });
            }
        }
        let short = match diff::plan(&self.state, &wanted, &mut self.rings) {
            Ok(ops) => return Ok(Plan { ops, part: None }),
            Err(short) => short,
        };
        debug!(reason = %short, "the tables are too small");
        let capacity = room::enough(&self.state, &wanted, &mut self.rings)?;
        self.make_room(&Room { capacity, ..self.engine.room() }).map_err(Failure::Room)?;
        Ok(Plan { ops: diff::plan(&self.state, &wanted, &mut self.rings)?, part: None })
    }

    /// The same for those VIPs alone that are concerned by what changed since the tables were brought to `reached`, from
    /// what was observed then. `None` if the whole is to be planned, as it is every minute.
    fn plan_part(&mut self, reached: &Inputs, inputs: &Inputs) -> Option<Plan> {
        if self.settling.is_some() || self.clock.is_regular(Instant::now()) {
            return None;
        }
        let mut services = concerned::concerned(reached, inputs)?;
        services.extend(self.governor.due(&self.config, Instant::now()));
        let config = concerned::part(&self.config, &self.lists, &services);
        let keys: Vec<VipKey> = services.iter().map(wanted::key).collect();
        let held = patch::part(&self.state, keys.iter())?;
        let mut wanted = beliefs::wanted(&config, &self.lists, &held, &self.reports.health, &self.reports.hops);
        let governed = governor::governed(&config, &self.lists);
        self.govern(&mut wanted, &governed);
        let ops = patch::patch(&self.state, &wanted, &mut self.rings)?;
        Some(Plan { ops, part: Some(keys) })
    }

    /// Lets the VIPs of `wanted` that are `governed` change at their pace.
    fn govern(&mut self, wanted: &mut Wanted, governed: &BTreeSet<Service>) {
        if governed.is_empty() {
            return;
        }
        let health = self.believed();
        let Self { engine, governor, config, lists, state, reports, .. } = self;
        let config = concerned::part(config, lists, governed);
        let (eligible, panics) = beliefs::eligible(&config, lists, state, &health, &reports.hops);
        let (settling, now) = (self.settling.is_some(), Instant::now());
        let ground = governor::Ground { config: &config, lists, eligible: &eligible, panics: &panics, settling, now };
        governor.govern(wanted, &ground, |which| engine::slots(engine, state, which));
    }

    /// Applies ops in order; counters that are about to go are summed up first.
    fn apply(&mut self, ops: &[Op]) -> Result<(), Failure> {
        let mut counters: Option<dataplane::Counters> = None;
        for (number, op) in ops.iter().enumerate() {
            let failed = |source| Failure::Apply { number: number + 1, of: ops.len(), source };
            let ends = match op {
                Op::ClearCounters { id } => Some(*id),
                Op::SetTarget { id, target } if target.is_free() => Some(*id),
                _ => None,
            };
            match ends {
                Some(id) => {
                    let counted = match &counters {
                        Some(counters) => counters,
                        None => counters.insert(self.engine.counters().map_err(failed)?),
                    };
                    if let Some(counted) =
                        counted.targets.get(&id).copied().filter(|all| *all != TargetCounters::default())
                    {
                        self.totals.take(id, &counted);
                    }
                }
                None => counters = None,
            }
            let changed_slots = match op {
                Op::SetVip { key, vip } => self.changed_slots(key, vip),
                _ => 0,
            };
            if let Op::SetVip { key, vip } = op {
                let now = self.liveness().now;
                self.trackers.set_vip(&self.engine, key, self.state.vips.get(key), vip, now);
            }
            self.beat_if_due();
            latch::at("apply-op");
            self.engine.apply(op).map_err(failed)?;
            match op {
                Op::ClearCounters { id } => {
                    self.totals.cleared(*id);
                    if let Some(counters) = &mut counters {
                        counters.targets.remove(id);
                    }
                }
                Op::SetVip { key, .. } => self.totals.ring_changed(key, changed_slots),
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts the slots that new histories of these VIPs track, of which ops tell nothing.
    fn count_histories(&mut self, keys: &[VipKey]) {
        let vips = keys.iter().filter_map(|key| self.state.vips.get(key));
        let new = vips.filter(|vip| self.state.histories.get(&vip.history_base) == Some(&UNCOUNTED));
        let counted = history::counts(new, |vip| self.engine.history(vip));
        self.state.histories.extend(counted);
    }

    /// Slots that lead new flows elsewhere once `vip` is in force: none if it has the same ring or is its first.
    fn changed_slots(&self, key: &VipKey, vip: &Vip) -> u64 {
        let place = |vip: &Vip| (vip.ring_base, vip.open_slots());
        let Some(before) = self.state.vips.get(key).filter(|before| place(before) != place(vip)) else { return 0 };
        let (before, after) = (self.engine.ring(before), self.engine.ring(vip));
        let changed = match (before.len(), after.len()) {
            (0, _) => 0,
            (one, other) if one == other => before.iter().zip(&after).filter(|(before, after)| before != after).count(),
            (one, other) => one.max(other),
        };
        changed as u64
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}
