//! A validated configuration: complete, consistent, without text positions. Nothing here does I/O.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[dataplane]`
    pub dataplane: DataplaneConfig,
    /// `[daemon]`
    pub daemon: DaemonConfig,
    /// `[api] socket`
    pub api_socket: PathBuf,
    /// `[metrics] listen`; `None` when the section says `listen = "off"`.
    pub metrics_listen: Option<SocketAddr>,
    /// `[pool.NAME]`, by name.
    pub pools: BTreeMap<String, Pool>,
    /// `[[vip]]`, in the order of the file.
    pub vips: Vec<Vip>,
}

/// `[dataplane]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataplaneConfig {
    /// Interfaces to attach to, each with its mode; no interface twice. May be empty, which only a load that attaches to
    /// nothing can do with: whoever attaches refuses it.
    pub interfaces: Vec<Interface>,
    /// Where packets to backends go.
    pub next_hop: NextHopConfig,
    /// Entries of the flow table; a power of two, at least 64.
    pub flow_table_entries: u32,
    /// Secret of the flow hash.
    pub hash_seed: u64,
    /// A UDP flow idle for longer is forgotten.
    pub udp_idle_timeout: Duration,
    /// Prefix of outer IPv4 sources; the flow fills the host bits. At most 32 - 8 bits long.
    pub tunnel_source_v4: ipnet::Ipv4Net,
    /// Prefix of outer IPv6 sources; the flow fills the last 32 bits. At most 96 bits long.
    pub tunnel_source_v6: ipnet::Ipv6Net,
}

/// An interface to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name, as in `ip link`.
    pub name: String,
    /// How to attach.
    pub mode: AttachMode,
}

/// How the program is bound to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver; fail where it cannot.
    Native,
    /// In the kernel's generic hook, slow.
    Generic,
    /// Native, else generic with a warning.
    #[default]
    Auto,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Auto => "auto",
        })
    }
}

/// `next_hop`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopConfig {
    /// Ask the kernel's routes and neighbours, for each backend.
    Auto,
    /// One gateway for all, by MAC address; packets leave by the interface they came in by.
    Gateway([u8; 6]),
}

/// `[daemon]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// Apply the file whenever it is written.
    pub watch: bool,
    /// Where the daemon keeps what must outlive it.
    pub state_dir: PathBuf,
}

/// `[pool.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its backends, in the order of the file; names and addresses are unique within the pool.
    pub backends: Vec<Backend>,
    /// `[pool.NAME.health]`
    pub health: Health,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Where packets to it are tunnelled.
    pub address: IpAddr,
    /// Share of new flows, relative to the pool's other backends; 0 takes none. At most [`MAX_WEIGHT`].
    pub weight: u32,
    /// What the operator wants of it.
    pub state: AdminState,
}

/// Largest weight of a backend.
pub const MAX_WEIGHT: u32 = 65_535;

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminState {
    /// Serve.
    #[default]
    Active,
    /// Keep known flows, take no new ones.
    Drain,
    /// Take nothing; known flows move.
    Disabled,
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Drain => "drain",
            Self::Disabled => "disabled",
        })
    }
}

/// `[pool.NAME.health]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// Port to ask; `None` is the VIP's own.
    pub port: Option<u16>,
    /// Time between the starts of two probes.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Successes in a row that take a backend up.
    pub rise: u32,
    /// Failures in a row that take a backend down.
    pub fall: u32,
}

/// What a probe asks of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing: always up.
    None,
    /// A TCP connection that opens.
    Tcp,
    /// An HTTP/1.1 GET whose status is expected.
    Http {
        /// Request target.
        path: String,
        /// `Host` header; `None` is the VIP's address.
        host: Option<String>,
        /// Ranges of status codes that count as success, both ends included.
        expect_status: Vec<(u16, u16)>,
    },
}

/// `[[vip]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Its name, unique.
    pub name: String,
    /// What clients connect to.
    pub service: Service,
    /// Name of its pool.
    pub pool: String,
    /// Slots of its ring; prime.
    pub ring_size: u32,
    /// Share of healthy backends, in percent, below which all are used.
    pub panic_threshold: u8,
}

/// Address, port and protocol of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Destination address.
    pub address: IpAddr,
    /// Destination port; 0 is any.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "{} {}", self.address, self.protocol),
            port => write!(f, "{} {}", SocketAddr::new(self.address, port), self.protocol),
        }
    }
}

/// A balanced protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
