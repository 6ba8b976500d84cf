//! gRPC, with servers that answer well, badly, without end or not at all.

use std::future::{pending, poll_fn};

use h2::{Reason, server::SendResponse};
use hyper::{HeaderMap, Request, Response, body::Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    tls::{certified, new_authority, tls_server, trusting},
    *,
};
use crate::model::Grpc;

/// An answer of HTTP/2.
#[derive(Clone, Default)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<Vec<u8>>,
    trailers: Option<Vec<(&'static str, &'static str)>>,
}

/// A message as gRPC frames it.
fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), bytes].concat()
}

/// A call that goes well, with this message.
fn answered(bytes: &[u8]) -> Reply {
    Reply {
        status: 200,
        headers: vec![("content-type", "application/grpc+proto")],
        body: Some(message(bytes)),
        trailers: Some(vec![("grpc-status", "0")]),
    }
}

fn send(reply: &Reply, mut respond: SendResponse<Bytes>) {
    let mut head = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        head = head.header(*name, *value);
    }
    let alone = reply.body.is_none() && reply.trailers.is_none();
    let mut stream = respond.send_response(head.body(()).unwrap(), alone).unwrap();
    if let Some(body) = &reply.body {
        stream.send_data(body.clone().into(), reply.trailers.is_none()).unwrap();
    }
    if let Some(trailers) = &reply.trailers {
        let trailers: HeaderMap =
            trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        stream.send_trailers(trailers).unwrap();
    }
}

/// Takes one call, answers it so, and gives back what was asked.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, reply: &Reply) -> Option<(Request<()>, Vec<u8>)> {
    let mut connection = h2::server::handshake(stream).await.ok()?;
    let (request, respond) = connection.accept().await?.ok()?;
    let (head, mut body) = request.into_parts();
    let read = async {
        let mut asked = Vec::new();
        while let Some(Ok(data)) = body.data().await {
            asked.extend(data);
        }
        asked
    };
    // The connection works while it is polled for another call, which does not come.
    let asked = tokio::select! { asked = read => asked, _ = connection.accept() => return None };
    send(reply, respond);
    let _ = poll_fn(|cx| connection.poll_closed(cx)).await;
    Some((Request::from_parts(head, ()), asked))
}

async fn serving(reply: Reply) -> SocketAddr {
    server(async move |stream| drop(serve(stream, &reply).await)).await
}

fn grpc(service: &str) -> Ask {
    Ask::Grpc(Grpc { service: service.into(), host: Some("shop.example:50051".into()), tls: None })
}

fn failure(text: &str) -> (Verdict, String) {
    (Verdict::Failure, text.into())
}

