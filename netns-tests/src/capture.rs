//! Frames of one interface: each checksum is verified as it comes, the last ones are kept for a pcap.
//!
//! The balancer's frames are seen at the router's end of its link: a socket on the balancer's own end sees nothing of
//! what XDP sends.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
    net::SocketAddr,
    os::fd::AsRawFd as _,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{bpf, netns::Namespace, pcap};

pub mod verify;

/// Frames kept for the pcap.
const KEPT: usize = 20_000;
/// Faults kept, more would say nothing new.
const FAULTS: usize = 20;
/// Bytes of the socket's buffer: a second of a fast download's acknowledgements.
const SOCKET_BUFFER: usize = 64 << 20;

/// A capture that runs until it is dropped.
#[derive(Debug)]
pub struct Capture {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A captured frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Time since 1970.
    pub time: Duration,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Seen {
    frames: VecDeque<Frame>,
    faults: Vec<String>,
    total: u64,
}

impl Capture {
    /// Starts capturing what enters and leaves by `interface` of `namespace`.
    ///
    /// # Errors
    /// When there is no such interface or no packet socket can be had.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = namespace.enter(|| packet_socket(interface))?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || collect(&socket, &seen, &stop))
        };
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// Frames seen so far.
    pub fn total(&self) -> u64 {
        self.seen().total
    }

    /// What was wrong with frames so far: one line each.
    pub fn faults(&self) -> Vec<String> {
        self.seen().faults.clone()
    }

    /// The last frames, oldest first.
    pub fn frames(&self) -> Vec<Frame> {
        self.seen().frames.iter().cloned().collect()
    }

    /// Whether a captured TCP or UDP packet, tunnelled or not, came from this address and port.
    pub fn has_source(&self, source: SocketAddr) -> bool {
        self.seen().frames.iter().any(|frame| verify::is_from(&frame.bytes, source))
    }

    /// Writes the last frames to a file that tcpdump and Wireshark read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_pcap(&self, file: &Path) -> Result<()> {
        let seen = self.seen();
        let frames = seen.frames.iter().map(|frame| (frame.time, frame.bytes.as_slice()));
        pcap::write(file, frames).with_context(|| format!("cannot write {}", file.display()))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn collect(socket: &Socket, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut buffer = vec![0; pcap::MAX_FRAME as usize];
    while !stop.load(Ordering::Relaxed) {
        // A timeout gives the chance to stop.
        let Ok(length) = (&*socket).read(&mut buffer) else { continue };
        let bytes = &buffer[..length];
        let fault = verify::frame(bytes).err();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.total += 1;
        let number = seen.total;
        if let Some(fault) = fault.filter(|_| seen.faults.len() < FAULTS) {
            seen.faults.push(format!("frame {number}: {fault}"));
        }
        if seen.frames.len() == KEPT {
            seen.frames.pop_front();
        }
        seen.frames.push_back(Frame { time, bytes: bytes.to_vec() });
    }
}

fn packet_socket(interface: &str) -> Result<Socket> {
    let ifindex = i32::try_from(bpf::interface_number(interface)?)?;
    let every = u16::try_from(libc::ETH_P_ALL)?;
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(every.to_be()))));
    let socket = socket.context("cannot open a packet socket")?;
    force_buffer(&socket, SOCKET_BUFFER)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let address = libc::sockaddr_ll {
        sll_family: libc::sa_family_t::try_from(libc::AF_PACKET)?,
        sll_protocol: every.to_be(),
        sll_ifindex: ifindex,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: the address is a whole `sockaddr_ll` of that length, which the kernel copies.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("cannot capture on {interface}"));
    }
    Ok(socket)
}

/// Sets a receive buffer above the system's limit, which root may.
pub(crate) fn force_buffer(socket: &Socket, bytes: usize) -> Result<()> {
    let size = i32::try_from(bytes)?;
    let length = libc::socklen_t::try_from(size_of::<i32>())?;
    // SAFETY: the option's value is one `int`, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const size).cast(), length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("cannot enlarge a socket's buffer");
    }
    Ok(())
}
