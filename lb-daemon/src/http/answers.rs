//! Large answers: few at once, and each in pieces, so that callers who do not read hold a bounded memory.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
    response::Response,
};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal;

/// Larger answers need a turn, in bytes: the backends of some thousand VIPs.
const LARGE: u64 = 1 << 20;
/// Large answers at once.
const TURNS: usize = 4;
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
        if response.body().size_hint().lower() <= LARGE {
            return response;
        }
        let Ok(turn) = Arc::clone(&self.0).try_acquire_owned() else {
            return refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "other large answers are being read; try again in a moment",
            );
        };
        let (head, body) = response.into_parts();
        match body.collect().await {
            Ok(whole) => Response::from_parts(head, Body::new(Pieces { rest: whole.to_bytes(), _turn: turn })),
            Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

/// An answer that keeps its turn until its last piece is handed over.
struct Pieces {
    rest: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
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
