//! Documents that the runner posts to web servers: good ones, bad ones, and such as never answer.

use std::{net::SocketAddr, sync::Arc};

use certificates::Authority;
use lb_daemon::runner::{Outcome, Post, Task};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::*;

const BODY: &str = "{\"events\":[\"\u{e4}\\n\"]}";

/// A server with a certificate for `localhost`, signed by an authority whose certificate is in a file.
struct Signed {
    config: Arc<ServerConfig>,
    folder: tempfile::TempDir,
}

fn signed() -> Signed {
    let authority = Authority::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let config = authority.sign(&["localhost"]).unwrap().server().unwrap();
    Signed { config: Arc::new(config), folder }
}

/// Reads one request whole.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(BODY.as_bytes()) {
        request.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(request).unwrap()
}

/// Reads one request whole, and answers it.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let request = read(&mut stream).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    request
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn post(runner: &Runner, url: String) -> Result<(), String> {
    let task = Task::Post(Post { url, body: BODY.to_owned(), timeout: SECOND * 2 });
    let Outcome::Posted(posted) = runner.tell(task).await.unwrap() else { panic!("another task") };
    posted
}

#[tokio::test]
async fn a_document_is_posted_as_json_and_any_success_is_one() {
    let ((listener, address), runner) = (listener().await, runner());
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        answer(stream, "HTTP/1.1 204 No Content\r\n\r\n").await
    };
    let port = address.port();
    let (posted, request) = tokio::join!(post(&runner, format!("http://localhost:{port}/a/b?token=c")), serve);
    assert_eq!(posted, Ok(()));
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, BODY);
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /a/b?token=c HTTP/1.1"));
    let lines: Vec<String> = lines.map(str::to_lowercase).collect();
    let length = format!("content-length: {}", BODY.len());
    for wanted in [&format!("host: localhost:{port}"), "content-type: application/json", "user-agent: lb", &length] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted} in {lines:?}");
    }
}

#[tokio::test]
async fn what_is_no_success_is_told_in_words() {
    let runner = runner();
    for (text, why) in [
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "503 Service Unavailable"),
        ("HTTP/1.1 302 Found\r\nlocation: /other\r\n\r\n", "302 Found"),
        ("", "closed without an answer"),
        ("what?\r\n\r\n", "an answer that is not HTTP"),
    ] {
        let (listener, address) = listener().await;
        let serve = async { answer(listener.accept().await.unwrap().0, text).await };
        let (posted, _) = tokio::join!(post(&runner, format!("http://{address}/")), serve);
        let told = posted.unwrap_err();
        assert!(told.contains(why), "{told}");
    }
    let (unused, address) = listener().await;
    drop(unused);
    assert_eq!(post(&runner, format!("http://{address}")).await, Err("connection refused".into()));
    let unknown = post(&runner, "http://nobody.invalid/".into()).await.unwrap_err();
    assert!(unknown.contains("lookup") || unknown.contains("within"), "{unknown}");
}

#[tokio::test]
async fn who_never_answers_or_never_ends_holds_up_nobody() {
    let runner = runner();
    let (silent, address) = listener().await;
    let start = Instant::now();
    assert_eq!(post(&runner, format!("http://{address}/")).await, Err("no answer within 2s".into()));
    assert!(start.elapsed() < SECOND * 4, "{:?}", start.elapsed());
    drop(silent);
    // A body without end is not read: what is wanted of the answer stands before it.
    let (listener, address) = listener().await;
    let endless = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut sent = 0;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {
            sent += 4096;
        }
        sent
    });
    assert_eq!(post(&runner, format!("http://{address}/")).await, Ok(()));
    let sent = endless.await.unwrap();
    assert!(sent < 64 << 20, "{sent} bytes");
    // Nor are headers without end.
    let (listener, address) = self::listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x: y\r\n").await.is_ok() {}
    });
    let told = post(&runner, format!("http://{address}/")).await.unwrap_err();
    assert!(told.contains("larger than 16 KiB"), "{told}");
}

#[tokio::test]
async fn https_is_spoken_with_those_whose_certificate_is_good() {
    let Signed { config, folder } = signed();
    let ca = folder.path().join("ca.pem");
    let trusting = Runner::at(start(Path::new(env!("CARGO_BIN_EXE_lb")), Some(&ca)).unwrap()).unwrap();
    let (listener, address) = listener().await;
    let port = address.port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            answer(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    assert_eq!(post(&trusting, format!("https://localhost:{port}/hook")).await, Ok(()));
    let wrong_name = post(&trusting, format!("https://127.0.0.1:{port}/hook")).await.unwrap_err();
    assert!(wrong_name.contains("not valid for name 127.0.0.1"), "{wrong_name}");
    // Another authority is trusted, or none.
    let others = signed();
    let other = others.folder.path().join("ca.pem");
    let wary = Runner::at(start(Path::new(env!("CARGO_BIN_EXE_lb")), Some(&other)).unwrap()).unwrap();
    let unknown = post(&wary, format!("https://localhost:{port}/hook")).await.unwrap_err();
    assert!(unknown.contains("certificate from an unknown issuer"), "{unknown}");
    fs::write(&ca, "").unwrap();
    let none = post(&trusting, format!("https://localhost:{port}/hook")).await.unwrap_err();
    assert!(none.contains("has no CA certificates: install the package ca-certificates"), "{none}");
}
