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

/// Answer to `GET /v1/flows/show`: what is remembered of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// Protocol, client and VIP.
    pub tuple: String,
    /// The VIP that it is to; absent if there is none.
    pub vip: Option<String>,
    /// Whether flows of the VIP are remembered.
    pub tracked: Option<bool>,
    /// Whether it is remembered.
    pub found: bool,
    /// What is known of its life.
    pub state: Option<String>,
    /// Seconds since its last packet, as far as the table's clock tells, which has units of 4.3 s.
    pub age_seconds: Option<u64>,
    /// Number of its target.
    pub target: Option<u32>,
    /// Pool of its backend.
    pub pool: Option<String>,
    /// Its backend.
    pub backend: Option<String>,
    /// Address of its backend.
    #[schema(value_type = Option<String>)]
    pub address: Option<std::net::IpAddr>,
    /// What its backend takes: `serving`, `draining`, `down` or `gone`.
    pub backend_state: Option<String>,
    /// Whether it goes on, as far as its state and age tell.
    pub live: bool,
    /// Whether the backend may go on serving it; else the ring decides anew with its next packet.
    pub usable: bool,
}
