//! How a gRPC server says that a service of it is: `Check` of `grpc.health.v1.Health`, over HTTP/2.

use std::{io, pin::pin};

use h2::client::{Builder, SendRequest};
use hyper::{
    HeaderMap, Request, StatusCode, Version,
    body::{Buf, Bytes},
    header,
};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Failed, Reach};
use crate::{
    client::{
        Bounded, Clients,
        tls::{self, handshake},
        words,
    },
    model::Grpc,
};

/// Largest headers, and largest trailers, in bytes.
const LARGEST_HEAD: u32 = 16 * 1024;
/// Largest message that is taken for an answer, in bytes; it has a field of two.
const LARGEST_MESSAGE: usize = 1024;
/// Whether it is compressed, and its length: what stands in front of each message.
const PREFIX: usize = 5;
/// Most that is read in all, in bytes, of headers, message and all other frames. Besides a handshake.
const MOST: usize = 32 * 1024;

/// `HealthCheckRequest`
#[derive(PartialEq, Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`
#[derive(PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) async fn attempt(reach: &Reach, ask: &Grpc, clients: &Clients) -> Result<String, Failed> {
    let request = request(ask)?;
    let most = MOST + if ask.tls.is_some() { tls::MOST } else { 0 };
    let stream = Bounded::new(reach.connect().await?, most);
    match &ask.tls {
        None => exchange(stream, request, ask).await,
        Some(tls) => {
            let stream = handshake(stream, tls, Some(b"h2"), clients).await?;
            Box::pin(exchange(stream, request, ask)).await
        }
    }
}

fn request(ask: &Grpc) -> Result<Request<()>, Failed> {
    let scheme = if ask.tls.is_some() { "https" } else { "http" };
    let host = ask.host.as_deref().unwrap_or_default();
    let request = Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "lb-health-check")
        .body(());
    request.map_err(|error| Failed::Answer(format!("cannot ask for this host: {error}")))
}

/// Sends the request and judges the answer; the connection is dropped when enough is known.
async fn exchange<S>(stream: S, request: Request<()>, ask: &Grpc) -> Result<String, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .max_header_list_size(LARGEST_HEAD)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(|error| explain(&error))?;
    let mut talk = pin!(talk(sender, request, ask));
    let mut connection = pin!(connection);
    tokio::select! {
        end = &mut talk => end,
        // The connection ended; the talk tells how.
        _ = &mut connection => talk.await,
    }
}

async fn talk(sender: SendRequest<Bytes>, request: Request<()>, ask: &Grpc) -> Result<String, Failed> {
    let mut sender = sender.ready().await.map_err(|error| explain(&error))?;
    let (response, mut body) = sender.send_request(request, false).map_err(|error| explain(&error))?;
    body.send_data(framed(&Question { service: ask.service.clone() }), true).map_err(|error| explain(&error))?;
    let response = response.await.map_err(|error| explain(&error))?;
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(Failed::Answer(format!("not gRPC: HTTP status {}", head.status)));
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return Err(Failed::Answer("an answer that is not gRPC".into()));
    }
    // An error may come without a body, all in one.
    refused(&head.headers)?;
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| explain(&error))?;
        if message.len() + data.len() > PREFIX + LARGEST_MESSAGE {
            return Err(Failed::Answer("an answer that is too large for gRPC health".into()));
        }
        message.extend_from_slice(&data);
        // It fits the window that every stream begins with, so nothing has to be given back.
    }
    let trailers = body.trailers().await.map_err(|error| explain(&error))?;
    let closed = || Failed::Answer("an answer without a gRPC status".into());
    if !refused(&trailers.ok_or_else(closed)?)? {
        return Err(closed());
    }
    match answer(&message) {
        Some(1) => Ok("SERVING".into()),
        Some(status) => Err(Failed::Answer(serving_status(status))),
        None => Err(Failed::Answer("an answer that is not gRPC health's".into())),
    }
}

fn framed(question: &Question) -> Bytes {
    let message = question.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], length.to_be_bytes().as_slice(), &message].concat().into()
}

/// The status in a message that is whole and not compressed.
fn answer(mut message: &[u8]) -> Option<i32> {
    let plain = message.try_get_u8().ok()? == 0;
    let length = message.try_get_u32().ok()?;
    let whole = usize::try_from(length).is_ok_and(|length| length == message.len());
    Some(Answer::decode(message).ok().filter(|_| plain && whole)?.status)
}

fn serving_status(status: i32) -> String {
    match status {
        0 => "UNKNOWN".into(),
        2 => "NOT_SERVING".into(),
        3 => "SERVICE_UNKNOWN".into(),
        other => format!("serving status {other}"),
    }
}

/// Whether headers have the status of a call that went well; an error if it went wrong.
fn refused(headers: &HeaderMap) -> Result<bool, Failed> {
    let Some(status) = headers.get("grpc-status") else { return Ok(false) };
    let code = status.to_str().ok().and_then(|status| status.parse::<usize>().ok());
    match code {
        Some(0) => Ok(true),
        code => {
            let name = code.and_then(|code| CODES.get(code)).copied().unwrap_or("that is not known");
            Err(Failed::Answer(format!("gRPC status {name}")))
        }
    }
}

/// gRPC's statuses, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// h2's error in an operator's words.
fn explain(error: &h2::Error) -> Failed {
    Failed::Answer(match (error.get_io(), error.reason()) {
        // The numbers of the system's errors are lost on the way.
        (Some(error), _) => match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => "closed without an answer".into(),
            io::ErrorKind::ConnectionReset => error.kind().to_string(),
            // What h2 says of a frame that is not whole.
            io::ErrorKind::Other => "closed within an answer".into(),
            _ => words(error),
        },
        (None, Some(h2::Reason::NO_ERROR)) => "closed without an answer".into(),
        (None, Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR)) if error.is_library() => {
            "an answer that is not HTTP/2".into()
        }
        (None, Some(h2::Reason::ENHANCE_YOUR_CALM | h2::Reason::FLOW_CONTROL_ERROR)) if error.is_library() => {
            "more than any answer of gRPC health".into()
        }
        (None, Some(reason)) if error.is_remote() => format!("refused by the server: {}", reason.description()),
        _ => error.to_string(),
    })
}
