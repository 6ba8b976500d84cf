//! How long changes of the configuration take: the real daemon with many VIPs and backends, on no interface.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use aya::{TestRun, TestRunOptions, maps::MapData, programs::Xdp};
use aya_obj::programs::XdpAttachType;
use etherparse::PacketBuilder;
use tempfile::TempDir;

use crate::{balancer::binary, tables::memory};

mod site;

pub use self::site::Site;
use self::site::{PORT, WATCHED, empty, vip_address};

/// What has to come within this time or never will.
const LIMIT: Duration = Duration::from_mins(1);
/// Pause between two changes.
const BETWEEN: Duration = Duration::from_millis(500);
/// Bytes of Ethernet header, and of an IPv4 header up to the destination.
const OUTER_DESTINATION: usize = 14 + 16;

/// A daemon that runs; stopped and unloaded when dropped.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    pins: PathBuf,
    folder: TempDir,
    child: Child,
    ready: UnixDatagram,
    /// Where it tells its metrics.
    metrics: SocketAddr,
}

fn spawn(binary: &Path, pins: &Path, folder: &Path) -> Result<Child, anyhow::Error> {
    let log = fs::File::create(folder.join("log"))?;
    let mut command = Command::new(binary);
    command.args(["run", "--config"]).arg(folder.join("lb.toml")).arg("--pin-path").arg(pins);
    command.env("NOTIFY_SOCKET", folder.join("ready")).stderr(log).stdin(Stdio::null());
    command.spawn().with_context(|| format!("cannot run {}", binary.display()))
}

