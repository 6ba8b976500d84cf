//! What the way reads of a packet.

use std::net::{IpAddr, SocketAddr};

use lb_common::{layout::vip::mapped_words, maps::feature, verdict::Verdict};
use lb_xdp::{
    frame::Frame,
    host::HostFrame,
    link,
    parse::{
        self, Family, Kind, Packet, Start,
        extensions::{self, Upper},
    },
    path::Tables,
    tunnel,
    wire::{icmp, ipv4::Ipv4, ipv6::Ipv6},
};

use super::{recorder::Recorder, tuple::Tuple};
use crate::{dataplane::lookups::Lookups, plan::target::address_of};

/// How a packet was read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// VLAN tags of the frame, the outer one first: `EtherType` and tag control information.
    pub tags: Vec<[u8; 4]>,
    /// The tunnel of another lb that it came through.
    pub through: Option<Through>,
    /// What was read of it, or why nothing was.
    pub packet: Result<Packet, Verdict>,
    /// Its addresses and ports; those are 0 where it has none.
    pub tuple: Option<Tuple>,
    /// The flow that it is about, an ICMP error, as the client sees it.
    pub quoted: Option<Tuple>,
}

/// Another lb's tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Through {
    /// Who wrapped the packet.
    pub source: IpAddr,
    /// Our own address.
    pub destination: IpAddr,
}

impl Reading {
    /// The packet, if it was read.
    pub fn packet(&self) -> Option<&Packet> {
        self.packet.as_ref().ok()
    }

    /// The flow that decides: the quoted one of an ICMP error, else its own.
    pub(super) fn flow(&self) -> Option<&Tuple> {
        self.quoted.as_ref().or(self.tuple.as_ref())
    }
}

/// Reads a frame as the way does.
pub(super) fn read<L: Lookups>(frame: &HostFrame, tables: &Recorder<L>) -> Reading {
    let tags = link::tags(frame).into_iter().filter(|tag| *tag != link::NO_TAG).collect();
    let mut through = None;
    let packet = start(frame, tables, &mut through).and_then(|start| match start.family {
        Family::V4 => parse::parse_v4::<_, false>(frame, &start, tables.hash_seed()),
        Family::V6 => parse::parse_v6::<_, false>(frame, &start, tables.hash_seed()),
    });
    let read = packet.as_ref().ok();
    let tuple = read.and_then(|packet| tuple(frame, packet));
    let quoted = read.filter(|packet| packet.kind == Kind::Icmp).and_then(|packet| quoted(frame, packet));
    Reading { tags, through, packet, tuple, quoted }
}

fn start<L: Lookups>(frame: &HostFrame, tables: &Recorder<L>, through: &mut Option<Through>) -> Result<Start, Verdict> {
    let outer = link::network(frame)?;
    if !tables.has(feature::TUNNELS) {
        return Ok(outer);
    }
    let inner = tunnel::enter(frame, &outer, tables)?;
    if inner != outer {
        *through = addresses(frame, outer.l3(), outer.family)
            .map(|(source, destination)| Through { source: address(source), destination: address(destination) });
    }
    Ok(inner)
}

/// Source and destination of an IP header: little-endian loads of their halves.
fn addresses(frame: &HostFrame, l3: usize, family: Family) -> Option<([u64; 2], [u64; 2])> {
    Some(match family {
        Family::V4 => {
            let ip = frame.at::<Ipv4>(l3)?;
            let words = |address| mapped_words(u32::from_le_bytes(address));
            (words(ip.source), words(ip.destination))
        }
        Family::V6 => frame.at::<Ipv6>(l3)?.address_words(),
    })
}

/// The address of such loads.
pub(super) fn address(words: [u64; 2]) -> IpAddr {
    address_of(zerocopy::transmute!(words.map(u64::to_le)))
}

fn tuple(frame: &HostFrame, packet: &Packet) -> Option<Tuple> {
    let (source, destination) = addresses(frame, packet.l3(), packet.family)?;
    let [from, to] = ports(packet.ports);
    let (source, destination) = (address(source), address(destination));
    Some(Tuple {
        protocol: packet.protocol,
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

/// Both ports of a little-endian load of where they lie.
fn ports(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

/// The flow that an ICMP error quotes a packet of, the other way round: from where the packet went.
fn quoted(frame: &HostFrame, packet: &Packet) -> Option<Tuple> {
    let kind = frame.at::<icmp::Icmp>(packet.l4())?.kind;
    let is_echo = match packet.family {
        Family::V4 => kind == icmp::ECHO_REQUEST_V4,
        Family::V6 => kind == icmp::ECHO_REQUEST_V6,
    };
    if is_echo {
        return None;
    }
    let at = packet.l4() + icmp::LEN;
    let (from, to) = addresses(frame, at, packet.family)?;
    let (protocol, l4) = match packet.family {
        Family::V4 => {
            let ip = frame.at::<Ipv4>(at)?;
            (ip.protocol, at + ip.header_len())
        }
        Family::V6 => {
            let mut upper = Upper::behind_ipv6(frame.at::<Ipv6>(at)?.next_header, at);
            extensions::walk(frame, &mut upper, packet.end()).ok()?;
            (upper.protocol, upper.l4)
        }
    };
    let [own, client] = ports(u32::from_le_bytes(*frame.at::<[u8; 4]>(l4)?));
    Some(Tuple {
        protocol,
        source: SocketAddr::new(address(to), client),
        destination: SocketAddr::new(address(from), own),
    })
}
