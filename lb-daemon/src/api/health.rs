//! Why a backend is up or down.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};

use super::{
    App, Refused,
    live::parameters,
    types::{BackendQuery, Health, Problem},
    view,
};

/// What the checks of backends found, and when it was otherwise.
#[utoipa::path(get, path = "/v1/health", params(BackendQuery), responses((status = 200, body = [Health]), (status = 400, body = Problem, description = "The query is not understood")))]
pub(super) async fn health(
    State(app): State<App>,
    query: Result<Query<BackendQuery>, QueryRejection>,
) -> Result<Json<Vec<Health>>, Refused> {
    let query = parameters(query)?;
    let (view, hindered) = (app.controller.health(), app.controller.hindered());
    Ok(Json(view::health::health(&app.controller.snapshot(), (&view, &hindered), &query)))
}
