//! Key and value of `VIPS` and `PREFIX_VIPS`: whose traffic is this? How `VIPS` is laid out: [`super::vips`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// IP protocol number of ICMP (RFC 792).
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of `ICMPv6` (RFC 4443).
pub const ICMPV6: u8 = 58;

/// Key of `VIPS`.
///
/// A service is (address, port, TCP or UDP); port 0 serves every port that has no entry of its own. Each VIP address has
/// a second entry under port 0 and [`ICMP`] or [`ICMPV6`]: it tells that the address is ours, so that echo requests are
/// answered and broken packets dropped here, while those to other addresses pass to the host.
///
/// A VIP that serves a prefix has `wildcard_bits`, and lies in `PREFIX_VIPS` under [`PrefixKey::of`] its key.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct VipKey {
    /// IPv6 address, or IPv4-mapped one (RFC 4291 section 2.5.5.2); network order.
    pub address: [u8; 16],
    /// Destination port, network order; 0 is any.
    pub port: [u8; 2],
    /// [`TCP`], [`UDP`], [`ICMP`] or [`ICMPV6`].
    pub protocol: u8,
    /// Bits at the end of the address that do not count, and are zero; 0 for a single address.
    pub wildcard_bits: u8,
    /// Zero.
    pub pad: u32,
}
const _: () = assert!(size_of::<VipKey>() == 24);

impl VipKey {
    /// Key of a service. `address` and `port` in network order.
    pub const fn service(address: [u8; 16], port: [u8; 2], protocol: u8) -> Self {
        Self { address, port, protocol, wildcard_bits: 0, pad: 0 }
    }

    /// The same from little-endian loads of the address's halves and the port: keys are compared by words
    /// ([`super::vips::Record::of`]), and a load that spans several narrower stores waits until they left the store
    /// buffer.
    #[inline(always)]
    pub const fn from_words(address: [u64; 2], port: u16, protocol: u8) -> Self {
        let [first, second] = address;
        let rest = (protocol as u64) << 16 | port as u64;
        zerocopy::transmute!([first.to_le(), second.to_le(), rest.to_le()])
    }

    /// The key as little-endian loads: the address's halves, then port, protocol and wildcard bits.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 3] {
        let [first, second, rest]: [u64; 3] = zerocopy::transmute!(*self);
        [u64::from_le(first), u64::from_le(second), u64::from_le(rest)]
    }

    /// Key that tells whether an address is a VIP's; `protocol` is [`ICMP`] for IPv4, [`ICMPV6`] for IPv6.
    pub const fn address(address: [u8; 16], protocol: u8) -> Self {
        Self::service(address, [0; 2], protocol)
    }

    /// The same key, of all addresses that differ from this one in the last `bits` bits only. Those of the address are
    /// zero.
    #[must_use]
    pub const fn prefix(self, bits: u8) -> Self {
        Self { wildcard_bits: bits, ..self }
    }

    /// The same key with any port. By words, as [`VipKey::from_words`].
    #[inline(always)]
    #[must_use]
    pub const fn any_port(self) -> Self {
        let [first, second, rest]: [u64; 3] = zerocopy::transmute!(self);
        zerocopy::transmute!([first, second, (u64::from_le(rest) & !0xffff).to_le()])
    }

    /// Whether this is the key of a prefix, which lies in `PREFIX_VIPS`.
    pub const fn is_prefix(&self) -> bool {
        self.wildcard_bits != 0
    }

    /// Whether this is the entry of an address rather than of a service.
    pub const fn is_address(&self) -> bool {
        self.protocol == ICMP || self.protocol == ICMPV6
    }
}

/// Key of `PREFIX_VIPS`, a trie that finds the longest prefix: `struct bpf_lpm_trie_key` of include/uapi/linux/bpf.h and
/// the bytes that are compared.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct PrefixKey {
    /// Bits of what follows that count.
    pub prefix_len: u32,
    /// As [`VipKey::port`].
    pub port: [u8; 2],
    /// As [`VipKey::protocol`].
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
    /// As [`VipKey::address`].
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<PrefixKey>() == 24);

impl PrefixKey {
    /// Bits that come before the address.
    pub const FIXED_BITS: u32 = 32;

    /// The place of a VIP's key in the trie; with all bits of the address for a look-up.
    pub const fn of(key: &VipKey) -> Self {
        Self {
            prefix_len: Self::FIXED_BITS + 128 - key.wildcard_bits as u32,
            port: key.port,
            protocol: key.protocol,
            pad: 0,
            address: key.address,
        }
    }

    /// The VIP's key that lies here.
    pub const fn key(&self) -> VipKey {
        let bits = (Self::FIXED_BITS + 128).saturating_sub(self.prefix_len) as u8;
        VipKey::service(self.address, self.port, self.protocol).prefix(bits)
    }
}

/// An IPv4 address as the tables keep it: mapped into IPv6.
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The same as little-endian loads of its halves, from such a load of the IPv4 address.
#[inline(always)]
pub const fn mapped_words(v4: u32) -> [u64; 2] {
    [0, (v4 as u64) << 32 | 0xffff_0000]
}

/// Whether an IPv6 address, by such loads of its halves, is an IPv4-mapped one. No such address belongs on a wire
/// (RFC 6890 section 2.2.3), and in the tables it means an IPv4 address.
#[inline(always)]
pub const fn is_mapped(address: [u64; 2]) -> bool {
    let [first, second] = address;
    first == 0 && second as u32 == 0xffff_0000
}

