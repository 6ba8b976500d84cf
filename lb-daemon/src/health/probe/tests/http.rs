//! HTTP, with servers that answer well, badly, without end or not at all.

use std::future::pending;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::model::{Body, Method, Pattern};

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

fn http(expect_status: &[(u16, u16)]) -> Ask {
    let host = Some("www.example.org".into());
    let path = "/healthz?deep=1".into();
    Ask::Http(Http { path, host, expect_status: expect_status.into(), ..Http::default() })
}

fn text(wanted: &str) -> Ask {
    Ask::Http(Http { expect_body: Some(Body::Text(wanted.into())), ..Http::default() })
}

fn matching(pattern: &str) -> Ask {
    Ask::Http(Http { expect_body: Some(Body::Match(Pattern::new(pattern).unwrap())), ..Http::default() })
}

fn ok() -> (Verdict, String) {
    (Verdict::Success, "200 OK".into())
}

fn failure(text: &str) -> (Verdict, String) {
    (Verdict::Failure, text.into())
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
        // A backend is down, and the reason looks like a success.
        assert_eq!(text.ends_with(", not an expected status"), status == 200, "{text}");
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
            ask_patiently(answering(start).await, http(&[(200, 200)])).await,
            (Verdict::Failure, "closed without an answer".into())
        );
    }
    let address = server(async |stream| {
        stream.set_zero_linger().unwrap();
    })
    .await;
    let (result, text) = ask_patiently(address, http(&[(200, 200)])).await;
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
    let impossible = Http { path: "/two words".into(), ..Http::default() };
    let (result, text) = ask(refusing().await, Ask::Http(impossible)).await;
    assert_eq!(result, Verdict::Failure);
    assert!(text.starts_with("cannot ask for this path, host and headers"), "{text}");
}

#[tokio::test]
async fn http_sends_methods_and_headers_as_they_are_written() {
    for method in Method::ALL {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let address = server(async move |mut stream| {
            sender.send(read_head(&mut stream).await).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
        })
        .await;
        let headers = [("X-Check", "lb of \"here\""), ("User-Agent", "me")];
        let headers = headers.map(|(name, value)| (name.into(), value.into())).into();
        let asked = Http { method, path: "/x".into(), headers, ..Http::default() };
        assert_eq!(ask(address, Ask::Http(asked)).await, ok());
        let head = receiver.await.unwrap();
        assert!(head.starts_with(&format!("{} /x HTTP/1.1\r\n", method.name())), "{head}");
        assert!(head.contains("x-check: lb of \"here\"\r\n") && head.contains("user-agent: me\r\n"), "{head}");
        assert!(!head.contains("lb-health-check"), "{head}");
        // Nothing follows the head, and a server that waits for a body must be told so.
        let has_length = head.contains("content-length: 0\r\n");
        assert_eq!(has_length, matches!(method, Method::Post | Method::Put), "{head}");
    }
}

#[tokio::test]
async fn http_finds_a_text_across_chunks_and_ends_reading_there() {
    let address = server(async |mut stream| {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nall is re").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(b"ady").await.unwrap();
        pending::<()>().await;
    })
    .await;
    assert_eq!(ask(address, text("ready")).await, ok());
    let chunked = "is ready".chars().map(|c| format!("1\r\n{c}\r\n")).collect::<Vec<_>>().concat();
    let address = answering(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunked}0\r\n\r\n")).await;
    assert_eq!(ask(address, text("ready")).await, ok());
}

