//! `TARGETS`: how does the packet get to the backend?

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How a target's packets are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Encap {
    /// IP-in-IP with an outer IPv4 header (RFC 2003; protocol 41 for an inner IPv6 packet, RFC 4213).
    IpipV4 = 1,
    /// IP-in-IP with an outer IPv6 header (RFC 2473).
    IpipV6 = 2,
    /// GUE variant 1 (draft-ietf-intarea-gue: the packet follows the UDP header) over IPv4. UDP checksum 0.
    GueV4 = 3,
    /// GUE variant 1 over IPv6, with a UDP checksum.
    GueV6 = 4,
    /// Not wrapped: the frame goes to the backend's own MAC address.
    L2 = 5,
    /// Not wrapped: the backend is this host, the frame is passed up.
    Local = 6,
}

impl TryFrom<u32> for Encap {
    type Error = u32;

    fn try_from(number: u32) -> Result<Self, u32> {
        match number {
            1 => Ok(Self::IpipV4),
            2 => Ok(Self::IpipV6),
            3 => Ok(Self::GueV4),
            4 => Ok(Self::GueV6),
            5 => Ok(Self::L2),
            6 => Ok(Self::Local),
            _ => Err(number),
        }
    }
}

/// One (VIP, backend) pair, a cache line: everything the encapsulation needs, so that no route and no second table is
/// looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Target {
    /// Number of the VIP while packets may be sent to this target, else 0. The one word that the fast path compares.
    pub serves: u32,
    /// Number of the VIP that the target belongs to; 0 when the place is free.
    pub vip: u32,
    /// As below; the next layout has it here.
    #[cfg(feature = "next-layout")]
    pub mtu: u32,
    /// Bits of [`Target::DRAINING`], [`Target::GONE`] and [`Target::KEEPS_TAGS`].
    #[cfg(not(feature = "next-layout"))]
    pub flags: u32,
    /// [`Encap`] by number; 0 when the place is free.
    pub encap: u32,
    /// Outer destination: the backend's address, IPv4 as its mapped form.
    pub outer_destination: [u8; 16],
    /// MAC address of the next hop.
    pub next_hop: [u8; 6],
    /// MAC address of the interface to leave by; used when that is not the one the packet came in by.
    pub source_mac: [u8; 6],
    /// Interface to leave by, never a VLAN device: that one's tags are in [`Target::tags`], and this is what they are sent
    /// through. 0 is the one the packet came in by.
    pub ifindex: u32,
    /// One's-complement sum of the outer IPv4 header's constant fields (version and length, flags, destination): 16-bit
    /// words as they lie in memory, folded to 16 bits, not inverted. 0 when there is no outer IPv4 header.
    pub checksum: u32,
    /// Bytes of the longest packet whose encapsulated form fits the way to the backend; [`Target::NO_LIMIT`] if unknown.
    #[cfg(not(feature = "next-layout"))]
    pub mtu: u32,
    /// As above; the next layout has it here.
    #[cfg(feature = "next-layout")]
    pub flags: u32,
    /// VLAN tags that frames to the next hop bear, the outer one first: `EtherType` and tag control information in network
    /// order. Zero is no tag; if the first is zero, so is the second.
    pub tags: [[u8; 4]; 2],
}
const _: () = assert!(size_of::<Target>() == 64);

impl Target {
    /// Takes no new flows: known flows stay, and the tuple of a finished or unanswered one is steered anew.
    pub const DRAINING: u32 = 1;
    /// Not configured any more; the place is freed when the flow table was swept of it.
    pub const GONE: u32 = 2;

    /// The frame keeps the VLAN tags that it came with; for next hops of which no interface is known.
    pub const KEEPS_TAGS: u32 = 4;
    /// [`Target::mtu`] of a way that takes every packet.
    pub const NO_LIMIT: u32 = u32::MAX;

    /// Whether the place is free.
    pub const fn is_free(&self) -> bool {
        self.vip == 0
    }
}
