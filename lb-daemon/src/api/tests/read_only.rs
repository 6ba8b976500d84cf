//! The socket that shows and changes nothing.

use axum::http::Method;

use super::{Api, Client, ClientError, Reloaded, Status, document::calls};
use crate::api::journal::may_change;

#[tokio::test]
async fn the_read_only_socket_answers_what_changes_nothing_and_refuses_the_rest() {
    let api = Api::new().await;
    let mut refused = 0;
    for (method, path, body) in calls() {
        let may = may_change(&Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), path);
        let (status, answer) = Api::call_on(&api.looking, method, path, &body).await;
        if may {
            assert_eq!(status, "403", "{method} {path}: {answer}");
            refused += 1;
        } else {
            // What is read from the kernel's own tables has none here.
            assert!(["200", "503"].contains(&status.as_str()), "{method} {path}: {status} {answer}");
        }
    }
    assert!(refused > 0);
    for method in ["put", "delete", "patch"] {
        assert_eq!(
            Api::call_on(&api.looking, method, "/v1/status", &serde_json::Value::Null).await.0,
            "403",
            "{method}"
        );
    }
    let client = Client::new(&api.looking);
    let _: Status = client.get("/v1/status").await.unwrap();
    let Err(ClientError::Refused(problem)) = client.post::<Reloaded>("/v1/reload", &serde_json::json!({})).await else {
        panic!("taken")
    };
    let text = format!("this socket only shows; to change something, ask on {}", api.socket.display());
    assert_eq!(problem.error, text);
}
