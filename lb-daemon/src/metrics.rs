//! Prometheus text over TCP: `/metrics`, and `/healthz` for liveness.
//!
//! Series per (VIP, backend) pair: 13. With 10 VIPs of 100 backends that is 13,000, all else less than 180 and 7 per VIP;
//! labels are names from the configuration, so nothing that a client sends makes a series.

mod collect;
mod families;
mod pace;
mod sheet;
mod text;

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use prometheus::Registry;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use self::{pace::Pace, sheet::Sheet, text::Text};
use crate::controller::{AskError, Handle, chain};

/// An answer is given again for this many times as long as it took to make, so that a small daemon's figures are never
/// older than a blink.
const FRESH_FACTOR: u32 = 9;
/// No answer is given again after this.
const FRESH: Duration = Duration::from_secs(1);
/// The text of more samples than these is made while it is sent: that of a hundred thousand backends has 65 MB. Smaller
/// ones have about a megabyte, and are kept.
const SMALL: usize = 16_384;
/// A controller that gives no sign of life for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("cannot write the metrics as text")]
    Encode(#[from] prometheus::Error),
}

/// Makes the text. A small one is kept for a moment.
pub struct Exporter {
    controller: Handle,
    /// What other parts of the daemon count of themselves.
    counters: Registry,
    /// The last reading, and until when it is fresh.
    last: Mutex<Option<(Instant, Last)>>,
    pace: Arc<Pace>,
    /// See [`SMALL`].
    small: usize,
}

/// What is left of a reading.
enum Last {
    Text(Bytes),
    /// Too large to be kept, but there for as long as somebody is sent its text.
    Sheet(Weak<Sheet>),
}

impl Exporter {
    /// An exporter of what `controller` knows, and of what other parts of the daemon count of themselves.
    pub fn new(controller: Handle, counters: Registry) -> Self {
        Self { controller, counters, last: Mutex::new(None), pace: Arc::default(), small: SMALL }
    }

    /// The text of figures that are at most a second old.
    async fn text(&self) -> Result<Body, ScrapeError> {
        // Who comes while another one reads waits here, and gets what that one read.
        let mut last = self.last.lock().await;
        if let Some((until, kept)) = &*last
            && Instant::now() < *until
        {
            match kept {
                Last::Text(text) => return Ok(text.clone().into()),
                Last::Sheet(sheet) => {
                    if let Some(sheet) = sheet.upgrade() {
                        return Ok(self.sent(sheet));
                    }
                }
            }
        }
        let (kept, body, took) = self.pace.work(self.made()).await?;
        *last = Some((Instant::now() + (took * FRESH_FACTOR).min(FRESH), kept));
        Ok(body)
    }

    /// What to keep of a new reading, its text, and how long that took.
    async fn made(&self) -> Result<(Last, Body, Duration), ScrapeError> {
        let begun = Instant::now();
        let sheet = Arc::new(self.read().await?);
        if sheet.samples() > self.small {
            return Ok((Last::Sheet(Arc::downgrade(&sheet)), self.sent(sheet), begun.elapsed()));
        }
        let pieces = Text::of(sheet).collect::<Result<Vec<_>, _>>()?;
        let text = Bytes::from(pieces.concat());
        Ok((Last::Text(text.clone()), text.into(), begun.elapsed()))
    }

    async fn read(&self) -> Result<Sheet, ScrapeError> {
        let figures = self.controller.figures().await?;
        let flows = self.controller.flows().await?;
        Ok(Sheet::new(&self.controller.snapshot(), &figures, &flows, &self.counters)?)
    }

    /// Text that is made as it is taken. Its maker waits for nobody who does not take it.
    fn sent(&self, sheet: Arc<Sheet>) -> Body {
        let pieces = stream::unfold((Text::of(sheet), Arc::clone(&self.pace)), async |(mut text, pace)| {
            let piece = pace.work(async { text.next() }).await?;
            Some((piece, (text, pace)))
        });
        Body::from_stream(pieces)
    }
}

/// The endpoint's routes.
pub fn router(exporter: Exporter) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(alive)).with_state(Arc::new(exporter))
}

async fn metrics(State(exporter): State<Arc<Exporter>>) -> Response {
    match exporter.text().await {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", chain(&error))).into_response(),
    }
}

/// Alive is who answers: whether VIPs have backends is for `/metrics` and `lb status --check` to say.
async fn alive(State(exporter): State<Arc<Exporter>>) -> Response {
    match timeout(PATIENCE, exporter.controller.ping()).await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the controller does not answer\n").into_response(),
    }
}
