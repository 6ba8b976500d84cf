//! Frames as they leave for a target, in each encapsulation.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::IpNumber;
use lb_common::{
    layout::target::{Encap, Target},
    maps::Tuning,
};

use super::{Content, Frame, Sum};
use crate::packet::case::INGRESS;

impl Frame {
    /// The frame that leaves for a target.
    pub fn sent_to(&self, target: &Target, tuning: &Tuning) -> Vec<u8> {
        let encap = Encap::try_from(target.encap).expect("a known encapsulation");
        if encap == Encap::Local {
            return self.build();
        }
        let hash = self.steering_hash(tuning.hash_seed);
        let ends = || [outer_source(target, tuning, hash), outer_destination(target)];
        let outer = match encap {
            Encap::IpipV4 | Encap::IpipV6 => {
                let protocol = IpNumber(if self.is_v4() { 4 } else { 41 });
                let [from, to] = ends().map(|address| SocketAddr::from((address, 0)));
                Self::new(from, to, Content::Raw(protocol)).payload(&self.packet())
            }
            Encap::GueV4 | Encap::GueV6 => {
                let [from, to] = ends();
                let ports = [gue_source_port(hash), u16::from_be_bytes(tuning.gue_port)];
                // RFC 6936 lets a tunnel over IPv6 do without the sum only where that was agreed upon.
                let sum = if encap == Encap::GueV4 { Sum::Zero } else { Sum::Right };
                Self::new((from, ports[0]).into(), (to, ports[1]).into(), Content::Udp).payload(&self.packet()).sum(sum)
            }
            Encap::L2 | Encap::Local => self.clone(),
        };
        let outer = if encap == Encap::L2 { outer } else { outer.ttl(self.outer_ttl).class(self.class) };
        let same_way = target.ifindex == 0 || target.ifindex == INGRESS;
        let source = if same_way { self.destination_mac() } else { target.source_mac };
        let tags = if target.flags & Target::KEEPS_TAGS != 0 { self.tags.clone() } else { tags_of(target) };
        Self { tags, ..outer.padded(self.padding).macs(source, target.next_hop) }.build()
    }
}

fn tags_of(target: &Target) -> Vec<[u8; 4]> {
    target.tags.into_iter().filter(|tag| *tag != [0; 4]).collect()
}

fn outer_destination(target: &Target) -> IpAddr {
    IpAddr::from(target.outer_destination).to_canonical()
}

/// The prefix of the tunnels' sources, its last bits those of the hash.
fn outer_source(target: &Target, tuning: &Tuning, hash: u64) -> IpAddr {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    if outer_destination(target).is_ipv4() {
        let bits = u32::from_be_bytes([a, b, c, d]) & u32::from_be_bytes(tuning.source_v4_mask);
        return Ipv4Addr::from_bits(u32::from_be_bytes(tuning.source_v4) | bits).into();
    }
    let mut source = tuning.source_v6;
    source[12..].copy_from_slice(&[d, c, b, a]);
    source.into()
}

/// Source port of GUE, from the dynamic ports (RFC 6335 section 6).
fn gue_source_port(hash: u64) -> u16 {
    let [.., a, b, _, _] = hash.to_be_bytes();
    u16::from_be_bytes([a, b]) | 0xc000
}
