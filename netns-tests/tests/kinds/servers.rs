//! Servers of a backend that can be told to be unwell.

use std::{
    future::pending,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderValue, Response, StatusCode},
};
use netns_tests::{
    netns::Namespace,
    running::{Running, listen},
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// This address; all addresses of both families without any.
fn place(address: Option<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), port)
}

/// What an HTTP server answers: status and body.
pub(crate) type Answer = Arc<Mutex<(u16, &'static str)>>;

/// HTTP/1.1 that gives this answer whatever is asked.
pub(crate) fn http(namespace: &Namespace, address: Option<IpAddr>, port: u16, answer: &Answer) -> Result<Running> {
    let (listener, answer) = (listen(namespace, place(address, port))?, Arc::clone(answer));
    Running::start(async move || {
        let given = move || {
            let (status, body) = *answer.lock().expect("nobody panics with it");
            std::future::ready((StatusCode::from_u16(status).expect("a status"), body))
        };
        let listener = TcpListener::from_std(listener).expect("a listener");
        let _ = axum::serve(listener, Router::new().fallback(given)).await;
    })
}

/// What a gRPC server says of itself, as grpc.health.v1 numbers it.
pub(crate) const SERVING: u8 = 1;
/// The same.
pub(crate) const NOT_SERVING: u8 = 2;

/// A gRPC server with grpc.health.v1 alone, in plaintext.
pub(crate) fn grpc(namespace: &Namespace, port: u16, status: &Arc<AtomicU8>) -> Result<Running> {
    let (listener, status) = (listen(namespace, place(None, port))?, Arc::clone(status));
    Running::start(async move || {
        let listener = TcpListener::from_std(listener).expect("a listener");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::spawn(calls(stream, Arc::clone(&status)));
        }
    })
}

/// Answers the calls of a connection. A client that has gone is no matter.
async fn calls(stream: TcpStream, status: Arc<AtomicU8>) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, mut respond) = call?;
        let mut head = Response::new(());
        head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        let mut body = respond.send_response(head, false)?;
        let mut trailers = HeaderMap::new();
        if request.uri().path() == "/grpc.health.v1.Health/Check" {
            // Not compressed, two bytes: field 1, a number.
            let message = [0, 0, 0, 0, 2, 1 << 3, status.load(Ordering::Relaxed)];
            body.send_data(Bytes::copy_from_slice(&message), false)?;
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
        } else {
            trailers.insert("grpc-status", HeaderValue::from_static("12"));
        }
        body.send_trailers(trailers)?;
    }
    Ok(())
}

/// What becomes of a datagram.
pub(crate) const ECHOED: u8 = 0;
/// It comes back with other bytes before it.
pub(crate) const GARBLED: u8 = 1;
/// Nobody answers.
pub(crate) const SWALLOWED: u8 = 2;

/// A UDP echo on these addresses: an answer must bear the one that was asked.
pub(crate) fn echo(namespace: &Namespace, addresses: &[SocketAddr], manner: &Arc<AtomicU8>) -> Result<Running> {
    let open = |address: &SocketAddr| -> Result<std::net::UdpSocket> {
        let socket = namespace.enter(|| std::net::UdpSocket::bind(address))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let (sockets, manner) = (addresses.iter().map(open).collect::<Result<Vec<_>>>()?, Arc::clone(manner));
    Running::start(async move || {
        for socket in sockets {
            let (socket, manner) = (UdpSocket::from_std(socket).expect("a socket"), Arc::clone(&manner));
            tokio::spawn(async move {
                let mut buffer = [0; 2048];
                loop {
                    let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
                    let before: &[u8] = match manner.load(Ordering::Relaxed) {
                        ECHOED => b"",
                        GARBLED => b"?",
                        _ => continue,
                    };
                    let _ = socket.send_to(&[before, &buffer[..length]].concat(), from).await;
                }
            });
        }
        pending::<()>().await;
    })
}

/// A program that serves until this is dropped.
pub(crate) struct Program(Child);

impl Program {
    /// Runs a server of the system's, and waits until it takes connections, or datagrams, on this port.
    pub(crate) fn start(namespace: &Namespace, package: &str, port: u16, line: &[&str]) -> Result<Self> {
        let (program, arguments) = line.split_first().context("no program")?;
        let mut command = namespace.command(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let missing = || format!("cannot run {program}: install the package {package}, as `./dev setup` does");
        let running = Self(command.spawn().with_context(missing)?);
        let here = format!(":{port:04X}");
        netns_tests::wait::until(&format!("{program} serves"), Duration::from_secs(10), || {
            let tables = namespace.enter(|| {
                // Those of the thread, which is in the namespace, not of the process.
                ["tcp", "tcp6", "udp"].map(|one| std::fs::read_to_string(format!("/proc/thread-self/net/{one}")))
            });
            for table in tables {
                let bound = table?
                    .lines()
                    .filter_map(|line| Some(line.split_whitespace().nth(1)?.ends_with(&here)))
                    .any(|bound| bound);
                if bound {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })?;
        Ok(running)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
