//! A web server of an operator's, that is told of changes.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use netns_tests::netns::Namespace;
use serde_json::Value;

/// The router's end of the balancer's link.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 9000);

/// Where to post to.
pub(crate) const URL: &str = "http://10.0.0.1:9000/changes?of=lb";

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// By a status.
    Status(u16),
    /// Not at all.
    Never,
}

/// Notes what is posted to it; closed when stopped or dropped.
#[derive(Debug)]
pub(crate) struct WebServer {
    /// What was posted, and whether it was answered well.
    posts: Arc<Mutex<Vec<(Value, bool)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    /// One that answers so at first, and by 204 from then on.
    pub(crate) fn start(namespace: &Namespace, first: Vec<Answer>) -> Result<Self> {
        let listener = namespace.enter(|| TcpListener::bind(ADDRESS)).context("the web server")?;
        listener.set_nonblocking(true)?;
        let (posts, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (noted, stopped) = (Arc::clone(&posts), Arc::clone(&stop));
        let thread = thread::spawn(move || serve(&listener, first, &noted, &stopped));
        Ok(Self { posts, stop, thread: Some(thread) })
    }

    /// All that was posted.
    pub(crate) fn all(&self) -> Vec<Value> {
        noted(&self.posts).iter().map(|(body, _)| body.clone()).collect()
    }

    /// What was answered well.
    pub(crate) fn taken(&self) -> Vec<Value> {
        noted(&self.posts).iter().filter(|(_, well)| *well).map(|(body, _)| body.clone()).collect()
    }

    /// From now on nobody listens.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn noted(posts: &Mutex<Vec<(Value, bool)>>) -> MutexGuard<'_, Vec<(Value, bool)>> {
    posts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: &TcpListener, first: Vec<Answer>, posts: &Mutex<Vec<(Value, bool)>>, stop: &AtomicBool) {
    let mut answers = first.into_iter();
    // Those that are not answered stay open.
    let mut open = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let answer = answers.next().unwrap_or(Answer::Status(204));
                match take(&stream, answer) {
                    Ok(body) => noted(posts).push((body, matches!(answer, Answer::Status(200..=299)))),
                    Err(error) => eprintln!("the web server: {error:#}"),
                }
                open.extend(matches!(answer, Answer::Never).then_some(stream));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
            Err(error) => return eprintln!("the web server: {error}"),
        }
    }
}

/// Reads a document that is posted, and answers.
fn take(stream: &TcpStream, answer: Answer) -> Result<Value> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let (mut length, mut is_json) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((key, value)) = line.split_once(':') else {
            if line.trim().is_empty() {
                break;
            }
            continue;
        };
        match (key.to_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = value.parse()?,
            ("content-type", value) => is_json = value == "application/json",
            _ => {}
        }
    }
    anyhow::ensure!(is_json, "no JSON");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if let Answer::Status(status) = answer {
        write!(&mut &*stream, "HTTP/1.1 {status} -\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    }
    Ok(serde_json::from_slice(&body)?)
}
