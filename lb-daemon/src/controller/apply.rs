//! Puts configurations in force: those that are asked for, and those of before.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::{
    Controller, beliefs,
    change::Change,
    commands::{Refusal, Reloaded},
    concerned::{Inputs, concerned, part},
    engine::Engine,
    history::{Cause, ConfirmError},
    snapshot::LastReload,
    work::chain,
};
use crate::{
    config::Bundle,
    model::Config,
    plan::{Room, lists::Lists, patch::patch, preview::Outline, room},
    state::{Author, Origin},
};

/// A configuration that is to be put in force.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The configuration.
    pub config: Config,
    /// Its texts.
    pub bundle: Bundle,
    /// Who wants it.
    pub by: By,
    /// What it comes from: [`Origin::Reload`] or [`Origin::Apply`].
    pub origin: Origin,
    /// On which terms.
    pub terms: Terms,
}

/// The terms on which a configuration is put in force.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// To be rolled back unless it is confirmed within this time.
    pub confirm: Option<Duration>,
    /// To be refused if a larger share of live flows would lose their backend, 0 to 1.
    pub max_disruption: Option<f64>,
}

/// Who wants a change and why, and what the daemon's file says at the time.
#[derive(Clone, Debug, Default)]
pub struct By {
    /// Who.
    pub author: Author,
    /// Why.
    pub reason: Option<String>,
    /// Digest of the file's texts, if it can be read.
    pub file_digest: Option<String>,
}

impl By {
    fn cause(self, origin: Origin, of: Option<u64>) -> Cause {
        let Self { author, reason, file_digest } = self;
        Cause { origin, author, reason, of, file_digest }
    }
}

impl<E: Engine> Controller<E> {
    /// Puts what is `asked` in force, or refuses it whole.
    pub(super) fn change(&mut self, asked: Asked) -> Result<Reloaded, Refusal> {
        let origin = asked.origin;
        let outcome = self.try_change(asked);
        if let Err(refusal) = &outcome {
            match origin {
                // Nobody may be looking.
                Origin::Reload => self.refused(chain(refusal)),
                // Who asked is told.
                _ => self.publish(),
            }
        }
        outcome
    }

    /// Notes that a reload was refused, with a reason on each line.
    pub(super) fn refused(&mut self, why: String) {
        for reason in why.lines() {
            warn!(reason, "reload refused; the configuration before it stays in force");
        }
        self.last_reload = self.last_reload.refused(why);
        self.publish();
    }

    fn try_change(&mut self, asked: Asked) -> Result<Reloaded, Refusal> {
        let Asked { config, bundle, by, origin, terms } = asked;
        if let Some(pending) = self.history.pending() {
            return Err(Refusal::Waits { generation: pending.generation, back_to: pending.back_to });
        }
        if bundle.digest() == self.history.current().digest {
            self.history.note_file(by.file_digest);
            return Ok(self.again());
        }
        let config = Arc::new(config);
        let (lists, change, room) = self.check(&config)?;
        let plan = self.foresee(&config, &lists, origin, terms.max_disruption)?;
        let pending = terms.confirm.map(|wait| self.history.promise(wait)).transpose().map_err(Refusal::Promise)?;
        if let Err(refusal) = self.install(&config, change, &room) {
            if pending.is_some() {
                self.history.forget_pending();
            }
            return Err(refusal);
        }
        self.history.record(bundle, by.cause(origin, None), pending);
        Ok(Reloaded { plan, ..self.take_up(config, lists) })
    }

    /// What `asked` would change, if somebody wants to know. Refuses what takes more than `most` of live flows from their
    /// backends.
    fn foresee(
        &mut self,
        asked: &Arc<Config>,
        lists: &Arc<Lists>,
        origin: Origin,
        most: Option<f64>,
    ) -> Result<Option<Outline>, Refusal> {
        let Some(most) = most else {
            // Nobody waits for the answer to a reload, and nothing depends on it.
            return Ok(if origin == Origin::Apply { self.quick_outline(asked, lists) } else { None });
        };
        let plan = self.outline(asked, lists)?;
        // A share that is just the limit, however its last bits came out, is not above it.
        match plan.flows.filter(|flows| flows.share > most + 1e-9) {
            Some(flows) => Err(Refusal::Disruption { flows, most }),
            None => Ok(Some(plan)),
        }
    }

