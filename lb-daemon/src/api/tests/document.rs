//! The `OpenAPI` document against the server that it describes.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use super::{Api, schema::Schemas};
use crate::{config::Bundle, controller::tests::rig::TEXT};

/// Requests whose answers are held against the document: each operation at least once. For those with a body also that it
/// refuses unknown fields is tried.
pub(super) fn calls() -> Vec<(&'static str, &'static str, Value)> {
    let bundle = Bundle::of("/etc/lb/lb.toml", TEXT.replace("10.0.0.2", "10.0.0.9"));
    vec![
        ("get", "/v1/openapi.json", Value::Null),
        ("get", "/v1/status", Value::Null),
        ("get", "/v1/vips", Value::Null),
        ("get", "/v1/backends?pool=web&backend=web-1", Value::Null),
        ("get", "/v1/health?backend=web-1", Value::Null),
        ("get", "/v1/flows/count", Value::Null),
        ("get", "/v1/stats", Value::Null),
        ("get", "/v1/generations", Value::Null),
        ("get", "/v1/flows/show?protocol=tcp&source=198.51.100.7:1&destination=192.0.2.10:443", Value::Null),
        ("get", "/v1/rings", Value::Null),
        ("get", "/v1/rings/web?slots=true", Value::Null),
        ("post", "/v1/explain", json!({ "packets": [{ "tuple": "tcp 198.51.100.7:1 192.0.2.10:443", "flags": "S" }] })),
        ("post", "/v1/reload", json!({})),
        // They are asked in the order of the paths: what is applied is confirmed, and rolled back.
        (
            "post",
            "/v1/apply",
            json!({ "bundle": bundle, "confirm_seconds": 60, "max_disruption": 0.5, "reason": "a test" }),
        ),
        ("post", "/v1/confirm", json!({})),
        ("post", "/v1/rollback", json!({ "reason": "a test" })),
        ("get", "/v1/pools", Value::Null),
        ("post", "/v1/backends/web/web-1/drain", json!({"deadline_seconds": 600})),
        ("post", "/v1/backends/web/web-2/disable", json!({})),
        ("post", "/v1/backends/web/web-2/enable", json!({})),
        ("post", "/v1/backends/web/web-2/weight", json!({"weight": 7})),
        ("post", "/v1/vips/dns/disable", json!({})),
        ("post", "/v1/vips/dns/enable", json!({})),
        ("post", "/v1/plan", json!({ "bundle": bundle })),
    ]
}

impl Api {
    /// Asks, and gets the status and the body.
    async fn call(&self, method: &str, path: &str, body: &Value) -> (String, Value) {
        Self::call_on(&self.socket, method, path, body).await
    }

    pub(super) async fn call_on(socket: &Path, method: &str, path: &str, body: &Value) -> (String, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("{} {path} HTTP/1.1\r\nHost: lb\r\nConnection: close", method.to_uppercase());
        let answer =
            Self::raw_on(socket, format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).expect("a status").to_owned();
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{method} {path}: {error} in {body}")))
    }

    async fn document(&self) -> Value {
        self.call("get", "/v1/openapi.json", &Value::Null).await.1
    }
}

/// Whether `path` is one of those that `template` describes.
fn is_of(path: &str, template: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path);
    let (path, template): (Vec<_>, Vec<_>) = (path.split('/').collect(), template.split('/').collect());
    let same = |(own, part): (&&str, &&str)| own == part || part.starts_with('{');
    path.len() == template.len() && path.iter().zip(&template).all(same)
}

/// Method, path and description of each operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("operations").iter();
            methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
        .collect()
}

#[tokio::test]
async fn every_documented_answer_is_what_the_server_gives() {
    let api = Api::new().await;
    api.rig.count(api.rig.target("web", "web-1"), 5);
    let document = api.document().await;
    let schemas = Schemas(&document);
    for (method, template, operation) in operations(&document) {
        let mut tried = 0;
        for (_, path, body) in calls().iter().filter(|call| call.0 == method && is_of(call.1, template)) {
            let (status, answer) = api.call(method, path, body).await;
            let schema = &operation["responses"][&status]["content"]["application/json"]["schema"];
            assert!(schema.is_object(), "{method} {path} answers {status}, which is not in the document: {answer}");
            let complaints = schemas.complaints(schema, &answer, "answer");
            assert!(complaints.is_empty(), "{method} {path}: {}", complaints.join("\n"));
            tried += 1;
        }
        assert!(tried > 0, "no call of {method} {template}; add one to `calls`");
    }
}

#[tokio::test]
async fn the_document_has_every_route_and_the_server_every_operation() {
    let api = Api::new().await;
    let document = api.document().await;
    let documented: BTreeSet<(&str, &str)> = operations(&document).iter().map(|one| (one.0, one.1)).collect();
    for (method, path, _) in calls() {
        assert!(documented.iter().any(|one| one.0 == method && is_of(path, one.1)), "{method} {path} is not in it");
    }
    for path in documented.iter().map(|one| one.1).collect::<BTreeSet<_>>() {
        for method in ["get", "put", "post", "delete", "patch"] {
            let body = json!({ "no_such_field": 1 });
            let (status, answer) = api.call(method, &path.replace(['{', '}'], ""), &body).await;
            let wrong_method = status == "405";
            assert_eq!(wrong_method, !documented.contains(&(method, path)), "{method} {path}: {status} {answer}");
        }
    }
    // Routes get there by their handlers' descriptions alone.
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api.rs")).unwrap();
    assert!(!source.contains(".route(") && !source.contains("route_service"), "a route that is not in the document");
}

#[tokio::test]
async fn requests_with_an_unknown_field_are_refused_as_the_document_says() {
    let api = Api::new().await;
    let document = api.document().await;
    let schemas = Schemas(&document);
    for (method, template, operation) in operations(&document) {
        let is_of_this = |call: &&(&str, &str, Value)| call.0 == method && is_of(call.1, template) && !call.2.is_null();
        let Some((_, path, good)) = calls().iter().find(is_of_this).cloned() else {
            assert_ne!(method, "post", "{template} has no call with a body");
            continue;
        };
        let schema = schemas.resolved(&operation["requestBody"]["content"]["application/json"]["schema"]);
        assert_eq!(schema["additionalProperties"], json!(false), "{method} {template}");
        assert_eq!(schemas.complaints(schema, &good, "body"), [""; 0], "{method} {template}");
        let mut bad = good;
        bad["no_such_field"] = json!(1);
        let (status, answer) = api.call(method, path, &bad).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, "400", "{method} {path}: {answer}");
        assert!(error.contains("no_such_field: unknown field"), "{method} {path}: {error}");
        let refused = schemas.resolved(&operation["responses"]["default"]);
        let complaints = schemas.complaints(&refused["content"]["application/json"]["schema"], &answer, "answer");
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}
