//! A web server of an operator's, that is told of changes.

use std::{
    fs,
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use axum::{Json, Router, http::StatusCode, routing::post, serve::Listener};
use certificates::Authority;
use netns_tests::{
    netns::Namespace,
    running::{Running, listen},
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The router's end of the balancer's link.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 9000);

/// Where to post to.
pub(crate) const URL: &str = "http://10.0.0.1:9000/changes?of=lb";
/// The same, of a server that speaks TLS.
pub(crate) const TLS_URL: &str = "https://10.0.0.1:9000/changes?of=lb";

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
        let router = router(&posts, first);
        let running = Running::start(async move || {
            let _ = axum::serve(TcpListener::from_std(listener).expect("a listener"), router).await;
        })?;
        Ok(Self { posts, _running: running })
    }

    /// One that speaks TLS. The certificate of the authority that it is trusted by is written to this file.
    pub(crate) fn start_tls(namespace: &Namespace, authority: &Path) -> Result<Self> {
        let (listener, signer) = (listen(namespace, ADDRESS)?, Authority::new()?);
        fs::write(authority, signer.pem())?;
        let config = signer.sign(&[&ADDRESS.ip().to_string()])?.server()?;
        let posts = Arc::default();
        let router = router(&posts, &[]);
        let running = Running::start(async move || {
            let plain = TcpListener::from_std(listener).expect("a listener");
            let _ = axum::serve(Tls { plain, acceptor: Arc::new(config).into() }, router).await;
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

fn router(posts: &Arc<Mutex<Vec<(Value, bool)>>>, first: &'static [Answer]) -> Router {
    let noted = Arc::clone(posts);
    let take = async move |Json(body): Json<Value>| take(body, first, &noted).await;
    Router::new().route("/changes", post(take))
}

/// Connections after their TLS handshake; those that fail it are none.
struct Tls {
    plain: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, from)) = self.plain.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.plain.local_addr()
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
