//! TCP (RFC 9293) and UDP (RFC 768): what steering reads of them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// TCP flag FIN.
pub const FIN: u8 = 0x01;
/// TCP flag SYN.
pub const SYN: u8 = 0x02;
/// TCP flag RST.
pub const RST: u8 = 0x04;
/// TCP flag ACK.
pub const ACK: u8 = 0x10;

/// Length of the TCP header without options.
pub const TCP_LEN: usize = size_of::<Tcp>();
/// Length of the UDP header.
pub const UDP_LEN: usize = size_of::<Udp>();

/// The TCP header, without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Tcp {
    /// Source port, then destination port; read as one word.
    pub ports: [u8; 4],
    /// Sequence number.
    pub sequence: [u8; 4],
    /// Acknowledgement number.
    pub acknowledgement: [u8; 4],
    /// Header length in words of 4 bytes, in the upper half.
    pub data_offset: u8,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: [u8; 2],
    /// Checksum.
    pub checksum: [u8; 2],
    /// Urgent pointer.
    pub urgent: [u8; 2],
}

/// The UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Udp {
    /// Source port, then destination port; read as one word.
    pub ports: [u8; 4],
    /// Length of header and payload.
    pub len: [u8; 2],
    /// Checksum; 0 is none (IPv4 only).
    pub checksum: [u8; 2],
}

impl Udp {
    /// Writes the whole header; `ports` and `checksum` as they lie in it.
    #[inline(always)]
    pub const fn set(&mut self, ports: [u8; 4], len: u16, checksum: [u8; 2]) {
        self.ports = ports;
        self.len = len.to_be_bytes();
        self.checksum = checksum;
    }
}
