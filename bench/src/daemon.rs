//! The real daemon, as `lb run` starts it in a namespace, for benchmarks of what it does while it runs.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{net::UnixDatagram, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netns_tests::netns::Namespace;
use tempfile::TempDir;

use crate::lab::{self, Pins, Stop};

/// What has to come within this time or never will.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);
/// Where it tells its metrics, in its namespace.
const METRICS: &str = "127.0.0.1:9650";
/// How often it is looked at while it starts.
const LOOK: Duration = Duration::from_millis(100);
/// Lines of the log that an error tells of.
const LINES: usize = 20;

/// A daemon that runs; stopped and unloaded when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    binary: PathBuf,
    child: Child,
    ready: UnixDatagram,
    folder: TempDir,
    pins: Pins,
    // The last one to go.
    namespace: Arc<Namespace>,
}

impl Daemon {
    /// Starts one with the configuration that `text` makes for a folder, and waits until it is ready.
    pub(crate) fn start(
        namespace: &Arc<Namespace>,
        binary: &Path,
        text: impl FnOnce(&Path) -> Result<String>,
        stop: &Stop,
    ) -> Result<Self> {
        let folder = lab::folder()?;
        fs::write(file(folder.path()), text(folder.path())?)?;
        let ready = UnixDatagram::bind(folder.path().join("ready")).context("no socket to be told that it is ready")?;
        ready.set_read_timeout(Some(LOOK))?;
        let pins = Pins::new("run");
        let child = spawn(namespace, binary, pins.path(), folder.path())?;
        let mut daemon =
            Self { binary: binary.to_owned(), child, ready, folder, pins, namespace: Arc::clone(namespace) };
        daemon.until_ready(stop)?;
        Ok(daemon)
    }

    /// Kills it, starts another one over the tables that it leaves, and tells how long that one takes until it is ready: its
    /// tables are adopted and are what the file says.
    pub(crate) fn restart(&mut self, stop: &Stop) -> Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        let start = Instant::now();
        self.child = spawn(&self.namespace, &self.binary, self.pins.path(), self.folder.path())?;
        self.until_ready(stop)?;
        Ok(start.elapsed())
    }

    /// Waits for the word that a service manager gets.
    fn until_ready(&mut self, stop: &Stop) -> Result<()> {
        let (begun, mut message) = (Instant::now(), [0; 4096]);
        loop {
            match self.ready.recv(&mut message) {
                Ok(length) if is_ready(&message[..length]) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error).context("cannot be told that it is ready"),
            }
            stop.check()?;
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "the daemon ended:\n{}", self.log());
            ensure!(begun.elapsed() < LIMIT, "the daemon does not get ready:\n{}", self.log());
        }
    }

    /// Has `lb` do this with it.
    pub(crate) fn lb(&self, arguments: &[&Path]) -> Result<()> {
        let mut command = self.namespace.command(&self.binary);
        command.args(arguments).arg("--api").arg(socket(self.folder.path())).arg("--pin-path").arg(self.pins.path());
        netns_tests::netns::output(&mut command).map(drop)
    }

    /// All its metrics, and how long it took until they were there.
    pub(crate) fn scrape(&self) -> Result<(Duration, String)> {
        let (time, answer) = self.namespace.enter(|| -> Result<_> {
            let start = Instant::now();
            let mut stream = TcpStream::connect(METRICS.parse::<SocketAddr>()?)?;
            stream.set_read_timeout(Some(LIMIT))?;
            // Of that version the body comes as it is, and ends with the connection.
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok((start.elapsed(), answer))
        })?;
        let parts = answer.split_once("\r\n\r\n").filter(|(head, _)| head.contains(" 200 "));
        let (_, body) = parts.with_context(|| format!("the metrics endpoint answers {answer:?}"))?;
        Ok((time, body.to_owned()))
    }

    /// A figure of `/proc/PID/status`, in MiB.
    pub(crate) fn memory(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib: u32 = line.with_context(|| format!("no {name}"))?.trim().trim_end_matches(" kB").parse()?;
        Ok(f64::from(kib) / 1024.0)
    }

    /// What the system tells of it.
    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }

    /// Where it has its pins.
    pub(crate) fn pins(&self) -> &Path {
        self.pins.path()
    }

    /// Its files' folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The last lines that it said.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both may have gone by themselves.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.lb(&["unload".as_ref()]);
    }
}

fn spawn(namespace: &Namespace, binary: &Path, pins: &Path, folder: &Path) -> Result<Child> {
    let log = File::create(folder.join("log"))?;
    let mut command = namespace.command(binary);
    command.args(["run", "--config"]).arg(file(folder)).arg("--pin-path").arg(pins);
    command.env("NOTIFY_SOCKET", folder.join("ready")).stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
    // Of its own, so that whoever interrupts the benchmark at a terminal does not end the daemon before it.
    command.process_group(0);
    command.spawn().with_context(|| format!("cannot run {}", binary.display()))
}

/// The configuration of a daemon with its files in that folder.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join("lb.toml")
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("lb.sock")
}

/// The parts of a file for a daemon that has nothing to serve yet, with a line for its dataplane.
pub(crate) fn head(folder: &Path, dataplane: &str) -> String {
    format!(
        "version = 1\n[dataplane]\n{dataplane}\n[daemon]\nstate_dir = \"{}\"\n[api]\nsocket = \"{}\"\n[metrics]\n\
         listen = \"{METRICS}\"\n",
        folder.join("state").display(),
        socket(folder).display()
    )
}

fn is_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

/// A pause that is over, or a signal.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
