//! What others ask of the controller.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Controller,
    apply::{Asked, By},
    change::Fixed,
    engine::{Engine, InstallError},
    history::{ConfirmError, NotKept},
    overrides::{OrderError, Ordered},
    snapshot::Snapshot,
    totals::{Figures, Flows},
};
use crate::{
    dataplane,
    health::{HealthView, Hindered},
    model::{
        Config,
        overrides::{BackendName, Order},
    },
    plan::{
        diff::PlanError,
        preview::{Moved, Outline, Preview},
    },
    state::{About, Pending, StateError},
};

/// A request with the way for its answer.
pub(super) enum Command {
    /// Put this configuration in force.
    Change { asked: Box<Asked>, reply: oneshot::Sender<Result<Reloaded, Refusal>> },
    /// Put that of an older generation in force.
    RollBack { to: Option<u64>, by: By, reply: oneshot::Sender<Result<Reloaded, Refusal>> },
    /// Let the generation in force stay.
    Confirm { reply: oneshot::Sender<Result<u64, ConfirmError>> },
    /// List the generations.
    Generations { reply: oneshot::Sender<Vec<About>> },
    /// Tell what this configuration would change.
    Preview { config: Arc<Config>, reply: oneshot::Sender<Result<Preview, Refusal>> },
    /// Note that a file was refused before it became a configuration.
    Note { refused: String },
    /// Read all counters.
    Figures { reply: oneshot::Sender<Result<Figures, dataplane::Error>> },
    /// Count the flow table.
    Flows { reply: oneshot::Sender<Result<Flows, dataplane::Error>> },
    /// Drain a backend.
    Drain {
        name: BackendName,
        within: Option<Duration>,
        uid: Option<u32>,
        reply: oneshot::Sender<Result<Ordered, OrderError>>,
    },
    /// Override the configuration otherwise.
    Order { order: Order, uid: Option<u32>, reply: oneshot::Sender<Result<Ordered, OrderError>> },
    /// Tell that it is alive.
    Ping { reply: oneshot::Sender<()> },
    /// End.
    Stop,
}

/// A configuration is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloaded {
    /// The generation in force.
    pub generation: u64,
    /// Whether it is a new one: not if the texts are those that were in force.
    pub new: bool,
    /// Writes that it took.
    pub ops: usize,
    /// What could not be written and is tried again; the tables are then between two generations, each safe.
    pub pending: Option<String>,
    /// What it waits for, if it is to be confirmed.
    pub waiting: Option<Pending>,
    /// What was to change, if that was worked out.
    pub plan: Option<Outline>,
}

/// Why a configuration was not put in force. The old one serves on.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Settings differ that cannot change at run time.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Fixed(Vec<Fixed>),
    /// It names no interface while the program runs on some.
    #[error(
        "it names no interface, as an empty or half-written file does; to take forwarding down, stop the daemon and run \
         `lb unload`"
    )]
    NoInterface,
    /// The tables could not be read.
    #[error("cannot compare it with the tables")]
    Observe(#[source] dataplane::Error),
    /// It does not fit the tables.
    #[error("the tables cannot take it")]
    Plan(#[source] PlanError),
    /// The program could not be put in force with the new settings.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The generation in force waits for confirmation.
    #[error(
        "generation {generation} waits for confirmation: `lb confirm` keeps it, `lb rollback` puts generation {back_to} back; \
         then ask again"
    )]
    Waits {
        /// The generation.
        generation: u64,
        /// What it goes back to.
        back_to: u64,
    },
    /// Too many flows would lose their backend.
    #[error(
        "{} of {} live flows ({}) would lose their backend, more than the {} that may; `lb plan` shows which, `lb backend \
         drain` lets them end first",
        flows.moved, flows.total, percent(flows.share), percent(*most)
    )]
    Disruption {
        /// All live flows, and those.
        flows: Moved,
        /// The share that may.
        most: f64,
    },
    /// It cannot be kept on disk that it is to be confirmed.
    #[error("it could not be rolled back after a crash, so it is not applied; without --confirm it would be")]
    Promise(#[source] StateError),
    /// The generation that is to come back cannot be used.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// There is no older generation.
    #[error("there is no generation with other texts before the one in force; `lb history` lists those that are kept")]
    NothingBefore,
}

