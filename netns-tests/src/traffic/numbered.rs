//! A steady stream of numbered datagrams on many flows, and what became of each: lost, doubled, or led to another backend
//! than the flow's others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use super::any;
use crate::{netns::Namespace, topology::Lab, wait};

/// The port that sinks listen on.
pub const PORT: u16 = 7000;
/// Flows of a stream, half of them over each family.
pub const FLOWS: u32 = 1000;
/// Datagrams in a second, of all flows together: each flow sends five.
const PER_SECOND: u64 = 5000;
/// Pause between bursts.
const TICK: Duration = Duration::from_millis(2);
/// Bytes of a sink's buffer: some seconds of the stream, should the machine be busy.
const SINK_BUFFER: usize = 16 << 20;
/// Longest time that a datagram is on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(3);

/// A datagram: number of its flow, number within the flow.
type Number = (u32, u32);

/// A stream that runs until it is dropped or finished.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: Option<JoinHandle<u64>>,
    sinks: Vec<Sink>,
}

/// What a backend gets.
#[derive(Debug)]
struct Sink {
    arrived: Arc<Mutex<Vec<Number>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Flows that were seen.
    pub flows: u64,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Of these, how many no backend got.
    pub lost: u64,
    /// How many came once more than they should.
    pub duplicated: u64,
    /// Flows that more than one backend got datagrams of.
    pub moved: u64,
}

impl Report {
    /// Whether every datagram came, once, to its flow's backend.
    pub fn is_whole(&self) -> bool {
        (self.lost, self.duplicated, self.moved) == (0, 0, 0) && self.flows == u64::from(FLOWS)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, sent, lost, duplicated, moved } = self;
        write!(f, "{sent} packets on {flows} flows: {lost} lost, {duplicated} duplicated, {moved} flows moved")
    }
}

impl Stream {
    /// Starts sinks at [`PORT`] of both VIPs on every backend and a stream to them, and waits until every flow has reached
    /// a backend twice. The balancer must serve these VIPs by UDP.
    ///
    /// # Errors
    /// When a socket cannot be had, or some flow does not come through.
    pub fn start(lab: &Lab, vips: [SocketAddr; 2]) -> Result<Self> {
        allow_files()?;
        let sinks: Vec<Sink> =
            lab.backends.iter().map(|backend| Sink::start(&backend.namespace, vips)).collect::<Result<_>>()?;
        let sockets = lab.client.enter(|| sockets(vips))?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let sender = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            thread::spawn(move || send(&sockets, &stop, &sent))
        };
        let stream = Self { stop, sent, sender: Some(sender), sinks };
        wait::until("every flow reaches a backend", Duration::from_secs(20), || {
            let seen: BTreeMap<u32, u32> =
                stream.arrived().into_iter().fold(BTreeMap::new(), |mut seen, (_, number)| {
                    *seen.entry(number.0).or_default() += 1;
                    seen
                });
            ensure!(seen.len() == FLOWS as usize, "{} of {FLOWS} flows so far", seen.len());
            Ok(seen.values().all(|times| *times > 1).then_some(()))
        })?;
        Ok(stream)
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the stream, waits for what is on its way, and tells what became of it.
    ///
    /// # Errors
    /// When datagrams could not even be sent.
    pub fn finish(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let refused = self.sender.take().map_or(Ok(0), JoinHandle::join);
        let refused = refused.map_err(|_| anyhow::anyhow!("the sender panicked"))?;
        ensure!(refused == 0, "{refused} datagrams could not be sent");
        let sent = self.sent();
        let start = Instant::now();
        let count = || self.sinks.iter().map(|sink| sink.arrived().len() as u64).sum::<u64>();
        while count() < sent && start.elapsed() < ON_ITS_WAY {
            thread::sleep(TICK);
        }
        // What is doubled comes a moment later.
        thread::sleep(Duration::from_millis(100));
        Ok(report(sent, &self.arrived()))
    }

