//! How it is told which backends may take traffic, and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The health of a backend, for one VIP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Its pool.
    pub pool: String,
    /// The VIP.
    pub vip: String,
    /// Its name, unique in its pool.
    pub backend: String,
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Whether it may take traffic; absent while too little is known, and where nothing is checked.
    pub up: Option<bool>,
    /// Why.
    pub reason: String,
    /// Since when, in seconds since 1970.
    pub since: Option<u64>,
    /// When it went up or down, the oldest first; at most 20.
    pub transitions: Vec<Transition>,
    /// Its checks, in the order of the configuration.
    pub checks: Vec<CheckStatus>,
    /// Its agent, if one is asked.
    #[serde(default)]
    pub agent: Option<AgentStatus>,
}

/// What is known of a backend's agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentStatus {
    /// Whether it was reached, and its last answer understood; absent before the first attempt. If not, what it said before
    /// holds.
    pub answers: Option<bool>,
    /// What it said last, or why nothing was understood.
    pub last: String,
    /// Since when it answers, or does not, in seconds since 1970.
    pub since: Option<u64>,
    /// When it was last asked, in seconds since 1970.
    pub heard: Option<u64>,
    /// Why it could not be asked for so long that failures may have been missed; absent while it can. What was found before holds.
    #[serde(default)]
    pub hindrance: Option<Hindrance>,
    /// What the last attempt took, in seconds.
    pub latency_seconds: Option<f64>,
    /// What holds of all that it said, such as `75%`, `drain` or `down (#disk full)`; `ready` if nothing is held back.
    pub word: String,
    /// The part of its weight that the backend is to have by it, in percent.
    pub weight_percent: f64,
    /// When it began to answer, or not to, the oldest first; at most 20.
    pub transitions: Vec<Transition>,
}

/// What is known of one check of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckStatus {
    /// Its name, unique in its pool.
    pub name: String,
    /// What is asked, as `type` in the configuration.
    pub kind: String,
    /// Whether it passes; absent before the first result.
    pub up: Option<bool>,
    /// The last result.
    pub last: String,
    /// Since when it passes, or fails, in seconds since 1970.
    pub since: Option<u64>,
    /// When the last result came, in seconds since 1970.
    pub heard: Option<u64>,
    /// Why it cannot be made, or could not for so long that failures may have been missed; absent while it can. All stays as it was.
    #[serde(default)]
    pub hindrance: Option<Hindrance>,
    /// What the last probe took, in seconds.
    pub latency_seconds: Option<f64>,
    /// Successes in a row up to now.
    pub successes: u32,
    /// Failures in a row up to now.
    pub failures: u32,
    /// When it began to pass or to fail, the oldest first; at most 20.
    pub transitions: Vec<Transition>,
}

/// A check cannot be made, for want of something here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hindrance {
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Why the latest attempt failed.
    pub reason: String,
}

/// Something went up or down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Transition {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Whether it is up from then on.
    pub up: bool,
    /// The result that did it.
    pub reason: String,
    /// What the probe took, in seconds; absent where none did it.
    pub latency_seconds: Option<f64>,
}
