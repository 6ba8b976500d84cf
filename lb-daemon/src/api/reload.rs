//! Reading the configuration file again.

use axum::{Json, extract::State, http::StatusCode};

use super::{
    App, Body, Refused, problem,
    types::{Problem, ReloadRequest, Reloaded},
};
use crate::controller::reloader::Failure;

/// Reads the configuration file again and puts it in force.
#[utoipa::path(post, path = "/v1/reload", request_body = ReloadRequest, responses((status = 200, body = Reloaded)))]
pub(super) async fn reload(State(app): State<App>, Body(_): Body<ReloadRequest>) -> Result<Json<Reloaded>, Refused> {
    // In a task of its own: a caller who hangs up must not leave a reload half noted.
    let outcome = tokio::spawn(async move { app.reloader.reload().await }).await.unwrap_or(Err(Failure::Ending));
    let done = outcome.map_err(|failure| match failure {
        Failure::Ending => Refused(StatusCode::SERVICE_UNAVAILABLE, problem(&failure)),
        Failure::Invalid(ref diagnostics) => {
            let diagnostics = Some(diagnostics.render(false));
            Refused(StatusCode::UNPROCESSABLE_ENTITY, Problem { diagnostics, ..problem(&failure) })
        }
        _ => Refused(StatusCode::UNPROCESSABLE_ENTITY, problem(&failure)),
    })?;
    Ok(Json(Reloaded { generation: done.generation, ops: done.ops, pending: done.pending }))
}
