//! Frames, built from values by etherparse.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, IpNumber};

pub use self::tunnel::{Kind, Tunnel};

mod content;
mod errors;
mod fragments;
mod ip;
pub mod payload;
mod tunnel;
mod wrapped;

/// MAC address of the router that frames come from.
pub const ROUTER: [u8; 6] = [0x02, 0, 0, 0, 0xcc, 0x01];
/// MAC address of the balancer.
pub const BALANCER: [u8; 6] = [0x02, 0, 0, 0, 0xaa, 0x01];

/// Destination port of GUE unless the configuration says otherwise.
pub const GUE_PORT: u16 = 6080;

/// TCP flags, to be combined.
pub mod flags {
    /// No more data from the client.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Breaks a connection off.
    pub const RST: u8 = 0x04;
    /// Data.
    pub const PSH: u8 = 0x08;
    /// Acknowledges.
    pub const ACK: u8 = 0x10;
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Tcp(u8),
    Udp,
    Echo { reply: bool, id: u16 },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Raw(IpNumber),
}

/// What stands in the place of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// The right one.
    Right,
    /// 0: UDP's "none was made".
    Zero,
    /// One that is wrong.
    Wrong,
}

/// Whose hash steers a packet.
#[derive(Clone, Debug)]
enum Hashed {
    /// Its own 5-tuple's.
    Itself,
    /// Another packet's 5-tuple's: that of the flow which an ICMP error is about.
    As(Box<Frame>),
    /// Its datagram's, a fragment without ports.
    Datagram,
}

/// An Ethernet frame with an IP packet, lengths and checksums right. See [`Frame::build`].
#[derive(Clone, Debug)]
pub struct Frame {
    from: SocketAddr,
    to: SocketAddr,
    content: Content,
    payload: Vec<u8>,
    class: u8,
    ttl: u8,
    outer_ttl: u8,
    options: Vec<u8>,
    tcp_options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    fragment: Option<(u16, bool)>,
    identification: u32,
    may_fragment: bool,
    sum: Sum,
    padding: usize,
    macs: [[u8; 6]; 2],
    tags: Vec<[u8; 4]>,
    hashed: Hashed,
}

impl Frame {
    fn new(from: SocketAddr, to: SocketAddr, content: Content) -> Self {
        let payload = b"some payload".to_vec();
        Self {
            from,
            to,
            content,
            payload,
            class: 0,
            ttl: 63,
            outer_ttl: 64,
            options: vec![],
            tcp_options: vec![],
            extensions: vec![],
            fragment: None,
            identification: 0,
            may_fragment: false,
            sum: Sum::Right,
            padding: 0,
            macs: [ROUTER, BALANCER],
            tags: vec![],
            hashed: Hashed::Itself,
        }
    }

    /// A segment; addresses as `192.0.2.10:443` or `[2001:db8::10]:443`.
    pub fn tcp(from: &str, to: &str, flags: u8) -> Self {
        Self::new(socket(from), socket(to), Content::Tcp(flags))
    }

    /// A datagram.
    pub fn udp(from: &str, to: &str) -> Self {
        Self::new(socket(from), socket(to), Content::Udp)
    }

    /// An echo request.
    pub fn echo(from: &str, to: &str, id: u16) -> Self {
        Self::new((address(from), 0).into(), (address(to), 0).into(), Content::Echo { reply: false, id })
    }

    /// A packet of any protocol.
    pub fn raw(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Self {
        let raw = Content::Raw(IpNumber(protocol));
        Self::new((address(from), 0).into(), (address(to), 0).into(), raw).payload(payload)
    }

    /// The answer to this echo request as the balancer sends it: back to where it came from, with its own time to live.
    #[must_use]
    pub fn answered(&self) -> Self {
        let Content::Echo { id, .. } = self.content else { panic!("{self:?} is no echo request") };
        let [from, to] = self.macs;
        let content = Content::Echo { reply: true, id };
        Self { from: self.to, to: self.from, content, ttl: 64, macs: [to, from], ..self.clone() }
    }

    /// Another TCP segment of the same flow.
    #[must_use]
    pub fn flags(&self, flags: u8) -> Self {
        Self { content: Content::Tcp(flags), ..self.clone() }
    }

    /// Another source port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.from.set_port(port);
        self
    }

    /// Another payload.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// DSCP and ECN.
    #[must_use]
    pub fn class(mut self, class: u8) -> Self {
        self.class = class;
        self
    }

    /// Time to live or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// IPv4 options.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// Bytes behind the packet, which are not part of it.
    #[must_use]
    pub fn padded(mut self, padding: usize) -> Self {
        self.padding = padding;
        self
    }

    /// Source and destination MAC addresses.
    #[must_use]
    pub fn macs(mut self, source: [u8; 6], destination: [u8; 6]) -> Self {
        self.macs = [source, destination];
        self
    }

    /// VLAN tags, the outer one first: `EtherType` and tag control information.
    #[must_use]
    pub fn tagged(mut self, tags: &[(u16, u16)]) -> Self {
        let bytes = |(ether_type, control): &(u16, u16)| {
            let ([a, b], [c, d]) = (ether_type.to_be_bytes(), control.to_be_bytes());
            [a, b, c, d]
        };
        self.tags = tags.iter().map(bytes).collect();
        self
    }

    /// TCP options, of whole words.
    #[must_use]
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp_options = options.to_vec();
        self
    }

    /// One more IPv6 extension header: its number, and what follows its length.
    #[must_use]
    pub fn extension(mut self, number: u8, body: &[u8]) -> Self {
        self.extensions.push((number, body.to_vec()));
        self
    }

    /// Whether the checksum of what the IP packet carries is right.
    #[must_use]
    pub fn sum(mut self, sum: Sum) -> Self {
        self.sum = sum;
        self
    }

    /// IPv4: routers may cut it into fragments.
    #[must_use]
    pub fn may_fragment(mut self) -> Self {
        self.may_fragment = true;
        self
    }

    /// The packet that goes the other way: from the VIP to the client.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let [from, to] = self.macs;
        Self { from: self.to, to: self.from, macs: [to, from], ..self.clone() }
    }

    /// MAC address that it is sent to.
    pub fn destination_mac(&self) -> [u8; 6] {
        self.macs[1]
    }

    /// Whether it is an IPv4 packet.
    pub fn is_v4(&self) -> bool {
        self.to.is_ipv4()
    }

    /// The bytes of the frame.
    pub fn build(&self) -> Vec<u8> {
        let [source, destination] = self.macs;
        let EtherType(ether_type) = if self.is_v4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let tags = self.tags.concat();
        let mut frame = [&destination[..], &source, &tags, &ether_type.to_be_bytes(), &self.packet()].concat();
        frame.resize(frame.len() + self.padding, 0xee);
        frame
    }

    fn protocol(&self) -> IpNumber {
        match self.content {
            Content::Tcp(_) => IpNumber::TCP,
            Content::Udp => IpNumber::UDP,
            Content::Echo { .. } | Content::Icmp { .. } if self.is_v4() => IpNumber::ICMP,
            Content::Echo { .. } | Content::Icmp { .. } => IpNumber::IPV6_ICMP,
            Content::Raw(protocol) => protocol,
        }
    }
}

impl From<Frame> for Vec<u8> {
    fn from(frame: Frame) -> Self {
        frame.build()
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// An address from its text.
pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
