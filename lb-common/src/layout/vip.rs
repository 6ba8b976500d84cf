//! `VIPS`: whose traffic is this?

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
    /// Zero.
    pub pad0: u8,
    /// Zero.
    pub pad1: u32,
}
const _: () = assert!(size_of::<VipKey>() == 24);

impl VipKey {
    /// Key of a service. `address` and `port` in network order.
    pub const fn service(address: [u8; 16], port: [u8; 2], protocol: u8) -> Self {
        Self { address, port, protocol, pad0: 0, pad1: 0 }
    }

    /// The same from little-endian loads of the address's halves and the port: the kernel's hash map reads the key in
    /// words, and a load that spans several narrower stores waits until they left the store buffer.
    #[inline(always)]
    pub const fn from_words(address: [u64; 2], port: u16, protocol: u8) -> Self {
        let [first, second] = address;
        let rest = (protocol as u64) << 16 | port as u64;
        zerocopy::transmute!([first.to_le(), second.to_le(), rest.to_le()])
    }

    /// Key that tells whether an address is a VIP's; `protocol` is [`ICMP`] for IPv4, [`ICMPV6`] for IPv6.
    pub const fn address(address: [u8; 16], protocol: u8) -> Self {
        Self::service(address, [0; 2], protocol)
    }

    /// Whether this is the entry of an address rather than of a service.
    pub const fn is_address(&self) -> bool {
        self.protocol == ICMP || self.protocol == ICMPV6
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

/// Value of `VIPS`: all that the later steps need to know of the VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Vip {
    /// Number of the VIP, from 1; a target serves this VIP if its [`super::target::Target::serves`] says the same number.
    /// 0 in the entry of an address.
    pub id: u32,
    /// None defined yet; zero.
    pub flags: u32,
    /// First target of the VIP's range in `TARGETS`; slot `s` of its ring is target `target_base + s`.
    pub target_base: u32,
    /// Places in that range, used or not.
    pub target_count: u32,
    /// First block of the VIP's ring in `RINGS`.
    pub ring_base: u32,
    /// Slots of the ring; 0 when no backend may take new flows.
    pub ring_slots: u32,
    /// Zero.
    pub reserved: [u32; 2],
}
const _: () = assert!(size_of::<Vip>() == 32);

#[cfg(test)]
mod tests {
    use super::{TCP, VipKey, mapped, mapped_words};

    #[test]
    fn a_key_of_words_equals_a_key_of_bytes() {
        let address = mapped([192, 0, 2, 10]);
        let words = mapped_words(u32::from_le_bytes([192, 0, 2, 10]));
        let key = VipKey::from_words(words, u16::from_le_bytes([0x01, 0xbb]), TCP);
        assert_eq!(key, VipKey::service(address, [0x01, 0xbb], TCP));
    }
}
