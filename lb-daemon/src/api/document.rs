//! The `OpenAPI` document, made of the very routes and types that serve.

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use utoipa::{
    OpenApi, ToResponse,
    openapi::{Ref, RefOr},
};

use super::types::Problem;

/// What the document says before there are routes.
#[derive(OpenApi)]
#[openapi(
    info(title = "lb", description = "The daemon's API. Fields are only ever added."),
    servers((url = "http://lb", description = "The unix socket of the daemon; any host name will do.")),
    components(schemas(Problem), responses(Problem))
)]
pub(super) struct Document;

/// The document, as it is served.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let (_, mut document) = super::routes().split_for_parts();
    for item in document.paths.paths.values_mut() {
        let methods = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in methods.into_iter().flatten() {
            let (refused, _) = Problem::response();
            let refused = RefOr::Ref(Ref::from_response_name(refused));
            operation.responses.responses.entry("default".to_owned()).or_insert(refused);
        }
    }
    // All keys are strings, so nothing in it cannot be written.
    document.to_json().unwrap_or_default().into()
});

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, body = serde_json::Value)))]
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}
