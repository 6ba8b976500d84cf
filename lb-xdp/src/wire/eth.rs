//! Ethernet II (IEEE 802.3).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the header.
pub const LEN: usize = size_of::<Ethernet>();
/// `EtherType` of IPv4.
pub const IPV4: [u8; 2] = [0x08, 0x00];
/// `EtherType` of IPv6.
pub const IPV6: [u8; 2] = [0x86, 0xdd];
/// `EtherType` of a VLAN tag (IEEE 802.1Q).
pub const VLAN: [u8; 2] = [0x81, 0x00];
/// `EtherType` of an outer VLAN tag (IEEE 802.1ad).
pub const QINQ: [u8; 2] = [0x88, 0xa8];
/// Length of a VLAN tag.
pub const TAG_LEN: usize = 4;

/// A MAC address. In two parts, because LLVM moves 4 and 2 bytes as words, but 6 byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Mac {
    head: [u8; 4],
    tail: [u8; 2],
}

impl Mac {
    /// The address as bytes lie in a table.
    #[inline(always)]
    pub fn from_bytes(bytes: &[u8; 6]) -> Self {
        let mac: &Self = zerocopy::transmute_ref!(bytes);
        mac.load()
    }

    /// A copy, made of words.
    #[inline(always)]
    #[must_use]
    pub const fn load(&self) -> Self {
        Self { head: self.head, tail: self.tail }
    }

    #[inline(always)]
    const fn store(&mut self, mac: Self) {
        self.head = mac.head;
        self.tail = mac.tail;
    }
}

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: Mac,
    /// Source MAC address.
    pub source: Mac,
    /// What follows.
    pub ether_type: [u8; 2],
}

impl Ethernet {
    /// Writes the whole header.
    #[inline(always)]
    pub const fn set(&mut self, destination: Mac, source: Mac, ether_type: [u8; 2]) {
        self.destination.store(destination);
        self.source.store(source);
        self.ether_type = ether_type;
    }
}

/// A VLAN tag: its `EtherType` and its control information.
pub type Tag = [u8; TAG_LEN];

/// Both addresses, without what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Addresses {
    /// Destination MAC address.
    pub destination: Mac,
    /// Source MAC address.
    pub source: Mac,
}

impl Addresses {
    /// Writes both.
    #[inline(always)]
    pub const fn set(&mut self, destination: Mac, source: Mac) {
        self.destination.store(destination);
        self.source.store(source);
    }
}

/// Where the first tag's `EtherType`, or else the only one, lies.
pub const TYPE_OFFSET: usize = size_of::<Addresses>();