    /// Puts the texts of an older generation in force, as a new one: of `to`, else of the one that an unconfirmed generation
    /// goes back to, else of the one before.
    pub(super) fn roll_back(&mut self, to: Option<u64>, by: By) -> Result<Reloaded, Refusal> {
        let waiting = self.history.pending().cloned();
        let to = to.or(waiting.as_ref().map(|pending| pending.back_to)).or(self.history.before());
        let to = to.ok_or(Refusal::NothingBefore)?;
        let (kept, config) = self.history.read(to)?;
        if kept.about.digest == self.history.current().digest {
            if let Some(pending) = waiting {
                return Err(Refusal::Waits { generation: pending.generation, back_to: pending.back_to });
            }
            self.history.note_file(by.file_digest);
            return Ok(self.again());
        }
        let config = Arc::new(config);
        let (lists, change, room) = self.check(&config)?;
        self.install(&config, change, &room)?;
        self.history.record(kept.bundle, by.cause(Origin::Rollback, Some(to)), None);
        Ok(self.take_up(config, lists))
    }

    /// Lets the generation in force stay.
    pub(super) fn confirm(&mut self) -> Result<u64, ConfirmError> {
        let outcome = self.history.confirm();
        self.publish();
        outcome
    }

    /// Goes back to the generation before, since nobody confirmed the one in force.
    pub(super) fn expire(&mut self) {
        let Some(pending) = self.history.pending().cloned() else { return };
        let reason = format!("generation {} was not confirmed in time", pending.generation);
        let failing = self.history.failing().map(str::to_owned);
        if failing.is_none() {
            warn!(generation = pending.generation, back_to = pending.back_to, "not confirmed in time");
        }
        let by = By { reason: Some(reason), ..By::default() };
        if let Err(refusal) = self.roll_back(Some(pending.back_to), by) {
            let why = chain(&refusal);
            // Said once, and not each time.
            if failing.as_ref() == Some(&why) {
                debug!(error = why, "the generation before still cannot be put in force");
            } else {
                error!(error = why, "the generation before cannot be put in force; it is tried again");
            }
            self.history.postpone(why);
            self.publish();
        }
    }

    /// Sees whether `asked` can be put in force; writes nothing.
    fn check(&mut self, asked: &Arc<Config>) -> Result<(Arc<Lists>, Change, Room), Refusal> {
        let change = Change::between(&self.config, asked, self.wires.has_runner).map_err(Refusal::Fixed)?;
        self.require_interfaces(asked)?;
        let lists = Arc::new(Lists::of(asked));
        let flow_entries = asked.dataplane.flow_table_entries;
        if self.fits_in_place(asked, &lists) {
            return Ok((lists, change, Room { capacity: self.state.capacity, flow_entries }));
        }
        self.state = self.engine.observe().map_err(Refusal::Observe)?;
        self.totals.learn(&self.state);
        let wanted = beliefs::best_case(asked, &lists);
        let capacity = room::enough(&self.state, &wanted, &mut self.rings).map_err(Refusal::Plan)?;
        Ok((lists, change, Room { capacity, flow_entries }))
    }

    /// Refuses interfaces that the program could not be bound to. Those that are in force are not asked for again: one that
    /// was lost meanwhile is no reason to refuse other changes.
    pub(super) fn require_interfaces(&self, asked: &Config) -> Result<(), Refusal> {
        let (running, asked) = (&self.config.dataplane.interfaces, &asked.dataplane.interfaces);
        if asked == running {
            return Ok(());
        }
        if asked.is_empty() {
            return Err(Refusal::NoInterface);
        }
        Ok(self.engine.require(asked)?)
    }

    /// Whether `asked` differs from what is in force in few VIPs alone, and all that these may come to need fits into the
    /// places that they have. If not, nothing is said: the whole has to be looked at.
    fn fits_in_place(&mut self, asked: &Arc<Config>, lists: &Arc<Lists>) -> bool {
        let Some(reached) = &self.reached else { return false };
        let before = Inputs { config: Arc::clone(&self.desired), ..reached.clone() };
        let after = Inputs { config: Arc::clone(asked), lists: Arc::clone(lists), reports: reached.reports.clone() };
        let Some(services) = concerned(&before, &after) else { return false };
        let wanted = beliefs::best_case(&part(asked, lists, &services), lists);
        patch(&self.state, &wanted, &mut self.rings).is_some()
    }

    /// Brings the tables to a configuration that the program is ready for.
    fn take_up(&mut self, config: Arc<Config>, lists: Arc<Lists>) -> Reloaded {
        let before = self.inputs();
        self.lists = lists;
        self.desire(config);
        self.ask_for_inputs();
        self.hear();
        self.unsettle(&before, Instant::now());
        self.reloaded(true)
    }

    /// Brings the tables to what is in force already, whatever others have made of them.
    fn again(&mut self) -> Reloaded {
        self.reached = None;
        self.reloaded(false)
    }

    fn reloaded(&mut self, new: bool) -> Reloaded {
        self.last_reload = LastReload::succeeded();
        let (ops, pending) = match self.bring_now() {
            Ok(ops) => (ops, None),
            Err(why) => (0, Some(why)),
        };
        let generation = self.history.current().number;
        Reloaded { generation, new, ops, pending, waiting: self.history.pending().cloned(), plan: None }
    }
}
