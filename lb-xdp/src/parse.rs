//! Step 1: from bytes to what steering needs to know.

use lb_common::{
    layout::vip::{self, VipKey},
    verdict::Verdict,
};

use crate::{
    encap::TTL,
    frame::Frame,
    hash,
    wire::{
        eth::{self, Ethernet},
        icmp::Icmp,
        ipv4::{self, Ipv4},
        ipv6::{self, Ipv6},
        l4::{self, Tcp, Udp},
    },
};

pub mod extensions;

use extensions::Upper;

/// IP version of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    #[default]
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The `EtherType`.
    #[inline(always)]
    pub const fn ether_type(self) -> [u8; 2] {
        match self {
            Self::V4 => eth::IPV4,
            Self::V6 => eth::IPV6,
        }
    }

    /// The protocol number of its ICMP.
    #[inline(always)]
    pub const fn icmp(self) -> u8 {
        match self {
            Self::V4 => vip::ICMP,
            Self::V6 => vip::ICMPV6,
        }
    }
}

/// Where the IP packet begins that is to be steered, and what it inherits from what lies before it.
///
/// The verifier follows a number through memory only from the start of an aligned word: of the offset it forgets which of
/// the possible ones it is, and goes but once through all that comes after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Start {
    /// Time to live of the outer header that it gets.
    pub ttl: u8,
    l3: u8,
    /// Its IP version.
    pub family: Family,
    /// ECN field of the tunnel header that it came in, or [`Start::NO_TUNNEL`].
    pub tunnel_ecn: u8,
    limit: usize,
}

impl Start {
    /// [`Start::tunnel_ecn`] of a packet that came as it is.
    pub const NO_TUNNEL: u8 = 0xff;

    /// A packet right behind the link layer.
    #[inline(always)]
    pub const fn untunnelled(l3: usize, family: Family) -> Self {
        Self { ttl: TTL, l3: l3 as u8, family, tunnel_ecn: Self::NO_TUNNEL, limit: usize::MAX }
    }

    /// A packet behind a tunnel header.
    #[inline(always)]
    pub const fn tunnelled(l3: usize, limit: usize, family: Family, ttl: u8, tunnel_ecn: u8) -> Self {
        Self { ttl, l3: l3 as u8, family, tunnel_ecn, limit }
    }

    /// Offset of its IP header.
    #[inline(always)]
    pub const fn l3(&self) -> usize {
        self.l3 as usize
    }

    /// Offset that it does not reach beyond: the end of what it came in, but for a frame's own.
    #[inline(always)]
    pub const fn limit(&self) -> usize {
        self.limit
    }
}

/// How a packet is steered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// By its own addresses and ports.
    #[default]
    Flow,
    /// By what it quotes, or answered.
    Icmp,
    /// Like the first fragment of its datagram.
    LaterFragment,
}

/// Offsets of what follows the IP header and its extensions are below this: two tags, a tunnel header of 60 bytes with UDP,
/// an IPv6 header and [`extensions::MAX`] of 2048 bytes.
const MAX_L4: usize = 0x3fff;

/// What is read of a packet, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// How it is steered.
    pub kind: Kind,
    /// Destination address, IPv6 or IPv4 mapped: little-endian loads of its halves.
    pub destination: [u64; 2],
    /// Protocol: TCP, UDP, or ICMP of the packet's IP version. Of a later fragment whatever it says.
    pub protocol: u8,
    /// Source and destination port, a little-endian load of where they lie in the header; 0 if there are none.
    pub ports: u32,
    /// Hash of the 5-tuple; of a later fragment the one of [`crate::fragment`].
    pub hash: u64,
    /// IP version.
    pub family: Family,
    /// DSCP and ECN.
    pub tos: u8,
    /// TCP flags; 0 for other protocols.
    pub flags: u8,
    /// Length of the IP packet, header included; what follows it in the frame is padding.
    pub len: u16,
    l3: u8,
    l4: u16,
    first_fragment: u16,
    /// As [`Start::ttl`].
    pub ttl: u8,
    /// As [`Start::tunnel_ecn`].
    pub tunnel_ecn: u8,
}

impl Packet {
    /// Key of the VIP that the packet asks for.
    #[inline(always)]
    pub const fn service(&self) -> VipKey {
        VipKey::from_words(self.destination, (self.ports >> 16) as u16, self.protocol)
    }

    /// Whether this is the first packet of a TCP connection: SYN without ACK.
    #[inline(always)]
    pub const fn opens_flow(&self) -> bool {
        self.flags & (l4::SYN | l4::ACK) == l4::SYN
    }

    // Once a packet was in memory, the verifier knows of these offsets only what their width and these masks say.

    /// Offset of the IP header: behind the link layer, and another lb's tunnel header.
    #[inline(always)]
    pub const fn l3(&self) -> usize {
        self.l3 as usize
    }

    /// Offset of the header after the IP header and its extensions.
    #[inline(always)]
    pub const fn l4(&self) -> usize {
        self.l4 as usize & MAX_L4
    }

