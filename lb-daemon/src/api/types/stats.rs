//! Counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Flows;

/// `GET /v1/stats`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Why frames left, in the order of the verdicts' numbers.
    pub verdicts: Vec<VerdictCount>,
    /// What the slow part of the way met, by event.
    pub path: BTreeMap<String, u64>,
    /// The flow table.
    pub flows: Flows,
}

/// Frames that left for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictCount {
    /// The reason.
    pub verdict: String,
    /// What became of them: `tx`, `pass`, `drop` or `aborted`.
    pub action: String,
    /// Frames.
    pub packets: u64,
    /// Their bytes: as received, but from the IP header on for those forwarded.
    pub bytes: u64,
}
