//! What is read from the tables in use, beside the controller: it need not wait for these answers, nor they for it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Body, Refused,
    answers::{AnswerError, Ground},
    problem,
    types::{ExplainRequest, Explained, Flow, Problem, Ring, RingDigests},
};
use crate::{controller::Snapshot, dataplane::kernel::Live, explain::tuple::Tuple};

/// Of `GET /v1/flows/show`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FlowQuery {
    /// `tcp`, `udp` or `icmp`.
    protocol: String,
    /// The client, with its port.
    source: String,
    /// The VIP, likewise.
    destination: String,
}

/// Of `GET /v1/rings/{vip}`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RingQuery {
    /// Whether to tell of each slot.
    #[serde(default)]
    slots: bool,
}

/// Parameters of a request, if they are right.
type Asked<T> = Result<Query<T>, QueryRejection>;

pub(super) fn parameters<T>(asked: Asked<T>) -> Result<T, Refused> {
    asked.map(|Query(query)| query).map_err(|error| Refused(StatusCode::BAD_REQUEST, Problem::new(error.body_text())))
}

/// What would become of packets, on the tables as they are; nothing is counted or remembered.
#[utoipa::path(post, path = "/v1/explain", request_body = ExplainRequest, responses((status = 200, body = Explained), (status = 503, body = Problem, description = "The tables cannot be read")))]
pub(super) async fn explain(
    State(app): State<App>,
    Body(request): Body<ExplainRequest>,
) -> Result<Json<Explained>, Refused> {
    answer(app, move |ground| ground.explain(&request)).await
}

/// What is remembered of a flow.
#[utoipa::path(get, path = "/v1/flows/show", params(FlowQuery), responses((status = 200, body = Flow), (status = 503, body = Problem, description = "The tables cannot be read")))]
pub(super) async fn flow(State(app): State<App>, query: Asked<FlowQuery>) -> Result<Json<Flow>, Refused> {
    let FlowQuery { protocol, source, destination } = parameters(query)?;
    let tuple: Result<Tuple, _> = format!("{protocol} {source} {destination}").parse();
    let tuple = tuple.map_err(|error| refused(&error.into()))?;
    answer(app, move |ground| ground.flow(&tuple)).await
}

/// The ring of a VIP.
#[utoipa::path(
    get,
    path = "/v1/rings/{vip}",
    params(("vip" = String, Path, description = "Name of the VIP"), RingQuery),
    responses((status = 200, body = Ring), (status = 503, body = Problem, description = "The tables cannot be read"))
)]
pub(super) async fn ring(
    State(app): State<App>,
    Path(vip): Path<String>,
    query: Asked<RingQuery>,
) -> Result<Json<Ring>, Refused> {
    let RingQuery { slots } = parameters(query)?;
    answer(app, move |ground| ground.ring(&vip, slots)).await
}

/// Digests of all rings, to compare the lbs of a fleet.
#[utoipa::path(get, path = "/v1/rings", responses((status = 200, body = RingDigests), (status = 503, body = Problem, description = "The tables cannot be read")))]
pub(super) async fn rings(State(app): State<App>) -> Result<Json<RingDigests>, Refused> {
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method is not general enough in its lifetime")]
    answer(app, |ground| ground.rings()).await
}

/// Works an answer out, on a thread that may block.
async fn answer<T: Send + 'static>(
    app: App,
    work: impl FnOnce(&Ground<Live>) -> Result<T, AnswerError> + Send + 'static,
) -> Result<Json<T>, Refused> {
    let snapshot = app.controller.snapshot();
    let worked = tokio::task::spawn_blocking(move || with_tables(&app, &snapshot, work)).await;
    worked.unwrap_or_else(|error| Err(unavailable(&error))).map(Json)
}

fn with_tables<T>(
    app: &App,
    snapshot: &Arc<Snapshot>,
    work: impl FnOnce(&Ground<Live>) -> Result<T, AnswerError>,
) -> Result<T, Refused> {
    let tables = Live::open(&app.facts.pin_path, Some(&snapshot.tuning)).map_err(|error| unavailable(&error))?;
    let attached = snapshot.attached.iter().map(|one| one.interface.as_str()).collect();
    work(&Ground { tables: &tables, vips: &snapshot.vips, attached }).map_err(|error| refused(&error))
}

fn unavailable(error: &dyn std::error::Error) -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, problem(error))
}

fn refused(error: &AnswerError) -> Refused {
    let status = match error {
        AnswerError::Vip { .. } => StatusCode::NOT_FOUND,
        AnswerError::Table(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    Refused(status, Problem::new(crate::controller::chain(error)))
}
