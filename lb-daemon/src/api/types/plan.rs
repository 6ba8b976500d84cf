//! What a configuration would change.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::Bundle;
pub use crate::plan::preview::{
    Against, BackendChange, Change, Moved, Outline, PoolChange, Preview, Restart, RouteChange, Setting, TableGrowth,
    VipChange,
};

/// Body of `POST /v1/plan`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The configuration.
    pub bundle: Bundle,
}
