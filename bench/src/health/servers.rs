//! The servers that are checked: as cheap as real ones can be, in a namespace of their own.

use std::{
    future::pending,
    net::{Ipv4Addr, TcpListener as StdListener, UdpSocket as StdUdp},
    sync::Arc,
};

use anyhow::Result;
use certificates::Authority;
use netns_tests::{netns::Namespace, running::Running};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tokio_rustls::TlsAcceptor;

/// What an HTTP server answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
/// Longest request.
const REQUEST: usize = 4096;

/// The servers; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Servers {
    authority: String,
    _running: Running,
}

impl Servers {
    /// HTTP on port 80 and HTTPS on port 443 of all addresses, and an echo on UDP port 7 of each of these.
    pub(super) fn start(namespace: &Namespace, addresses: impl Iterator<Item = Ipv4Addr> + Send) -> Result<Self> {
        let (authority, config) = certificates()?;
        let (plain, tls, echoes) = namespace.enter(|| -> Result<_> {
            // The answer has to come from the address that was asked, so each has a socket.
            let echoes = addresses.map(|address| StdUdp::bind((address, 7))).collect::<Result<Vec<_>, _>>()?;
            Ok((listen(80)?, listen(443)?, echoes))
        })?;
        let running = Running::start(async move || {
            tokio::spawn(serve(plain, None));
            tokio::spawn(serve(tls, Some(TlsAcceptor::from(config))));
            for echo in echoes {
                tokio::spawn(repeat(echo));
            }
            pending::<()>().await;
        })?;
        Ok(Self { authority, _running: running })
    }

    /// Whose certificates they have, in PEM form.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }
}

fn listen(port: u16) -> Result<StdListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    // Thousands may come at once.
    socket.listen(4096)?;
    Ok(socket.into())
}

/// An authority, and a server with a certificate of it.
fn certificates() -> Result<(String, Arc<ServerConfig>)> {
    let authority = Authority::new()?;
    let mut config = authority.sign(&["www.example.org"])?.server()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((authority.pem(), Arc::new(config)))
}

/// Goes on until the runtime ends; what a connection comes to is nobody's concern.
async fn serve(listener: StdListener, tls: Option<TlsAcceptor>) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(meet(stream, tls.clone()));
    }
}

async fn meet(stream: TcpStream, tls: Option<TlsAcceptor>) -> Result<()> {
    match tls {
        None => answer(stream).await,
        Some(acceptor) => answer(acceptor.accept(stream).await?).await,
    }
}

/// Answers a request; whoever only connects has gone by then.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let mut request = Vec::with_capacity(REQUEST);
    while !request.ends_with(b"\r\n\r\n") {
        if request.len() > REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(ANSWER).await?;
    Ok(stream.shutdown().await?)
}

async fn repeat(socket: StdUdp) -> Result<()> {
    socket.set_nonblocking(true)?;
    let (socket, mut buffer) = (UdpSocket::from_std(socket)?, [0; REQUEST]);
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        // Whoever asked may be gone.
        let _ = socket.send_to(&buffer[..length], from).await;
    }
}
