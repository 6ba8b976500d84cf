//! What is answered in place of what was asked for.

use serde::{Deserialize, Serialize};

/// Every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong.
    pub error: String,
    /// For a refused file: its complaints, as `lb check` prints them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<String>,
}

impl Problem {
    /// One that is said in a sentence.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), diagnostics: None }
    }
}
