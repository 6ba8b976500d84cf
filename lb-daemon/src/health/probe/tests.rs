use std::future::pending;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::model::Http;

/// A server on loopback that does this with its first connection.
async fn server<F: Future<Output = ()> + Send + 'static>(
    behaviour: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        behaviour(stream).await;
    });
    address
}

/// A server that reads the request's head and answers with this.
async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    server(async move |mut stream| {
        read_head(&mut stream).await;
        // The probe may know enough before it has read all.
        let _ = stream.write_all(&answer).await;
    })
    .await
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A port that nobody listens on.
async fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn http(expect_status: &[(u16, u16)]) -> Ask {
    let host = Some("www.example.org".into());
    Ask::Http(Http { path: "/healthz?deep=1".into(), host, expect_status: expect_status.into() })
}

async fn ask(target: SocketAddr, ask: Ask) -> (Verdict, String) {
    let probe = Probe { target, timeout: Duration::from_millis(400), ask };
    let outcome = run(&probe).await;
    assert!(outcome.latency < Duration::from_secs(2), "{outcome:?}");
    (outcome.result, outcome.text)
}

#[tokio::test]
async fn tcp_succeeds_when_the_connection_opens_and_resets_it() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let address = server(async move |mut stream| {
        let end = stream.read_u8().await.unwrap_err();
        sender.send(end.kind()).unwrap();
    })
    .await;
    assert_eq!(ask(address, Ask::Tcp).await, (Verdict::Success, "connected".into()));
    assert_eq!(receiver.await.unwrap(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    for how in [Ask::Tcp, http(&[(200, 299)])] {
        assert_eq!(ask(refusing().await, how).await, (Verdict::Failure, "connection refused".into()));
    }
}

#[tokio::test]
async fn a_full_backlog_times_out() {
    // Backlog 0 keeps one connection; further handshakes stay unanswered as long as nobody accepts.
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _filling = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(address, Ask::Tcp).await, (Verdict::Timeout, "no answer within 400ms".into()));
}

#[tokio::test]
async fn http_sends_what_was_configured_and_takes_an_expected_status() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let address = server(async move |mut stream| {
        sender.send(read_head(&mut stream).await).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    })
    .await;
    assert_eq!(ask(address, http(&[(200, 200), (204, 204)])).await, (Verdict::Success, "204 No Content".into()));
    let head = receiver.await.unwrap();
    assert!(head.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{head}");
    for header in ["host: www.example.org\r\n", "connection: close\r\n"] {
        assert!(head.contains(header), "{head}");
    }
}

#[tokio::test]
async fn http_fails_by_status_at_the_edges_of_its_ranges() {
    for (status, expected) in [(200, false), (201, true), (299, true), (300, false), (500, false)] {
        let address = answering(format!("HTTP/1.1 {status} Any Reason\r\ncontent-length: 0\r\n\r\n")).await;
        let (result, text) = ask(address, http(&[(201, 299)])).await;
        assert_eq!(result == Verdict::Success, expected, "{status}: {text}");
        assert!(text.starts_with(&status.to_string()) && !text.contains('<'), "{text}");
    }
}

#[tokio::test]
async fn http_does_not_wait_for_the_body() {
    let address = server(async |mut stream| {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nstart").await.unwrap();
        pending::<()>().await;
    })
    .await;
    assert_eq!(ask(address, http(&[(200, 200)])).await, (Verdict::Success, "200 OK".into()));
}

#[tokio::test]
async fn http_skips_informational_answers_and_knows_version_1_0() {
    let address = answering("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").await;
    assert_eq!(ask(address, http(&[(200, 200)])).await, (Verdict::Success, "200 OK".into()));
    let address = answering("HTTP/1.0 200 Fine\r\n\r\n").await;
    assert_eq!(ask(address, http(&[(200, 200)])).await, (Verdict::Success, "200 OK".into()));
}

#[tokio::test]
async fn http_times_out_when_the_server_hangs_before_or_within_its_head() {
    for start in ["", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nserver: slow\r\n"] {
        let address = server(async move |mut stream| {
            read_head(&mut stream).await;
            stream.write_all(start.as_bytes()).await.unwrap();
            pending::<()>().await;
        })
        .await;
        assert_eq!(
            ask(address, http(&[(200, 200)])).await,
            (Verdict::Timeout, "no answer within 400ms".into()),
            "{start}"
        );
    }
}

#[tokio::test]
async fn http_fails_when_the_server_closes_early() {
    for start in ["", "HTTP/1.1 200 OK\r\nserver: cut"] {
        assert_eq!(
            ask(answering(start).await, http(&[(200, 200)])).await,
            (Verdict::Failure, "closed without an answer".into())
        );
    }
    let address = server(async |stream| {
        stream.set_zero_linger().unwrap();
    })
    .await;
    let (result, text) = ask(address, http(&[(200, 200)])).await;
    assert_eq!(result, Verdict::Failure);
    assert!(["connection reset", "closed without an answer", "broken pipe"].contains(&text.as_str()), "{text}");
}

#[tokio::test]
async fn http_fails_on_what_is_not_http() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
    ] {
        let (result, text) = ask(answering(garbage).await, http(&[(0, 999)])).await;
        assert_eq!(result, Verdict::Failure, "{text}");
        assert!(text.contains("not HTTP") || text == "closed without an answer", "{text}");
    }
}

#[tokio::test]
async fn http_reads_no_endless_head() {
    let one_header = answering(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1 << 20))).await;
    let many_headers = answering(format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(100_000))).await;
    for address in [one_header, many_headers] {
        let (result, text) = ask(address, http(&[(200, 200)])).await;
        assert_eq!(result, Verdict::Failure);
        assert_eq!(text, "an answer whose head is larger than 16 KiB");
    }
}

#[tokio::test]
async fn an_impossible_request_is_a_failure_with_its_reason() {
    let impossible = Http { path: "/two words".into(), host: Some("a".into()), expect_status: vec![(200, 200)] };
    let (result, text) = ask(refusing().await, Ask::Http(impossible)).await;
    assert_eq!(result, Verdict::Failure);
    assert!(text.starts_with("cannot ask for this path and host"), "{text}");
}

#[tokio::test]
async fn no_port_is_a_failure_with_its_reason() {
    let (result, text) = ask("127.0.0.1:0".parse().unwrap(), Ask::Tcp).await;
    assert_eq!(result, Verdict::Failure);
    assert!(text.contains("no port to probe"), "{text}");
}

#[test]
fn a_lack_of_our_own_is_not_the_backends_failure() {
    for number in [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM] {
        assert!(matches!(Failed::from(io::Error::from_raw_os_error(number)), Failed::Here(_)));
    }
    for (number, expected) in [(libc::ECONNREFUSED, "connection refused"), (libc::EHOSTUNREACH, "host unreachable")] {
        let Failed::Answer(text) = Failed::from(io::Error::from_raw_os_error(number)) else { panic!("{number}") };
        assert_eq!(text, expected);
    }
}
