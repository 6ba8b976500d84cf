//! What hostile servers do with a connection.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::sleep,
};

/// The time between two bytes of one that drips.
const DRIP: Duration = Duration::from_millis(50);
/// Bytes that one without end writes at a time.
const BLOCK: usize = 64 * 1024;
/// What an HTTP server may begin well with.
const OK: &str = "HTTP/1.1 200 OK\r\n";
/// Frames that an HTTP/2 server begins with: its settings, and that it has seen ours.
const H2_SETTINGS: [u8; 18] = [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];

/// What a server does with each connection.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// Its name.
    pub(crate) name: &'static str,
    /// What comes at once.
    first: Vec<u8>,
    then: Then,
}

#[derive(Clone, Debug)]
enum Then {
    /// Neither reads nor writes.
    Hold,
    /// Says that it sends no more, and stays.
    HalfClose,
    /// Closes.
    Close,
    /// Resets the connection.
    Reset,
    /// Reads a little before.
    ReadAndReset,
    /// This, a byte at a time, over and over.
    Drip(Vec<u8>),
    /// This, as fast as it is taken, over and over.
    Flood(Vec<u8>),
}

/// All of them.
pub(crate) fn all() -> Vec<Manner> {
    [of_any_protocol(), of_http(), of_http2(), of_tls_and_dns()].concat()
}

fn manner(name: &'static str, first: impl AsRef<[u8]>, then: Then) -> Manner {
    Manner { name, first: first.as_ref().to_vec(), then }
}

fn flood(name: &'static str, first: impl AsRef<[u8]>, then: impl AsRef<[u8]>) -> Manner {
    manner(name, first, Then::Flood(then.as_ref().to_vec()))
}

fn drip(name: &'static str, first: impl AsRef<[u8]>, then: impl AsRef<[u8]>) -> Manner {
    manner(name, first, Then::Drip(then.as_ref().to_vec()))
}

fn of_any_protocol() -> Vec<Manner> {
    let garbage: Vec<u8> = (0..60_000_u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 23).to_le_bytes()[0]).collect();
    vec![
        manner("silent", [], Then::Hold),
        manner("half-closed", [], Then::HalfClose),
        manner("closed", [], Then::Close),
        manner("reset", [], Then::Reset),
        manner("read-and-reset", [], Then::ReadAndReset),
        manner("garbage", &garbage[..100], Then::Close),
        flood("garbage-flood", [], &garbage),
        flood("zeros", [], [0; 100]),
    ]
}

