//! HTTP/JSON on a unix socket, for the command line and for scripts. Only the socket's mode decides who may ask.

pub(crate) mod answers;
pub mod body;
pub mod client;
mod document;
mod generations;
mod health;
mod journal;
mod live;
mod overrides;
mod plan;
mod read;
pub mod socket;
pub mod types;
pub(crate) mod view;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::body::Body;
use self::{document::Document, types::Problem};
pub use crate::http::Peer;
use crate::{
    controller::{AskError, Handle, reloader::Reloader},
    privileges::Confinement,
};

/// What is true for as long as the daemon lives.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The configuration file.
    pub config: PathBuf,
    /// Where tables, program and links are pinned.
    pub pin_path: PathBuf,
    /// When the daemon started.
    pub started: Instant,
    /// What it gave up then.
    pub confinement: Confinement,
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
    let (router, _) = routes().split_for_parts();
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        // `http::serve` has read the body and knows the limit.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(journal::note))
        .with_state(app)
}

/// The same for those who may only look: whatever may change something is refused, with a word on where it is not.
pub fn read_only(router: Router, other: &Path) -> Router {
    let error = format!("this socket only shows; to change something, ask on {}", other.display());
    let refuse = move |request: Request, next: Next| {
        let error = error.clone();
        async move {
            if journal::may_change(request.method(), request.uri().path()) {
                return Refused(StatusCode::FORBIDDEN, Problem::new(error)).into_response();
            }
            next.run(request).await
        }
    };
    router.layer(middleware::from_fn(refuse)).layer(middleware::from_fn(journal::note))
}

/// The routes with what the document says of them: each handler's attribute names its path.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(document::openapi))
        .routes(routes!(read::status))
        .routes(routes!(read::vips))
        .routes(routes!(read::backends))
        .routes(routes!(health::health))
        .routes(routes!(read::flows))
        .routes(routes!(read::stats))
        .routes(routes!(generations::list))
        .routes(routes!(generations::reload))
        .routes(routes!(generations::apply))
        .routes(routes!(generations::roll_back))
        .routes(routes!(generations::confirm))
        .routes(routes!(overrides::pools))
        .routes(routes!(overrides::drain))
        .routes(routes!(overrides::enable))
        .routes(routes!(overrides::disable))
        .routes(routes!(overrides::weight))
        .routes(routes!(overrides::disable_vip))
        .routes(routes!(overrides::enable_vip))
        .routes(routes!(live::flow))
        .routes(routes!(live::rings))
        .routes(routes!(live::ring))
        .routes(routes!(live::explain))
        .routes(routes!(plan::plan))
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

async fn unknown() -> Refused {
    Refused(StatusCode::NOT_FOUND, Problem::new("no such resource"))
}

async fn wrong_method() -> Refused {
    Refused(StatusCode::METHOD_NOT_ALLOWED, Problem::new("this resource does not take that method"))
}
