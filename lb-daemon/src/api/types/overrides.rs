//! What operators want beyond the file.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// What an operator wants of a backend or a VIP beyond the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Override {
    /// In place of the file's state: `active`, `draining`, `drained` (a drain that has ended) or `disabled`.
    pub state: Option<String>,
    /// In place of the file's weight.
    pub weight: Option<u32>,
    /// When it was last ordered, in seconds since 1970.
    pub since: u64,
    /// Number of the user who ordered it, where it is known.
    pub uid: Option<u32>,
    /// The user's name.
    pub author: Option<String>,
    /// When the drain ends at the latest, in seconds since 1970.
    pub deadline: Option<u64>,
    /// Live flows when the drain began, over all VIPs.
    pub flows_at_start: Option<u64>,
    /// Live flows now, while it drains.
    pub flows_left: Option<u64>,
    /// Whether flows of adaptive VIPs may be left besides, of which nobody has heard since the drain began. It lasts until they
    /// would have been given up, 2.5 hours at least, or until its deadline; if such a VIP has no backend for new flows, until
    /// its deadline alone.
    #[serde(default)]
    pub silent_flows: bool,
    /// How long the drain may yet take, told by how it went so far; absent where that tells nothing.
    pub seconds_left: Option<u64>,
}

/// An override with what it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedOverride {
    /// The backend's pool; absent for a VIP.
    pub pool: Option<String>,
    /// The backend or VIP.
    pub name: String,
    /// Whether the configuration has it. If not, the override waits for it to return.
    pub configured: bool,
    /// What is wanted.
    #[serde(flatten)]
    pub given: Override,
}

/// Answer to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Overridden {
    /// What is wanted beyond the file now; absent if nothing is.
    pub r#override: Option<Override>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// What could not be written to the tables yet and is tried again.
    pub pending: Option<String>,
}

/// Body of `POST /v1/backends/{pool}/{name}/drain`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// End the drain after so many seconds, 1 to 31536000, whatever is left then. Absent: when no live flow is left.
    #[serde(default)]
    pub deadline_seconds: Option<u64>,
}

/// Body of `POST /v1/backends/{pool}/{name}/weight`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    /// The weight, 0 to 65535; null is the file's.
    #[serde(deserialize_with = "required")]
    #[schema(required)]
    pub weight: Option<u32>,
}

/// Body of orders that have nothing to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {}

/// A pool, with the names of what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its backends, in the order of the file.
    pub backends: Vec<String>,
}

/// Whether something is given or null must be said.
fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Option::deserialize(deserializer)
}