/// A share, 0 to 1, in percent.
fn percent(share: f64) -> String {
    let percent = format!("{:.2}", share * 100.0);
    format!("{}%", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// Why a generation was not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum NotConfirmed {
    /// The controller has ended.
    #[error("the controller has ended")]
    Ended,
    /// There is no reason to, or it failed.
    #[error(transparent)]
    Refused(#[from] ConfirmError),
}

/// Why an answer is missing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The controller has ended.
    #[error("the controller has ended")]
    Ended,
    /// A table could not be read.
    #[error(transparent)]
    Dataplane(#[from] dataplane::Error),
}

/// Why a reload did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The controller has ended.
    #[error("the controller has ended")]
    Ended,
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The way to the controller, for everyone else.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: mpsc::Sender<Command>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    health: watch::Receiver<Arc<HealthView>>,
    hindered: watch::Receiver<Arc<Hindered>>,
}

impl Handle {
    pub(super) fn new(
        inbox: mpsc::Sender<Command>,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        health: watch::Receiver<Arc<HealthView>>,
        hindered: watch::Receiver<Arc<Hindered>>,
    ) -> Self {
        Self { inbox, snapshot, health, hindered }
    }

    /// What the checks found, up to now: a snapshot is made anew only when something goes up or down.
    pub fn health(&self) -> Arc<HealthView> {
        self.health.borrow().clone()
    }

    /// Which checks cannot be made.
    pub fn hindered(&self) -> Arc<Hindered> {
        self.hindered.borrow().clone()
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Snapshots as they come.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Puts a configuration in force.
    ///
    /// # Errors
    /// When it is refused; the old one then serves on.
    pub async fn change(&self, asked: Asked) -> Result<Reloaded, ReloadError> {
        let answer = self.ask(|reply| Command::Change { asked: Box::new(asked), reply }).await;
        Ok(answer.ok_or(ReloadError::Ended)??)
    }

    /// Puts an older generation in force: `to`, else the one that an unconfirmed generation goes back to, else the one
    /// before.
    ///
    /// # Errors
    /// When it is refused; the one in force then serves on.
    pub async fn roll_back(&self, to: Option<u64>, by: By) -> Result<Reloaded, ReloadError> {
        let answer = self.ask(|reply| Command::RollBack { to, by, reply }).await;
        Ok(answer.ok_or(ReloadError::Ended)??)
    }

    /// Lets the generation in force stay, and returns its number.
    ///
    /// # Errors
    /// When nothing waits for confirmation, or it cannot be written down.
    pub async fn confirm(&self) -> Result<u64, NotConfirmed> {
        let answer = self.ask(|reply| Command::Confirm { reply }).await;
        Ok(answer.ok_or(NotConfirmed::Ended)??)
    }

    /// All generations that are kept, newest first.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn generations(&self) -> Result<Vec<About>, AskError> {
        self.ask(|reply| Command::Generations { reply }).await.ok_or(AskError::Ended)
    }

    /// What a configuration would change; nothing is written.
    ///
    /// # Errors
    /// When no tables could take it, or those there are cannot be read.
    pub async fn preview(&self, config: Config) -> Result<Preview, ReloadError> {
        let answer = self.ask(|reply| Command::Preview { config: Arc::new(config), reply }).await;
        Ok(answer.ok_or(ReloadError::Ended)??)
    }

    /// Notes that a reload was refused because its file is no configuration.
    pub async fn note_refused(&self, refused: String) {
        // Nobody left to note it means that the daemon is ending.
        let _ = self.inbox.send(Command::Note { refused }).await;
    }

    /// All counters.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub async fn figures(&self) -> Result<Figures, AskError> {
        Ok(self.ask(|reply| Command::Figures { reply }).await.ok_or(AskError::Ended)??)
    }

    /// Counts the flow table's entries.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn flows(&self) -> Result<Flows, AskError> {
        Ok(self.ask(|reply| Command::Flows { reply }).await.ok_or(AskError::Ended)??)
    }

    /// Drains a backend, within this time if one is given, on behalf of a user.
    ///
    /// # Errors
    /// When there is no such backend.
    pub async fn drain(
        &self,
        name: BackendName,
        within: Option<Duration>,
        uid: Option<u32>,
    ) -> Result<Ordered, OrderError> {
        self.ask(|reply| Command::Drain { name, within, uid, reply }).await.ok_or(OrderError::Ended)?
    }

    /// Overrides the configuration otherwise, on behalf of a user.
    ///
    /// # Errors
    /// When the order names what there is not.
    pub async fn order(&self, order: Order, uid: Option<u32>) -> Result<Ordered, OrderError> {
        self.ask(|reply| Command::Order { order, uid, reply }).await.ok_or(OrderError::Ended)?
    }

    /// Waits for a sign of life.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn ping(&self) -> Result<(), AskError> {
        self.ask(|reply| Command::Ping { reply }).await.ok_or(AskError::Ended)
    }

    /// Ends the controller. Forwarding goes on.
    pub async fn stop(&self) {
        // It has ended already if nobody takes the command.
        let _ = self.inbox.send(Command::Stop).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl<E: Engine> Controller<E> {
    /// Carries out a command. Whoever asked may have gone: an answer that nobody takes is dropped.
    pub(super) fn obey(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Change { asked, reply } => drop(reply.send(self.change(*asked))),
            Command::RollBack { to, by, reply } => drop(reply.send(self.roll_back(to, by))),
            Command::Confirm { reply } => drop(reply.send(self.confirm())),
            Command::Generations { reply } => drop(reply.send(self.history.all())),
            Command::Preview { config, reply } => drop(reply.send(self.preview(&config))),
            Command::Note { refused } => self.refused(refused),
            Command::Figures { reply } => drop(reply.send(self.figures())),
            Command::Flows { reply } => {
                let counted = self.count_flows();
                let told = |count| Flows { silent: self.silent(), ..self.totals.flows(&count) };
                drop(reply.send(counted.map(told)));
            }
            Command::Drain { name, within, uid, reply } => drop(reply.send(self.drain(name, within, uid))),
            Command::Order { order, uid, reply } => drop(reply.send(self.order(&order, uid))),
            Command::Ping { reply } => drop(reply.send(())),
            Command::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn figures(&mut self) -> Result<Figures, dataplane::Error> {
        let counters = self.engine.counters()?;
        Ok(self.totals.figures(counters))
    }
}
