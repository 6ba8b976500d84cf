//! An HTTP/1.1 GET whose status is expected. Only the head of the answer is read.

use std::{net::SocketAddr, pin::pin};

use http_body_util::Empty;
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;

use super::{Failed, connect, words};
use crate::model::Http;

/// Largest status line and headers, in bytes.
const LARGEST_HEAD: usize = 16 * 1024;

pub(super) async fn attempt(target: SocketAddr, ask: &Http) -> Result<String, Failed> {
    let request = Request::get(&ask.path)
        .header(header::HOST, ask.host.as_deref().unwrap_or_default())
        .header(header::USER_AGENT, "lb-health-check")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failed::Answer(format!("cannot ask for this path and host: {error}")))?;
    let status = status(target, request).await?;
    let text = status.to_string();
    // A status without a name shows as `299 <unknown status code>`.
    let text = text.strip_suffix(" <unknown status code>").unwrap_or(&text);
    if ask.expect_status.iter().any(|&(first, last)| (first..=last).contains(&status.as_u16())) {
        Ok(text.into())
    } else {
        Err(Failed::Answer(text.into()))
    }
}

/// Sends the request and takes the answer's status; the connection is reset when that is known.
async fn status(target: SocketAddr, request: Request<Empty<Bytes>>) -> Result<StatusCode, Failed> {
    let stream = TokioIo::new(connect(target).await?);
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(LARGEST_HEAD).handshake(stream).await.map_err(|error| explain(&error))?;
    let mut response = pin!(sender.send_request(request));
    let mut connection = pin!(connection);
    let answer = tokio::select! {
        answer = &mut response => answer,
        // The connection ended; the answer tells how.
        _ = &mut connection => response.await,
    };
    answer.map(|response| response.status()).map_err(|error| explain(&error))
}

/// hyper's error in an operator's words.
fn explain(error: &hyper::Error) -> Failed {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    Failed::Answer(match source {
        Some(source) => words(source),
        None if error.is_parse_too_large() => {
            format!("an answer whose head is larger than {} KiB", LARGEST_HEAD / 1024)
        }
        None if error.is_parse() => format!("an answer that is not HTTP: {error}"),
        None if error.is_incomplete_message() => "closed without an answer".into(),
        None => error.to_string(),
    })
}