    /// What came, by number of the backend.
    fn arrived(&self) -> Vec<(usize, Number)> {
        let numbered = self.sinks.iter().enumerate();
        numbered.flat_map(|(backend, sink)| sink.arrived().into_iter().map(move |number| (backend, number))).collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
    }
}

impl Sink {
    fn start(namespace: &Namespace, vips: [SocketAddr; 2]) -> Result<Self> {
        let (arrived, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for vip in vips {
            let socket = namespace.enter(|| listen(vip))?;
            let (arrived, stop) = (Arc::clone(&arrived), Arc::clone(&stop));
            threads.push(thread::spawn(move || receive(&socket, &arrived, &stop)));
        }
        Ok(Self { arrived, stop, threads })
    }

    fn arrived(&self) -> Vec<Number> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Each flow is a socket, and a process may have 1,024 files by default.
pub(super) fn allow_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let needed = 4 * u64::from(FLOWS);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).context("cannot have more files open")
}

/// A socket for each flow, with where it sends to.
fn sockets(vips: [SocketAddr; 2]) -> Result<Vec<(UdpSocket, SocketAddr)>> {
    let socket = |to: SocketAddr| Ok((UdpSocket::bind(SocketAddr::new(any(to), 0))?, to));
    let targets = vips.into_iter().cycle().take(FLOWS as usize);
    targets.map(socket).collect::<Result<_>>().context("cannot open sockets for the stream")
}

fn listen(vip: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(vip), Type::DGRAM, None)?;
    crate::capture::force_buffer(&socket, SINK_BUFFER)?;
    socket.bind(&vip.into()).with_context(|| format!("cannot listen on {vip}"))?;
    SockRef::from(&socket).set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket.into())
}

fn receive(socket: &UdpSocket, arrived: &Mutex<Vec<Number>>, stop: &AtomicBool) {
    let mut buffer = [0; 8];
    while !stop.load(Ordering::Relaxed) {
        // A timeout gives the chance to stop.
        let Ok(8) = socket.recv(&mut buffer) else { continue };
        let (flow, round): ([u8; 4], [u8; 4]) = zerocopy::transmute!(buffer);
        let number = (u32::from_be_bytes(flow), u32::from_be_bytes(round));
        arrived.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }
}

/// Sends until told to stop, flow by flow. Returns how many datagrams the system refused.
fn send(sockets: &[(UdpSocket, SocketAddr)], stop: &AtomicBool, sent: &AtomicU64) -> u64 {
    let (start, mut refused) = (Instant::now(), 0);
    let mut numbers = (0_u32..).flat_map(|round| (0_u32..).zip(sockets).map(move |(flow, to)| (flow, round, to)));
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX) * PER_SECOND / 1_000_000;
        let missing = due.saturating_sub(sent.load(Ordering::Relaxed));
        for (flow, round, (socket, to)) in numbers.by_ref().take(usize::try_from(missing).unwrap_or(usize::MAX)) {
            let mut datagram = [0; 8];
            datagram[..4].copy_from_slice(&flow.to_be_bytes());
            datagram[4..].copy_from_slice(&round.to_be_bytes());
            refused += u64::from(socket.send_to(&datagram, to).is_err());
            sent.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(TICK);
    }
    refused
}

fn report(sent: u64, arrived: &[(usize, Number)]) -> Report {
    let mut backends: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    let mut once: BTreeSet<Number> = BTreeSet::new();
    for (backend, number) in arrived {
        backends.entry(number.0).or_default().insert(*backend);
        once.insert(*number);
    }
    let (different, all) = (once.len() as u64, arrived.len() as u64);
    Report {
        flows: backends.len() as u64,
        sent,
        lost: sent.saturating_sub(different),
        duplicated: all - different,
        moved: backends.values().filter(|backends| backends.len() > 1).count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_told_from_the_others() {
        let report = report(6, &[(0, (1, 0)), (0, (1, 0)), (0, (1, 1)), (0, (2, 0)), (1, (2, 1))]);
        assert_eq!(report, Report { flows: 2, sent: 6, lost: 2, duplicated: 1, moved: 1 });
        assert!(!report.is_whole());
    }
}
