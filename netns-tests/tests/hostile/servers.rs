//! The hostile servers: each at an address of its own, on a thread within a namespace.

use std::{
    future::pending,
    net::{
        Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as StdListener, TcpStream as StdStream, UdpSocket as StdUdp,
    },
    sync::Arc,
};

use anyhow::{Context as _, Result};
use certificates::Authority;
use netns_tests::{netns::Namespace, running::Running};
use rustls::ServerConfig;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tokio_rustls::TlsAcceptor;

use super::{
    manners::{self, Manner},
    names::{self, Answerer},
};

/// The port of all servers.
pub(crate) const PORT: u16 = 700;
/// Addresses of all servers, which the namespace takes for its own.
pub(crate) const NETWORK: &str = "10.9.0.0/16";
/// Certificates of servers that send many.
const CHAINS: [(&str, usize); 2] = [("tls-chain", 100), ("tls-long-chain", LONGEST_CHAIN)];
/// Of so many all together are larger than a message of a handshake may be.
const LONGEST_CHAIN: usize = 5000;

/// A server by its name, and where it is.
pub(crate) type Place = (String, Ipv4Addr);

/// Where hostile servers are, by what they understand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Speak over TCP.
    pub(crate) plain: Vec<Place>,
    /// Complete a TLS handshake before.
    pub(crate) within_tls: Vec<Place>,
    /// Do not complete one.
    pub(crate) chains: Vec<Place>,
    /// Read a question before, by datagram or TCP.
    pub(crate) names: Vec<Place>,
    /// Takes no connection from its queue, which is full.
    pub(crate) full: Vec<Place>,
}

/// The servers; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Servers {
    /// Where they are.
    pub(crate) places: Places,
    _running: Running,
}

enum Bound {
    Tcp(StdListener, Option<Arc<ServerConfig>>, Manner),
    NamesTcp(StdListener, Answerer),
    Names {
        asked: StdUdp,
        other: StdUdp,
        answerer: Answerer,
    },
    /// Kept, and nothing else.
    Full(StdListener, StdStream),
}

impl Servers {
    /// Starts all of them.
    ///
    /// # Errors
    /// When one cannot be bound.
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        namespace.ip(&format!("route add local {NETWORK} dev lo\n"))?;
        let (places, bound) = namespace.enter(bind)?;
        let running = Running::start(async move || {
            for one in bound {
                tokio::spawn(serve(one));
            }
            pending::<()>().await;
        })?;
        Ok(Self { places, _running: running })
    }
}

fn bind() -> Result<(Places, Vec<Bound>)> {
    let (mut places, mut bound) = (Places::default(), Vec::new());
    let ordinary = Arc::new(certificates(1)?);
    for (number, manner) in (1..).zip(manners::all()) {
        for (third, places, tls) in
            [(1, &mut places.plain, None), (2, &mut places.within_tls, Some(Arc::clone(&ordinary)))]
        {
            let address = Ipv4Addr::new(10, 9, third, number);
            bound.push(Bound::Tcp(listen(address, 1024)?, tls, manner.clone()));
            places.push((manner.name.to_owned(), address));
        }
    }
    for (number, (name, length)) in (1..).zip(CHAINS) {
        let address = Ipv4Addr::new(10, 9, 3, number);
        let [silent, ..] = &manners::all()[..] else { continue };
        bound.push(Bound::Tcp(listen(address, 1024)?, Some(Arc::new(certificates(length)?)), silent.clone()));
        let places = if length < LONGEST_CHAIN { &mut places.within_tls } else { &mut places.chains };
        places.push((name.to_owned(), address));
    }
    for (number, answerer) in (1..).zip(names::ALL) {
        let address = Ipv4Addr::new(10, 9, 4, number);
        bound.push(Bound::NamesTcp(listen(address, 1024)?, answerer));
        let (asked, other) = (datagrams(address, PORT)?, datagrams(address, 0)?);
        bound.push(Bound::Names { asked, other, answerer });
        places.names.push((answerer.name.to_owned(), address));
    }
    let address = Ipv4Addr::new(10, 9, 5, 1);
    let listener = listen(address, 0)?;
    // There is room for this one.
    let only = StdStream::connect((address, PORT)).context("the first in a queue")?;
    bound.push(Bound::Full(listener, only));
    places.full.push(("full".to_owned(), address));
    Ok((places, bound))
}

fn listen(address: Ipv4Addr, backlog: i32) -> Result<StdListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(SocketAddrV4::new(address, PORT)).into()).context("a hostile server")?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn datagrams(address: Ipv4Addr, port: u16) -> Result<StdUdp> {
    let socket = StdUdp::bind((address, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A server that sends its certificate so many times.
fn certificates(length: usize) -> Result<ServerConfig> {
    let mut signed = Authority::new()?.sign(&["www.example.org"])?;
    signed.chain.resize(length, signed.chain[0].clone());
    let mut config = signed.server()?;
    config.alpn_protocols = ["h2", "http/1.1"].map(Vec::from).into();
    Ok(config)
}

/// Goes on until the runtime ends; what a connection comes to is nobody's concern.
async fn serve(bound: Bound) -> Result<()> {
    match bound {
        Bound::Full(listener, only) => {
            let _open = (listener, only);
            pending().await
        }
        Bound::Tcp(listener, tls, manner) => {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(meet(stream, tls.clone(), manner.clone()));
            }
        }
        Bound::NamesTcp(listener, answerer) => {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(answer(stream, answerer));
            }
        }
        Bound::Names { asked, other, answerer } => {
            let (asked, other) = (UdpSocket::from_std(asked)?, UdpSocket::from_std(other)?);
            let mut buffer = [0; 2048];
            loop {
                let (length, from) = asked.recv_from(&mut buffer).await?;
                let socket = if answerer.strange { &other } else { &asked };
                for datagram in (answerer.answers)(&buffer[..length]) {
                    // The probe may be gone already.
                    let _ = socket.send_to(&datagram, from).await;
                }
            }
        }
    }
}

async fn meet(mut stream: TcpStream, tls: Option<Arc<ServerConfig>>, manner: Manner) -> Result<()> {
    if manner.resets() {
        SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))?;
    }
    match tls {
        None => manner.treat(&mut stream).await?,
        Some(config) => manner.treat(&mut TlsAcceptor::from(config).accept(stream).await?).await?,
    }
    Ok(())
}

async fn answer(mut stream: TcpStream, answerer: Answerer) -> Result<()> {
    let mut question = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut question).await?;
    for message in (answerer.answers)(&question) {
        stream.write_u16(u16::try_from(message.len())?).await?;
        stream.write_all(&message).await?;
    }
    // Whoever asks has closed when he has read enough.
    Ok(stream.read_u8().await.map(drop)?)
}
