//! How long changes of the configuration take: the real daemon with many VIPs and backends, on no interface.

use std::{
    fs,
    net::Ipv4Addr,
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
use aya::{TestRun, TestRunOptions, programs::Xdp};
use aya_obj::programs::XdpAttachType;
use etherparse::PacketBuilder;
use tempfile::TempDir;

use crate::balancer::binary;

/// What has to come within this time or never will.
const LIMIT: Duration = Duration::from_mins(1);
/// Pause between two changes.
const BETWEEN: Duration = Duration::from_millis(500);
/// The VIP that is looked at: its flows are not remembered, so each packet goes where the ring says.
const WATCHED: usize = 7;
const PORT: u16 = 80;
/// Bytes of Ethernet header, and of an IPv4 header up to the destination.
const OUTER_DESTINATION: usize = 14 + 16;

/// A site: so many VIPs, each with a pool of its own.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// VIPs.
    pub vips: usize,
    /// Backends of each.
    pub backends: usize,
}

impl Site {
    /// The configuration with one backend's weight: of the watched VIP's backend `backend`.
    fn text(self, folder: &Path, changed: Option<(usize, u32)>) -> String {
        (0..self.vips).fold(empty(folder), |text, vip| text + &self.vip(vip, changed))
    }

    /// A VIP with its pool.
    fn vip(self, vip: usize, changed: Option<(usize, u32)>) -> String {
        let backend = |number: usize| {
            let changed = changed.filter(|(one, _)| vip == WATCHED && number == *one);
            let weight = changed.map_or(100, |(_, weight)| weight);
            let address = address([10, 0, 0, 0], vip * 256 + number + 1);
            format!("  {{ name = \"b{number}\", address = \"{address}\", weight = {weight} }},\n")
        };
        let backends: Vec<String> = (0..self.backends).map(backend).collect();
        let (backends, address) = (backends.concat(), vip_address(vip));
        let tracking = if vip == WATCHED { "off" } else { "always" };
        format!(
            "[pool.p{vip}]\nbackends = [\n{backends}]\n[[vip]]\nname = \"v{vip}\"\naddress = \"{address}\"\nport = {PORT}\n\
             protocol = \"udp\"\npool = \"p{vip}\"\nflow_tracking = \"{tracking}\"\n"
        )
    }
}

fn empty(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "version = 1\n[dataplane]\nnext_hop = \"02:00:00:00:00:01\"\n[daemon]\nstate_dir = \"{folder}/state\"\n[api]\n\
         socket = \"{folder}/lb.sock\"\n[metrics]\nlisten = \"off\"\n"
    )
}

fn address(network: [u8; 4], number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::from(network).to_bits() + u32::try_from(number).unwrap_or(u32::MAX))
}

fn vip_address(vip: usize) -> Ipv4Addr {
    address([192, 0, 0, 1], vip)
}

/// A daemon that runs; stopped and unloaded when dropped.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    pins: PathBuf,
    folder: TempDir,
    child: Child,
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
        let config = folder.path().join("lb.toml");
        fs::write(&config, empty(folder.path()))?;
        let log = fs::File::create(folder.path().join("log"))?;
        let child = Command::new(&binary)
            .args(["run", "--config"])
            .arg(&config)
            .arg("--pin-path")
            .arg(&pins)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let daemon = Self { binary, pins, folder, child };
        let start = Instant::now();
        while daemon.lb(&["status".as_ref()]).is_err() {
            ensure!(start.elapsed() < LIMIT, "the daemon does not answer:\n{}", daemon.log());
            sleep(Duration::from_millis(50));
        }
        Ok(daemon)
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
        fs::write(&file, site.text(self.folder.path(), changed))?;
        Ok(file)
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
        let backend = usize::from(before.octets()[3]) - 1;
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
