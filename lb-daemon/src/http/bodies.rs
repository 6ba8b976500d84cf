//! Reads the bodies of requests, so that all of them together take a bounded memory.
//!
//! Small bodies are read at once; there are never more of them than connections. A large one needs one of a few turns, which
//! it holds until its request is answered: what the request was made into is as large again.

use std::time::Duration;

use axum::http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// Larger bodies wait for a turn, in bytes.
const SMALL: usize = 64 * 1024;
/// Large bodies at once.
const TURNS: usize = 2;
/// A body must be there by then, the wait for a turn apart; 16 MiB take some milliseconds.
const ARRIVAL: Duration = Duration::from_secs(10);
/// Longest wait for a turn.
const WAIT: Duration = Duration::from_secs(10);

/// Reads bodies.
pub(super) struct Bodies {
    largest: usize,
    turns: Semaphore,
}

/// A body that has been read, and its turn if it is large.
pub(super) struct Read<'b> {
    pub(super) bytes: Vec<u8>,
    pub(super) turn: Option<SemaphorePermit<'b>>,
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It is longer than any may be.
    #[error("the body is too large; {} are taken at most", size(*largest))]
    TooLarge {
        /// Bytes at most.
        largest: usize,
    },
    /// It did not come in time.
    #[error("the body did not arrive within {} s", ARRIVAL.as_secs())]
    TooSlow,
    /// Others are at it.
    #[error("other large requests are being read; try again in a moment")]
    NoTurn,
    /// The connection broke, or its chunks make no sense.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
}

impl Unread {
    /// The status to answer with.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoTurn => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// A size in words.
fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{bytes} bytes"),
    }
}

impl Bodies {
    /// Reads bodies of at most so many bytes.
    pub(super) fn new(largest: usize) -> Self {
        Self { largest, turns: Semaphore::new(TURNS) }
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// When it is too large, too slow or broken, or too many others are large.
    pub(super) async fn read(&self, mut body: Incoming) -> Result<Read<'_>, Unread> {
        // Known from the head alone, so that nobody waits for a body that is not going to be read.
        let declared = body.size_hint();
        let least = usize::try_from(declared.lower()).unwrap_or(usize::MAX);
        if least > self.largest {
            return Err(Unread::TooLarge { largest: self.largest });
        }
        let mut read = Read { bytes: Vec::new(), turn: None };
        if self.arrive(&mut body, &mut read, SMALL).await? {
            return Ok(read);
        }
        let turn = timeout(WAIT, self.turns.acquire()).await.map_err(|_| Unread::NoTurn)?;
        read.turn = turn.ok();
        // No memory before it is written to, and never more than what is declared.
        read.bytes.reserve_exact(least.saturating_sub(read.bytes.len()));
        if self.arrive(&mut body, &mut read, self.largest).await? {
            return Ok(read);
        }
        Err(Unread::TooLarge { largest: self.largest })
    }

    /// Takes what comes until it is more than `most`. Tells whether it has all come.
    async fn arrive(&self, body: &mut Incoming, read: &mut Read<'_>, most: usize) -> Result<bool, Unread> {
        let all = async {
            while read.bytes.len() <= most {
                let Some(frame) = body.frame().await else { return Ok(true) };
                if let Some(data) = frame?.data_ref() {
                    read.bytes.extend_from_slice(data);
                }
            }
            Ok(false)
        };
        timeout(ARRIVAL, all).await.map_err(|_| Unread::TooSlow)?
    }
}
