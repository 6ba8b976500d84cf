//! What the replaying program and the benchmark that drives it agree on.
#![no_std]
#![expect(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "the program is one function for the verifier; cutting numbers off is meant"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The program that makes each packet fresh and calls the program under test.
pub const REPLAY: &str = "replay";
/// Baseline: only `return XDP_TX`.
pub const BARE_TX: &str = "bare_tx";
/// Baseline: puts an outer IPv4 header to one constant address before the packet.
pub const CONSTANT_IPV4: &str = "constant_ipv4";
/// Baseline: puts an outer IPv6 header to one constant address before the packet.
pub const CONSTANT_IPV6: &str = "constant_ipv6";

/// The program that makes each live frame a packet, and sends it.
pub const GENERATE: &str = "generate";
/// The program that counts what arrives, and drops it.
pub const SINK: &str = "sink";

/// Table with one [`Setup`].
pub const SETUP: &str = "SETUP";
/// Table with one [`Progress`].
pub const PROGRESS: &str = "PROGRESS";
/// Table of `u64`: when each chunk began, in ns.
pub const STAMPS: &str = "STAMPS";
/// Table of programs; the one under test is number 0.
pub const CALLED: &str = "CALLED";
/// Table with one [`Sent`] for each CPU.
pub const SENT: &str = "SENT";
/// Table with one [`Arrived`] for each CPU.
pub const ARRIVED: &str = "ARRIVED";

/// Words of 8 bytes that are written anew for each packet.
pub const FRAME_WORDS: usize = 16;
/// Log2 of the packets between two time stamps.
pub const CHUNK_BITS: u32 = 13;
/// Packets between two time stamps.
pub const CHUNK_PACKETS: u32 = 1 << CHUNK_BITS;
/// Time stamps that there is room for.
pub const MAX_STAMPS: usize = 1025;
/// Log2 of the source ports that flows use; further flows differ in the source address.
pub const PORT_BITS: u32 = 10;

/// What is replayed. Offsets are from the start of the frame; 0 where the frame has no such field.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Setup {
    /// The start of the frame, byte by byte as on the wire; zeros past its end.
    pub frame: [u64; FRAME_WORDS],
    /// Flows, a power of two, less one.
    pub flow_mask: u32,
    /// Packet n belongs to flow `scatter(n)`, see [`Setup::flow`]. Odd.
    pub multiplier: u32,
    /// See [`Setup::flow`].
    pub shift: u32,
    /// Last 32 bits of the source address of flow 0.
    pub source: u32,
    /// Source port of flow 0.
    pub port: u32,
    /// Last 32 bits of the first destination address.
    pub destination: u32,
    /// Destination addresses, one after the other, among which flows are divided.
    pub destinations: u32,
    /// Log2 of the number of flows.
    pub flow_bits: u32,
    /// Sum of the IPv4 header's 16-bit words as they lie in memory, without addresses and checksum.
    pub ip_sum: u32,
    /// The same for what the transport's checksum covers, without the last 32 bits of both addresses, source port and
    /// checksum.
    pub transport_sum: u32,
    /// Offset of the last 32 bits of the source address.
    pub source_at: u32,
    /// Offset of the last 32 bits of the destination address.
    pub destination_at: u32,
    /// Offset of the source port.
    pub port_at: u32,
    /// Offset of the IPv4 header's checksum.
    pub ip_sum_at: u32,
    /// Offset of the transport's checksum.
    pub transport_sum_at: u32,
    /// Added to the number of each packet, so that a run can go on where another one ended.
    pub first: u32,
}

impl Setup {
    /// The flow of packet `n`: each flow once before any comes again. A multiplication by an odd number and an exclusive or
    /// with the own upper bits each map the flow numbers one to one. With multiplier 1 and shift 31 flows come in order.
    #[inline(always)]
    pub fn flow(&self, n: u64) -> u32 {
        let mut flow = (n as u32).wrapping_add(self.first).wrapping_mul(self.multiplier) & self.flow_mask;
        flow ^= flow >> (self.shift & 31);
        flow.wrapping_mul(self.multiplier) & self.flow_mask
    }

    /// The number of a flow's destination.
    #[inline(always)]
    fn destination_of(&self, flow: u32) -> u32 {
        ((u64::from(flow) * u64::from(self.destinations)) >> (self.flow_bits & 63)) as u32
    }

    /// The same for one flow alone, which becomes number 0.
    #[must_use]
    pub fn alone(self, flow: u32) -> Self {
        Self {
            flow_mask: 0,
            source: self.source.wrapping_add(flow >> PORT_BITS),
            port: self.port.wrapping_add(flow & ((1 << PORT_BITS) - 1)),
            destination: self.destination.wrapping_add(self.destination_of(flow)),
            ..self
        }
    }

    /// What makes a packet one of flow `flow`.
    #[inline(always)]
    pub fn fields(&self, flow: u32) -> Fields {
        let source = self.source.wrapping_add(flow >> PORT_BITS).to_be();
        let port = (self.port.wrapping_add(flow & ((1 << PORT_BITS) - 1)) as u16).to_be();
        let destination = self.destination.wrapping_add(self.destination_of(flow)).to_be();
        let addresses = (source & 0xffff) + (source >> 16) + (destination & 0xffff) + (destination >> 16);
        let port_sum = if self.port_at == 0 { 0 } else { u32::from(port) };
        Fields {
            source,
            destination,
            port,
            ip_sum: checksum(self.ip_sum + addresses),
            transport_sum: checksum(self.transport_sum + addresses + port_sum),
        }
    }
}

/// Fields of a frame, as they lie in memory.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// The last 32 bits of the source address.
    pub source: u32,
    /// The last 32 bits of the destination address.
    pub destination: u32,
    /// The source port.
    pub port: u16,
    /// The IPv4 header's checksum.
    pub ip_sum: u16,
    /// The transport's checksum.
    pub transport_sum: u16,
}

/// The checksum from a sum of 16-bit words. Never 0, which would mean «none» to UDP; 0xffff is the same number to all.
#[inline(always)]
fn checksum(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    if sum == 0 { 0xffff } else { sum }
}

/// What has happened since the run began.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Progress {
    /// Packets so far.
    pub packets: u64,
    /// Where the frame began, and ended, when the run began.
    pub home: u64,
    /// See `home`.
    pub home_end: u64,
    /// Where the frame began, and ended, when the program under test had returned.
    pub data: u64,
    /// See `data`.
    pub data_end: u64,
    /// Bytes that the program under test has put before its packets, all together, the last packet's aside.
    pub grown: u64,
    /// Packets, the last aside, whose end was moved.
    pub ends_moved: u64,
    /// Packets that could not be put back or did not reach the program under test.
    pub failures: u64,
    /// Written by a locked instruction; its value means nothing.
    pub fence: u64,
}

/// Log2 of the packets that [`GENERATE`] makes between two looks at the clock.
pub const LOOK_BITS: u32 = 10;

/// What [`GENERATE`] has made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Sent {
    /// Packets.
    pub packets: u64,
    /// When the first one was made, in ns.
    pub first: u64,
    /// When the last one was made whose number is a multiple of `1 << LOOK_BITS`.
    pub last: u64,
}

/// What has come to an end of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Arrived {
    /// UDP datagrams as they are.
    pub plain: u64,
    /// Packets in IPv4 packets.
    pub wrapped: u64,
    /// Frames that are neither.
    pub others: u64,
    /// Bytes of the frames of the first two kinds.
    pub bytes: u64,
}
