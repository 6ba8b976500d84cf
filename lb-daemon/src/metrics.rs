//! Prometheus text over TCP: `/metrics`, and `/healthz` for liveness.
//!
//! Series per (VIP, backend) pair: 12. With 10 VIPs of 100 backends that is 12,000, all else less than 150 and 4 per VIP;
//! labels are names from the configuration, so nothing that a client sends makes a series.

mod collect;
mod families;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use self::collect::Collected;
use crate::{
    controller::{AskError, Handle, chain},
    health,
};

/// An answer is given again for this many times as long as it took to make, so that however many scrapers come, they take
/// a tenth of one CPU at most; and a small daemon's figures are never older than a blink.
const FRESH_FACTOR: u32 = 9;
/// No answer is given again after this.
const FRESH: Duration = Duration::from_secs(1);
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

/// Makes the text, and keeps it for a moment.
pub struct Exporter {
    controller: Handle,
    health: health::Stats,
    /// The last answer, and until when it is fresh.
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Exporter {
    /// An exporter of what `controller` knows, and of the checks' own figures.
    pub fn new(controller: Handle, health: health::Stats) -> Self {
        Self { controller, health, last: Mutex::new(None) }
    }

    /// The text, at most a second old.
    async fn text(&self) -> Result<Bytes, ScrapeError> {
        // Who comes while another one reads waits here, and gets what that one read.
        let mut last = self.last.lock().await;
        let begun = Instant::now();
        if let Some((until, text)) = &*last
            && begun < *until
        {
            return Ok(text.clone());
        }
        let figures = self.controller.figures().await?;
        let flows = self.controller.flows().await?;
        let registry = Registry::new();
        registry.register(Box::new(Collected::new(&self.controller.snapshot(), &figures, &flows)?))?;
        self.health.register(&registry)?;
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text)?;
        let text = Bytes::from(text);
        let fresh = (begun.elapsed() * FRESH_FACTOR).min(FRESH);
        *last = Some((Instant::now() + fresh, text.clone()));
        Ok(text)
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
