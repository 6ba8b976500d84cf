//! The 5-tuple that somebody asks about, as it is written on a command line, and a packet of it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use etherparse::{IpHeaders, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader};
use lb_common::layout::vip::{ICMP, ICMPV6, TCP, UDP};
use lb_xdp::{
    hash,
    wire::{eth, l4},
};

use crate::plan::target::address_bytes;

/// How a tuple is written.
pub const FORM: &str = "`tcp 198.51.100.7:51000 192.0.2.10:443`, `udp [2001:db8::7]:51000 [2001:db8::10]:53` or \
                        `icmp 198.51.100.7 192.0.2.10`: protocol, client, VIP";

/// MAC addresses of packets that are made up here.
const MADE_UP: [[u8; 6]; 2] = [[0x02, 0, 0, 0, 0, 0x02], [0x02, 0, 0, 0, 0, 0x01]];
/// VLAN tags that are looked at.
const MOST_TAGS: usize = 2;
/// Bits of a VLAN's number.
const VLAN_BITS: u32 = 12;
/// Letters of the TCP flags, from the lowest bit on.
const FLAGS: &str = "FSRPAUEC";

/// What a tuple, or what is said of its packet, has wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TupleError {
    /// It has not three parts.
    #[error("a tuple has three parts, and {0:?} has {1}; write {FORM}")]
    Parts(String, usize),
    /// A protocol that is not balanced.
    #[error("{0:?} is no protocol that is balanced; write {FORM}")]
    Protocol(String),
    /// No address where one must be.
    #[error("{0:?} is no address with a port; write {FORM}")]
    Address(String),
    /// The same of a protocol without ports.
    #[error("{0:?} is no address without a port; write {FORM}")]
    BareAddress(String),
    /// One of IPv4, one of IPv6.
    #[error("{0} and {1} are not of the same IP version")]
    Families(IpAddr, IpAddr),
    /// An unknown TCP flag.
    #[error("{0:?} is no TCP flag; write letters of {FLAGS}, such as S, SA, FA or R")]
    Flag(char),
    /// TCP flags of another protocol.
    #[error("only tcp has flags")]
    NoFlags,
    /// More tags than are looked at.
    #[error("at most two VLAN tags are looked at, not {0}")]
    Tags(usize),
    /// A VLAN's number that cannot be.
    #[error("{0} is no number of a VLAN; those are 0 to 4095")]
    Vlan(u16),
    /// The packet could not be built.
    #[error("cannot make a packet: {0}")]
    Build(String),
}

/// Protocol, client and service. Without ports these are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Number of the protocol: TCP, UDP, or ICMP of the addresses' IP version.
    pub protocol: u8,
    /// Who sends.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

