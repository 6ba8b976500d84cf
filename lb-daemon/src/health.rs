//! Who is up: probes, and the counting of their results.
//!
//! The controller says which checks are to run; [`driver`] runs them and publishes a [`HealthView`]. What follows from a
//! result is decided without I/O, by [`machine`] for one probe and by [`roster`] for all of them; [`probe`] makes one
//! attempt.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use crate::model::Service;

pub mod driver;
pub mod machine;
pub mod probe;
pub mod roster;
mod stats;

pub use stats::Stats;

/// A check: this backend, for this VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId {
    /// The VIP.
    pub service: Service,
    /// The backend.
    pub backend: IpAddr,
}

/// What is known of each check; a check that is absent has no result yet and counts as down.
pub type HealthView = BTreeMap<CheckId, Status>;

/// Result of a check so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether the backend may take traffic.
    pub up: bool,
    /// Why: the last result in words, such as `200 OK` or `connection refused`.
    pub last: String,
    /// Since when it is up, or down; `None` if nobody looked at a clock.
    pub since: Option<SystemTime>,
    /// How long the last probe took; `None` when nothing is probed.
    pub latency: Option<Duration>,
    /// Successes in a row up to now.
    pub successes: u32,
    /// Failures in a row up to now.
    pub failures: u32,
}
