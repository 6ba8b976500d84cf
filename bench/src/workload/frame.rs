//! A frame, and what the replaying program must know to give it to any flow.

use std::net::{Ipv4Addr, Ipv6Addr};

use bench_xdp::{FRAME_WORDS, Setup};
use etherparse::PacketBuilder;
use zerocopy::IntoBytes;

pub(super) const ETHERNET: usize = 14;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMP6: u8 = 58;
pub(super) const SOURCE_PORT: u16 = 1024;
pub(super) const SERVICE_PORT: u16 = 80;

/// Source and destination.
#[derive(Clone, Copy, Debug)]
pub enum Addresses {
    /// Over IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// Over IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

/// What is inside the IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A UDP datagram to port 80.
    Udp,
    /// A TCP segment of a connection to port 80.
    TcpAck,
    /// A TCP segment that opens a connection to port 80.
    TcpSyn,
    /// An ICMP or `ICMPv6` echo request.
    Echo,
}

/// A frame of flow 0 and where a flow's own fields lie in it.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    /// All but the fields that choose flows.
    setup: Setup,
    is_v6: bool,
}

impl Frame {
    /// Builds a frame of `length` bytes, or more if the headers need more; checksums are right.
    pub fn build(addresses: Addresses, transport: Transport, length: usize) -> Self {
        let ip = match addresses {
            Addresses::V4(..) => 20,
            Addresses::V6(..) => 40,
        };
        let transport_length = match transport {
            Transport::TcpAck | Transport::TcpSyn => 20,
            Transport::Udp | Transport::Echo => 8,
        };
        let payload = vec![0; length.saturating_sub(ETHERNET + ip + transport_length)];
        Self::carrying(addresses, transport, &payload)
    }

    /// Builds a frame with this payload.
    pub fn carrying(addresses: Addresses, transport: Transport, payload: &[u8]) -> Self {
        let bytes = write(addresses, transport, payload);
        let setup = describe(&bytes, addresses, transport);
        Self { bytes, setup, is_v6: matches!(addresses, Addresses::V6(..)) }
    }

    /// A frame of one flow only, which is written anew as it is.
    pub fn fixed(bytes: Vec<u8>, is_v6: bool) -> Self {
        let setup = Setup { frame: start(&bytes), ..STILL };
        Self { bytes, setup, is_v6 }
    }

    /// The packet of flow 0.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the packet is IPv6.
    pub fn is_v6(&self) -> bool {
        self.is_v6
    }

    /// What replays it over `flows` flows, a power of two: each once per pass, scattered or in order.
    pub fn setup(&self, flows: u32, order: Order) -> Setup {
        let (multiplier, shift) = match order {
            // Any odd number far from a power of two scatters; the shift brings upper bits down.
            Order::Scattered => (0x9e37_79b1, flows.trailing_zeros().div_ceil(2).max(1)),
            Order::Ascending => (1, 31),
        };
        Setup { flow_mask: flows - 1, flow_bits: flows.trailing_zeros(), multiplier, shift, ..self.setup }
    }

    /// The same with its flows divided among so many destinations, the frame's own first.
    #[must_use]
    pub fn to_many(mut self, destinations: u32) -> Self {
        self.setup.destinations = destinations;
        self
    }
}

/// No field of the frame is a flow's.
const STILL: Setup = Setup {
    frame: [0; FRAME_WORDS],
    flow_mask: 0,
    multiplier: 1,
    shift: 31,
    source: 0,
    port: 0,
    destination: 0,
    destinations: 1,
    flow_bits: 0,
    ip_sum: 0,
    transport_sum: 0,
    source_at: 0,
    destination_at: 0,
    port_at: 0,
    ip_sum_at: 0,
    transport_sum_at: 0,
    first: 0,
};

/// In which order flows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// So that neighbours in time are no neighbours in number.
    Scattered,
    /// By number.
    Ascending,
}

