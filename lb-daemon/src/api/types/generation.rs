//! Generations: what was put in force, what is to be, and what waits for confirmation.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::plan::Outline;
use crate::config::Bundle;

/// Body of `POST /v1/apply`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The texts.
    pub bundle: Bundle,
    /// Roll back unless this is confirmed within so many seconds, 1 to 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_seconds: Option<u64>,
    /// Refuse it if a larger share of live flows would lose their backend, 0 to 1: 0.05 is 5%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_disruption: Option<f64>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of `POST /v1/rollback`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Which generation's texts; by default those of the one before, or what an unconfirmed one goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why, for the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of `POST /v1/confirm`: nothing to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmRequest {}

/// Answer to `POST /v1/apply` and `POST /v1/rollback`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// The generation in force.
    pub generation: u64,
    /// Whether it is a new one: not if these texts were in force already.
    pub new: bool,
    /// Writes that it took.
    pub ops: usize,
    /// What could not be written yet and is tried again.
    pub pending: Option<String>,
    /// What it waits for, if it is to be confirmed.
    pub waiting: Option<Waiting>,
    /// What was to change, as planned before; absent if these texts were in force already, and after a rollback.
    #[serde(default)]
    pub plan: Option<Outline>,
}

/// Answer to `POST /v1/confirm`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Confirmed {
    /// The generation that stays in force.
    pub generation: u64,
}

/// A generation that goes unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// The generation.
    pub generation: u64,
    /// The one that comes back.
    pub back_to: u64,
    /// When, in seconds since 1970.
    pub deadline: u64,
    /// In how many seconds.
    pub seconds_left: u64,
}

/// An element of `GET /v1/generations`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Generation {
    /// Its number.
    pub generation: u64,
    /// When it was put in force, in seconds since 1970.
    pub at: u64,
    /// How it came about: `start`, `reload`, `apply` or `rollback`.
    pub origin: String,
    /// Number of the user who asked for it, if that is known.
    pub uid: Option<u32>,
    /// The user's name.
    pub author: Option<String>,
    /// Why, in the author's words.
    pub reason: Option<String>,
    /// Whose texts it has, if it was rolled back to those.
    pub of: Option<u64>,
    /// How it is with it.
    pub state: Standing,
    /// What it waits for.
    pub waiting: Option<Waiting>,
    /// Digest of its texts.
    pub digest: String,
    /// Bytes of its texts.
    pub bytes: u64,
}

/// How it is with a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is in force.
    InForce,
    /// It is in force, and goes unless it is confirmed.
    Unconfirmed,
    /// Another one is in force.
    Former,
}

impl Standing {
    /// Name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Unconfirmed => "waits for confirmation",
            Self::Former => "",
        }
    }
}
