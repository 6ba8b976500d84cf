//! What a configuration would change.

use axum::{Json, extract::State, http::StatusCode};

use super::{
    App, Body, Refused, problem,
    types::{PlanRequest, Preview, Problem},
};
use crate::{
    config::Checked,
    controller::{ReloadError, chain},
};

/// Tells what a configuration would change. Nothing is written.
#[utoipa::path(post, path = "/v1/plan", request_body = PlanRequest, responses((status = 200, body = Preview)))]
pub(super) async fn plan(State(app): State<App>, Body(asked): Body<PlanRequest>) -> Result<Json<Preview>, Refused> {
    let invalid = |error: String, diagnostics: Option<String>| {
        Refused(StatusCode::UNPROCESSABLE_ENTITY, Problem { diagnostics, ..Problem::new(error) })
    };
    // Lists of millions take a while to read.
    let checked = tokio::task::spawn_blocking(move || asked.bundle.check()).await;
    let Ok(Checked { config, diagnostics }) = checked else { return Err(problem_of_ending()) };
    let Some(config) = config else {
        let error = format!("this is no valid configuration: {}", diagnostics.summary());
        return Err(invalid(error, Some(diagnostics.render(false))));
    };
    match app.controller.preview(config).await {
        Ok(preview) => Ok(Json(preview)),
        Err(ReloadError::Ended) => Err(problem_of_ending()),
        Err(error) => Err(invalid(chain(&error), None)),
    }
}

/// The daemon stops while it is asked.
fn problem_of_ending() -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, problem(&ReloadError::Ended))
}
