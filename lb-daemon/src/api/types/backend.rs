//! Who serves.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Override;

/// What `GET /v1/backends` and `GET /v1/health` are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BackendQuery {
    /// Backends of this pool alone.
    pub pool: Option<String>,
    /// Backends of this name alone.
    pub backend: Option<String>,
}

impl BackendQuery {
    /// Whether this one is asked for.
    pub fn is_for(&self, pool: &str, backend: &str) -> bool {
        let fits = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        fits(&self.pool, pool) && fits(&self.backend, backend)
    }
}

/// An element of `GET /v1/backends`: a backend of a VIP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Backend {
    /// Its pool; not the VIP's if a source route leads to it.
    pub pool: String,
    /// The VIP.
    pub vip: String,
    /// Its name, unique in its pool.
    pub name: String,
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// What it takes.
    pub state: Effect,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// What the operator wants: `active`, `drain` or `disabled`; absent without a daemon.
    pub admin_state: Option<String>,
    /// Its weight; absent without a daemon.
    pub weight: Option<u32>,
    /// What an operator wants beyond the file, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#override: Option<Override>,
    /// Its share of the VIP's new flows, 0 to 1; absent without a daemon.
    pub share: Option<f64>,
    /// Whether it passes its check; absent before the first result.
    pub up: Option<bool>,
    /// Last result of its check.
    pub last_check: String,
    /// When the last result came of that of its checks whose result is the oldest, its agent's answers among them, in seconds
    /// since 1970; absent before first results, where nothing is checked, and without a daemon.
    #[serde(default)]
    pub heard: Option<u64>,
    /// MAC address that its packets are sent to.
    pub next_hop: Option<String>,
    /// Interface that its packets leave by; 0 is the one they came in by.
    pub ifindex: u32,
    /// Its number in the tables.
    pub target: Option<u32>,
    /// Flows that the flow table remembers for it.
    pub flows: u64,
    /// Those of them that go on; absent without a daemon.
    #[serde(default)]
    pub live_flows: Option<u64>,
    /// What was forwarded to it.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What a backend takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// New and known flows.
    Serving,
    /// Known flows.
    Draining,
    /// Nothing.
    Down,
}

impl Effect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Serving, Self::Draining, Self::Down];

    /// Name in tables and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

/// What was forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Their bytes, from the IP header on, before encapsulation.
    pub bytes: u64,
    /// Flows that the ring gave away.
    pub flows_created: u64,
    /// Flows that came from a backend that went down.
    pub flows_moved: u64,
    /// TCP openings.
    pub syns: u64,
    /// TCP openings that were sent again.
    pub syn_retransmits: u64,
    /// TCP openings that the backend answered.
    pub handshakes: u64,
    /// TCP flows ended by the client's FIN.
    pub fins: u64,
    /// TCP flows ended by the client's RST.
    pub rsts: u64,
}