#[tokio::test]
async fn http_resets_the_connection_when_it_has_its_answer() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let address = server(async move |mut stream| {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await.unwrap();
        sender.send(stream.read_u8().await.unwrap_err().kind()).unwrap();
    })
    .await;
    assert_eq!(ask(address, http(&[(200, 200)])).await, ok());
    assert_eq!(receiver.await.unwrap(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn http_reads_no_endless_line_of_early_answers() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let address = server(async move |mut stream| {
        read_head(&mut stream).await;
        let mut sent = 0_u64;
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {
            sent += 28;
        }
        sender.send(sent).unwrap();
    })
    .await;
    assert_eq!(ask_patiently(address, http(&[(200, 200)])).await, failure("closed without an answer"));
    // What lies in the sockets' buffers is sent too.
    let sent = receiver.await.unwrap();
    assert!(sent < BUFFERS, "{sent} bytes");
}

#[tokio::test]
async fn http_fails_without_the_expected_text() {
    for body in ["", "re", "not yet ready", "READY TO GO"] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let wanted = failure("200 OK, without the expected text in the body");
        assert_eq!(ask(answering(answer).await, text("ready to go")).await, wanted, "{body}");
    }
    // Of what is not expected anyway the body says nothing.
    let address = answering("HTTP/1.1 503 Service Unavailable\r\n\r\nready to go").await;
    assert_eq!(ask(address, text("ready to go")).await, failure("503 Service Unavailable"));
}

#[tokio::test]
async fn http_matches_the_whole_body() {
    let lacks = failure("200 OK, without a match of the expected pattern in the body");
    for (pattern, body, matches) in [
        (r#""status":\s*"(ok|warn)""#, &br#"{"a":1,"status": "warn"}"#[..], true),
        (r#""status":\s*"(ok|warn)""#, br#"{"status": "down"}"#, false),
        ("^ok$", b"ok", true),
        ("^ok$", b"ok, nearly", false),
        (r"^\d+$", b"17", true),
        ("(?i)READY", b"\xff\x00 ready", true),
        ("^$", b"", true),
    ] {
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend(body);
        let wanted = if matches { ok() } else { lacks.clone() };
        assert_eq!(ask(answering(answer).await, matching(pattern)).await, wanted, "{pattern}");
    }
}

#[tokio::test]
async fn http_reads_no_endless_body() {
    let answer = |length: usize| format!("HTTP/1.1 200 OK\r\n\r\n{}ready", "x".repeat(length));
    for (length, end) in [
        (65_531, None),
        (65_532, Some("the first 64 KiB of the body")),
        (4 << 20, Some("the first 64 KiB of the body")),
    ] {
        let found = ask(answering(answer(length)).await, text("ready")).await;
        let wanted = end.map_or_else(ok, |end| failure(&format!("200 OK, without the expected text in {end}")));
        assert_eq!(found, wanted, "{length}");
        let found = ask(answering(answer(length)).await, matching("ready$")).await;
        let lack = |end| failure(&format!("200 OK, without a match of the expected pattern in {end}"));
        assert_eq!(found, end.map_or_else(ok, lack), "{length}");
    }
}

#[tokio::test]
async fn http_times_out_when_a_body_drips() {
    for how in [text("ready"), matching("ready")] {
        let address = server(async |mut stream| {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_eq!(ask(address, how).await, (Verdict::Timeout, "no answer within 400ms".into()));
    }
}

#[tokio::test]
async fn http_fails_when_a_body_breaks_off() {
    for (rest, why) in [
        ("content-length: 100\r\n\r\nrea", "end of file before message length reached"),
        ("transfer-encoding: chunked\r\n\r\nzzz\r\n", "invalid"),
    ] {
        let (result, told) = ask(answering(format!("HTTP/1.1 200 OK\r\n{rest}")).await, text("ready")).await;
        assert_eq!(result, Verdict::Failure);
        assert!(told.starts_with("200 OK, then a broken body: ") && told.to_lowercase().contains(why), "{told}");
    }
}

#[test]
fn the_worst_pattern_that_is_taken_takes_no_long_time() {
    let taken = (1..).map(|times| format!("[01]*1[01]{{{times}}}z")).map_while(|text| Pattern::new(&text).ok());
    let worst = taken.last().unwrap();
    // A sixteenth of what may be read, for the sake of builds without optimization; the time grows with the length.
    let body: Vec<u8> = (0_u32..4_096).map(|n| b'0' + u8::from(n.wrapping_mul(2_654_435_761) >> 31 == 1)).collect();
    let begun = std::time::Instant::now();
    assert!(!worst.is_in(&body));
    let took = begun.elapsed();
    eprintln!("{}: {took:?}", worst.as_str());
    assert!(took < Duration::from_secs(1), "{}: {took:?}", worst.as_str());
}
