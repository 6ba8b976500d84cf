//! IPv4 (RFC 791).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of the header without options.
pub const LEN: usize = size_of::<Ipv4>();
/// Version 4, five words of header.
pub const VERSION_IHL: u8 = 0x45;
/// "Don't fragment", in [`Ipv4::fragment`].
pub const DONT_FRAGMENT: [u8; 2] = [0x40, 0x00];
/// "Don't fragment", as a bit of the same.
const DONT_FRAGMENT_BIT: u16 = 0x4000;
/// Bits of [`Ipv4::fragment`] that any fragment has set one of: "more fragments" and the offset.
const FRAGMENT_MASK: u16 = 0x3fff;
/// Those of the offset.
const OFFSET_MASK: u16 = 0x1fff;

/// The header, without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4 {
    /// Version and header length in words of 4 bytes.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of header and payload.
    pub total_len: [u8; 2],
    /// Identification.
    pub id: [u8; 2],
    /// Flags and fragment offset.
    pub fragment: [u8; 2],
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Checksum of the header.
    pub checksum: [u8; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

impl Ipv4 {
    /// Writes the whole header, given its words as they lie in memory.
    #[inline(always)]
    pub fn set(&mut self, words: [u32; 5]) {
        let places: &mut [[u8; 4]; 5] = zerocopy::transmute_mut!(self);
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_ne_bytes();
        }
    }

    /// IP version.
    #[inline(always)]
    pub const fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Length of the header with options, in bytes: 0 to 60.
    #[inline(always)]
    pub const fn header_len(&self) -> usize {
        ((self.version_ihl & 0xf) as usize) << 2
    }

    /// Length of header and payload.
    #[inline(always)]
    pub const fn packet_len(&self) -> usize {
        u16::from_be_bytes(self.total_len) as usize
    }

    /// Whether this is a fragment, the first included.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        u16::from_be_bytes(self.fragment) & FRAGMENT_MASK != 0
    }

    /// Whether this is a fragment other than the first.
    #[inline(always)]
    pub const fn is_later_fragment(&self) -> bool {
        u16::from_be_bytes(self.fragment) & OFFSET_MASK != 0
    }

    /// Whether routers may not fragment it.
    #[inline(always)]
    pub const fn dont_fragment(&self) -> bool {
        u16::from_be_bytes(self.fragment) & DONT_FRAGMENT_BIT != 0
    }
}
