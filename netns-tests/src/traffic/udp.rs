//! UDP flows: sockets that ask and must be answered by one backend each.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{ANSWER_LIMIT, Answers, any};
use crate::netns::Namespace;

/// A UDP flow: one socket, connected.
#[derive(Debug)]
pub struct Flow {
    socket: UdpSocket,
    asked: u64,
}

impl Flow {
    /// Opens a flow from inside `namespace`.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn open(namespace: &Namespace, to: SocketAddr) -> Result<Self> {
        Self::open_from(namespace, any(to), to)
    }

    /// How long it waits for answers from now on.
    ///
    /// # Errors
    /// When it is no time at all.
    pub fn wait_at_most(&self, limit: Duration) -> Result<()> {
        Ok(self.socket.set_read_timeout(Some(limit))?)
    }

    /// Opens a flow from an address of `namespace`.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn open_from(namespace: &Namespace, source: IpAddr, to: SocketAddr) -> Result<Self> {
        namespace.enter(|| Self::open_here(source, to))
    }

    fn open_here(source: IpAddr, to: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(source, next_port()))?;
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        socket.connect(to).context("cannot connect")?;
        Ok(Self { socket, asked: 0 })
    }

    /// Sends a small datagram and returns who echoed it.
    ///
    /// # Errors
    /// When no answer comes or it is another's.
    pub fn ask(&mut self) -> Result<String> {
        self.ask_with(32)
    }

    /// Sends a datagram of `length` bytes and returns who echoed it.
    ///
    /// # Errors
    /// When no answer comes or it is another's.
    pub fn ask_with(&mut self, length: usize) -> Result<String> {
        self.asked += 1;
        let mut question = format!("{:016}", self.asked).into_bytes();
        question.resize(length.max(question.len()), b'.');
        self.ask_this(&question)
    }

    /// Sends a small datagram and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn send(&self) -> Result<()> {
        self.socket.send(b"nobody waits").context("cannot send").map(drop)
    }

    /// Sends a datagram and returns who echoed it.
    ///
    /// # Errors
    /// When no answer comes or it is another's.
    pub fn ask_this(&mut self, question: &[u8]) -> Result<String> {
        self.socket.send(question).context("cannot send")?;
        let mut buffer = vec![0; question.len() + 1024];
        // A signal to the test is no lost answer.
        let received = loop {
            match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received.context("no answer")?,
            }
        };
        let Some(colon) = buffer[..received].iter().position(|byte| *byte == b':') else {
            bail!("an answer without a name")
        };
        ensure!(buffer[colon + 1..received] == *question, "the answer is to another question");
        Ok(String::from_utf8_lossy(&buffer[..colon]).into_owned())
    }
}

/// Opens `flows` flows of `datagrams` each and notes who answered each flow; a flow that two backends answer failed.
pub fn ask_many(namespace: &Namespace, to: SocketAddr, flows: u64, datagrams: u64) -> Answers {
    namespace.enter(|| {
        let mut answers = Answers::default();
        for _ in 0..flows {
            answers.add(ask_flow(to, datagrams));
        }
        answers
    })
}

/// A port that no flow of this process had before, not for 50,000 flows: UDP has no end that tells a balancer to forget,
/// so a flow from an old port is an old flow to it.
fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 50_000
}

fn ask_flow(to: SocketAddr, datagrams: u64) -> Result<String> {
    let mut flow = Flow::open_here(any(to), to)?;
    let first = flow.ask()?;
    for _ in 1..datagrams {
        let other = flow.ask()?;
        ensure!(other == first, "one flow was answered by {first} and by {other}");
    }
    Ok(first)
}
