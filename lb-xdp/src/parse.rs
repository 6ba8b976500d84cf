//! Step 1: from bytes to what steering needs to know.

use lb_common::{
    layout::vip::{self, VipKey},
    verdict::Verdict,
};

use crate::{
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

/// IP version of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// What is read of a packet, once.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Destination address, IPv6 or IPv4 mapped: little-endian loads of its halves.
    pub destination: [u64; 2],
    /// Protocol: TCP, UDP, or ICMP of the packet's IP version.
    pub protocol: u8,
    /// Source and destination port, a little-endian load of where they lie in the header; 0 for ICMP.
    pub ports: u32,
    /// Hash of the 5-tuple.
    pub hash: u64,
    /// IP version.
    pub family: Family,
    /// DSCP and ECN.
    pub tos: u8,
    /// TCP flags; 0 for other protocols.
    pub flags: u8,
    /// Length of the IP packet, header included; what follows it in the frame is padding.
    pub len: u16,
    /// Offset of the header after the IP header.
    pub l4: u16,
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

    /// Whether this is ICMP, of either version. The parser lets each through only within its own IP version.
    #[inline(always)]
    pub const fn is_icmp(&self) -> bool {
        self.protocol == vip::ICMP || self.protocol == vip::ICMPV6
    }
}

/// Reads a frame. A verdict that drops holds only if the destination is a VIP's address, which the caller asks; see
/// [`destination`].
///
/// # Errors
/// The verdict that ends the packet's way: not IP, not balanced, a fragment, or broken.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, seed: u64) -> Result<Packet, Verdict> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(Verdict::Unreadable)?;
    match ethernet.ether_type {
        eth::IPV4 => parse_v4(frame, seed),
        eth::IPV6 => parse_v6(frame, seed),
        _ => Err(Verdict::NotIp),
    }
}

/// Destination address of a packet that may be broken further on, and the ICMP protocol number of its IP version.
#[inline(always)]
pub fn destination<F: Frame>(frame: &F) -> Option<([u8; 16], u8)> {
    match frame.at::<Ethernet>(0)?.ether_type {
        eth::IPV4 => Some((vip::mapped(frame.at::<Ipv4>(eth::LEN)?.destination), vip::ICMP)),
        eth::IPV6 => Some((frame.at::<Ipv6>(eth::LEN)?.destination, vip::ICMPV6)),
        _ => None,
    }
}

#[inline(always)]
fn parse_v4<F: Frame>(frame: &F, seed: u64) -> Result<Packet, Verdict> {
    let ip = frame.at::<Ipv4>(eth::LEN).ok_or(Verdict::Unreadable)?;
    if ip.version_ihl != ipv4::VERSION_IHL && (ip.version() != 4 || ip.header_len() < ipv4::LEN) {
        return Err(Verdict::BadHeader);
    }
    if ip.is_fragment() {
        return Err(Verdict::Fragment);
    }
    let end = eth::LEN + ip.packet_len();
    if end > frame.len() {
        return Err(Verdict::Truncated);
    }
    let l4 = eth::LEN + ip.header_len();
    let (ports, flags) = match ip.protocol {
        vip::TCP => parse_tcp(frame, l4, end)?,
        vip::UDP => parse_udp(frame, l4, end)?,
        vip::ICMP => parse_icmp(frame, l4, end)?,
        _ => return Err(Verdict::NotBalanced),
    };
    let (source, destination) = (u32::from_le_bytes(ip.source), u32::from_le_bytes(ip.destination));
    Ok(Packet {
        destination: vip::mapped_words(destination),
        protocol: ip.protocol,
        ports,
        hash: hash::v4(source, destination, ports, ip.protocol, seed),
        family: Family::V4,
        tos: ip.tos,
        flags,
        len: ip.packet_len() as u16,
        l4: l4 as u16,
    })
}

#[inline(always)]
fn parse_v6<F: Frame>(frame: &F, seed: u64) -> Result<Packet, Verdict> {
    let ip = frame.at::<Ipv6>(eth::LEN).ok_or(Verdict::Unreadable)?;
    if ip.version() != 6 {
        return Err(Verdict::BadHeader);
    }
    if ip.next_header == ipv6::FRAGMENT {
        return Err(Verdict::Fragment);
    }
    let end = eth::LEN + ip.packet_len();
    if end > frame.len() {
        return Err(Verdict::Truncated);
    }
    let l4 = eth::LEN + ipv6::LEN;
    let (ports, flags) = match ip.next_header {
        vip::TCP => parse_tcp(frame, l4, end)?,
        vip::UDP => parse_udp(frame, l4, end)?,
        vip::ICMPV6 => parse_icmp(frame, l4, end)?,
        _ => return Err(Verdict::NotBalanced),
    };
    let (source, destination) = ip.address_words();
    if vip::is_mapped(destination) && ip.next_header != vip::ICMPV6 {
        return Err(Verdict::NotVip);
    }
    Ok(Packet {
        destination,
        protocol: ip.next_header,
        ports,
        hash: hash::v6(source, destination, ports, ip.next_header, seed),
        family: Family::V6,
        tos: ip.traffic_class(),
        flags,
        len: ip.packet_len() as u16,
        l4: l4 as u16,
    })
}

// Each of these reads the header at `offset` of a packet that ends at `end`, and returns ports and TCP flags.

#[inline(always)]
fn parse_tcp<F: Frame>(frame: &F, offset: usize, end: usize) -> Result<(u32, u8), Verdict> {
    let tcp = frame.at::<Tcp>(offset).ok_or(Verdict::Truncated)?;
    let header_len = (tcp.data_offset >> 4 << 2) as usize;
    if header_len < l4::TCP_LEN {
        return Err(Verdict::BadHeader);
    }
    if offset + header_len > end {
        return Err(Verdict::Truncated);
    }
    Ok((u32::from_le_bytes(tcp.ports), tcp.flags))
}

#[inline(always)]
fn parse_udp<F: Frame>(frame: &F, offset: usize, end: usize) -> Result<(u32, u8), Verdict> {
    let udp = frame.at::<Udp>(offset).ok_or(Verdict::Truncated)?;
    if offset + l4::UDP_LEN > end {
        return Err(Verdict::Truncated);
    }
    Ok((u32::from_le_bytes(udp.ports), 0))
}

#[inline(always)]
fn parse_icmp<F: Frame>(frame: &F, offset: usize, end: usize) -> Result<(u32, u8), Verdict> {
    if offset + size_of::<Icmp>() > end || frame.at::<Icmp>(offset).is_none() {
        return Err(Verdict::Truncated);
    }
    Ok((0, 0))
}
