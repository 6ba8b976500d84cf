//! HTTP/1.1 requests: many short ones, and one long connection.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{Answers, any, connect, open};
use crate::netns::Namespace;

/// Longest answer that is read whole.
const MAX_BODY: usize = 4 << 20;
/// Clients that ask beside each other; more than the machine's cores, so that some connections overlap.
const CLIENTS: u64 = 4;

/// A connection that is kept open, and asks one question after the other.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    local: SocketAddr,
}

/// An answer's status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Connection {
    /// Opens a connection from inside `namespace`.
    ///
    /// # Errors
    /// When it is refused or not answered.
    pub fn open(namespace: &Namespace, to: SocketAddr) -> Result<Self> {
        Self::over(connect(namespace, to)?)
    }

    /// Opens a connection from an address of `namespace`.
    ///
    /// # Errors
    /// When it is refused or not answered.
    pub fn open_from(namespace: &Namespace, source: IpAddr, to: SocketAddr) -> Result<Self> {
        Self::over(namespace.enter(|| open(source, to))?)
    }

    pub(crate) fn over(stream: TcpStream) -> Result<Self> {
        let local = stream.local_addr()?;
        Ok(Self { stream: BufReader::new(stream), local })
    }

    /// The client's address and port.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Asks who answers.
    ///
    /// # Errors
    /// When the connection broke or the answer is not 200.
    pub fn ask(&mut self) -> Result<String> {
        let answer = self.get("/", "keep-alive")?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(String::from_utf8(answer.body)?)
    }

    /// Sends a GET and reads its whole answer.
    ///
    /// # Errors
    /// When the connection broke or the answer is not HTTP.
    pub fn get(&mut self, target: &str, keep: &str) -> Result<Answer> {
        self.ask_for(target, keep)?;
        self.answer()
    }

    /// Sends a POST and reads its whole answer.
    ///
    /// # Errors
    /// When the connection broke or the answer is not HTTP.
    pub fn post(&mut self, target: &str, body: &[u8]) -> Result<Answer> {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nHost: lab\r\nContent-Length: {length}\r\n\r\n");
        self.send(head.as_bytes())?;
        self.send(body)?;
        self.answer()
    }

    /// How long it waits for answers from now on.
    ///
    /// # Errors
    /// When it is no time at all.
    pub fn wait_at_most(&self, limit: Duration) -> Result<()> {
        Ok(self.stream().set_read_timeout(Some(limit))?)
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).context("cannot send")
    }

    fn answer(&mut self) -> Result<Answer> {
        let (status, length) = self.head()?;
        let length = usize::try_from(length)?;
        ensure!(length <= MAX_BODY, "an answer of {length} bytes");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).context("no whole answer")?;
        Ok(Answer { status, body })
    }

    /// Sends a GET and reads the head of its answer: status and length of the body.
    pub(crate) fn begin(&mut self, target: &str, keep: &str) -> Result<(u16, u64)> {
        self.ask_for(target, keep)?;
        self.head()
    }

    fn ask_for(&mut self, target: &str, keep: &str) -> Result<()> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: lab\r\nConnection: {keep}\r\n\r\n").as_bytes())
    }

    fn head(&mut self) -> Result<(u16, u64)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("not an HTTP answer: {first:?}"))?;
        let mut length = 0;
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().with_context(|| format!("not a length: {value:?}"))?;
            }
        }
        Ok((status, length))
    }

    pub(crate) fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.stream.read_exact(buffer).context("the connection ended early")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).context("no answer")?;
        ensure!(length > 0, "closed without an answer");
        Ok(line.trim_end().into())
    }
}

/// Opens `number` connections, one request each, and notes who answered.
pub fn ask_many(namespace: &Namespace, to: SocketAddr, number: u64) -> Answers {
    ask_many_from(namespace, any(to), to, number)
}

/// The same, asked from an address of the client's.
pub fn ask_many_from(namespace: &Namespace, source: IpAddr, to: SocketAddr, number: u64) -> Answers {
    let share = |client| number / CLIENTS + u64::from(client < number % CLIENTS);
    namespace.enter(|| {
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..CLIENTS).map(|client| scope.spawn(move || ask_in_turn(source, to, share(client)))).collect();
            let mut answers = Answers::default();
            for client in clients {
                answers.merge(client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            answers
        })
    })
}

fn ask_in_turn(source: IpAddr, to: SocketAddr, number: u64) -> Answers {
    let mut answers = Answers::default();
    for _ in 0..number {
        answers.add(ask_once(source, to));
    }
    answers
}

fn ask_once(source: IpAddr, to: SocketAddr) -> Result<String> {
    let answer = Connection::over(open(source, to)?)?.get("/", "close")?;
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(String::from_utf8(answer.body)?)
}

/// Sends one GET on a connection of its own and reads the whole answer.
///
/// # Errors
/// When the connection breaks or the answer is not HTTP.
pub fn get(namespace: &Namespace, to: SocketAddr, target: &str) -> Result<Answer> {
    Connection::open(namespace, to)?.get(target, "close")
}
