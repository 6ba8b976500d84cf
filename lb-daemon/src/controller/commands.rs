//! What others ask of the controller.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Controller,
    change::Fixed,
    engine::{Engine, InstallError},
    overrides::{OrderError, Ordered},
    snapshot::Snapshot,
    totals::{Figures, Flows},
};
use crate::{
    dataplane,
    model::{
        Config,
        overrides::{BackendName, Order},
    },
    plan::diff::PlanError,
};

/// A request with the way for its answer.
pub(super) enum Command {
    /// Put this configuration in force.
    Reload { config: Box<Config>, reply: oneshot::Sender<Result<Reloaded, Refusal>> },
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The generation that was reached.
    pub generation: u64,
    /// Writes that it took.
    pub ops: usize,
    /// What could not be written and is tried again; the tables are then between two generations, each safe.
    pub pending: Option<String>,
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
}

impl Handle {
    pub(super) fn new(inbox: mpsc::Sender<Command>, snapshot: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { inbox, snapshot }
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
    pub async fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        let answer = self.ask(|reply| Command::Reload { config: Box::new(config), reply }).await;
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
            Command::Reload { config, reply } => drop(reply.send(self.reload(*config))),
            Command::Note { refused } => self.refused(refused),
            Command::Figures { reply } => drop(reply.send(self.figures())),
            Command::Flows { reply } => {
                let counted = self.count_flows();
                drop(reply.send(counted.map(|count| self.totals.flows(&count))));
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
