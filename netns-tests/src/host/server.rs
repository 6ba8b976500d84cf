//! Servers that answer with their name: HTTP/1.1 and UDP echo, on a thread of their own inside a namespace.
//!
//! * `GET /` answers the name;
//! * `GET /big?bytes=N&rate=R` streams N bytes that [`Pattern`] describes, at most R a second;
//! * `GET /slow?ms=N` answers the name after N ms;
//! * `POST /upload` of what [`Pattern`] describes answers the name;
//! * a datagram comes back with `NAME:` before it.

use std::{
    convert::Infallible,
    future::pending,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    sync::{LazyLock, mpsc},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Query,
    http::{StatusCode, header::CONTENT_LENGTH},
    response::Response,
    routing::{get, post},
};
use futures_util::stream;
use serde::Deserialize;
use tokio::{net::TcpListener, time};

use crate::{
    netns::Namespace,
    running::{Running, listen},
};

/// Largest datagram that is echoed.
const MAX_DATAGRAM: usize = 65_535;
/// Largest upload.
const MAX_UPLOAD: usize = 16 << 20;

/// Running servers; dropping this closes their sockets.
#[derive(Debug)]
pub struct Server {
    _running: Running,
}

impl Server {
    /// Starts HTTP on these ports of every address, and UDP echo on exactly these addresses.
    ///
    /// # Errors
    /// When one cannot be bound.
    pub fn start(namespace: &Namespace, name: &str, http: &[u16], udp: &[SocketAddr]) -> Result<Self> {
        let sockets = bind(namespace, http, udp).with_context(|| format!("servers of {name}"))?;
        let (ready, is_ready) = mpsc::channel();
        let name = name.to_owned();
        let running = Running::start(async move || {
            let _ = ready.send(serve(&name, sockets));
            pending::<()>().await;
        })?;
        is_ready.recv().map_err(|_| anyhow!("a server thread ended at once"))??;
        Ok(Self { _running: running })
    }
}

struct Sockets {
    http: Vec<std::net::TcpListener>,
    udp: Vec<UdpSocket>,
}

fn bind(namespace: &Namespace, http: &[u16], udp: &[SocketAddr]) -> Result<Sockets> {
    // Takes IPv4 as well: a new namespace has net.ipv6.bindv6only off.
    let listen = |port: &u16| listen(namespace, SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)));
    let open = |address: &SocketAddr| {
        let socket = namespace.enter(|| UdpSocket::bind(address));
        let socket = socket.with_context(|| format!("cannot bind UDP {address}"))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    Ok(Sockets {
        http: http.iter().map(listen).collect::<Result<_>>()?,
        udp: udp.iter().map(open).collect::<Result<_>>()?,
    })
}

/// Has tasks serve, within a runtime.
fn serve(name: &str, sockets: Sockets) -> Result<()> {
    for listener in sockets.http {
        let listener = TcpListener::from_std(listener)?;
        let answers = answers(Bytes::copy_from_slice(name.as_bytes()));
        tokio::spawn(async move { axum::serve(listener, answers).await });
    }
    for socket in sockets.udp {
        tokio::spawn(echo(tokio::net::UdpSocket::from_std(socket)?, name.to_owned()));
    }
    Ok(())
}

fn answers(name: Bytes) -> Router {
    let whose = name.clone();
    let slowly = move |Query(Slow { ms }): Query<Slow>| {
        let whose = whose.clone();
        async move {
            time::sleep(Duration::from_millis(ms)).await;
            whose
        }
    };
    let uploaded = name.clone();
    let upload = move |body: Body| async move {
        match to_bytes(body, MAX_UPLOAD).await {
            Ok(bytes) if Pattern::describes(&bytes) => Ok(uploaded),
            _ => Err(StatusCode::BAD_REQUEST),
        }
    };
    Router::new()
        .route("/", get(move || std::future::ready(name.clone())))
        .route("/slow", get(slowly))
        .route("/upload", post(upload))
        .route("/big", get(|Query(big): Query<Big>| std::future::ready(big.response())))
}

#[derive(Deserialize)]
struct Slow {
    ms: u64,
}

#[derive(Clone, Copy, Deserialize)]
struct Big {
    bytes: u64,
    rate: u64,
}

impl Big {
    fn response(self) -> Response {
        let start = time::Instant::now();
        let blocks = stream::unfold(0u64, move |sent| async move {
            if sent >= self.bytes {
                return None;
            }
            time::sleep_until(start + Duration::from_millis(sent * 1000 / self.rate.max(1))).await;
            let mut block = Pattern::block(sent / Pattern::BLOCK as u64);
            block.truncate(usize::try_from(self.bytes - sent).unwrap_or(usize::MAX));
            let sent = sent + block.len() as u64;
            Some((Ok::<_, Infallible>(Bytes::from(block)), sent))
        });
        let mut response = Response::new(Body::from_stream(blocks));
        response.headers_mut().insert(CONTENT_LENGTH, self.bytes.into());
        response
    }
}

/// The content of `/big` and of uploads: blocks that each begin with their number, so that a byte lost, doubled or out of place shows.
#[derive(Clone, Copy, Debug)]
pub struct Pattern;

impl Pattern {
    /// Bytes of a block.
    pub const BLOCK: usize = 65_536;

    /// Block `number`.
    pub fn block(number: u64) -> Vec<u8> {
        let mut block = TEMPLATE.clone();
        block[..8].copy_from_slice(&number.to_be_bytes());
        block
    }

    /// The first `length` bytes.
    pub fn bytes(length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0u64..).take(length.div_ceil(Self::BLOCK)).flat_map(Self::block).collect();
        bytes.truncate(length);
        bytes
    }

    fn describes(bytes: &[u8]) -> bool {
        bytes == Self::bytes(bytes.len())
    }
}

static TEMPLATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut word = 0x2545_f491_u32;
    let mut next = || {
        // Marsaglia's xorshift32: no two neighbouring parts alike.
        word ^= word << 13;
        word ^= word >> 17;
        word ^= word << 5;
        word.to_le_bytes()[0]
    };
    (0..Pattern::BLOCK).map(|_| next()).collect()
});

async fn echo(socket: tokio::net::UdpSocket, name: String) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((length, sender)) = socket.recv_from(&mut buffer).await else { continue };
        let answer = [name.as_bytes(), b":", &buffer[..length]].concat();
        // A client that is gone makes this fail; the next datagram is another's.
        let _ = socket.send_to(&answer, sender).await;
    }
}
