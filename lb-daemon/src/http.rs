//! Serves HTTP to callers that cannot be trusted to behave: idle, slow, many or garbled.
//!
//! Connections are bounded, and so is what they hold. When all places are taken, the connection that has been idle for
//! longest gives way, so that neither a thousand forgotten connections nor slow ones keep an operator from `lb status`.

mod answers;
mod bodies;
mod peer;
mod places;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    http::{Request, StatusCode},
    response::{IntoResponse, Response},
    serve::Listener,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tracing::debug;

use self::{
    answers::Answers,
    bodies::Bodies,
    peer::Origin,
    places::{Doing, Note, Places},
};

pub use self::peer::Peer;
pub(crate) use self::{answers::in_pieces, peer::Accounts};

/// A request's head must be there by then; also how long a connection may idle between requests.
const HEAD: Duration = Duration::from_secs(10);
/// A request must be answered by then.
const ANSWER: Duration = Duration::from_secs(30);
/// A caller who takes nothing of an answer for so long is left.
const STALL: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes.
const LARGEST_HEAD: usize = 16 * 1024;

/// What all connections of a server share.
struct Server {
    router: TowerToHyperService<Router>,
    bodies: Bodies,
    answers: Answers,
}

/// Answers requests from `listener` by `router`, until dropped. Bodies have at most so many bytes; the router gets them
/// whole. On a unix socket each request bears its [`Peer`].
pub(crate) async fn serve<L>(mut listener: L, router: Router, largest_body: usize)
where
    L: Listener,
    L::Io: AsyncRead + AsyncWrite + Origin + Unpin + Send + 'static,
{
    let (bodies, answers) = (Bodies::new(largest_body), Answers::new());
    let server = Arc::new(Server { router: TowerToHyperService::new(router), bodies, answers });
    let mut places = Places::default();
    loop {
        let (stream, _) = listener.accept().await;
        places.room().await;
        let note = Note::default();
        places.take(note.clone(), connection(stream, Arc::clone(&server), note));
    }
}

/// Serves one connection to its end.
async fn connection<I>(stream: I, server: Arc<Server>, note: Note)
where
    I: AsyncRead + AsyncWrite + Origin + Unpin + Send + 'static,
{
    let peer = stream.peer();
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let (server, note) = (Arc::clone(&server), note.clone());
        async move {
            let response = server.answer(request, &note).await;
            note.is(Doing::Idle);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LARGEST_HEAD);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL));
    if let Err(error) = builder.serve_connection(TokioIo::new(Box::pin(stream)), service).await {
        debug!(%error, "connection ended early");
    }
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, note: &Note) -> Response<Body> {
        note.is(Doing::Reading);
        let (head, body) = request.into_parts();
        let read = match self.bodies.read(body).await {
            Ok(read) => read,
            Err(unread) => return refusal(unread.status(), &unread.to_string()),
        };
        note.is(Doing::Answering);
        let request = Request::from_parts(head, Body::from(read.bytes));
        let answer = timeout(ANSWER, hyper::service::Service::call(&self.router, request)).await;
        drop(read.turn);
        match answer {
            Ok(Ok(response)) => self.answers.pass(response).await,
            Ok(Err(never)) => match never {},
            Err(_) => refusal(StatusCode::REQUEST_TIMEOUT, "the request took too long"),
        }
    }
}

/// An answer that is not a success, of the same form as the API's.
fn refusal(status: StatusCode, error: &str) -> Response<Body> {
    (status, Json(serde_json::json!({ "error": error }))).into_response()
}
