//! What clients connect to, and how their packets are steered: `[[vip]]`.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::IpNet;

use super::{Access, Least, RingChange};

/// `[[vip]]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the file")]
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
    /// Below so many healthy backends it is told to be down; what it forwards does not change. `None` is never.
    pub min_healthy: Option<Least>,
    /// How much of a ring of its may change by health alone; `None` is all at once.
    pub max_ring_change: Option<RingChange>,
    /// How packets to its backends are wrapped.
    pub encap: Encap,
    /// What decides the backend of a new flow.
    pub hash: HashMode,
    /// Which flows are remembered.
    pub flow_tracking: FlowTracking,
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
    /// Whether an operator disabled it: its backends take nothing for it, and its flows are remembered. No file says so.
    pub disabled: bool,
}

/// Which flows of a VIP are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowTracking {
    /// All.
    #[default]
    Always,
    /// Of TCP those in slots of the ring that changed while flows may go on; of UDP all.
    Adaptive,
    /// None.
    Off,
}

impl fmt::Display for FlowTracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Adaptive => "adaptive",
            Self::Off => "off",
        })
    }
}

impl Vip {
    /// Whether its flows are remembered only where the ring changed.
    pub fn is_adaptive(&self) -> bool {
        self.flow_tracking == FlowTracking::Adaptive && self.service.protocol == Protocol::Tcp
    }

    /// A VIP of which only the required keys are given.
    pub fn plain(name: &str, service: Service, pool: &str, ring_size: u32) -> Self {
        Self {
            name: name.to_owned(),
            service,
            pool: pool.to_owned(),
            ring_size,
            panic_threshold: 0,
            min_healthy: None,
            max_ring_change: None,
            encap: Encap::default(),
            hash: HashMode::default(),
            flow_tracking: FlowTracking::default(),
            quic: Quic::default(),
            tcp_server_id: false,
            udp_stable: false,
            source_routes: Vec::new(),
            access: Access::default(),
            max_new_flows_per_second: None,
            drops_unknown_port: false,
            disabled: false,
        }
    }
}

impl Vip {
    /// Whether packets name backends by server ID.
    pub fn routes_by_server_id(&self) -> bool {
        self.quic != Quic::Off || self.tcp_server_id || self.udp_stable
    }

    /// The pools whose backends serve it, by name, each once: its own first, then those of its source routes.
    pub fn pools(&self) -> impl Iterator<Item = &str> {
        let others: BTreeSet<&str> = self.source_routes.iter().filter_map(SourceRoute::pool).collect();
        std::iter::once(self.pool.as_str()).chain(others.into_iter().filter(|name| *name != self.pool))
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

impl fmt::Display for Encap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::L2 => "l2",
        })
    }
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

impl fmt::Display for HashMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FiveTuple => "5-tuple",
            Self::SourceIp => "source-ip",
            Self::SourceIpDestinationPort => "source-ip-destination-port",
            Self::DestinationPort => "destination-port",
        })
    }
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

impl Quic {
    /// Bytes of the server ID by number of the configuration; none, where there are no configurations.
    pub const fn lengths(&self) -> &[u8] {
        match self {
            Self::QuicLb(lengths) => lengths,
            Self::Off | Self::Katran => &[],
        }
    }
}

impl fmt::Display for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::QuicLb(_) => "quic-lb",
            Self::Katran => "katran",
        })
    }
}

/// One of `source_routes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRoute {
    /// The sources.
    pub source: IpNet,
    /// Where their new flows go.
    pub to: RouteTo,
}

impl SourceRoute {
    /// The pool that it leads to, if it names one.
    pub fn pool(&self) -> Option<&str> {
        match &self.to {
            RouteTo::Pool(name) => Some(name),
            RouteTo::Backend(_) => None,
        }
    }
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
    /// Bits at the end of the address that do not count; 0 for a single address. Never all of its bits.
    pub wildcard_bits: u8,
    /// Destination port; 0 is any.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl Service {
    /// Of all addresses of a prefix.
    pub fn of_prefix(net: IpNet, port: u16, protocol: Protocol) -> Self {
        let wildcard_bits = net.max_prefix_len() - net.prefix_len();
        Self { wildcard_bits, ..Self::of(net.network(), port, protocol) }
    }

    /// Of a single address.
    pub const fn of(address: IpAddr, port: u16, protocol: Protocol) -> Self {
        Self { address, wildcard_bits: 0, port, protocol }
    }

    /// An address that it serves, such as a client would use: behind the first of a prefix, which may be the network's own.
    pub fn some_address(&self) -> IpAddr {
        match self.address {
            address if self.wildcard_bits < 2 => address,
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | 1).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | 1).into(),
        }
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
