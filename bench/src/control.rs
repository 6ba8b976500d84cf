//! How long changes of the configuration take: the real daemon with many VIPs and backends, on no interface.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::{TestRun, TestRunOptions, maps::MapData, programs::Xdp};
use aya_obj::programs::XdpAttachType;
use etherparse::PacketBuilder;
use netns_tests::netns::Namespace;

use crate::{
    balancer::binary,
    daemon,
    lab::{self, Stop},
    tables::memory,
};

mod site;
mod watch;

pub use self::site::Site;
use self::{
    site::{PORT, WATCHED, empty, vip_address},
    watch::until_changed,
};

/// Pause between two changes.
const BETWEEN: Duration = Duration::from_millis(500);
/// Bytes of Ethernet header, and of an IPv4 header up to the destination.
const OUTER_DESTINATION: usize = 14 + 16;

/// A daemon that runs, on no interface; stopped and unloaded when dropped.
#[derive(Debug)]
pub struct Daemon {
    running: daemon::Daemon,
    stop: Stop,
}

impl Daemon {
    /// Starts one that serves nothing yet.
    ///
    /// # Errors
    /// If it does not come up, or `stop` says so.
    pub fn start(stop: &Stop) -> Result<Self> {
        let namespace = Arc::new(Namespace::create(&lab::name("control"))?);
        let running = daemon::Daemon::start(&namespace, &binary()?, |folder| Ok(empty(folder)), stop)?;
        Ok(Self { running, stop: stop.clone() })
    }

    /// Kills it, starts another one over the tables that it leaves, and tells how long that one takes until it is ready: its
    /// tables are adopted and are what the file says.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self) -> Result<Duration> {
        self.running.restart(&self.stop)
    }

    /// Has a site applied, with this weight of a backend of the watched VIP. Returns the time that `lb apply` took.
    ///
    /// # Errors
    /// If it is refused.
    pub fn apply(&self, site: Site, changed: Option<(usize, u32)>) -> Result<Duration> {
        let file = self.write(site, changed)?;
        let start = Instant::now();
        self.lb(&["apply".as_ref(), &file])?;
        Ok(start.elapsed())
    }

    fn write(&self, site: Site, changed: Option<(usize, u32)>) -> Result<PathBuf> {
        self.stop.check()?;
        let file = daemon::file(self.running.folder());
        fs::write(&file, site.text(self.running.folder(), changed))?;
        Ok(file)
    }

    /// How long it takes until all metrics are there, and how many bytes these are.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn scrape(&self) -> Result<(Duration, usize)> {
        let (time, metrics) = self.running.scrape()?;
        Ok((time, metrics.len()))
    }

    /// Memory that is the daemon's own, without what it maps, in MiB.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn memory(&self) -> Result<f64> {
        self.running.memory("RssAnon")
    }

    /// Memory of each of its tables in the kernel, in bytes.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn tables(&self) -> Result<BTreeMap<String, u64>> {
        let mut tables = BTreeMap::new();
        for entry in fs::read_dir(self.running.pins().join("maps"))? {
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
    pub fn until_steered(&self, site: Site, by: Change) -> Result<Duration> {
        let program = Xdp::from_pin(self.running.pins().join("prog"), XdpAttachType::Interface)
            .context("no program is pinned")?;
        let frame = frame();
        let before = steered_to(&program, &frame)?;
        let backend = site.backend_at(before).with_context(|| format!("{before} is no backend of the watched VIP"))?;
        let file = match by {
            Change::Override => None,
            Change::File => Some(self.write(site, Some((backend, 0)))?),
        };
        let name = format!("p{WATCHED}/b{backend}");
        // What the last change left to do must not count for this one.
        self.stop.sleep(BETWEEN)?;
        let taken = until_changed(
            || Ok(steered_to(&program, &frame)? != before),
            || match &file {
                None => self.lb(&["backend".as_ref(), "weight".as_ref(), name.as_ref(), "0".as_ref()]),
                Some(file) => self.lb(&["apply".as_ref(), file]),
            },
        );
        let taken = taken.with_context(|| format!("no packet is steered away from {before}"))?;
        match by {
            Change::Override => self.lb(&["backend".as_ref(), "weight".as_ref(), name.as_ref(), "file".as_ref()])?,
            Change::File => drop(self.apply(site, None)?),
        }
        Ok(taken)
    }

    fn lb(&self, arguments: &[&Path]) -> Result<()> {
        self.running.lb(arguments)
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
fn steered_to(program: &Xdp, frame: &[u8]) -> Result<Ipv4Addr> {
    let mut out = vec![0; frame.len() + 64];
    let options =
        TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), repeat: 1, ..TestRunOptions::default() };
    program.test_run(options)?;
    let bytes = out.get(OUTER_DESTINATION..OUTER_DESTINATION + 4).context("a short frame came out")?;
    Ok(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
}