fn of_http() -> Vec<Manner> {
    let body = |head: &str| format!("{OK}{head}\r\n\r\n");
    let chunked = body("transfer-encoding: chunked");
    vec![
        drip("http-drip", OK, "x: y\r\n"),
        drip("http-body-drip", body("content-length: 100000"), "x"),
        flood("http-headers", OK, "x: y\r\n"),
        flood("http-header", format!("{OK}x: "), "y"),
        flood("http-status", "HTTP/1.1 200 ", "O"),
        flood("http-continue", "", "HTTP/1.1 100 Continue\r\n\r\n"),
        flood("http-length", body("content-length: 18446744073709551615"), "x"),
        flood("http-close", body("connection: close"), "x"),
        flood("http-chunks", &chunked, "1\r\nx\r\n"),
        flood("http-chunk", format!("{chunked}fffffffffffffff\r\n"), "x"),
        flood("http-extension", format!("{chunked}1;"), "x"),
        flood("http-trailers", format!("{chunked}0\r\n"), "x: y\r\n"),
    ]
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

fn of_http2() -> Vec<Manner> {
    // `:status: 200`, of the static table.
    let head = |flags, rest: &[u8]| frame(1, flags, 1, &[&[0x88], rest].concat());
    // `x: yyy…` into the dynamic table, and then from there, a byte each.
    let header = [&[0x40, 1, b'x', 0x7f, 0xe1, 0x1e], "y".repeat(4000).as_bytes()].concat();
    let bomb = [head(4, &header), frame(1, 4, 3, &[0xbe; 16_000])].concat();
    let kind = [&[0x5f, 16], "application/grpc".as_bytes()].concat();
    let after = |frames: &[u8]| [&H2_SETTINGS[..], frames].concat();
    vec![
        drip("h2-drip", [], [0, 0, 0, 4, 0, 0, 0, 0, 0]),
        flood("h2-settings", [], &H2_SETTINGS[..9]),
        flood("h2-settings-change", [], frame(4, 0, 0, &[0, 1, 0, 0, 0x10, 0, 0, 4, 0, 0, 0xff, 0xff])),
        flood("h2-pings", H2_SETTINGS, frame(6, 0, 0, &[7; 8])),
        flood("h2-headers", H2_SETTINGS, head(4, &[])),
        flood("h2-continuation", after(&head(0, &[])), frame(9, 0, 1, &[0, 1, b'x', 1, b'y'])),
        flood("h2-empty-continuation", after(&head(0, &[])), frame(9, 0, 1, &[])),
        flood("h2-bomb", after(&bomb), frame(1, 4, 1, &[0xbe; 16_000])),
        flood("h2-data", after(&head(4, &kind)), frame(0, 0, 1, &[0; 1000])),
        flood("h2-empty-data", after(&head(4, &kind)), frame(0, 0, 1, &[])),
        flood("h2-windows", H2_SETTINGS, frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        flood("h2-resets", H2_SETTINGS, frame(3, 0, 1, &[0, 0, 0, 8])),
        flood("h2-goaway", H2_SETTINGS, frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])),
        flood("h2-pushes", H2_SETTINGS, frame(5, 4, 1, &[0, 0, 0, 2, 0x82])),
        flood("h2-unknown", H2_SETTINGS, frame(0xee, 0, 0, &[0; 100])),
        flood("h2-long", H2_SETTINGS, frame(0xee, 0, 0, &[0; 0x00ff_ffff][..1 << 20])),
    ]
}

fn of_tls_and_dns() -> Vec<Manner> {
    vec![
        drip("tls-drip", [], [0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc]),
        flood("tls-alerts", [], [0x15, 3, 3, 0, 2, 1, 0]),
        flood("tls-warnings", [], [0x15, 3, 3, 0, 2, 1, 90]),
        flood("tls-empty", [], [0x16, 3, 3, 0, 0]),
        flood("tls-change-cipher", [], [0x14, 3, 3, 0, 1, 1]),
        flood("tls-huge", [0x16, 3, 3, 0x40, 0, 2, 0xff, 0xff, 0xff], [0; 100]),
        flood("tls-fragments", [], [0x16, 3, 3, 0, 1, 2]),
        drip("dns-drip", [0xff, 0xff], [0]),
        flood("dns-empty", [], [0, 0]),
        manner("dns-short", [0xff, 0xff, 0, 0, 0, 0], Then::Close),
    ]
}

impl Manner {
    /// Treats a connection so, until the other end has gone. Returns whether it is to be reset.
    pub(crate) async fn treat(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
        stream.write_all(&self.first).await?;
        match &self.then {
            Then::Close | Then::Reset => return Ok(()),
            Then::ReadAndReset => return stream.read_u8().await.map(drop),
            Then::HalfClose => stream.shutdown().await?,
            Then::Hold => {}
            Then::Drip(bytes) => loop {
                for byte in bytes {
                    stream.write_all(&[*byte]).await?;
                    stream.flush().await?;
                    sleep(DRIP).await;
                }
            },
            Then::Flood(bytes) => {
                let block = bytes.repeat(BLOCK.div_ceil(bytes.len()));
                loop {
                    stream.write_all(&block).await?;
                }
            }
        }
        // Longer than any probe waits.
        sleep(Duration::from_secs(20)).await;
        Ok(())
    }

    /// Whether the connection is to be reset, not closed.
    pub(crate) fn resets(&self) -> bool {
        matches!(self.then, Then::Reset | Then::ReadAndReset)
    }
}