impl Tuple {
    /// Its hash, as the program makes it.
    pub fn hash(&self, seed: u64) -> u64 {
        let [a, b] = self.source.port().to_be_bytes();
        let [c, d] = self.destination.port().to_be_bytes();
        let ports = u32::from_le_bytes([a, b, c, d]);
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let word = |address: std::net::Ipv4Addr| u32::from_le_bytes(address.octets());
                hash::v4(word(source), word(destination), ports, self.protocol, seed)
            }
            (source, destination) => hash::v6(words(source), words(destination), ports, self.protocol, seed),
        }
    }

    /// A frame with a packet of it, of these TCP flags and in these VLANs, the outer one first. Its MAC addresses are made
    /// up.
    ///
    /// # Errors
    /// When there can be no such packet.
    pub fn frame(&self, flags: u8, vlans: &[u16]) -> Result<Vec<u8>, TupleError> {
        if vlans.len() > MOST_TAGS {
            return Err(TupleError::Tags(vlans.len()));
        }
        let [to, from] = MADE_UP;
        let mut frame = [to, from].concat();
        for vlan in vlans {
            if *vlan >> VLAN_BITS != 0 {
                return Err(TupleError::Vlan(*vlan));
            }
            // The outer one of two is a service tag (IEEE 802.1ad).
            let is_outer_of_two = frame.len() == MADE_UP.as_flattened().len() && vlans.len() == MOST_TAGS;
            frame.extend(if is_outer_of_two { eth::QINQ } else { eth::VLAN });
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(if self.source.is_ipv4() { eth::IPV4 } else { eth::IPV6 });
        let builder = PacketBuilder::ip(self.ip_headers());
        let (from, to) = (self.source.port(), self.destination.port());
        let written = match self.protocol {
            TCP => builder.tcp_header(tcp_header(from, to, flags)).write(&mut frame, &[]),
            UDP => builder.udp(from, to).write(&mut frame, &[]),
            ICMP => builder.icmpv4_echo_request(1, 1).write(&mut frame, &[]),
            _ => builder.icmpv6_echo_request(1, 1).write(&mut frame, &[]),
        };
        written.map_err(|error| TupleError::Build(error.to_string()))?;
        Ok(frame)
    }

    fn ip_headers(&self) -> IpHeaders {
        const TTL: u8 = 64;
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = Ipv4Header {
                    source: source.octets(),
                    destination: destination.octets(),
                    time_to_live: TTL,
                    dont_fragment: true,
                    ..Ipv4Header::default()
                };
                IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
            }
            (source, destination) => {
                let header = Ipv6Header {
                    source: address_bytes(source),
                    destination: address_bytes(destination),
                    hop_limit: TTL,
                    flow_label: Ipv6FlowLabel::ZERO,
                    ..Ipv6Header::default()
                };
                IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default())
            }
        }
    }
}

fn tcp_header(from: u16, to: u16, flags: u8) -> TcpHeader {
    let has = |bit: u32| flags >> bit & 1 == 1;
    let mut header = TcpHeader::new(from, to, 1, 65_535);
    (header.fin, header.syn, header.rst, header.psh) = (has(0), has(1), has(2), has(3));
    (header.ack, header.urg, header.ece, header.cwr) = (has(4), has(5), has(6), has(7));
    header
}

/// Little-endian loads of an address's halves, IPv4 mapped.
pub(super) fn words(address: IpAddr) -> [u64; 2] {
    let halves: [[u8; 8]; 2] = zerocopy::transmute!(address_bytes(address));
    halves.map(u64::from_le_bytes)
}

/// Reads TCP flags, as `SA`.
///
/// # Errors
/// When a letter is none of them.
pub fn flags(text: &str) -> Result<u8, TupleError> {
    let flag = |letter: char| match FLAGS.find(letter.to_ascii_uppercase()) {
        Some(bit) => Ok(1_u8 << bit),
        None => Err(TupleError::Flag(letter)),
    };
    text.chars().try_fold(0, |all, letter| Ok(all | flag(letter)?))
}

/// The letters of TCP flags; `none` where there are none.
pub fn flag_letters(flags: u8) -> String {
    let letters: String =
        FLAGS.chars().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, letter)| letter).collect();
    if letters.is_empty() { "none".to_owned() } else { letters }
}

/// The flags of a packet in the middle of a connection.
pub const MID_FLOW: u8 = l4::ACK;
/// Those of one that opens it.
pub const OPENING: u8 = l4::SYN;

impl FromStr for Tuple {
    type Err = TupleError;

