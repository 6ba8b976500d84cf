//! `ACL` and `SOURCE_ROUTES`: what does this source address mean to this VIP?

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of `ACL` and `SOURCE_ROUTES`, tries that find the longest prefix: `struct bpf_lpm_trie_key` of
/// include/uapi/linux/bpf.h and the bytes that are compared.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct SourceKey {
    /// Bits of what follows that count: [`SourceKey::FIXED_BITS`] and those of the address.
    pub prefix_len: u32,
    /// Number of the VIP; 0 in `ACL` for all VIPs.
    pub vip: u32,
    /// Source address, IPv6 or IPv4 mapped; network order. Bits beyond the prefix are zero.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<SourceKey>() == 24);

impl SourceKey {
    /// Bits that come before the address.
    pub const FIXED_BITS: u32 = 32;

    /// A prefix of `bits` (of 128) bits; an IPv4 prefix is 96 bits longer than it says itself.
    pub const fn new(vip: u32, address: [u8; 16], bits: u32) -> Self {
        Self { prefix_len: Self::FIXED_BITS + bits, vip, address }
    }

    /// The key to look an address up by, given little-endian loads of its halves.
    #[inline(always)]
    pub const fn from_words(vip: u32, address: [u64; 2]) -> Self {
        let [first, second] = address;
        let start = (vip as u64) << 32 | (Self::FIXED_BITS + 128) as u64;
        zerocopy::transmute!([start, first.to_le(), second.to_le()])
    }
}

/// Value of `ACL`, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum AclRule {
    /// Let in.
    Allow = 1,
    /// Dropped.
    Deny = 2,
}

/// Value of `GROUPS`: the ring of those backends of a VIP that a source route leads to. `SOURCE_ROUTES` names its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Group {
    /// Number of the VIP; 0 when the place is free.
    pub vip: u32,
    /// First block of the ring in `RINGS`; its slots are places in the VIP's range of targets.
    pub ring_base: u32,
    /// Slots of the ring; 0 when no backend of the group may take new flows: the VIP's own ring decides then.
    pub ring_slots: u32,
    /// Zero.
    pub reserved: u32,
    /// Tells groups of a VIP apart: the daemon's own, of what the configuration calls them.
    pub identity: u64,
}
const _: () = assert!(size_of::<Group>() == 24);

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::SourceKey;
    use crate::layout::vip::{mapped, mapped_words};

    #[test]
    fn a_key_of_words_equals_a_key_of_bytes() {
        let words = mapped_words(u32::from_le_bytes([203, 0, 113, 9]));
        assert_eq!(SourceKey::from_words(7, words), SourceKey::new(7, mapped([203, 0, 113, 9]), 128));
    }
}
