//! Serves HTTP to callers that cannot be trusted to behave: idle, slow, many or garbled.
//!
//! Connections are bounded. When all places are taken, the connection that has been idle for longest gives way, so that
//! neither a thousand forgotten connections nor a slow one keep an operator from `lb status`.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
    serve::Listener,
};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{AbortHandle, JoinSet},
};
use tracing::debug;

/// Connections at once; a few scrapers and operators need a handful.
const CONNECTIONS: usize = 64;
/// A request's head must be there by then; also how long a connection may idle between requests.
const HEAD: Duration = Duration::from_secs(10);
/// A request must be answered by then, reading its body included.
const ANSWER: Duration = Duration::from_secs(30);
/// Largest body of a request, in bytes.
pub(crate) const LARGEST_BODY: usize = 64 * 1024;
/// Largest head of a request, in bytes.
const LARGEST_HEAD: usize = 16 * 1024;

/// A connection that has a place.
struct Place {
    busy: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Answers requests from `listener` by `router`, until dropped.
pub(crate) async fn serve<L>(mut listener: L, router: Router)
where
    L: Listener,
    L::Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut places: VecDeque<Place> = VecDeque::new();
    loop {
        let (stream, _) = listener.accept().await;
        while tasks.try_join_next().is_some() {}
        places.retain(|place| !place.task.is_finished());
        while places.len() >= CONNECTIONS {
            let idle = places.iter().position(|place| !place.busy.load(Ordering::Relaxed));
            if let Some(place) = idle.and_then(|idle| places.remove(idle)) {
                place.task.abort();
            } else {
                // All are at work, each for `ANSWER` at most.
                tasks.join_next().await;
                places.retain(|place| !place.task.is_finished());
            }
        }
        let busy = Arc::new(AtomicBool::new(false));
        let task = tasks.spawn(connection(stream, router.clone(), Arc::clone(&busy)));
        places.push_back(Place { busy, task });
    }
}

/// Serves one connection to its end.
async fn connection<I>(stream: I, router: Router, busy: Arc<AtomicBool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, busy) = (router.clone(), Arc::clone(&busy));
        async move {
            if request.body().size_hint().lower() > LARGEST_BODY as u64 {
                return Ok(too_large());
            }
            busy.store(true, Ordering::Relaxed);
            let answer = tokio::time::timeout(ANSWER, hyper::service::Service::call(&router, request)).await;
            busy.store(false, Ordering::Relaxed);
            Ok::<_, Infallible>(match answer {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => too_late(),
            })
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LARGEST_HEAD);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "connection ended early");
    }
}

/// Known from the head alone, so that nobody waits for a body that is not going to be read.
fn too_large() -> Response<Body> {
    (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n").into_response()
}

fn too_late() -> Response<Body> {
    (StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response()
}
