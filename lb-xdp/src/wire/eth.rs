//! Ethernet II (IEEE 802.3).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the header.
pub const LEN: usize = size_of::<Ethernet>();
/// `EtherType` of IPv4.
pub const IPV4: [u8; 2] = [0x08, 0x00];
/// `EtherType` of IPv6.
pub const IPV6: [u8; 2] = [0x86, 0xdd];

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// What follows.
    pub ether_type: [u8; 2],
}
