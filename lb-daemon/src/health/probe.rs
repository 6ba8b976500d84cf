//! One attempt to reach a backend.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::model::Ask;

mod http;
mod tcp;

/// What to ask of whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// Address and port to connect to.
    pub target: SocketAddr,
    /// Longest time for the whole attempt.
    pub timeout: Duration,
    /// What is asked, and what counts as an answer; what it leaves to the VIP is filled in.
    pub ask: Ask,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In one word.
    pub result: Verdict,
    /// How long it took.
    pub latency: Duration,
    /// In words, and without figures that differ each time: `200 OK`, `connection refused`.
    pub text: String,
}

/// How an attempt ended, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Success,
    /// Otherwise than expected.
    Failure,
    /// Not in time.
    Timeout,
    /// It could not be made, for want of descriptors, ports or memory here. Says nothing about the backend.
    Skipped,
}

/// Makes one attempt. Never takes much longer than its timeout; may be dropped at any time.
pub async fn run(probe: &Probe) -> Outcome {
    let start = Instant::now();
    let (result, text) = match timeout(probe.timeout, attempt(probe)).await {
        Ok(Ok(text)) => (Verdict::Success, text),
        Ok(Err(Failed::Answer(text))) => (Verdict::Failure, text),
        Ok(Err(Failed::Here(error))) => (Verdict::Skipped, error.to_string()),
        Err(_) => (Verdict::Timeout, format!("no answer within {:?}", probe.timeout)),
    };
    Outcome { result, latency: start.elapsed(), text }
}

async fn attempt(probe: &Probe) -> Result<String, Failed> {
    if probe.target.port() == 0 {
        return Err(Failed::Answer("no port to probe: the vip serves any port and the check names none".into()));
    }
    match &probe.ask {
        Ask::Tcp => tcp::attempt(probe.target).await,
        Ask::Http(http) => http::attempt(probe.target, http).await,
    }
}

/// Why an attempt failed.
#[derive(Debug)]
enum Failed {
    /// The backend's fault, or the network's.
    Answer(String),
    /// Our own.
    Here(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL) => Self::Here(error),
            _ => Self::Answer(words(&error)),
        }
    }
}

/// An error in the words of operators, without number.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::Other => error.to_string(),
        kind if error.raw_os_error().is_some() && kind.to_string() != "uncategorized error" => kind.to_string(),
        _ => error.to_string(),
    }
}

/// A connection that is reset when it is dropped. So neither side keeps a state (`TIME_WAIT`) for it: thousands of probes
/// a second would pile up hundreds of thousands of these.
async fn connect(target: SocketAddr) -> Result<TcpStream, Failed> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_zero_linger()?;
    Ok(socket.connect(target).await?)
}

#[cfg(test)]
mod tests;
