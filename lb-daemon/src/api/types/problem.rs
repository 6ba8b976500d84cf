//! What is answered in place of what was asked for.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::{ToResponse, ToSchema};

/// Every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, ToResponse)]
#[response(description = "Not done, and why")]
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

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.error)?;
        match &self.diagnostics {
            Some(diagnostics) => write!(formatter, "\n{}", diagnostics.trim_end()),
            None => Ok(()),
        }
    }
}
