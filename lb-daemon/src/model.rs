//! A validated configuration: complete, consistent, without text positions. Nothing here does I/O.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

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
    /// Largest packet to a backend, outer header included; `None` is that of the way to it.
    pub mtu: Option<u32>,
    /// Outer UDP port of GUE.
    pub gue_port: u16,
    /// Who may send to any VIP.
    pub access: Access,
    /// `[dataplane.source_limit]`
    pub source_limit: Option<SourceLimit>,
    /// `[dataplane.tunnels]`: tunnel packets of other lbs that are unwrapped and steered here. No addresses: none.
    pub tunnels: Tunnels,
}

/// `allow` and `deny`, of a VIP or of all. The longest prefix that a source is in decides; a source in none is let in
/// unless there is an `allow`. No prefix is in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Prefixes that are let in.
    pub allow: Vec<IpNet>,
    /// Prefixes that are kept out.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether it decides nothing.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// `[dataplane.source_limit]`: what one source may send to all VIPs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimit {
    /// Packets per second; `None` is no limit.
    pub packets_per_second: Option<u32>,
    /// New flows per second; `None` is no limit.
    pub new_flows_per_second: Option<u32>,
    /// IPv4 sources with so many bits in common are one.
    pub prefix_v4: u8,
    /// IPv6 sources with so many bits in common are one.
    pub prefix_v6: u8,
    /// Sources remembered, 32 bytes each; a power of two, at least 2.
    pub entries: u32,
}

/// `[dataplane.tunnels]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// Addresses of this host to which other lbs send tunnel packets.
    pub addresses: Vec<IpAddr>,
    /// Where these may come from; empty is anywhere.
    pub sources: Vec<IpNet>,
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
    /// The number under which clients' packets name it; unique within the pool.
    pub server_id: Option<ServerId>,
    /// Whether it is this host: its packets are passed up as they came.
    pub local: bool,
}

impl Backend {
    /// A backend without keys that few need.
    pub fn plain(name: &str, address: IpAddr, weight: u32, state: AdminState) -> Self {
        Self { name: name.to_owned(), address, weight, state, server_id: None, local: false }
    }
}

/// A backend's server ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    /// Its value; one of several bytes is read as big-endian. Below 2^120.
    pub value: u128,
    /// Its bytes, when it was written as hexadecimal digits; `None` when it was written as a number.
    pub len: Option<u8>,
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
    /// How packets to its backends are wrapped.
    pub encap: Encap,
    /// What decides the backend of a new flow.
    pub hash: HashMode,
    /// Whether flows are remembered.
    pub tracked: bool,
    /// Routing by QUIC connection IDs.
    pub quic: Quic,
    /// Routing by the server ID in a TCP option.
    pub tcp_server_id: bool,
    /// Routing by the server ID in a UDP stable-routing header.
    pub udp_stable: bool,
    /// Sources whose new flows go elsewhere. No prefix twice.
    pub source_routes: Vec<SourceRoute>,
    /// Who may send to it.
    pub access: Access,
    /// Limit of new flows.
    pub max_new_flows_per_second: Option<u32>,
    /// Whether packets to its address at a port that no VIP serves are dropped.
    pub drops_unknown_port: bool,
}

impl Vip {
    /// A VIP of which only the required keys are given.
    pub fn plain(name: &str, service: Service, pool: &str, ring_size: u32) -> Self {
        Self {
            name: name.to_owned(),
            service,
            pool: pool.to_owned(),
            ring_size,
            panic_threshold: 0,
            encap: Encap::default(),
            hash: HashMode::default(),
            tracked: true,
            quic: Quic::default(),
            tcp_server_id: false,
            udp_stable: false,
            source_routes: Vec::new(),
            access: Access::default(),
            max_new_flows_per_second: None,
            drops_unknown_port: false,
        }
    }
}

/// `encap`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encap {
    /// IP-in-IP.
    #[default]
    Ipip,
    /// GUE variant 1.
    Gue,
    /// None: the frame goes to the backend's MAC address. Every backend is on a network that this host is on.
    L2,
}

/// `hash`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HashMode {
    /// All of the flow.
    #[default]
    FiveTuple,
    /// A client's flows go to one backend.
    SourceIp,
    /// A client's flows to one port go to one backend.
    SourceIpDestinationPort,
    /// All flows to one port go to one backend.
    DestinationPort,
}

/// `quic`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quic {
    /// Not read.
    #[default]
    Off,
    /// draft-ietf-quic-load-balancers, plaintext: bytes of the server ID of configurations 0 to 6; 0 where there is none.
    QuicLb([u8; 7]),
    /// Katran's layouts, versions 1 to 3.
    Katran,
}

/// One of `source_routes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRoute {
    /// The sources.
    pub source: IpNet,
    /// Where their new flows go.
    pub to: RouteTo,
}

/// Where a source route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTo {
    /// To a pool, by name, over its own ring.
    Pool(String),
    /// To one backend of the VIP's own pool, by name.
    Backend(String),
}

/// Address, port and protocol of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Destination address, or the first of a prefix.
    pub address: IpAddr,
    /// Bits at the end of the address that do not count; 0 for a single address.
    pub wildcard_bits: u8,
    /// Destination port; 0 is any.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl Service {
    /// Of a single address.
    pub const fn of(address: IpAddr, port: u16, protocol: Protocol) -> Self {
        Self { address, wildcard_bits: 0, port, protocol }
    }

    /// The addresses that it serves.
    pub fn prefix(&self) -> IpNet {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        let net = IpNet::new(self.address, u8::saturating_sub(bits, self.wildcard_bits));
        net.unwrap_or_else(|_| self.address.into())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, wildcard_bits, port, protocol } = *self;
        match (wildcard_bits, port, address) {
            (0, 0, _) => write!(f, "{address} {protocol}"),
            (0, ..) => write!(f, "{} {protocol}", SocketAddr::new(address, port)),
            (_, 0, _) => write!(f, "{} {protocol}", self.prefix()),
            (_, _, IpAddr::V4(_)) => write!(f, "{}:{port} {protocol}", self.prefix()),
            (_, _, IpAddr::V6(_)) => write!(f, "[{}]:{port} {protocol}", self.prefix()),
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
