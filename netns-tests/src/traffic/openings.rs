//! A steady stream of new TCP connections: each is opened by the kernel as any client's, held for a moment and given up.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use socket2::{Domain, Socket, Type};

use super::numbered::allow_files;
use crate::topology::Lab;

/// How long a connection is held: its handshake has to be through by then.
pub const HELD: Duration = Duration::from_millis(400);
/// Pause between two looks at what is due.
const TICK: Duration = Duration::from_millis(1);

/// A running stream; it ends when dropped.
#[derive(Debug)]
pub struct Openings {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Opening>>>>,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// When its SYN went out.
    pub at: Instant,
    /// Whether it was answered in time.
    pub answered: bool,
}

impl Openings {
    /// Starts a stream of so many connections a second from the lab's client.
    ///
    /// # Errors
    /// When a process may not have files enough.
    pub fn start(lab: &Lab, to: SocketAddr, per_second: u32) -> Result<Self> {
        allow_files()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        // A thread is born where its maker is.
        let thread = lab.client.enter(|| thread::spawn(move || open(to, per_second, &told)));
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends the stream and tells what became of its connections, in their order.
    ///
    /// # Errors
    /// When sockets could not be had.
    pub fn finish(mut self) -> Result<Vec<Opening>> {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.take().map(JoinHandle::join).context("it was finished already")?;
        outcome.map_err(|_| anyhow!("the stream of connections panicked"))?
    }
}

/// How long after `since` the last connection was tried that nobody answered.
pub fn last_failure(openings: &[Opening], since: Instant) -> Duration {
    let failed = openings.iter().filter(|opening| !opening.answered && opening.at >= since);
    failed.map(|opening| opening.at - since).max().unwrap_or_default()
}

impl Drop for Openings {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(to: SocketAddr, per_second: u32, stop: &AtomicBool) -> Result<Vec<Opening>> {
    let (start, each) = (Instant::now(), Duration::from_secs(1) / per_second);
    let (mut held, mut done) = (VecDeque::new(), Vec::new());
    let mut next = start;
    loop {
        let now = Instant::now();
        let goes_on = !stop.load(Ordering::Relaxed);
        while goes_on && next <= now {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).context("no socket")?;
            socket.set_nonblocking(true)?;
            // Given up by RST, or ports would be taken for a minute.
            socket.set_linger(Some(Duration::ZERO))?;
            // It goes on by itself.
            let _ = socket.connect(&to.into());
            held.push_back((Instant::now(), socket));
            next += each;
        }
        while let Some((at, socket)) = held.pop_front_if(|(at, _)| now.duration_since(*at) >= HELD) {
            done.push(Opening { at, answered: socket.peer_addr().is_ok() });
        }
        if !goes_on && held.is_empty() {
            return Ok(done);
        }
        thread::sleep(TICK);
    }
}
