//! Rings of VIPs.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer to `GET /v1/rings`: to compare the lbs of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RingDigests {
    /// One digest of all VIPs: equal on lbs that steer all flows alike.
    pub digest: String,
    /// That of each VIP.
    pub vips: Vec<RingDigest>,
}

/// The ring of a VIP in a word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RingDigest {
    /// The VIP.
    pub vip: String,
    /// What it serves, as `192.0.2.10:443 tcp`.
    pub service: String,
    /// Slots of its ring; 0 while no backend takes new flows.
    pub size: u32,
    /// Equal where every new flow gets the backend of the same address: of backends' addresses by slot, of what decides the
    /// slot, and of the seed. Source routes are not in it.
    pub digest: String,
}

/// Answer to `GET /v1/rings/{vip}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ring {
    /// The ring in a word.
    #[serde(flatten)]
    pub ring: RingDigest,
    /// Whom its slots lead to, those with most of them first.
    pub backends: Vec<RingShare>,
    /// If asked for: for each slot, which of `backends` it leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Vec<u32>>,
}

/// A backend's part of a ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RingShare {
    /// Its pool; absent without a daemon.
    pub pool: Option<String>,
    /// Its name; absent if it is not configured any more.
    pub backend: Option<String>,
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Its number in the tables.
    pub target: u32,
    /// Slots that lead to it.
    pub slots: u32,
    /// Their share of all, 0 to 1.
    pub share: f64,
}
