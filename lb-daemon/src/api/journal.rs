//! Who changed what: a line of the log for each request that may change something.

use axum::{Extension, extract::Request, http::Method, middleware::Next, response::Response};
use tracing::info;

use super::types::Problem;
use crate::http::Peer;

/// What is asked for by POST, since it takes a body, and changes nothing.
pub(super) const HARMLESS_POSTS: &[&str] = &["/v1/plan", "/v1/explain"];

/// Whether a request may change something.
pub(super) fn may_change(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET | Method::HEAD => false,
        Method::POST => !HARMLESS_POSTS.contains(&path),
        _ => true,
    }
}

/// Logs a request that may change something, with what came of it.
pub(super) async fn note(peer: Option<Extension<Peer>>, request: Request, next: Next) -> Response {
    if !may_change(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let mut entry = Entry {
        peer: peer.map(|Extension(peer)| peer),
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        outcome: None,
        error: None,
    };
    let response = next.run(request).await;
    entry.outcome = Some(response.status().as_u16());
    entry.error = response.extensions().get().cloned();
    response
}

/// A line of the log, written when this is dropped: also for who hangs up before the answer.
struct Entry {
    peer: Option<Peer>,
    method: Method,
    path: String,
    outcome: Option<u16>,
    error: Option<Problem>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Self { peer, method, path, outcome, error } = self;
        let (uid, pid) = (peer.map(|peer| peer.uid), peer.and_then(|peer| peer.pid));
        let user = peer.and_then(|peer| peer.user());
        let error = error.as_ref().map(|problem| problem.error.as_str());
        let message = match (&outcome, error) {
            (None, _) => "request given up by who asked",
            (Some(_), None) => "request done",
            (Some(_), Some(_)) => "request refused",
        };
        info!(%method, path, uid, user, pid, outcome, error, "{message}");
    }
}
