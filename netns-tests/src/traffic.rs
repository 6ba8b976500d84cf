//! What clients do, with real sockets of the client's namespace.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};

use crate::netns::Namespace;

pub mod download;
pub mod http;
pub mod numbered;
pub mod openings;
pub mod ping;
pub mod sessions;
pub mod udp;
pub mod upload;

/// Longest wait for a connection to open: outlives one lost SYN, whose repetition comes after a second.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// Longest wait for an answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// Who answered how often, and what failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Answers by name of the backend.
    pub by_backend: BTreeMap<String, u64>,
    /// Failures by their words.
    pub failures: BTreeMap<String, u64>,
}

impl Answers {
    /// Answers in all.
    pub fn total(&self) -> u64 {
        self.by_backend.values().sum()
    }

    /// Failures in all.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Answers of one backend.
    pub fn of(&self, backend: &str) -> u64 {
        self.by_backend.get(backend).copied().unwrap_or(0)
    }

    /// Notes one attempt.
    pub fn add(&mut self, attempt: Result<String>) {
        match attempt {
            Ok(name) => *self.by_backend.entry(name).or_default() += 1,
            Err(error) => *self.failures.entry(format!("{error:#}")).or_default() += 1,
        }
    }

    /// Adds what another client noted.
    pub fn merge(&mut self, other: Self) {
        for (name, count) in other.by_backend {
            *self.by_backend.entry(name).or_default() += count;
        }
        for (words, count) in other.failures {
            *self.failures.entry(words).or_default() += count;
        }
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.by_backend {
            write!(f, "{name} {count}  ")?;
        }
        write!(f, "failed {}", self.failed())?;
        for (words, count) in &self.failures {
            write!(f, "\n  {count} times: {words}")?;
        }
        Ok(())
    }
}

/// Whether nobody answers there: a connection is neither accepted nor refused within a second, the time after which a SYN is
/// sent again.
pub fn is_silent(namespace: &Namespace, to: SocketAddr) -> bool {
    are_silent(namespace, &[(any(to), to)])
}

/// Whether nobody answers at any of these addresses, each asked from an address of the client's, all at once.
pub fn are_silent(namespace: &Namespace, pairs: &[(IpAddr, SocketAddr)]) -> bool {
    let is_silent = |source, to| {
        let outcome = connect_within(source, to, Duration::from_millis(1200));
        outcome.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
    };
    namespace.enter(|| {
        thread::scope(|scope| {
            let asked: Vec<_> = pairs.iter().map(|(source, to)| scope.spawn(move || is_silent(*source, *to))).collect();
            asked.into_iter().all(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    })
}

/// Opens a TCP connection from inside `namespace`.
///
/// # Errors
/// When it is refused or not answered.
pub fn connect(namespace: &Namespace, to: SocketAddr) -> Result<TcpStream> {
    namespace.enter(|| open(any(to), to))
}

/// Any address of this host, of the other's family.
pub fn any(to: SocketAddr) -> IpAddr {
    if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Opens a TCP connection from an address of the calling thread's namespace.
pub(crate) fn open(source: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let stream = connect_within(source, to, CONNECT_LIMIT).context("cannot connect")?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn connect_within(source: IpAddr, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if !source.is_unspecified() {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&to.into(), limit)?;
    Ok(socket.into())
}
