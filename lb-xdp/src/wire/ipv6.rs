//! IPv6 (RFC 8200).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the fixed header.
pub const LEN: usize = size_of::<Ipv6>();
/// Next header: fragment header.
pub const FRAGMENT: u8 = 44;

/// The fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6 {
    /// Version, traffic class, flow label: 4, 8 and 20 bits.
    pub version_class_label: [u8; 4],
    /// Length of all that follows.
    pub payload_len: [u8; 2],
    /// Type of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

impl Ipv6 {
    /// IP version.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        let [first, ..] = self.version_class_label;
        first >> 4
    }

    /// DSCP and ECN.
    #[inline(always)]
    pub const fn traffic_class(&self) -> u8 {
        let [first, second, ..] = self.version_class_label;
        first << 4 | second >> 4
    }

    /// Length of header and payload.
    #[inline(always)]
    pub const fn packet_len(&self) -> usize {
        u16::from_be_bytes(self.payload_len) as usize + LEN
    }

    /// First word of a header with this traffic class and flow label 0.
    #[inline(always)]
    pub const fn first_word(traffic_class: u8) -> [u8; 4] {
        [0x60 | traffic_class >> 4, traffic_class << 4, 0, 0]
    }
}
