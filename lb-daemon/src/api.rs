//! HTTP/JSON on a unix socket, for the command line and for scripts. Only the socket's mode decides who may ask.

pub mod body;
pub mod client;
mod journal;
pub mod socket;
pub mod types;
pub(crate) mod view;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Instant};

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};

pub use self::body::Body;
use self::types::{Backend, Flows, Problem, ReloadRequest, Reloaded, Stats, Status, Vip};
use crate::controller::{
    AskError, Handle,
    reloader::{Failure, Reloader},
};
pub use crate::http::Peer;

/// What is true for as long as the daemon lives.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The configuration file.
    pub config: PathBuf,
    /// Where tables, program and links are pinned.
    pub pin_path: PathBuf,
    /// When the daemon started.
    pub started: Instant,
}

/// What the handlers need.
#[derive(Clone)]
struct App {
    controller: Handle,
    reloader: Arc<Reloader>,
    facts: Arc<Facts>,
}

/// The API's routes. A handler learns who asks by `Extension<Peer>`, there for each request that came by a unix socket.
pub fn router(controller: Handle, reloader: Arc<Reloader>, facts: Facts) -> Router {
    let app = App { controller, reloader, facts: Arc::new(facts) };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/vips", get(vips))
        .route("/v1/backends", get(backends))
        .route("/v1/flows/count", get(flows))
        .route("/v1/stats", get(stats))
        .route("/v1/reload", post(reload))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        // `http::serve` has read the body and knows the limit.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(journal::note))
        .with_state(app)
}

/// An answer that is not a success.
#[derive(Debug)]
pub struct Refused(StatusCode, Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        // For the log.
        (self.0, Extension(self.1.clone()), Json(self.1)).into_response()
    }
}

impl From<AskError> for Refused {
    fn from(error: AskError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, problem(&error))
    }
}

fn problem(error: &dyn std::error::Error) -> Problem {
    Problem::new(crate::controller::chain(error))
}

async fn status(State(app): State<App>) -> Json<Status> {
    Json(view::status(&app.facts, &app.controller.snapshot()))
}

async fn vips(State(app): State<App>) -> Result<Json<Vec<Vip>>, Refused> {
    let figures = app.controller.figures().await?;
    let snapshot = app.controller.snapshot();
    Ok(Json(view::configured_vips(&snapshot, &figures)))
}

async fn backends(State(app): State<App>) -> Result<Json<Vec<Backend>>, Refused> {
    let figures = app.controller.figures().await?;
    let flows = app.controller.flows().await?;
    Ok(Json(view::backends(&app.controller.snapshot().vips, &figures, &flows)))
}

async fn flows(State(app): State<App>) -> Result<Json<Flows>, Refused> {
    let flows = app.controller.flows().await?;
    Ok(Json(view::flows(&app.controller.snapshot().vips, &flows)))
}

async fn stats(State(app): State<App>) -> Result<Json<Stats>, Refused> {
    let figures = app.controller.figures().await?;
    let flows = app.controller.flows().await?;
    Ok(Json(view::stats(&app.controller.snapshot().vips, &figures, &flows)))
}

async fn reload(State(app): State<App>, Body(_): Body<ReloadRequest>) -> Result<Json<Reloaded>, Refused> {
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

async fn unknown() -> Refused {
    Refused(StatusCode::NOT_FOUND, Problem::new("no such resource"))
}

async fn wrong_method() -> Refused {
    Refused(StatusCode::METHOD_NOT_ALLOWED, Problem::new("this resource does not take that method"))
}
