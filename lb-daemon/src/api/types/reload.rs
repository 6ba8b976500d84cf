//! Reading the file again.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer to `POST /v1/reload`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// The generation that was reached.
    pub generation: u64,
    /// Writes that it took; 0 when nothing differed.
    pub ops: usize,
    /// What could not be written yet and is tried again.
    pub pending: Option<String>,
}

/// Body of `POST /v1/reload`: nothing to choose so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {}
