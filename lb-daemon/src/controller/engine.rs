//! What the controller drives: the tables, and the program over them.

use std::error::Error;

use crate::{
    dataplane::Dataplane,
    model::{AttachMode, DataplaneConfig},
};

/// The tables, and the program that reads them.
pub trait Engine: Dataplane {
    /// Puts a program with these settings in force on these interfaces, over the same tables and in place: packets meet
    /// the old program or the new one. Interfaces that are not named any more are let go.
    ///
    /// # Errors
    /// When the program cannot be loaded or attached. What was in force before may then be so on some interfaces only;
    /// the caller asks for the old settings again.
    fn install(&mut self, settings: &DataplaneConfig) -> Result<Vec<Attached>, InstallError>;
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// Where in the kernel the program runs: `native`, `generic` or `offloaded`.
    pub mode: &'static str,
}

/// Why a program could not be put in force.
#[derive(Debug, thiserror::Error)]
#[error("cannot put the program in force with the new settings")]
pub struct InstallError(#[source] pub Box<dyn Error + Send + Sync>);
