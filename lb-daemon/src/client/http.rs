//! One request by HTTP/1.1, and its answer.

use std::pin::pin;

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Failed, words};

/// Largest status line and headers, in bytes.
const LARGEST_HEAD: usize = 16 * 1024;
/// Most that is read in all, in bytes: of the head, of the body, and of how it is cut in pieces. Besides a handshake.
pub(crate) const MOST: usize = 96 * 1024;

/// Sends a request and has the answer judged, of which no more is read than `judge` reads; the connection is dropped then.
pub(crate) async fn exchange<S, T>(
    stream: S,
    request: Request<Full<Bytes>>,
    judge: impl AsyncFnOnce(Response<Incoming>) -> Result<T, Failed>,
) -> Result<T, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: hyper::Error| Failed::Answer(explain(&error));
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(LARGEST_HEAD).handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut talk = pin!(async { judge(sender.send_request(request).await.map_err(broken)?).await });
    let mut connection = pin!(connection);
    tokio::select! {
        end = &mut talk => end,
        // The connection ended; the talk tells how.
        _ = &mut connection => talk.await,
    }
}

/// hyper's error in an operator's words.
pub(crate) fn explain(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source {
        Some(source) => words(source),
        None if error.is_parse_too_large() => {
            format!("an answer whose head is larger than {} KiB", LARGEST_HEAD / 1024)
        }
        None if error.is_parse() => format!("an answer that is not HTTP: {error}"),
        None if error.is_incomplete_message() || error.is_canceled() => "closed without an answer".into(),
        None => error.to_string(),
    }
}
