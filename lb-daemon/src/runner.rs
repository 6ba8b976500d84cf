//! Programs and webhooks that operators name, run and called outside of the daemon's fences.
//!
//! A daemon that is confined can start no programs, and what it started would be confined like itself; nor does it read the
//! files by which names are looked up. So the runner does it: a process of its own, made before, without capabilities and
//! with no way to gain any. It is asked over a socket, a line of JSON for each task, and ends with the daemon; what it
//! started ends with it.

use std::{
    collections::BTreeMap,
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};

mod ask;
mod memory;
mod post;
mod program;
mod serve;
mod sweep;
mod turns;

pub use self::{
    ask::{Lacking, Runner},
    serve::serve,
};

/// Checks' programs that run at once. The others wait for their turn.
pub const MOST: usize = 128;

/// What tells of changes at once: it has places of its own, since events matter most when all checks hang.
const MOST_TELLING: usize = 4;

/// The word on the command line by which this binary is the runner.
pub const WORD: &str = "run-programs";

/// What the runner can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Run a program.
    Run(Program),
    /// Post to a web server.
    Post(Post),
}

impl Task {
    /// How long it may take.
    pub(crate) fn timeout(&self) -> Duration {
        match self {
            Self::Run(program) => program.timeout,
            Self::Post(post) => post.timeout,
        }
    }
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A program ended.
    Ended(Ended),
    /// A web server took what was posted; why not, if not.
    Posted(Result<(), String>),
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its absolute path, and its arguments.
    pub argv: Vec<String>,
    /// Its environment; it has `PATH` besides, and nothing else.
    pub env: BTreeMap<String, String>,
    /// What it reads from its standard input; `None` is nothing.
    pub input: Option<String>,
    /// It is killed after this time, with all that it started.
    pub timeout: Duration,
}

/// A JSON document to post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Where to, by `http` or `https`.
    pub url: String,
    /// The document.
    pub body: String,
    /// An answer must be there after this time.
    pub timeout: Duration,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// In what way.
    pub how: How,
    /// First line that it wrote, if there was one, cut to some length.
    pub line: Option<String>,
}

/// In what way a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal, which was not sent here.
    Signal(i32),
    /// Killed, since its time was over.
    Late,
    /// Killed, since it wrote and wrote.
    Endless,
    /// It could not be started, for this reason.
    Never(String),
}

impl Ended {
    /// In words, of a program that had so much time.
    pub fn words(&self, timeout: Duration) -> String {
        let what = match &self.how {
            How::Code(0) => return self.line.clone().unwrap_or_else(|| "exit code 0".into()),
            How::Code(code) => format!("exit code {code}"),
            How::Signal(signal) => format!("ended by signal {signal}"),
            How::Late => format!("killed after {timeout:?}"),
            How::Endless => "killed, since it wrote too much".into(),
            How::Never(why) => return format!("cannot be run: {why}"),
        };
        match &self.line {
            Some(line) => format!("{what}: {line}"),
            None => what,
        }
    }
}

/// What the daemon writes to the runner.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    number: u64,
    task: Task,
}

/// What the runner writes to the daemon.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    number: u64,
    outcome: Outcome,
    /// Whether nothing is left of it. What the kernel cannot end yet is told of twice: when it was killed, and when it is gone.
    over: bool,
}

/// A message of either as the line that it goes as.
fn line_of(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Starts the runner, which is the binary at `binary`; web servers are trusted by the certificates in the file
/// `authorities`. To be called before this process is confined, by the thread that lives as long as the process.
///
/// # Errors
/// When there is no more room for a socket or a process.
pub fn start(binary: &Path, authorities: Option<&Path>) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    // A group of its own: what a terminal sends to the daemon is for the daemon to pass on.
    Command::new(binary)
        .arg(WORD)
        .env_clear()
        .envs(authorities.map(|file| ("SSL_CERT_FILE", file)))
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()?;
    ours.set_nonblocking(true)?;
    Ok(ours)
}
