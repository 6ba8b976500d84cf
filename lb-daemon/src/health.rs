//! Who is up: probes, and the counting of their results.

use std::{collections::BTreeMap, net::IpAddr};

use crate::model::Service;

/// A check: this backend, for this VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId {
    /// The VIP.
    pub service: Service,
    /// The backend.
    pub backend: IpAddr,
}

/// What is known of each check; a check that is absent was not started yet and counts as down.
pub type HealthView = BTreeMap<CheckId, Status>;

/// Result of a check so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the backend may take traffic.
    pub up: bool,
    /// Why: the last result in words, such as `200 OK in 3 ms` or `connection refused`.
    pub last: String,
}
