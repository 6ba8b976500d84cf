//! Hands configurations to the controller, one at a time: that of the file, or one that somebody sent.

use std::path::{Path, PathBuf};

use tokio::{
    sync::{Mutex, watch},
    task,
};

use super::{Asked, By, Handle, Refusal, ReloadError, Reloaded, Terms, work::chain};
use crate::{
    config::{self, Bundle, Checked, Diagnostics, LoadError, Traces},
    state::{Author, Origin},
};

/// Changes the configuration, one change at a time.
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
    /// The texts are no valid configuration.
    #[error("this is no valid configuration: {}", .0.summary())]
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
    pub async fn reload(&self, author: Author) -> Result<Reloaded, Failure> {
        let _turn = self.turn.lock().await;
        let file = self.file.clone();
        let read = task::spawn_blocking(move || config::read(&file)).await.map_err(|_| Failure::Ending)?;
        let loaded = read.and_then(|reading| {
            self.saw(reading.traces.clone());
            reading.valid()
        });
        let (bundle, config) = match loaded {
            Ok(loaded) => loaded,
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
        let by = By { author, reason: None, file_digest: Some(bundle.digest()) };
        Ok(self
            .controller
            .change(Asked { config, bundle, by, origin: Origin::Reload, terms: Terms::default() })
            .await?)
    }

    /// Puts texts in force that somebody sent. The file is read only to know what it says at the time.
    ///
    /// # Errors
    /// When they are refused.
    pub async fn apply(
        &self,
        bundle: Bundle,
        author: Author,
        reason: Option<String>,
        terms: Terms,
    ) -> Result<Reloaded, Failure> {
        let _turn = self.turn.lock().await;
        // Each takes a third of a second for a hundred thousand backends.
        let checked = task::spawn_blocking(move || (bundle.check(), bundle));
        let by = self.by(author, reason).await?;
        let (Checked { config, diagnostics }, bundle) = checked.await.map_err(|_| Failure::Ending)?;
        let config = config.ok_or(Failure::Invalid(diagnostics))?;
        Ok(self.controller.change(Asked { config, bundle, by, origin: Origin::Apply, terms }).await?)
    }

    /// Puts an older generation in force: `to`, else the one before.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn roll_back(
        &self,
        to: Option<u64>,
        author: Author,
        reason: Option<String>,
    ) -> Result<Reloaded, Failure> {
        let _turn = self.turn.lock().await;
        let by = self.by(author, reason).await?;
        Ok(self.controller.roll_back(to, by).await?)
    }

    /// Who wants a change, with what the file says now.
    async fn by(&self, author: Author, reason: Option<String>) -> Result<By, Failure> {
        let file = self.file.clone();
        let read = move || Bundle::read(&file).ok().map(|read| read.bundle.digest());
        let file_digest = task::spawn_blocking(read).await.map_err(|_| Failure::Ending)?;
        Ok(By { author, reason, file_digest })
    }
}

impl From<ReloadError> for Failure {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Refused(refusal) => Self::Refused(refusal),
            ReloadError::Ended => Self::Ending,
        }
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