#[tokio::test]
async fn grpc_asks_for_the_service_and_takes_serving() {
    for (service, encoded) in [("", &b""[..]), ("a.B", b"\x0a\x03a.B")] {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let address = server(async move |stream| {
            sender.send(serve(stream, &answered(&[8, 1])).await.unwrap()).unwrap();
        })
        .await;
        assert_eq!(ask_patiently(address, grpc(service)).await, (Verdict::Success, "SERVING".into()));
        let (head, body) = receiver.await.unwrap();
        assert_eq!(body, message(encoded));
        assert_eq!(head.uri(), "http://shop.example:50051/grpc.health.v1.Health/Check");
        assert_eq!(head.method(), "POST");
        assert_eq!(
            (&head.headers()["content-type"], &head.headers()["te"]),
            (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn grpc_tells_how_a_service_is() {
    for (bytes, text) in [
        (&[8, 2][..], "NOT_SERVING"),
        (&[8, 0], "UNKNOWN"),
        (&[], "UNKNOWN"),
        (&[8, 3], "SERVICE_UNKNOWN"),
        (&[8, 9], "serving status 9"),
        // Fields that are not known are passed over.
        (&[18, 1, 0, 8, 2], "NOT_SERVING"),
    ] {
        assert_eq!(ask_patiently(serving(answered(bytes)).await, grpc("a")).await, failure(text), "{bytes:?}");
    }
}

#[tokio::test]
async fn grpc_tells_the_status_of_a_call_that_goes_wrong() {
    let alone = |status| Reply {
        status: 200,
        headers: vec![("content-type", "application/grpc"), ("grpc-status", status)],
        ..Reply::default()
    };
    let late = Reply { trailers: Some(vec![("grpc-status", "14")]), ..answered(&[8, 1]) };
    for (reply, text) in [
        (alone("12"), "gRPC status UNIMPLEMENTED"),
        (alone("5"), "gRPC status NOT_FOUND"),
        (alone("99"), "gRPC status that is not known"),
        (alone("x"), "gRPC status that is not known"),
        (late, "gRPC status UNAVAILABLE"),
    ] {
        assert_eq!(ask_patiently(serving(reply).await, grpc("a")).await, failure(text));
    }
}

#[tokio::test]
async fn grpc_fails_on_other_answers() {
    let good = answered(&[8, 1]);
    let body = |body: Vec<u8>| Reply { body: Some(body), ..good.clone() };
    let plain = |status| Reply { status, headers: vec![("content-type", "text/html")], ..Reply::default() };
    for (reply, text) in [
        (plain(404), "not gRPC: HTTP status 404 Not Found"),
        (plain(200), "an answer that is not gRPC"),
        (Reply { headers: Vec::new(), ..good.clone() }, "an answer that is not gRPC"),
        (Reply { trailers: None, ..good.clone() }, "an answer without a gRPC status"),
        (Reply { trailers: Some(vec![("x", "y")]), ..good.clone() }, "an answer without a gRPC status"),
        (Reply { body: None, ..good.clone() }, "an answer that is not gRPC health's"),
        (body(vec![0, 0, 0]), "an answer that is not gRPC health's"),
        (body(vec![1, 0, 0, 0, 2, 8, 1]), "an answer that is not gRPC health's"),
        (body(vec![0, 0, 0, 0, 3, 8, 1]), "an answer that is not gRPC health's"),
        (body(vec![0, 0, 0, 0, 1, 8, 1]), "an answer that is not gRPC health's"),
        (body(vec![0, 0, 0, 0, 2, 0xff, 0xff]), "an answer that is not gRPC health's"),
        (body(message(&[0; 2000])), "an answer that is too large for gRPC health"),
    ] {
        assert_eq!(ask_patiently(serving(reply).await, grpc("a")).await, failure(text));
    }
}

/// A server that says so, whatever it is asked, and then is silent.
async fn saying(bytes: Vec<u8>) -> SocketAddr {
    server(async move |mut stream| {
        let _ = stream.write_all(&bytes).await;
        // What comes is read, so that closing does not reset.
        let mut sink = [0; 4096];
        while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        pending::<()>().await;
    })
    .await
}

/// A frame of HTTP/2 with this type, these flags, on this stream.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

#[tokio::test]
async fn grpc_fails_on_what_is_not_http2() {
    let huge = [&SETTINGS[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
    for garbage in [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), b"\x15\x03\x01\x00\x02\x02\x46".repeat(9), huge] {
        let found = ask_patiently(saying(garbage.clone()).await, grpc("a")).await;
        assert_eq!(found, failure("an answer that is not HTTP/2"), "{garbage:?}");
    }
}

#[tokio::test]
async fn grpc_fails_when_the_server_sends_it_away() {
    let going =
        |reason: Reason| [&SETTINGS[..], &frame(7, 0, 0, &[[0; 4], u32::from(reason).to_be_bytes()].concat())].concat();
    let reset = |reason: Reason| [&SETTINGS[..], &frame(3, 0, 1, &u32::from(reason).to_be_bytes())].concat();
    for (bytes, text) in [
        (going(Reason::NO_ERROR), "closed without an answer"),
        (going(Reason::ENHANCE_YOUR_CALM), "refused by the server: "),
        (reset(Reason::REFUSED_STREAM), "refused by the server: "),
        (reset(Reason::INTERNAL_ERROR), "refused by the server: "),
    ] {
        let address = server(async move |mut stream| {
            // The question, of which the stream is the first.
            let mut asked = [0; 200];
            let _ = stream.read(&mut asked).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = stream.write_all(&bytes).await;
            let mut sink = [0; 4096];
            while stream.read(&mut sink).await.is_ok_and(|count| count > 0) {}
        })
        .await;
        let (result, told) = ask_patiently(address, grpc("a")).await;
        assert_eq!(result, Verdict::Failure);
        assert!(told.starts_with(text), "{told}");
    }
}

#[tokio::test]
async fn grpc_fails_when_the_connection_ends() {
    let address = server(async |stream| stream.set_zero_linger().unwrap()).await;
    let (result, text) = ask_patiently(address, grpc("a")).await;
    assert_eq!(result, Verdict::Failure);
    assert!(["connection reset", "broken pipe", "closed without an answer"].contains(&text.as_str()), "{text}");
    let address = server(async |mut stream| {
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked).await;
        let _ = stream.write_all(&SETTINGS).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = stream.read(&mut asked).await;
    })
    .await;
    let (result, text) = ask_patiently(address, grpc("a")).await;
    assert_eq!(result, Verdict::Failure);
    assert!(["connection reset", "broken pipe", "closed without an answer"].contains(&text.as_str()), "{text}");
}

#[tokio::test]
async fn grpc_times_out_when_the_server_hangs() {
    for bytes in [Vec::new(), SETTINGS[..5].to_vec(), SETTINGS.to_vec()] {
        let found = ask(saying(bytes).await, grpc("a")).await;
        assert_eq!(found, (Verdict::Timeout, "no answer within 400ms".into()));
    }
}

#[tokio::test]
async fn grpc_reads_nothing_without_end() {
    let pings = frame(6, 0, 0, &[0; 8]);
    let settings = SETTINGS.to_vec();
    let headers = frame(1, 0, 1, &[0x88]);
    let more_headers = [0, 1, b'x', 1, b'y'].repeat(3000);
    let continuations = frame(9, 0, 1, &more_headers);
    let data = frame(0, 0, 1, &[0; 16_384]);
    for (start, again) in
        [(Vec::new(), pings), (Vec::new(), settings), (headers.clone(), continuations), (frame(1, 4, 1, &[0x88]), data)]
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let address = server(async move |stream| {
            let (mut read, mut write) = stream.into_split();
            let mut asked = [0; 200];
            let _ = read.read(&mut asked).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            tokio::spawn(async move {
                let mut sink = [0; 4096];
                while read.read(&mut sink).await.is_ok_and(|count| count > 0) {}
            });
            let mut sent = 0;
            let _ = write.write_all(&[&SETTINGS[..], &start].concat()).await;
            while write.write_all(&again).await.is_ok() {
                sent += again.len() as u64;
            }
            sender.send(sent).unwrap();
        })
        .await;
        let (result, text) = ask_patiently(address, grpc("a")).await;
        assert_eq!(result, Verdict::Failure, "{text}");
        let known = [
            "more than any answer of gRPC health",
            "closed without an answer",
            "closed within an answer",
            "an answer that is not gRPC",
            "an answer that is too large for gRPC health",
        ];
        assert!(known.contains(&text.as_str()), "{text}");
        let sent = receiver.await.unwrap();
        // What lies in the sockets' buffers is sent too.
        assert!(sent < BUFFERS, "{sent} bytes: {text}");
    }
}

#[tokio::test]
async fn grpc_speaks_tls_if_it_is_to() {
    let authority = new_authority();
    let asked = |tls| Ask::Grpc(Grpc { service: "a".into(), host: Some("shop.example".into()), tls: Some(tls) });
    let mut config = certified(&authority);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let address = tls_server(config.clone(), async move |stream| {
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let served = serve(stream, &answered(&[8, 1])).await;
        sender.send((protocol, served.unwrap().0.uri().to_string())).unwrap();
    })
    .await;
    assert_eq!(ask_patiently(address, asked(trusting(&authority))).await, (Verdict::Success, "SERVING".into()));
    let (protocol, uri) = receiver.await.unwrap();
    assert_eq!(protocol.as_deref(), Some(&b"h2"[..]));
    assert_eq!(uri, "https://shop.example/grpc.health.v1.Health/Check");
    let address = tls_server(config, async |_| ()).await;
    let found = ask_patiently(address, asked(trusting(&new_authority()))).await;
    assert_eq!(found, failure("certificate from an unknown issuer"));
    let mut older = certified(&authority);
    older.alpn_protocols = vec![b"http/1.1".to_vec()];
    let found = ask_patiently(tls_server(older, async |_| ()).await, asked(trusting(&authority))).await;
    assert_eq!(found, failure("refused by the server: no application protocol"));
}