impl Daemon {
    /// Starts one that serves nothing yet.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start() -> Result<Self, anyhow::Error> {
        let binary = binary()?;
        let folder = tempfile::tempdir().context("no place for a config file")?;
        let pins = PathBuf::from(format!("/sys/fs/bpf/lb-bench-control-{}", process::id()));
        let metrics = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let metrics = metrics.context("no port for metrics is free")?;
        fs::write(folder.path().join("lb.toml"), empty(folder.path(), metrics))?;
        let ready = UnixDatagram::bind(folder.path().join("ready")).context("no socket to be told that it is ready")?;
        ready.set_read_timeout(Some(LIMIT))?;
        let child = spawn(&binary, &pins, folder.path())?;
        let daemon = Self { binary, pins, folder, child, ready, metrics };
        daemon.until_ready()?;
        Ok(daemon)
    }

    /// Kills it, starts another one over the tables that it leaves, and tells how long that one takes until it is ready: its
    /// tables are adopted and are what the file says.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self) -> Result<Duration, anyhow::Error> {
        self.child.kill()?;
        self.child.wait()?;
        let start = Instant::now();
        self.child = spawn(&self.binary, &self.pins, self.folder.path())?;
        self.until_ready()?;
        Ok(start.elapsed())
    }

    /// Waits for the word that a service manager gets.
    fn until_ready(&self) -> Result<(), anyhow::Error> {
        let mut message = [0; 4096];
        loop {
            let length = self.ready.recv(&mut message);
            let length = length.with_context(|| format!("the daemon does not get ready:\n{}", self.log()))?;
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok(());
            }
        }
    }

    /// Has a site applied, with this weight of a backend of the watched VIP. Returns the time that `lb apply` took.
    ///
    /// # Errors
    /// If it is refused.
    pub fn apply(&self, site: Site, changed: Option<(usize, u32)>) -> Result<Duration, anyhow::Error> {
        let file = self.write(site, changed)?;
        let start = Instant::now();
        self.lb(&["apply".as_ref(), &file])?;
        Ok(start.elapsed())
    }

    fn write(&self, site: Site, changed: Option<(usize, u32)>) -> Result<PathBuf, anyhow::Error> {
        let file = self.folder.path().join("lb.toml");
        fs::write(&file, site.text(self.folder.path(), self.metrics, changed))?;
        Ok(file)
    }

    /// How long it takes until all metrics are there, and how many bytes these are.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn scrape(&self) -> Result<(Duration, u64), anyhow::Error> {
        let start = Instant::now();
        let mut stream = TcpStream::connect(self.metrics)?;
        stream.set_read_timeout(Some(LIMIT))?;
        // Of that version the body comes as it is, and ends with the connection.
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.0 200 "), "the metrics endpoint does not answer with metrics");
        Ok((start.elapsed(), answer.len() as u64))
    }

    /// Memory that is the daemon's own, without what it maps: `RssAnon` in KiB.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn memory(&self) -> Result<u64, anyhow::Error> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
        line.trim().trim_end_matches(" kB").parse().context("RssAnon is no number")
    }

    /// Memory of each of its tables in the kernel, in bytes.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn tables(&self) -> Result<BTreeMap<String, u64>, anyhow::Error> {
        let mut tables = BTreeMap::new();
        for entry in fs::read_dir(self.pins.join("maps"))? {
            let path = entry?.path();
            let table = MapData::from_pin(&path).with_context(|| format!("no table at {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            tables.insert(name, memory(&table)?);
        }
        Ok(tables)
    }

    /// Takes new flows away from a backend of the watched VIP, by an override or by a file, and tells how long it took
    /// from the command's start to the first packet that goes elsewhere.
    ///
    /// # Errors
    /// If that does not come to be.
    pub fn until_steered(&self, site: Site, by: Change) -> Result<Duration, anyhow::Error> {
        let program =
            Xdp::from_pin(self.pins.join("prog"), XdpAttachType::Interface).context("no program is pinned")?;
        let frame = frame();
        let before = steered_to(&program, &frame)?;
        let backend = site.backend_at(before).with_context(|| format!("{before} is no backend of the watched VIP"))?;
        let file = match by {
            Change::Override => None,
            Change::File => Some(self.write(site, Some((backend, 0)))?),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || -> Result<Instant, anyhow::Error> {
                let start = Instant::now();
                while steered_to(&program, &frame)? == before {
                    ensure!(
                        !stop.load(Ordering::Relaxed) || start.elapsed() < LIMIT,
                        "the packet still goes to {before}"
                    );
                }
                Ok(Instant::now())
            })
        };
        // What the last change left to do must not count for this one.
        sleep(BETWEEN);
        let start = Instant::now();
        let name = format!("p{WATCHED}/b{backend}");
        let done = match &file {
            None => self.lb(&["backend".as_ref(), "weight".as_ref(), name.as_ref(), "0".as_ref()]),
            Some(file) => self.lb(&["apply".as_ref(), file]),
        };
        stop.store(true, Ordering::Relaxed);
        let steered = watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
        done?;
        match by {
            Change::Override => self.lb(&["backend".as_ref(), "weight".as_ref(), name.as_ref(), "file".as_ref()])?,
            Change::File => drop(self.apply(site, None)?),
        }
        Ok(steered.duration_since(start))
    }

    fn lb(&self, arguments: &[&Path]) -> Result<(), anyhow::Error> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--api").arg(self.folder.path().join("lb.sock")).arg("--pin-path").arg(&self.pins);
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        bail!("{command:?} failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
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

/// How a weight is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// By `lb backend weight`.
    Override,
    /// By `lb apply` of the changed file.
    File,
}

/// A datagram to the watched VIP.
fn frame() -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 255, 0, 1], vip_address(WATCHED).octets(), 64);
    let mut frame = Vec::new();
    // Writing to a vector cannot fail.
    let _ = builder.udp(4000, PORT).write(&mut frame, &[0; 18]);
    frame
}

/// Where the program sends a frame: destination of the outer header.
fn steered_to(program: &Xdp, frame: &[u8]) -> Result<Ipv4Addr, anyhow::Error> {
    let mut out = vec![0; frame.len() + 64];
    let options =
        TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), repeat: 1, ..TestRunOptions::default() };
    program.test_run(options)?;
    let bytes = out.get(OUTER_DESTINATION..OUTER_DESTINATION + 4).context("a short frame came out")?;
    Ok(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
}
