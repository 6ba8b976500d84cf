//! What goes over the socket, as the server writes it and the command line reads it. Fields are only ever added.

mod backend;
mod explain;
mod flows;
mod generation;
mod health;
mod overrides;
mod plan;
mod problem;
mod reload;
mod ring;
mod stats;
mod status;
mod vip;

pub use self::{
    backend::{Backend, BackendQuery, Effect, Traffic},
    explain::{
        AccessStage, AskedPacket, EntryStage, ExplainRequest, Explained, Explanation, FlowStage, LimitStage,
        NextHopStage, OuterStage, PacketStage, RingStage, ServerIdStage, Stages, TargetStage, VipStage,
    },
    flows::{BackendFlows, Flow, Flows},
    generation::{Applied, ApplyRequest, ConfirmRequest, Confirmed, Generation, RollbackRequest, Standing, Waiting},
    health::{AgentStatus, CheckStatus, Health, Hindrance, Transition},
    overrides::{DrainRequest, ListedOverride, OrderRequest, Overridden, Override, Pool, WeightRequest},
    plan::{
        Against, BackendChange, Change, Moved, Outline, PlanRequest, PoolChange, Preview, Restart, RouteChange,
        Setting, TableGrowth, VipChange,
    },
    problem::Problem,
    reload::{ReloadRequest, Reloaded},
    ring::{Ring, RingDigest, RingDigests, RingShare},
    stats::{Stats, VerdictCount},
    status::{Condition, Confinement, Interface, LastReload, Places, Status},
    vip::{Vip, VipSettings},
};
