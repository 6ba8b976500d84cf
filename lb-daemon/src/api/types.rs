//! What goes over the socket, as the server writes it and the command line reads it. Fields are only ever added.

mod backend;
mod flows;
mod generation;
mod overrides;
mod problem;
mod reload;
mod stats;
mod status;
mod vip;

pub use self::{
    backend::{Backend, Effect, Traffic},
    flows::{BackendFlows, Flows},
    generation::{Applied, ApplyRequest, ConfirmRequest, Confirmed, Generation, RollbackRequest, Standing, Waiting},
    overrides::{DrainRequest, ListedOverride, OrderRequest, Overridden, Override, Pool, WeightRequest},
    problem::Problem,
    reload::{ReloadRequest, Reloaded},
    stats::{Stats, VerdictCount},
    status::{Condition, Confinement, Interface, LastReload, Places, Status},
    vip::{Vip, VipSettings},
};
