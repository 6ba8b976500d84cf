//! IPv6 (RFC 8200).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the fixed header.
pub const LEN: usize = size_of::<Ipv6>();
/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing header.
pub const ROUTING: u8 = 43;
/// Next header: fragment header.
pub const FRAGMENT: u8 = 44;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Start of the extension headers that are walked. Of [`FragmentHeader`] the length is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Extension {
    /// Type of what follows.
    pub next_header: u8,
    /// Length in units of 8 bytes, not counting the first.
    pub len: u8,
}

/// The fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FragmentHeader {
    /// Type of what the whole packet's fragmentable part begins with.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in units of 8 bytes: 13 bits; 2 bits; "more fragments".
    pub offset_more: [u8; 2],
    /// Identification.
    pub id: [u8; 4],
}

impl FragmentHeader {
    /// Whether this is a fragment other than the first.
    #[inline(always)]
    pub const fn is_later(&self) -> bool {
        u16::from_be_bytes(self.offset_more) & 0xfff8 != 0
    }

    /// Whether more fragments follow. The only fragment of a packet ("atomic", RFC 6946) is neither that nor later.
    #[inline(always)]
    pub const fn has_more(&self) -> bool {
        u16::from_be_bytes(self.offset_more) & 1 != 0
    }
}

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

    /// Changes the ECN field: the last two bits of the traffic class are the upper half of the second byte's upper nibble.
    #[inline(always)]
    pub const fn set_ecn(&mut self, ecn: u8) {
        let [_, second, ..] = &mut self.version_class_label;
        *second = *second & !0x30 | ecn << 4 & 0x30;
    }

    /// Length of header and payload.
    #[inline(always)]
    pub const fn packet_len(&self) -> usize {
        u16::from_be_bytes(self.payload_len) as usize + LEN
    }

    /// Source and destination as little-endian loads of their halves.
    #[inline(always)]
    pub const fn address_words(&self) -> ([u64; 2], [u64; 2]) {
        let [s0, s1]: [[u8; 8]; 2] = zerocopy::transmute!(self.source);
        let [d0, d1]: [[u8; 8]; 2] = zerocopy::transmute!(self.destination);
        ([u64::from_le_bytes(s0), u64::from_le_bytes(s1)], [u64::from_le_bytes(d0), u64::from_le_bytes(d1)])
    }

    /// Destination and source, each as its halves lie in memory.
    #[inline(always)]
    pub const fn addresses_swapped(&self) -> [[u64; 2]; 2] {
        let [s0, s1]: [[u8; 8]; 2] = zerocopy::transmute!(self.source);
        let [d0, d1]: [[u8; 8]; 2] = zerocopy::transmute!(self.destination);
        let [s0, s1, d0, d1] =
            [u64::from_ne_bytes(s0), u64::from_ne_bytes(s1), u64::from_ne_bytes(d0), u64::from_ne_bytes(d1)];
        [[d0, d1], [s0, s1]]
    }

    /// Swaps source and destination, by words: LLVM would move 16 bytes one by one.
    #[inline(always)]
    pub fn swap_addresses(&mut self) {
        let source: &mut [[u8; 8]; 2] = zerocopy::transmute_mut!(&mut self.source);
        let destination: &mut [[u8; 8]; 2] = zerocopy::transmute_mut!(&mut self.destination);
        let ([s0, s1], [d0, d1]) = (source, destination);
        (*s0, *d0) = (*d0, *s0);
        (*s1, *d1) = (*d1, *s1);
    }

    /// Writes the whole header, given its double words as they lie in memory.
    #[inline(always)]
    pub fn set(&mut self, words: [u64; 5]) {
        let places: &mut [[u8; 8]; 5] = zerocopy::transmute_mut!(self);
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_ne_bytes();
        }
    }

    /// First word of a header with this traffic class and flow label 0.
    #[inline(always)]
    pub const fn first_word(traffic_class: u8) -> [u8; 4] {
        [0x60 | traffic_class >> 4, traffic_class << 4, 0, 0]
    }
}