    /// If this is the first of several fragments: offset of the header with the identification.
    #[inline(always)]
    pub const fn first_fragment(&self) -> Option<usize> {
        if self.first_fragment == 0 { None } else { Some(self.first_fragment as usize & MAX_L4) }
    }

    /// Offset of the first byte behind the packet.
    #[inline(always)]
    pub const fn end(&self) -> usize {
        self.l3 as usize + self.len as usize
    }

    /// Whether it came in another lb's tunnel.
    #[inline(always)]
    pub const fn is_tunnelled(&self) -> bool {
        self.tunnel_ecn != Start::NO_TUNNEL
    }
}

/// Reads a packet that is nothing but plain: in an untagged frame, whole, its TCP or UDP header right behind an IP header
/// without options. `None` is any other, broken ones included.
#[inline(always)]
pub fn plain<F: Frame>(frame: &F, seed: u64) -> Option<Packet> {
    const IPV4: u16 = u16::from_ne_bytes(eth::IPV4);
    const IPV6: u16 = u16::from_ne_bytes(eth::IPV6);
    let read = match u16::from_ne_bytes(frame.at::<Ethernet>(0)?.ether_type) {
        IPV4 => parse_v4::<F, true>(frame, &Start::untunnelled(eth::LEN, Family::V4), seed),
        IPV6 => parse_v6::<F, true>(frame, &Start::untunnelled(eth::LEN, Family::V6), seed),
        _ => return None,
    };
    read.ok()
}

/// Destination address of a packet that may be broken further on: little-endian loads of its halves.
#[inline(always)]
pub fn destination<F: Frame>(frame: &F, start: &Start) -> Option<[u64; 2]> {
    Some(match start.family {
        Family::V4 => vip::mapped_words(u32::from_le_bytes(frame.at::<Ipv4>(start.l3())?.destination)),
        Family::V6 => frame.at::<Ipv6>(start.l3())?.address_words().1,
    })
}

/// Whether a source address is that of one host: nobody else may be answered (RFC 1122 section 3.2.2, RFC 4443 section
/// 2.4). Given little-endian loads of the halves.
#[inline(always)]
pub const fn is_one_host(source: [u64; 2]) -> bool {
    let [first, second] = source;
    if vip::is_mapped(source) {
        let octet = (second >> 32) as u8;
        return octet != 0 && octet < 224;
    }
    (first != 0 || second != 0) && first as u8 != 0xff
}

/// Source address of a packet, likewise.
#[inline(always)]
pub fn source<F: Frame>(frame: &F, packet: &Packet) -> Option<[u64; 2]> {
    let l3 = packet.l3();
    Some(match packet.family {
        Family::V4 => vip::mapped_words(u32::from_le_bytes(frame.at::<Ipv4>(l3)?.source)),
        Family::V6 => frame.at::<Ipv6>(l3)?.address_words().0,
    })
}

/// Reads an IPv4 packet. A verdict that drops holds only if the destination is a VIP's address, which the caller asks; see
/// [`destination`]. In the `PLAIN` form, for [`plain`], the verdict means nothing.
///
/// # Errors
/// The verdict that ends the packet's way: not balanced, or broken.
#[inline(always)]
pub fn parse_v4<F: Frame, const PLAIN: bool>(frame: &F, start: &Start, seed: u64) -> Result<Packet, Verdict> {
    let l3 = start.l3();
    let ip = frame.at::<Ipv4>(l3).ok_or(Verdict::Unreadable)?;
    if PLAIN && (ip.version_ihl != ipv4::VERSION_IHL || ip.is_fragment() || !is_balanced(ip.protocol)) {
        return Err(Verdict::Unreadable);
    }
    if ip.version_ihl != ipv4::VERSION_IHL && (ip.version() != 4 || ip.header_len() < ipv4::LEN) {
        return Err(Verdict::BadHeader);
    }
    let end = l3 + ip.packet_len();
    if end > start.limit() || !frame.holds(end) {
        return Err(Verdict::Truncated);
    }
    let l4 = l3 + if PLAIN { ipv4::LEN } else { ip.header_len() };
    let (source, destination) = (u32::from_le_bytes(ip.source), u32::from_le_bytes(ip.destination));
    let mut upper = Upper { protocol: ip.protocol, l4, fragment: 0, is_later: false };
    let mut id = 0;
    if !PLAIN && ip.is_fragment() {
        upper.fragment = l3;
        upper.is_later = ip.is_later_fragment();
        id = u32::from(u16::from_le_bytes(ip.id));
    }
    let (kind, ports, flags) = read_upper(frame, &upper, end, Family::V4)?;
    let (kind, hashed) = if upper.is_later { (Kind::LaterFragment, id) } else { (kind, ports) };
    Ok(Packet {
        kind,
        destination: vip::mapped_words(destination),
        protocol: ip.protocol,
        ports,
        hash: hash::v4(source, destination, hashed, ip.protocol, seed),
        family: Family::V4,
        tos: ip.tos,
        flags,
        len: ip.packet_len() as u16,
        l3: l3 as u8,
        l4: l4 as u16,
        first_fragment: upper.fragment as u16,
        ttl: start.ttl,
        tunnel_ecn: start.tunnel_ecn,
    })
}

