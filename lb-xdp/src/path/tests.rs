//! The whole way, judged by etherparse.

mod arbitrary;
mod broken;
mod echo;
mod forward;
mod outer;
mod pass;
mod tunnelled;

use std::net::IpAddr;

use etherparse::{Ethernet2Header, IpHeaders, IpNumber};
use lb_common::layout::vip::{TCP, UDP, VipKey};

use crate::fixture::{
    World,
    frames::{Ends, ends},
};

/// A TCP and a UDP VIP of each family, and an any-port one; all backends of one family.
struct Scene {
    world: World,
    web: [VipKey; 2],
}

const BACKENDS_V4: [&str; 3] = ["10.0.0.11", "10.0.0.12", "10.255.254.253"];
const BACKENDS_V6: [&str; 3] = ["fd00::11", "2001:db8:ffff::12", "fd00:1:2:3:4:5:6:7"];

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

impl Scene {
    fn new(backends: &[&str]) -> Self {
        let mut world = World::new(1024);
        let backends = addresses(backends);
        let [v4, v6, any] = ["192.0.2.10", "2001:db8::10", "192.0.2.11"].map(|text| text.parse().expect("an address"));
        let web = [world.serve(v4, 443, TCP, &backends), world.serve(v6, 443, TCP, &backends)];
        world.serve(v4, 53, UDP, &backends);
        world.serve(v6, 53, UDP, &backends);
        world.serve(any, 0, TCP, &backends);
        Self { world, web }
    }

    /// Flows to the VIPs, one of each family and protocol.
    fn web() -> [Ends; 2] {
        [ends("198.51.100.7:51000", "192.0.2.10:443"), ends("[2001:db8:c::7]:51000", "[2001:db8::10]:443")]
    }

    fn dns() -> [Ends; 2] {
        [ends("198.51.100.7:51000", "192.0.2.10:53"), ends("[2001:db8:c::7]:51000", "[2001:db8::10]:53")]
    }
}

/// Scenes with IPv4 backends and with IPv6 ones.
fn scenes() -> [Scene; 2] {
    [Scene::new(&BACKENDS_V4), Scene::new(&BACKENDS_V6)]
}

/// A tunnelled frame, taken apart.
struct Tunnelled {
    ethernet: Ethernet2Header,
    outer: IpHeaders,
    /// All behind the outer header, Ethernet padding included.
    inner: Vec<u8>,
}

impl Tunnelled {
    /// Takes a frame apart. Its outer checksum must be right and its outer length must be its inner packet's and header's.
    fn read(frame: &[u8], inner_len: usize) -> Self {
        let (ethernet, rest) = Ethernet2Header::from_slice(frame).expect("an Ethernet header");
        let (outer, inner) = match ethernet.ether_type {
            etherparse::EtherType::IPV4 => {
                let (header, inner) = etherparse::Ipv4Header::from_slice(rest).expect("an outer IPv4 header");
                assert_eq!(header.header_checksum, header.calc_header_checksum(), "the outer checksum");
                assert_eq!(usize::from(header.total_len), inner_len + header.header_len(), "the outer length");
                assert!(header.options.is_empty());
                (IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()), inner)
            }
            etherparse::EtherType::IPV6 => {
                let (header, inner) = etherparse::Ipv6Header::from_slice(rest).expect("an outer IPv6 header");
                assert_eq!(usize::from(header.payload_length), inner_len, "the outer length");
                (IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default()), inner)
            }
            other => panic!("EtherType {other:?}"),
        };
        Self { ethernet, outer, inner: inner.to_vec() }
    }

    fn source(&self) -> IpAddr {
        match &self.outer {
            IpHeaders::Ipv4(header, _) => header.source.into(),
            IpHeaders::Ipv6(header, _) => header.source.into(),
        }
    }

    fn destination(&self) -> IpAddr {
        match &self.outer {
            IpHeaders::Ipv4(header, _) => header.destination.into(),
            IpHeaders::Ipv6(header, _) => header.destination.into(),
        }
    }

    fn protocol(&self) -> IpNumber {
        match &self.outer {
            IpHeaders::Ipv4(header, _) => header.protocol,
            IpHeaders::Ipv6(header, _) => header.next_header,
        }
    }

    fn traffic_class(&self) -> u8 {
        match &self.outer {
            IpHeaders::Ipv4(header, _) => header.dscp.value() << 2 | header.ecn.value(),
            IpHeaders::Ipv6(header, _) => header.traffic_class,
        }
    }
}
