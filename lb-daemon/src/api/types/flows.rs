//! What the flow table remembers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/flows/count`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flows {
    /// Entries that the flow table can hold.
    pub capacity: u64,
    /// Entries in use, those of flows that ended lately included.
    pub entries: u64,
    /// Entries of flows that go on; absent without a daemon.
    #[serde(default)]
    pub live: Option<u64>,
    /// Entries by state.
    pub states: BTreeMap<String, u64>,
    /// Entries by VIP and backend; backends without flows are left out.
    pub backends: Vec<BackendFlows>,
}

/// Flows of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackendFlows {
    /// The VIP.
    pub vip: String,
    /// The backend's pool.
    #[serde(default)]
    pub pool: String,
    /// The backend.
    pub backend: String,
    /// Entries of the flow table.
    pub flows: u64,
    /// Those of flows that go on; absent without a daemon.
    #[serde(default)]
    pub live: Option<u64>,
}
