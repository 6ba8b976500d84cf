//! Frames in a tunnel, and the hash on which their outer source depends.

use std::net::{IpAddr, SocketAddr};

use etherparse::IpNumber;
use lb_xdp::hash;

use super::{Content, Frame, GUE_PORT, Hashed};

impl Frame {
    /// Hash by which lb chooses the outer source: the flow's, or the datagram's if a fragment tells no flow.
    pub fn steering_hash(&self, seed: u64) -> u64 {
        match &self.hashed {
            Hashed::Itself => self.hash(seed),
            Hashed::As(frame) => frame.hash(seed),
            Hashed::Datagram => self.datagram_hash(seed),
        }
    }

    /// Hash of a datagram in fragments: addresses, protocol and identification.
    pub fn datagram_hash(&self, seed: u64) -> u64 {
        let id = self.identification.to_be_bytes();
        let [_, _, a, b] = id;
        self.hash_with(if self.is_v4() { u16::from_le_bytes([a, b]).into() } else { u32::from_le_bytes(id) }, seed)
    }

    /// Hash of the flow, by which lb chooses its bucket and its slot.
    pub fn hash(&self, seed: u64) -> u64 {
        let [[a, b], [c, d]] = [self.from.port().to_be_bytes(), self.to.port().to_be_bytes()];
        self.hash_with(u32::from_le_bytes([a, b, c, d]), seed)
    }

    /// Hash with this word in the place of the ports.
    pub fn hash_with(&self, ports: u32, seed: u64) -> u64 {
        let IpNumber(protocol) = self.protocol();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let [from, to] = [from, to].map(|address| u32::from_le_bytes(address.octets()));
                hash::v4(from, to, ports, protocol, seed)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let [from, to] = [from, to].map(|address| {
                    let octets = address.octets();
                    [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|byte| octets[at + byte])))
                });
                hash::v6(from, to, ports, protocol, seed)
            }
            _ => panic!("two families: {self:?}"),
        }
    }
}

impl Frame {
    /// This frame as another lb sends it through a tunnel to an address of ours, and its outer header's time to live.
    #[must_use]
    pub fn tunnelled(&self, kind: Kind, from: &str, to: &str, ttl: u8) -> Self {
        let ends = [from, to].map(super::address);
        let macs = self.macs;
        let outer = match kind {
            Kind::Ipip => {
                let protocol = IpNumber(if self.is_v4() { 4 } else { 41 });
                Self::new((ends[0], 0).into(), (ends[1], 0).into(), Content::Raw(protocol))
            }
            Kind::Gue => Self::new((ends[0], 0xc123).into(), (ends[1], GUE_PORT).into(), Content::Udp),
        };
        outer.payload(&self.packet()).class(self.class).ttl(ttl).macs(macs[0], macs[1])
    }

    /// This frame, unwrapped from a tunnel whose outer header had this time to live.
    #[must_use]
    pub fn unwrapped(&self, ttl: u8) -> Self {
        Self { outer_ttl: ttl - 1, ..self.clone() }
    }
}

/// How another lb wraps packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IP-in-IP.
    Ipip,
    /// GUE variant 1.
    Gue,
}

/// A frame in a tunnel, as an encapsulator sends it: TTL 64, DF, identification 0, DSCP and ECN copied from inside.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// DSCP and ECN of the outer header.
    pub class: u8,
    /// Source and destination MAC addresses.
    pub macs: [[u8; 6]; 2],
}

impl Tunnel {
    /// Wraps a frame's packet; what pads the frame stays behind it.
    pub fn wrap(&self, inner: &Frame) -> Vec<u8> {
        let [source, destination] = self.macs;
        let protocol = if inner.is_v4() { 4 } else { 41 };
        let ends = [self.source, self.destination].map(|address| SocketAddr::from((address, 0)));
        let outer = Frame::new(ends[0], ends[1], Content::Raw(IpNumber(protocol)));
        let outer = outer.payload(&inner.packet()).class(self.class).ttl(64).macs(source, destination);
        outer.padded(inner.padding).build()
    }
}
