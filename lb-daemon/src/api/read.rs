//! What can be looked at.

use std::{iter, mem};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};

use super::{
    App, Refused,
    live::parameters,
    types::{Backend, BackendQuery, Flows, Problem, Stats, Status, Vip},
    view,
};
use crate::http::in_pieces;

/// How the daemon is.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(app): State<App>) -> Json<Status> {
    let snapshot = app.controller.snapshot();
    // Only a drain has to do with flows, and a status is to be had where they cannot be counted.
    let drains = snapshot.overrides.drains().next().is_some();
    let flows = if drains { app.controller.flows().await.ok() } else { None };
    Json(view::status(&app.facts, &snapshot, flows.as_ref()))
}

/// All VIPs, in the order of the configuration.
#[utoipa::path(get, path = "/v1/vips", responses((status = 200, body = [Vip])))]
pub(super) async fn vips(State(app): State<App>) -> Result<Json<Vec<Vip>>, Refused> {
    let figures = app.controller.figures().await?;
    let snapshot = app.controller.snapshot();
    Ok(Json(view::configured_vips(&snapshot, &figures)))
}

/// The backends of all VIPs, in the order of the configuration.
#[utoipa::path(get, path = "/v1/backends", params(BackendQuery), responses((status = 200, body = [Backend]), (status = 400, body = Problem, description = "The query is not understood")))]
pub(super) async fn backends(
    State(app): State<App>,
    query: Result<Query<BackendQuery>, QueryRejection>,
) -> Result<Response, Refused> {
    let query = parameters(query)?;
    let figures = app.controller.figures().await?;
    let flows = app.controller.flows().await?;
    let snapshot = app.controller.snapshot();
    let left = view::overrides::Left::of(&snapshot.vips, &flows);
    let health = app.controller.health();
    let mut numbers = 0..snapshot.vips.len();
    let mut is_first = true;
    let vips = iter::from_fn(move || {
        let vip = &snapshot.vips[numbers.next()?];
        let mut piece = Vec::new();
        for backend in view::backends(vip, &query, &figures, &flows, &left, &health) {
            if !mem::take(&mut is_first) {
                piece.push(b',');
            }
            // These are plain values, and memory takes all bytes.
            let _ = serde_json::to_writer(&mut piece, &backend);
        }
        Some(piece)
    });
    let json = [(header::CONTENT_TYPE, "application/json")];
    let pieces = iter::once(b"[".to_vec()).chain(vips).chain(iter::once(b"]".to_vec()));
    Ok((json, in_pieces(pieces)).into_response())
}

/// What the flow table holds, by state and by backend.
#[utoipa::path(get, path = "/v1/flows/count", responses((status = 200, body = Flows)))]
pub(super) async fn flows(State(app): State<App>) -> Result<Json<Flows>, Refused> {
    let flows = app.controller.flows().await?;
    Ok(Json(view::flows(&app.controller.snapshot().vips, &flows)))
}

/// Why frames left, and what befell them on their way.
#[utoipa::path(get, path = "/v1/stats", responses((status = 200, body = Stats)))]
pub(super) async fn stats(State(app): State<App>) -> Result<Json<Stats>, Refused> {
    let figures = app.controller.figures().await?;
    let flows = app.controller.flows().await?;
    Ok(Json(view::stats(&app.controller.snapshot().vips, &figures, &flows)))
}
