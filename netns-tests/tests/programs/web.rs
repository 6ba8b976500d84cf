//! A web server of an operator's, that is told of changes.

use std::{
    future::pending,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use axum::{Json, Router, http::StatusCode, routing::post};
use netns_tests::{
    netns::Namespace,
    running::{Running, listen},
};
use serde_json::Value;
use tokio::net::TcpListener;

/// The router's end of the balancer's link.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 9000);

/// Where to post to.
pub(crate) const URL: &str = "http://10.0.0.1:9000/changes?of=lb";

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// By a status.
    Status(u16),
    /// Not at all.
    Never,
}

/// Notes what is posted to it; closed when dropped.
#[derive(Debug)]
pub(crate) struct WebServer {
    /// What was posted, and whether it is answered well.
    posts: Arc<Mutex<Vec<(Value, bool)>>>,
    _running: Running,
}

impl WebServer {
    /// One that answers so at first, and by 204 from then on.
    pub(crate) fn start(namespace: &Namespace, first: &'static [Answer]) -> Result<Self> {
        let listener = listen(namespace, ADDRESS)?;
        let posts = Arc::default();
        let noted = Arc::clone(&posts);
        let running = Running::start(async move || {
            let take = async move |Json(body): Json<Value>| take(body, first, &noted).await;
            let listener = TcpListener::from_std(listener).expect("a listener");
            let _ = axum::serve(listener, Router::new().route("/changes", post(take))).await;
        })?;
        Ok(Self { posts, _running: running })
    }

    /// All that was posted.
    pub(crate) fn all(&self) -> Vec<Value> {
        noted(&self.posts).iter().map(|(body, _)| body.clone()).collect()
    }

    /// What was answered well.
    pub(crate) fn taken(&self) -> Vec<Value> {
        noted(&self.posts).iter().filter(|(_, well)| *well).map(|(body, _)| body.clone()).collect()
    }
}

fn noted(posts: &Mutex<Vec<(Value, bool)>>) -> MutexGuard<'_, Vec<(Value, bool)>> {
    posts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a document, and answers; what is no JSON was refused before.
async fn take(body: Value, first: &[Answer], posts: &Mutex<Vec<(Value, bool)>>) -> StatusCode {
    let status = {
        let mut posts = noted(posts);
        let status = match first.get(posts.len()) {
            None => Some(StatusCode::NO_CONTENT),
            Some(Answer::Status(status)) => Some(StatusCode::from_u16(*status).expect("a status")),
            Some(Answer::Never) => None,
        };
        posts.push((body, status.is_some_and(|status| status.is_success())));
        status
    };
    match status {
        Some(status) => status,
        None => pending().await,
    }
}