/// Reads an IPv6 packet, as [`parse_v4`].
///
/// # Errors
/// As [`parse_v4`].
#[inline(always)]
pub fn parse_v6<F: Frame, const PLAIN: bool>(frame: &F, start: &Start, seed: u64) -> Result<Packet, Verdict> {
    let l3 = start.l3();
    let ip = frame.at::<Ipv6>(l3).ok_or(Verdict::Unreadable)?;
    if PLAIN && !is_balanced(ip.next_header) {
        return Err(Verdict::Unreadable);
    }
    if ip.version() != 6 {
        return Err(Verdict::BadHeader);
    }
    let end = l3 + ip.packet_len();
    if end > start.limit() || !frame.holds(end) {
        return Err(Verdict::Truncated);
    }
    let (source, destination) = ip.address_words();
    if vip::is_mapped(destination) && ip.next_header != vip::ICMPV6 {
        return Err(Verdict::NotVip);
    }
    let mut upper = Upper::behind_ipv6(ip.next_header, l3);
    if !PLAIN {
        extensions::walk(frame, &mut upper, end)?;
    }
    let (kind, ports, flags) = read_upper(frame, &upper, end, Family::V6)?;
    let (kind, hashed) =
        if upper.is_later { (Kind::LaterFragment, extensions::id(frame, upper.fragment)) } else { (kind, ports) };
    Ok(Packet {
        kind,
        destination,
        protocol: upper.protocol,
        ports,
        hash: hash::v6(source, destination, hashed, upper.protocol, seed),
        family: Family::V6,
        tos: ip.traffic_class(),
        flags,
        len: ip.packet_len() as u16,
        l3: l3 as u8,
        l4: upper.l4 as u16,
        first_fragment: upper.fragment as u16,
        ttl: start.ttl,
        tunnel_ecn: start.tunnel_ecn,
    })
}

/// Whether packets of a protocol are steered by their own ports.
#[inline(always)]
pub(crate) const fn is_balanced(protocol: u8) -> bool {
    protocol == vip::TCP || protocol == vip::UDP
}

/// Kind, ports and TCP flags of a packet that ends at `end`.
#[inline(always)]
fn read_upper<F: Frame>(frame: &F, upper: &Upper, end: usize, family: Family) -> Result<(Kind, u32, u8), Verdict> {
    if upper.l4 > end {
        return Err(Verdict::Truncated);
    }
    let icmp = upper.protocol == family.icmp();
    if upper.fragment != 0 && icmp {
        // Neither an echo nor a quote can be read in part.
        return Err(Verdict::Icmp);
    }
    if upper.is_later {
        let may_be_ours = match upper.protocol {
            protocol if is_balanced(protocol) => true,
            // What the datagram begins with, before its ports.
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => family == Family::V6,
            _ => false,
        };
        return if may_be_ours { Ok((Kind::LaterFragment, 0, 0)) } else { Err(Verdict::NotBalanced) };
    }
    match upper.protocol {
        vip::TCP => parse_tcp(frame, upper.l4, end),
        vip::UDP => parse_udp(frame, upper.l4, end, upper.fragment != 0),
        _ if icmp => parse_icmp(frame, upper.l4, end),
        _ => Err(Verdict::NotBalanced),
    }
}

#[inline(always)]
fn parse_tcp<F: Frame>(frame: &F, offset: usize, end: usize) -> Result<(Kind, u32, u8), Verdict> {
    let tcp = frame.at::<Tcp>(offset).ok_or(Verdict::Truncated)?;
    let header_len = (tcp.data_offset >> 4 << 2) as usize;
    if header_len < l4::TCP_LEN {
        return Err(Verdict::BadHeader);
    }
    if offset + header_len > end {
        return Err(Verdict::Truncated);
    }
    Ok((Kind::Flow, u32::from_le_bytes(tcp.ports), tcp.flags))
}

#[inline(always)]
fn parse_udp<F: Frame>(frame: &F, offset: usize, end: usize, in_part: bool) -> Result<(Kind, u32, u8), Verdict> {
    let udp = frame.at::<Udp>(offset).ok_or(Verdict::Truncated)?;
    if offset + l4::UDP_LEN > end {
        return Err(Verdict::Truncated);
    }
    let len = u16::from_be_bytes(udp.len) as usize;
    if len < l4::UDP_LEN || offset + len > end && !in_part {
        return Err(Verdict::BadHeader);
    }
    Ok((Kind::Flow, u32::from_le_bytes(udp.ports), 0))
}

#[inline(always)]
fn parse_icmp<F: Frame>(frame: &F, offset: usize, end: usize) -> Result<(Kind, u32, u8), Verdict> {
    if offset + size_of::<Icmp>() > end || frame.at::<Icmp>(offset).is_none() {
        return Err(Verdict::Truncated);
    }
    Ok((Kind::Icmp, 0, 0))
}
