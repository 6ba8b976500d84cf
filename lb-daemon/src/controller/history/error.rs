//! Why a generation is not used, or not confirmed.

use crate::state::StateError;

/// Why a generation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// There is none of that number.
    #[error("generation {number} is not kept, {kept}; `lb history` lists them")]
    Unknown {
        /// The number.
        number: u64,
        /// Which ones are.
        kept: String,
    },
    /// Its file cannot be read any more.
    #[error(transparent)]
    State(#[from] StateError),
    /// This version of lb does not take it.
    #[error("generation {number} is no valid configuration for this version of lb: {why}")]
    Refused {
        /// The number.
        number: u64,
        /// How many complaints there are.
        why: String,
    },
}

/// Why nothing was confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// Nothing waits.
    #[error("nothing waits for confirmation: it was confirmed already, or its time is over; see `lb history`")]
    Nothing,
    /// It cannot be written down.
    #[error("the confirmation cannot be written down, so the generation before comes back in time")]
    State(#[from] StateError),
}
