//! Large answers: few at once, and each in pieces, so that callers who do not read hold a bounded memory.

use std::{
    convert::Infallible,
    iter,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
    response::Response,
};
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::refusal;

/// Larger answers need a turn, in bytes: the backends of some thousand VIPs.
const LARGE: u64 = 1 << 20;
/// Large answers at once.
const TURNS: usize = 4;
/// A large answer must be taken by then, however steadily its caller reads: it keeps a turn, and what it is made of.
pub(super) const TAKEN: Duration = Duration::from_mins(1);
/// What is handed to the connection at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// The turns of large answers.
pub(super) struct Answers(Arc<Semaphore>);

impl Answers {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(TURNS)))
    }

    /// The same answer, with a turn if it is large; without one, word of that.
    pub(super) async fn pass(&self, response: Response) -> Response {
        let length = response.body().size_hint().exact();
        if length.is_some_and(|length| length <= LARGE) {
            return response;
        }
        let Ok(turn) = Arc::clone(&self.0).try_acquire_owned() else {
            return refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "other large answers are being read; try again in a moment",
            );
        };
        let turn = Turn { until: Instant::now() + TAKEN, _permit: turn };
        let (head, body) = response.into_parts();
        if length.is_none() {
            return Response::from_parts(head, Body::new(Kept { body, turn }));
        }
        match body.collect().await {
            Ok(whole) => Response::from_parts(head, Body::new(Pieces { rest: whole.to_bytes(), turn })),
            Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

/// The turn of a large answer.
struct Turn {
    until: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    fn check(&self) -> Result<(), axum::Error> {
        if Instant::now() < self.until { Ok(()) } else { Err(axum::Error::new(TooSlow)) }
    }
}

/// Why an answer ends early.
#[derive(Debug, thiserror::Error)]
#[error("the answer was not taken within {} s", TAKEN.as_secs())]
struct TooSlow;

/// An answer that is made while it is sent, so that nobody holds the whole of it; unless it is small.
pub(crate) fn in_pieces(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Body {
    let mut pieces = pieces.filter(|piece| !piece.is_empty());
    let mut first = Vec::new();
    while first.len() as u64 <= LARGE {
        match pieces.next() {
            Some(piece) => first.extend(piece),
            None => return Body::from(first),
        }
    }
    Body::from_stream(stream::iter(iter::once(first).chain(pieces).map(Ok::<_, Infallible>)))
}

/// An answer of unknown length that keeps its turn until it has ended.
struct Kept {
    body: Body,
    turn: Turn,
}

impl hyper::body::Body for Kept {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.turn.check()?;
        Pin::new(&mut self.body).poll_frame(context)
    }
}

/// An answer that keeps its turn until its last piece is handed over.
struct Pieces {
    rest: Bytes,
    turn: Turn,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        self.turn.check()?;
        let piece = PIECE.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