fn write(addresses: Addresses, transport: Transport, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match addresses {
        Addresses::V4(source, destination) => ethernet.ipv4(source.octets(), destination.octets(), 64),
        Addresses::V6(source, destination) => ethernet.ipv6(source.octets(), destination.octets(), 64),
    };
    let mut bytes = Vec::new();
    let result = match (transport, addresses) {
        (Transport::Udp, _) => ip.udp(SOURCE_PORT, SERVICE_PORT).write(&mut bytes, payload),
        (Transport::TcpAck, _) => ip.tcp(SOURCE_PORT, SERVICE_PORT, 1, 0xffff).ack(1).write(&mut bytes, payload),
        (Transport::TcpSyn, _) => ip.tcp(SOURCE_PORT, SERVICE_PORT, 0, 0xffff).syn().write(&mut bytes, payload),
        (Transport::Echo, Addresses::V4(..)) => ip.icmpv4_echo_request(1, 1).write(&mut bytes, payload),
        (Transport::Echo, Addresses::V6(..)) => ip.icmpv6_echo_request(1, 1).write(&mut bytes, payload),
    };
    result.expect("memory takes any number of bytes");
    bytes
}

/// Where a flow's fields lie, and the sums of all that stays the same.
fn describe(bytes: &[u8], addresses: Addresses, transport: Transport) -> Setup {
    let (source_at, destination_at, transport_at) = match addresses {
        Addresses::V4(..) => (ETHERNET + 12, ETHERNET + 16, ETHERNET + 20),
        Addresses::V6(..) => (ETHERNET + 8 + 12, ETHERNET + 24 + 12, ETHERNET + 40),
    };
    let ip_sum_at = matches!(addresses, Addresses::V4(..)).then_some(ETHERNET + 10);
    let (protocol, port_at, transport_sum_at) = match (transport, addresses) {
        (Transport::Udp, _) => (PROTOCOL_UDP, Some(transport_at), Some(transport_at + 6)),
        (Transport::TcpAck | Transport::TcpSyn, _) => (PROTOCOL_TCP, Some(transport_at), Some(transport_at + 16)),
        (Transport::Echo, Addresses::V6(..)) => (PROTOCOL_ICMP6, None, Some(transport_at + 2)),
        // Covers no addresses, so it is the same for all flows.
        (Transport::Echo, Addresses::V4(..)) => (0, None, None),
    };
    let mut blank = bytes.to_vec();
    for address in [source_at, destination_at] {
        blank[address..address + 4].fill(0);
    }
    for field in [ip_sum_at, port_at, transport_sum_at].into_iter().flatten() {
        blank[field..field + 2].fill(0);
    }
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let transport_bytes = &blank[transport_at..];
    let length = u32::try_from(transport_bytes.len()).expect("frames are short");
    // Of the pseudo header of IPv6, the upper 96 bits of both addresses are as constant as the rest.
    let addresses_at = if ip_sum_at.is_some() { source_at } else { source_at - 12 };
    let pseudo = sum(&blank[addresses_at..transport_at]) + sum(&length.to_be_bytes()) + sum(&[0, protocol]);
    let offset = |field: Option<usize>| u32::try_from(field.unwrap_or(0)).expect("frames are short");
    Setup {
        frame: start(bytes),
        source: word(source_at),
        destination: word(destination_at),
        port: SOURCE_PORT.into(),
        ip_sum: fold(sum(&blank[ETHERNET..ETHERNET + 20])),
        transport_sum: fold(pseudo + sum(transport_bytes)),
        source_at: offset(Some(source_at)),
        destination_at: offset(Some(destination_at)),
        port_at: offset(port_at),
        ip_sum_at: offset(ip_sum_at),
        transport_sum_at: offset(transport_sum_at),
        ..STILL
    }
}

/// The start of a frame, in words.
fn start(bytes: &[u8]) -> [u64; FRAME_WORDS] {
    let mut words = [0_u64; FRAME_WORDS];
    for (to, from) in words.as_mut_bytes().iter_mut().zip(bytes) {
        *to = *from;
    }
    words
}

/// Of 16-bit words as they lie in memory; an odd last byte is followed by a zero.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum()
}

/// The sum in 17 bits, so that the program can add a few more words.
pub(super) fn fold(sum: u32) -> u32 {
    (sum & 0xffff) + (sum >> 16)
}

#[cfg(test)]
mod tests;
