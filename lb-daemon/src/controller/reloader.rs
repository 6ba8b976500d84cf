//! Reads the configuration file again and hands it to the controller.

use std::path::{Path, PathBuf};

use tokio::{
    sync::{Mutex, watch},
    task,
};

use super::{Handle, Refusal, ReloadError, Reloaded, work::chain};
use crate::config::{self, Diagnostics, LoadError, Traces};

/// Reloads one file, one reload at a time.
#[derive(Debug)]
pub struct Reloader {
    file: PathBuf,
    controller: Handle,
    /// Held while a file is read and applied, so that an older reading never overtakes a newer one.
    turn: Mutex<()>,
    /// What the files looked like when they were last read, whatever came of it.
    seen: watch::Sender<Traces>,
}

/// Why a reload did not happen. What ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The file is no valid configuration.
    #[error("the file is no valid configuration: {}", .0.summary())]
    Invalid(Diagnostics),
    /// The file could not be read.
    #[error("{0}")]
    Unreadable(String),
    /// The controller refused it.
    #[error(transparent)]
    Refused(Refusal),
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Ending,
}

impl Reloader {
    /// Will reload `file`.
    pub fn new(file: PathBuf, controller: Handle) -> Self {
        Self { file, controller, turn: Mutex::new(()), seen: watch::Sender::default() }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Notes what the files looked like when they were read.
    pub fn saw(&self, traces: Traces) {
        self.seen.send_replace(traces);
    }

    /// What the files looked like when they were last read. None are known before [`Reloader::saw`] or a reload.
    pub fn seen(&self) -> Traces {
        self.seen.borrow().clone()
    }

    /// Reads the file and puts it in force.
    ///
    /// # Errors
    /// When the file or what it says is refused; this is logged.
    pub async fn reload(&self) -> Result<Reloaded, Failure> {
        let _turn = self.turn.lock().await;
        let file = self.file.clone();
        let read = task::spawn_blocking(move || config::read(&file)).await.map_err(|_| Failure::Ending)?;
        let loaded = read.and_then(|reading| {
            self.saw(reading.traces.clone());
            reading.valid()
        });
        let config = match loaded {
            Ok((_, config)) => config,
            Err(error) => {
                let failure = Failure::from(error);
                let why = match &failure {
                    Failure::Invalid(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
                    other => other.to_string(),
                };
                self.controller.note_refused(why).await;
                return Err(failure);
            }
        };
        self.controller.reload(config).await.map_err(|error| match error {
            ReloadError::Refused(refusal) => Failure::Refused(refusal),
            ReloadError::Ended => Failure::Ending,
        })
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Invalid(diagnostics) => Self::Invalid(diagnostics),
            unreadable @ LoadError::Read { .. } => Self::Unreadable(chain(&unreadable)),
        }
    }
}
