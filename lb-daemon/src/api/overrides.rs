//! Orders of operators: backends drained, enabled, disabled and weighed, VIPs disabled and enabled.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};

use super::{
    App, Body, Peer, Refused, problem,
    types::{DrainRequest, OrderRequest, Overridden, Override, Pool, Problem, WeightRequest},
    view,
};
use crate::{
    controller::overrides::{OrderError, Ordered},
    http::Accounts,
    model::{
        MAX_WEIGHT,
        overrides::{BackendName, BackendOrder, Order},
    },
};

/// Longest time that a drain may be given, in seconds: a year.
const LONGEST: u64 = 365 * 86_400;

impl From<OrderError> for Refused {
    fn from(error: OrderError) -> Self {
        let status = match error {
            OrderError::Ended => StatusCode::SERVICE_UNAVAILABLE,
            OrderError::NoPool { .. } | OrderError::NoBackend { .. } | OrderError::NoVip { .. } => {
                StatusCode::NOT_FOUND
            }
        };
        Self(status, problem(&error))
    }
}

/// The names of all pools and backends.
#[utoipa::path(get, path = "/v1/pools", responses((status = 200, body = [Pool])))]
pub(super) async fn pools(State(app): State<App>) -> Json<Vec<Pool>> {
    Json(view::overrides::pools(&app.controller.snapshot()))
}

/// Gives a backend no new flows. The drain ends when no live flow is left, or at its deadline; the backend is then off until
/// it is enabled.
#[utoipa::path(post, path = "/v1/backends/{pool}/{name}/drain", request_body = DrainRequest,
    params(("pool" = String, Path), ("name" = String, Path)), responses((status = 200, body = Overridden)))]
pub(super) async fn drain(
    State(app): State<App>,
    Path((pool, name)): Path<(String, String)>,
    peer: Option<Extension<Peer>>,
    Body(asked): Body<DrainRequest>,
) -> Result<Json<Overridden>, Refused> {
    if asked.deadline_seconds.is_some_and(|seconds| !(1..=LONGEST).contains(&seconds)) {
        return Err(refused(&format!("deadline_seconds is not from 1 to {LONGEST}")));
    }
    let name = BackendName { pool, name };
    let within = asked.deadline_seconds.map(Duration::from_secs);
    let ordered = app.controller.drain(name.clone(), within, uid(peer)).await?;
    told_of_backend(&app, &name, ordered).await
}

/// Has a backend serve: takes back what else was ordered of its state, and overrides the file where that says otherwise.
#[utoipa::path(post, path = "/v1/backends/{pool}/{name}/enable", request_body = OrderRequest,
    params(("pool" = String, Path), ("name" = String, Path)), responses((status = 200, body = Overridden)))]
pub(super) async fn enable(
    State(app): State<App>,
    Path((pool, name)): Path<(String, String)>,
    peer: Option<Extension<Peer>>,
    Body(_): Body<OrderRequest>,
) -> Result<Json<Overridden>, Refused> {
    of_backend(&app, BackendName { pool, name }, BackendOrder::Enable, peer).await
}

/// Has a backend take nothing; its flows move.
#[utoipa::path(post, path = "/v1/backends/{pool}/{name}/disable", request_body = OrderRequest,
    params(("pool" = String, Path), ("name" = String, Path)), responses((status = 200, body = Overridden)))]
pub(super) async fn disable(
    State(app): State<App>,
    Path((pool, name)): Path<(String, String)>,
    peer: Option<Extension<Peer>>,
    Body(_): Body<OrderRequest>,
) -> Result<Json<Overridden>, Refused> {
    of_backend(&app, BackendName { pool, name }, BackendOrder::Disable, peer).await
}

/// Gives a backend another weight, or the file's.
#[utoipa::path(post, path = "/v1/backends/{pool}/{name}/weight", request_body = WeightRequest,
    params(("pool" = String, Path), ("name" = String, Path)), responses((status = 200, body = Overridden)))]
pub(super) async fn weight(
    State(app): State<App>,
    Path((pool, name)): Path<(String, String)>,
    peer: Option<Extension<Peer>>,
    Body(asked): Body<WeightRequest>,
) -> Result<Json<Overridden>, Refused> {
    if asked.weight.is_some_and(|weight| weight > MAX_WEIGHT) {
        return Err(refused(&format!("weight is not from 0 to {MAX_WEIGHT}")));
    }
    of_backend(&app, BackendName { pool, name }, BackendOrder::Weigh(asked.weight), peer).await
}

/// Has a VIP serve nobody: its packets are dropped, its flows remembered.
#[utoipa::path(post, path = "/v1/vips/{name}/disable", request_body = OrderRequest,
    params(("name" = String, Path)), responses((status = 200, body = Overridden)))]
pub(super) async fn disable_vip(
    State(app): State<App>,
    Path(name): Path<String>,
    peer: Option<Extension<Peer>>,
    Body(_): Body<OrderRequest>,
) -> Result<Json<Overridden>, Refused> {
    let ordered = app.controller.order(Order::DisableVip(name.clone()), uid(peer)).await?;
    let given = app.controller.snapshot().overrides.vips.get(&name).copied();
    Ok(told(given.map(|given| view::overrides::of_vip(given, &Accounts::default())), ordered))
}

/// Has a VIP serve again.
#[utoipa::path(post, path = "/v1/vips/{name}/enable", request_body = OrderRequest,
    params(("name" = String, Path)), responses((status = 200, body = Overridden)))]
pub(super) async fn enable_vip(
    State(app): State<App>,
    Path(name): Path<String>,
    peer: Option<Extension<Peer>>,
    Body(_): Body<OrderRequest>,
) -> Result<Json<Overridden>, Refused> {
    let ordered = app.controller.order(Order::EnableVip(name), uid(peer)).await?;
    Ok(told(None, ordered))
}

async fn of_backend(
    app: &App,
    name: BackendName,
    order: BackendOrder,
    peer: Option<Extension<Peer>>,
) -> Result<Json<Overridden>, Refused> {
    let ordered = app.controller.order(Order::Backend(name.clone(), order), uid(peer)).await?;
    told_of_backend(app, &name, ordered).await
}

async fn told_of_backend(app: &App, name: &BackendName, ordered: Ordered) -> Result<Json<Overridden>, Refused> {
    let snapshot = app.controller.snapshot();
    let flows = if snapshot.overrides.drains().any(|(one, _)| one == name) {
        // It is done, whether or not flows can be counted.
        app.controller.flows().await.ok()
    } else {
        None
    };
    let mut listed = view::overrides::listed(&snapshot, flows.as_ref()).into_iter();
    let own = listed.find(|one| one.pool.as_ref() == Some(&name.pool) && one.name == name.name);
    Ok(told(own.map(|own| own.given), ordered))
}

fn told(given: Option<Override>, Ordered { warnings, pending }: Ordered) -> Json<Overridden> {
    Json(Overridden { r#override: given, warnings, pending })
}

fn uid(peer: Option<Extension<Peer>>) -> Option<u32> {
    peer.map(|Extension(peer)| peer.uid)
}

fn refused(error: &str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, Problem::new(error))
}
