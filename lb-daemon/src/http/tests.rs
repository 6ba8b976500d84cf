//! Callers that do not behave, on a real unix socket. Time is the tests' own: it jumps when all wait.

use std::{iter, path::PathBuf};

use axum::{body::Bytes, routing::post};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::{Instant, sleep},
};

use super::*;

const LARGEST: usize = 1 << 20;
/// Larger than what a socket takes from a writer that nobody reads from.
const LARGE_ANSWER: usize = 4 << 20;

struct Place {
    socket: PathBuf,
    _folder: TempDir,
}

impl Place {
    /// A server that tells the length of what it is sent, or the size that is asked for.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let router = Router::new()
            .route("/", post(async |body: Bytes| body.len().to_string()))
            .route("/large", post(async || vec![b'x'; LARGE_ANSWER]))
            .route("/made", post(async || in_pieces((0..LARGE_ANSWER / 1000).map(|_| vec![b'x'; 1000]))))
            .route("/endless", post(async || in_pieces(iter::repeat_with(|| vec![b'x'; 1000]))))
            .route("/small", post(async || in_pieces([b"a".to_vec(), Vec::new(), b"b".to_vec()].into_iter())))
            .layer(axum::extract::DefaultBodyLimit::disable());
        tokio::spawn(serve(listener, router, LARGEST));
        Self { socket, _folder: folder }
    }

    /// A connection on which a request has been begun: so many bytes of its body are promised, and so many sent.
    async fn begun(&self, path: &str, promised: usize, sent: usize) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: lb\r\nConnection: close\r\nContent-Length: {promised}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; sent]).await.unwrap();
        stream
    }

    /// Status and body of the answer to a whole request.
    async fn ask(&self, path: &str, length: usize) -> (String, String) {
        answer(self.begun(path, length, length).await).await
    }
}

async fn answer(mut stream: UnixStream) -> (String, String) {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    (head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_as_large_as_the_limit_and_not_larger() {
    let place = Place::new();
    for length in [0, 1, 100_000, LARGEST] {
        assert_eq!(place.ask("/", length).await, ("200".into(), length.to_string()));
    }
    let (status, text) = answer(place.begun("/", LARGEST + 1, 0).await).await;
    assert_eq!(
        (status.as_str(), text.as_str()),
        ("413", r#"{"error":"the body is too large; 1 MiB are taken at most"}"#)
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_left_in_time() {
    let place = Place::new();
    for sent in [0, 10, 100_000] {
        let begun = Instant::now();
        let (status, text) = answer(place.begun("/", 200_000, sent).await).await;
        assert_eq!(status, "408", "{text}");
        assert!(text.contains("did not arrive within 10 s"), "{text}");
        assert!(begun.elapsed() <= Duration::from_secs(11), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn slow_large_bodies_hold_up_large_ones_for_a_while_and_small_ones_never() {
    let place = Place::new();
    let slow = [place.begun("/", LARGEST, 100_000).await, place.begun("/", LARGEST, 100_000).await];
    assert_eq!(place.ask("/", 1000).await, ("200".into(), "1000".into()));
    // They have their turns a moment before the others ask.
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    assert_eq!(place.ask("/", LARGEST).await.0, "200", "once the slow ones are left");
    assert!(begun.elapsed() <= Duration::from_secs(10), "{:?}", begun.elapsed());
    for stream in slow {
        assert_eq!(answer(stream).await.0, "408");
    }
}

#[tokio::test]
async fn hundreds_of_slow_senders_keep_nobody_out() {
    let place = Place::new();
    let mut slow = Vec::new();
    for _ in 0..300 {
        slow.push(place.begun("/", LARGEST, 1000).await);
        if slow.len() % 50 == 0 {
            let begun = Instant::now();
            assert_eq!(place.ask("/", 10).await, ("200".into(), "10".into()));
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn large_answers_that_nobody_reads_are_few_and_are_left_in_time() {
    // The second is made while it is sent.
    for (path, whole) in [("/large", LARGE_ANSWER), ("/made", LARGE_ANSWER / 1000 * 1000)] {
        let place = Place::new();
        let mut readers = Vec::new();
        for _ in 0..4 {
            readers.push(place.begun(path, 0, 0).await);
        }
        sleep(Duration::from_secs(1)).await;
        let (status, text) = place.ask(path, 0).await;
        assert_eq!(status, "503");
        assert!(text.contains("other large answers are being read"), "{text}");
        assert_eq!(place.ask("/", 5).await, ("200".into(), "5".into()));
        assert_eq!(place.ask("/small", 0).await, ("200".into(), "ab".into()), "it needs no turn");
        sleep(STALL).await;
        // Pieces come with their lengths between them.
        let count = |text: &str| text.bytes().filter(|byte| *byte == b'x').count();
        let (status, text) = place.ask(path, 0).await;
        assert_eq!((status.as_str(), count(&text)), ("200", whole));
        for reader in readers {
            assert!(count(&answer(reader).await.1) < whole, "it was cut off");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_is_not_sent_for_ever_to_who_reads_it_slowly() {
    let place = Place::new();
    let mut reader = place.begun("/endless", 0, 0).await;
    let (begun, mut part) = (Instant::now(), vec![0; LARGE_ANSWER]);
    while reader.read(&mut part).await.is_ok_and(|read| read > 0) {
        sleep(Duration::from_secs(1)).await;
        assert!(begun.elapsed() <= answers::TAKEN + STALL, "it goes on for {:?}", begun.elapsed());
    }
    assert!(begun.elapsed() >= answers::TAKEN, "{:?}", begun.elapsed());
}
