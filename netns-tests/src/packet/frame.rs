//! Frames, built from values by etherparse.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header};

pub use self::tunnel::Tunnel;

mod content;
mod tunnel;

/// MAC address of the router that frames come from.
pub const ROUTER: [u8; 6] = [0x02, 0, 0, 0, 0xcc, 0x01];
/// MAC address of the balancer.
pub const BALANCER: [u8; 6] = [0x02, 0, 0, 0, 0xaa, 0x01];

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
    Raw(IpNumber),
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
    options: Vec<u8>,
    fragment: Option<(u16, bool)>,
    padding: usize,
    macs: [[u8; 6]; 2],
}

impl Frame {
    fn new(from: SocketAddr, to: SocketAddr, content: Content) -> Self {
        let payload = b"some payload".to_vec();
        let macs = [ROUTER, BALANCER];
        Self { from, to, content, payload, class: 0, ttl: 63, options: vec![], fragment: None, padding: 0, macs }
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

    /// A fragment at this offset, in units of 8 bytes.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
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

    /// MAC address that it is sent to.
    pub fn destination_mac(&self) -> [u8; 6] {
        self.macs[1]
    }

    /// Whether it is an IPv4 packet.
    pub fn is_v4(&self) -> bool {
        self.to.is_ipv4()
    }

    /// The bytes of the IP packet, without what pads the frame.
    pub fn packet(&self) -> Vec<u8> {
        let content = self.content();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = u16::try_from(content.len()).expect("a short payload");
                let protocol = self.protocol();
                let mut header =
                    Ipv4Header::new(length, self.ttl, protocol, from.octets(), to.octets()).expect("a length");
                header.options = self.options[..].try_into().expect("IPv4 options");
                header.total_len = length + u16::try_from(header.header_len()).expect("at most 60");
                header.dscp = (self.class >> 2).try_into().expect("6 bits");
                header.ecn = (self.class & 3).try_into().expect("2 bits");
                if let Some((offset, more)) = self.fragment {
                    header.fragment_offset = IpFragOffset::try_new(offset).expect("13 bits");
                    (header.more_fragments, header.dont_fragment) = (more, false);
                }
                header.header_checksum = header.calc_header_checksum();
                [&header.to_bytes()[..], &content].concat()
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut header = Ipv6Header {
                    traffic_class: self.class,
                    next_header: self.protocol(),
                    hop_limit: self.ttl,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv6Header::default()
                };
                let mut rest = content;
                if let Some((offset, more)) = self.fragment {
                    let offset = IpFragOffset::try_new(offset).expect("13 bits");
                    let fragment = Ipv6FragmentHeader::new(header.next_header, offset, more, 7);
                    header.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
                    rest = [&fragment.to_bytes()[..], &rest].concat();
                }
                header.payload_length = u16::try_from(rest.len()).expect("a short payload");
                [&header.to_bytes()[..], &rest].concat()
            }
            _ => panic!("two families: {self:?}"),
        }
    }

    /// The bytes of the frame.
    pub fn build(&self) -> Vec<u8> {
        let [source, destination] = self.macs;
        let ether_type = if self.is_v4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let mut frame = Ethernet2Header { source, destination, ether_type }.to_bytes().to_vec();
        frame.extend(self.packet());
        frame.resize(frame.len() + self.padding, 0xee);
        frame
    }

    fn protocol(&self) -> IpNumber {
        match self.content {
            Content::Tcp(_) => IpNumber::TCP,
            Content::Udp => IpNumber::UDP,
            Content::Echo { .. } if self.is_v4() => IpNumber::ICMP,
            Content::Echo { .. } => IpNumber::IPV6_ICMP,
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