/// Value of `VIPS` and `PREFIX_VIPS`: all that the later steps need to know of the VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Vip {
    /// Number of the VIP, from 1; a target serves this VIP if its [`super::target::Target::serves`] says the same number.
    /// 0 in the entry of an address.
    pub id: u32,
    /// As below; the next layout has it here.
    #[cfg(feature = "next-layout")]
    pub target_base: u32,
    /// Bits of the constants below; packets of a VIP that has none but [`Vip::PLAIN`] go the plain way.
    pub flags: u32,
    /// First target of the VIP's range in `TARGETS`; slot `s` of its ring is target `target_base + s`.
    #[cfg(not(feature = "next-layout"))]
    pub target_base: u32,
    /// Places in that range, used or not.
    pub target_count: u32,
    /// First block of the VIP's ring in `RINGS`.
    pub ring_base: u32,
    /// Slots of the ring; 0 when no backend may take new flows.
    pub ring_slots: u32,
    /// With [`Vip::LIMIT_NEW`]: nanoseconds between new flows, from 1 to 10^9.
    pub new_flow_ns: u32,
    /// With [`Vip::QUIC_LB`]: bytes of the server ID for each configuration, 4 bits each, configuration 0 in the lowest;
    /// 0 where there is no such configuration.
    pub quic_lengths: u32,
    /// As [`VipKey::wildcard_bits`]: of two prefixes that match, the one with fewer is the longer.
    pub wildcard_bits: u32,
    /// With [`Vip::HISTORY`]: first block of the ring's history in `RINGS`; see [`super::ring::UNTRACKED`].
    pub history_base: u32,
}
const _: () = assert!(size_of::<Vip>() == 40);

impl Vip {
    /// The source address alone decides the ring's slot.
    pub const HASH_SOURCE: u32 = 1;
    /// Source address and destination port decide it.
    pub const HASH_SOURCE_PORT: u32 = 2;
    /// The destination port alone decides it.
    pub const HASH_PORT: u32 = 3;
    /// Bits that hold the way of hashing: one of the three above, or 0 for the 5-tuple.
    pub const HASH_MASK: u32 = 3;
    /// Flows are not remembered: the ring decides for each packet.
    pub const UNTRACKED: u32 = 1 << 2;
    /// UDP: routed by the server ID of QUIC connection IDs, as draft-ietf-quic-load-balancers lays them out (plaintext).
    pub const QUIC_LB: u32 = 1 << 3;
    /// UDP: the same in Katran's layouts, version 1 to 3.
    pub const QUIC_KATRAN: u32 = 1 << 4;
    /// TCP: routed by the server ID of option 0xB7.
    pub const TCP_SERVER_ID: u32 = 1 << 5;
    /// UDP: routed by the server ID of a stable-routing header.
    pub const UDP_SERVER_ID: u32 = 1 << 6;
    /// `SOURCE_ROUTES` has prefixes of this VIP.
    pub const SOURCE_ROUTES: u32 = 1 << 7;
    /// `ACL` has prefixes for all VIPs.
    pub const ACL_GLOBAL: u32 = 1 << 8;
    /// `ACL` has prefixes of this VIP.
    pub const ACL: u32 = 1 << 9;
    /// New flows are limited to one per [`Vip::new_flow_ns`].
    pub const LIMIT_NEW: u32 = 1 << 10;
    /// Packets and new flows are limited by source.
    pub const LIMIT_SOURCES: u32 = 1 << 11;
    /// In the entry of an address: what no service takes is dropped instead of passed.
    pub const DROP_UNKNOWN_PORT: u32 = 1 << 12;
    /// With [`Vip::ADAPTIVE`]: no backend takes new flows. The ring is the last one of those that did, by which the flows
    /// that are not remembered find theirs.
    pub const CLOSED: u32 = 1 << 29;
    /// TCP: flows are remembered only where the ring's slot is tracked.
    pub const ADAPTIVE: u32 = 1 << 30;
    /// With [`Vip::ADAPTIVE`]: some slots are tracked, [`Vip::history_base`] tells which.
    pub const HISTORY: u32 = 1 << 31;
    /// Flags that do not lead off the plain way.
    pub const PLAIN: u32 = Self::ADAPTIVE | Self::HISTORY;

    /// Slots of the ring that new flows go by: none while the VIP is [`Vip::CLOSED`].
    pub const fn open_slots(&self) -> u32 {
        if self.flags & Self::CLOSED == 0 { self.ring_slots } else { 0 }
    }

    /// Whether [`Vip::history_base`] tells of tracked slots.
    pub const fn has_history(&self) -> bool {
        self.flags & Self::HISTORY != 0
    }

    /// Slots of the ring's history: as many as of the ring, none without one.
    pub const fn history_slots(&self) -> u32 {
        if self.has_history() { self.ring_slots } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::{PrefixKey, TCP, VipKey, mapped, mapped_words};

    #[test]
    fn a_key_of_words_equals_a_key_of_bytes() {
        let address = mapped([192, 0, 2, 10]);
        let words = mapped_words(u32::from_le_bytes([192, 0, 2, 10]));
        let key = VipKey::from_words(words, u16::from_le_bytes([0x01, 0xbb]), TCP);
        assert_eq!(key, VipKey::service(address, [0x01, 0xbb], TCP));
    }

    #[test]
    fn a_prefix_keeps_its_key_in_the_trie() {
        let key = VipKey::service(mapped([192, 0, 2, 0]), [0x01, 0xbb], TCP).prefix(8);
        assert_eq!(PrefixKey::of(&key).prefix_len, 32 + 96 + 24);
        assert_eq!(PrefixKey::of(&key).key(), key);
    }
}