    fn from_str(text: &str) -> Result<Self, TupleError> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [protocol, source, destination] = parts[..] else {
            return Err(TupleError::Parts(text.to_owned(), parts.len()));
        };
        let socket = |text: &str| text.parse().map_err(|_| TupleError::Address(text.to_owned()));
        let bare = |text: &str| {
            let address: Result<IpAddr, _> = text.trim_start_matches('[').trim_end_matches(']').parse();
            address.map(|address| SocketAddr::new(address, 0)).map_err(|_| TupleError::BareAddress(text.to_owned()))
        };
        let (protocol, source, destination): (_, SocketAddr, SocketAddr) = match protocol.to_ascii_lowercase().as_str()
        {
            "tcp" => (TCP, socket(source)?, socket(destination)?),
            "udp" => (UDP, socket(source)?, socket(destination)?),
            "icmp" | "icmpv6" => {
                let source = bare(source)?;
                (if source.is_ipv4() { ICMP } else { ICMPV6 }, source, bare(destination)?)
            }
            _ => return Err(TupleError::Protocol(protocol.to_owned())),
        };
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(TupleError::Families(source.ip(), destination.ip()));
        }
        Ok(Self { protocol, source, destination })
    }
}

/// Name of a protocol's number.
pub fn protocol_name(protocol: u8) -> String {
    match protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        ICMP => "icmp".to_owned(),
        ICMPV6 => "icmpv6".to_owned(),
        other => format!("protocol {other}"),
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = protocol_name(self.protocol);
        match self.protocol {
            TCP | UDP => write!(f, "{name} {} {}", self.source, self.destination),
            _ => write!(f, "{name} {} {}", self.source.ip(), self.destination.ip()),
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_xdp::{host::HostFrame, parse};

    use super::*;

    const GOOD: [&str; 4] = [
        "tcp 198.51.100.7:51000 192.0.2.10:443",
        "udp [2001:db8::7]:51000 [2001:db8::10]:53",
        "icmp 198.51.100.7 192.0.2.10",
        "icmpv6 2001:db8::7 2001:db8::10",
    ];

    #[test]
    fn a_tuple_is_shown_as_it_is_written() {
        for text in GOOD {
            assert_eq!(text.parse::<Tuple>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_tuple_is_told_the_right_form() {
        for (text, complaint) in [
            ("tcp 198.51.100.7:51000", "has three parts"),
            ("sctp 1.2.3.4:1 1.2.3.4:2", "no protocol that is balanced"),
            ("tcp 198.51.100.7 192.0.2.10:443", "no address with a port"),
            ("udp 2001:db8::7:51000 [2001:db8::10]:53", "no address with a port"),
            ("icmp 198.51.100.7:1 192.0.2.10", "no address without a port"),
        ] {
            let error = text.parse::<Tuple>().unwrap_err().to_string();
            assert!(error.contains(complaint) && error.contains("`tcp 198.51.100.7:51000 192.0.2.10:443`"), "{error}");
        }
        let error = "tcp 1.2.3.4:1 [::1]:2".parse::<Tuple>().unwrap_err();
        assert_eq!(error.to_string(), "1.2.3.4 and ::1 are not of the same IP version");
        assert_eq!(flags("SX"), Err(TupleError::Flag('X')));
    }

    #[test]
    fn the_way_reads_a_made_up_packet_as_the_tuple_says() {
        for text in &GOOD[..2] {
            let tuple: Tuple = text.parse().unwrap();
            let frame = tuple.frame(flags("sa").unwrap(), &[]).unwrap();
            let packet = parse::plain(&HostFrame::new(&frame, 1), 77).unwrap();
            assert_eq!(packet.hash, tuple.hash(77), "{text}");
            assert_eq!(packet.flags, if packet.protocol == TCP { 0x12 } else { 0 });
        }
        assert_eq!(flag_letters(0x12), "SA");
    }

    #[test]
    fn tags_come_before_the_packet() {
        let tuple: Tuple = GOOD[0].parse().unwrap();
        let frame = tuple.frame(MID_FLOW, &[100, 7]).unwrap();
        assert_eq!(frame[12..22], [0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 8, 0]);
        assert_eq!(tuple.frame(MID_FLOW, &[4096]), Err(TupleError::Vlan(4096)));
        assert_eq!(tuple.frame(MID_FLOW, &[1, 2, 3]), Err(TupleError::Tags(3)));
    }
}
