//! The routes that change the configuration, and the list of what it was.

use std::time::{Duration, SystemTime};

use axum::{Extension, Json, extract::State, http::StatusCode};

use super::{
    App, Body, Refused, problem,
    types::{
        Applied, ApplyRequest, ConfirmRequest, Confirmed, Generation, Problem, ReloadRequest, Reloaded, RollbackRequest,
    },
    view,
};
use crate::{
    controller::{self, NotConfirmed, Refusal, Terms, reloader::Failure},
    http::Peer,
    state::Author,
};

/// Longest wait for a confirmation, in seconds.
const LONGEST_WAIT: u64 = 86_400;
/// Longest reason, in bytes.
const LONGEST_REASON: usize = 500;

/// Reads the configuration file again and puts it in force.
#[utoipa::path(post, path = "/v1/reload", request_body = ReloadRequest,
    responses((status = 200, body = Reloaded), (status = 409, description = "A generation waits for confirmation.", body = Problem)))]
pub(super) async fn reload(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    Body(_): Body<ReloadRequest>,
) -> Result<Json<Reloaded>, Refused> {
    let author = author(peer);
    let done = alone(async move { app.reloader.reload(author).await }).await?;
    Ok(Json(Reloaded { generation: done.generation, ops: done.ops, pending: done.pending }))
}

/// Puts a configuration in force whose texts are sent along. The configuration file stays as it is.
#[utoipa::path(post, path = "/v1/apply", request_body = ApplyRequest,
    responses((status = 200, body = Applied), (status = 409, description = "A generation waits for confirmation.", body = Problem)))]
pub(super) async fn apply(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<Applied>, Refused> {
    let ApplyRequest { bundle, confirm_seconds, max_disruption, reason } = request;
    if confirm_seconds.is_some_and(|seconds| !(1..=LONGEST_WAIT).contains(&seconds)) {
        return Err(unprocessable(format!("confirm_seconds: not from 1 to {LONGEST_WAIT}")));
    }
    if max_disruption.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        return Err(unprocessable("max_disruption: not from 0 to 1; 0.05 is 5%".into()));
    }
    let (reason, author, confirm) = (words(reason)?, author(peer), confirm_seconds.map(Duration::from_secs));
    let terms = Terms { confirm, max_disruption };
    let done = alone(async move { app.reloader.apply(bundle, author, reason, terms).await }).await?;
    Ok(Json(applied(done)))
}

/// Puts an older configuration in force, as a new generation.
#[utoipa::path(post, path = "/v1/rollback", request_body = RollbackRequest,
    responses((status = 200, body = Applied), (status = 409, description = "A generation waits for confirmation.", body = Problem)))]
pub(super) async fn roll_back(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    Body(request): Body<RollbackRequest>,
) -> Result<Json<Applied>, Refused> {
    let RollbackRequest { generation, reason } = request;
    let (reason, author) = (words(reason)?, author(peer));
    let done = alone(async move { app.reloader.roll_back(generation, author, reason).await }).await?;
    Ok(Json(applied(done)))
}

/// Lets the configuration in force stay that waits for confirmation.
#[utoipa::path(post, path = "/v1/confirm", request_body = ConfirmRequest, responses((status = 200, body = Confirmed),
    (status = 409, description = "None waits for confirmation, or that it is confirmed cannot be kept.", body = Problem)))]
pub(super) async fn confirm(
    State(app): State<App>,
    Body(ConfirmRequest {}): Body<ConfirmRequest>,
) -> Result<Json<Confirmed>, Refused> {
    let generation = app.controller.confirm().await.map_err(|error| match error {
        NotConfirmed::Ended => Refused(StatusCode::SERVICE_UNAVAILABLE, problem(&error)),
        NotConfirmed::Refused(_) => Refused(StatusCode::CONFLICT, problem(&error)),
    })?;
    Ok(Json(Confirmed { generation }))
}

/// The configurations that were in force, newest first.
#[utoipa::path(get, path = "/v1/generations", responses((status = 200, body = Vec<Generation>)))]
pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<Generation>>, Refused> {
    let all = app.controller.generations().await?;
    let snapshot = app.controller.snapshot();
    let now = SystemTime::now();
    Ok(Json(all.iter().map(|about| view::generation(about, &snapshot.in_force, now)).collect()))
}

/// Does a change in a task of its own: a caller who hangs up must not leave it half noted.
async fn alone<F>(change: F) -> Result<controller::Reloaded, Refused>
where
    F: Future<Output = Result<controller::Reloaded, Failure>> + Send + 'static,
{
    let outcome = tokio::spawn(change).await.unwrap_or(Err(Failure::Ending));
    outcome.map_err(|failure| match failure {
        Failure::Ending => Refused(StatusCode::SERVICE_UNAVAILABLE, problem(&failure)),
        Failure::Invalid(ref diagnostics) => {
            let diagnostics = Some(diagnostics.render(false));
            Refused(StatusCode::UNPROCESSABLE_ENTITY, Problem { diagnostics, ..problem(&failure) })
        }
        // It is right in itself, and can be asked again later.
        Failure::Refused(Refusal::Waits { .. }) => Refused(StatusCode::CONFLICT, problem(&failure)),
        Failure::Refused(_) | Failure::Unreadable(_) => Refused(StatusCode::UNPROCESSABLE_ENTITY, problem(&failure)),
    })
}

fn applied(done: controller::Reloaded) -> Applied {
    let controller::Reloaded { generation, new, ops, pending, waiting, plan } = done;
    let waiting = waiting.map(|pending| view::waiting(&pending, SystemTime::now()));
    Applied { generation, new, ops, pending, waiting, plan }
}

fn author(peer: Option<Extension<Peer>>) -> Author {
    let peer = peer.map(|Extension(peer)| peer);
    Author { uid: peer.map(|peer| peer.uid), name: peer.and_then(|peer| peer.user()) }
}

/// A reason that fits a line of a table.
fn words(reason: Option<String>) -> Result<Option<String>, Refused> {
    let Some(reason) = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty()) else {
        return Ok(None);
    };
    if reason.len() > LONGEST_REASON || reason.chars().any(char::is_control) {
        return Err(unprocessable(format!("reason: not one line of at most {LONGEST_REASON} bytes")));
    }
    Ok(Some(reason))
}

fn unprocessable(error: String) -> Refused {
    Refused(StatusCode::UNPROCESSABLE_ENTITY, Problem::new(error))
}
