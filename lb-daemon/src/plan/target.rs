//! A backend's way as the program reads it: one [`Target`].

use std::net::{IpAddr, Ipv4Addr};

use lb_common::layout::{
    target::{Encap, Target},
    vip::mapped,
};

use super::wanted::{Disposition, WantedTarget};
use crate::{model, nexthop::NextHop};

/// Bytes of an IPv4 header without options.
const IPV4_HEADER: u32 = 20;
/// Bytes of an IPv6 header.
const IPV6_HEADER: u32 = 40;
/// Bytes of a UDP header. GUE variant 1 has none of its own.
const UDP_HEADER: u32 = 8;

/// An address as the tables keep it: IPv4 mapped into IPv6, network order.
pub fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that [`address_bytes`] was given. A mapped address is always IPv4.
pub fn address_of(bytes: [u8; 16]) -> IpAddr {
    IpAddr::from(bytes).to_canonical()
}

/// The target of VIP number `vip` for a backend.
///
/// A backend that lost its next hop keeps the way that `before`, its target so far, had: packets that are still on the
/// way then leave for where they last could go.
pub(super) fn target(vip: u32, backend: IpAddr, wanted: &WantedTarget, before: Option<&Target>) -> Target {
    let fresh = Target { outer_destination: address_bytes(backend), ..Target::default() };
    let encap = encap(wanted, backend);
    let way = match (wanted.next_hop, before) {
        _ if encap == Encap::Local => Target { encap: encap as u32, mtu: Target::NO_LIMIT, ..fresh },
        (Some(hop), _) => with_way(fresh, backend, encap, hop),
        (None, Some(before)) => *before,
        (None, None) => Target { encap: encap as u32, checksum: constant_sum(encap, backend), ..fresh },
    };
    let (serves, state) = match wanted.effective() {
        Disposition::Serving => (vip, 0),
        Disposition::Draining => (vip, Target::DRAINING),
        Disposition::Down => (0, 0),
    };
    Target { serves, vip, flags: way.flags & Target::KEEPS_TAGS | state, ..way }
}

fn with_way(target: Target, backend: IpAddr, encap: Encap, hop: NextHop) -> Target {
    Target {
        encap: encap as u32,
        flags: if hop.ifindex == 0 { Target::KEEPS_TAGS } else { 0 },
        next_hop: hop.mac,
        source_mac: hop.source_mac,
        ifindex: hop.ifindex,
        checksum: constant_sum(encap, backend),
        mtu: inner_mtu(encap, hop.mtu),
        tags: hop.tags,
        ..target
    }
}

fn encap(wanted: &WantedTarget, backend: IpAddr) -> Encap {
    match (wanted.encap, backend) {
        _ if wanted.local => Encap::Local,
        (model::Encap::Ipip, IpAddr::V4(_)) => Encap::IpipV4,
        (model::Encap::Ipip, IpAddr::V6(_)) => Encap::IpipV6,
        (model::Encap::Gue, IpAddr::V4(_)) => Encap::GueV4,
        (model::Encap::Gue, IpAddr::V6(_)) => Encap::GueV6,
        (model::Encap::L2, _) => Encap::L2,
    }
}

/// Bytes that a packet grows by.
fn overhead(encap: Encap) -> u32 {
    match encap {
        Encap::IpipV4 => IPV4_HEADER,
        Encap::IpipV6 => IPV6_HEADER,
        Encap::GueV4 => IPV4_HEADER + UDP_HEADER,
        Encap::GueV6 => IPV6_HEADER + UDP_HEADER,
        Encap::L2 | Encap::Local => 0,
    }
}

/// Longest packet that fits the way once it is wrapped. A way of unknown size (0) sets no limit but that of an IP header's
/// length; one too small for any packet must not read as such.
fn inner_mtu(encap: Encap, mtu: u32) -> u32 {
    if mtu == 0 { unlimited(encap) } else { mtu.saturating_sub(overhead(encap)).max(1) }
}

/// [`Target::mtu`] of a way of unknown size: frames put together by the kernel can be so long that the outer header's
/// length would overflow.
fn unlimited(encap: Encap) -> u32 {
    match overhead(encap) {
        0 => Target::NO_LIMIT,
        overhead => u32::from(u16::MAX) - overhead,
    }
}

/// The next hop that a target was made with.
pub fn hop_of(target: &Target) -> NextHop {
    let encap = Encap::try_from(target.encap).unwrap_or(Encap::Local);
    NextHop {
        ifindex: target.ifindex,
        source_mac: target.source_mac,
        mac: target.next_hop,
        mtu: if [Target::NO_LIMIT, unlimited(encap)].contains(&target.mtu) { 0 } else { target.mtu + overhead(encap) },
        tags: target.tags,
        on_link: encap == Encap::L2,
    }
}

/// [`Target::checksum`].
fn constant_sum(encap: Encap, backend: IpAddr) -> u32 {
    match (encap, backend) {
        (Encap::IpipV4 | Encap::GueV4, IpAddr::V4(v4)) => u32::from(outer_v4_sum(v4)),
        _ => 0,
    }
}

/// One's-complement sum of what every outer IPv4 header to this backend has in common: version and header length, the
/// flag «don't fragment», the destination. Not in it, because it differs by packet and is added by the
/// program: traffic class, total length, identification, time to live, protocol, the whole source.
///
/// Words are summed as they lie in memory, which gives the sum as it must be stored, whatever the machine's byte order
/// (RFC 1071 section 2B).
fn outer_v4_sum(destination: Ipv4Addr) -> u16 {
    let [a, b, c, d] = destination.octets();
    let words = [[0x45, 0], [0x40, 0], [a, b], [c, d]];
    let sum: u32 = words.into_iter().map(|word| u32::from(u16::from_ne_bytes(word))).sum();
    fold(sum)
}

/// A sum of few words in 16 bits, carries added back.
#[expect(clippy::cast_possible_truncation, reason = "after two rounds no carry is left")]
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, Ipv4Header};

    use super::*;

    const HOP: NextHop = NextHop {
        ifindex: 3,
        source_mac: [2, 0, 0, 0, 0, 1],
        mac: [2, 0, 0, 0, 0, 2],
        mtu: 1500,
        tags: [[0; 4]; 2],
        on_link: false,
    };
    const SERVING: WantedTarget = WantedTarget {
        weight: 1,
        disposition: Disposition::Serving,
        next_hop: Some(HOP),
        encap: model::Encap::Ipip,
        local: false,
    };

    /// The checksum that the program makes of the constant sum and the fields of one packet.
    fn completed(sum: u16, header: &Ipv4Header) -> u16 {
        let [s1, s2, s3, s4] = header.source;
        let varying = [
            [0, header.dscp.value() << 2 | header.ecn.value()],
            header.total_len.to_be_bytes(),
            header.identification.to_be_bytes(),
            [header.time_to_live, header.protocol.0],
            [s1, s2],
            [s3, s4],
        ];
        let total = varying.into_iter().fold(u32::from(sum), |sum, word| sum + u32::from(u16::from_ne_bytes(word)));
        u16::from_be_bytes((!fold(total)).to_ne_bytes())
    }

    #[test]
    fn the_constant_sum_completes_to_the_header_checksum() {
        for (destination, source, payload, protocol) in [
            ([10, 0, 0, 11], [172, 16, 255, 255], 60, IpNumber::IPV4),
            ([255, 255, 255, 254], [172, 31, 0, 1], 1480, IpNumber::IPV6),
            ([0, 0, 0, 1], [0, 0, 0, 0], 0, IpNumber::IPV4),
            ([192, 168, 255, 255], [255, 255, 255, 255], 65_515, IpNumber::IPV6),
        ] {
            let mut header = Ipv4Header::new(payload, 64, protocol, source, destination).unwrap();
            header.dont_fragment = true;
            header.identification = 0xbeef;
            header.dscp = 46.try_into().unwrap();
            header.ecn = 1.try_into().unwrap();
            let sum = outer_v4_sum(destination.into());
            assert_eq!(completed(sum, &header), header.calc_header_checksum(), "to {destination:?}");
        }
    }

    #[test]
    fn a_target_carries_the_way() {
        let v4 = target(7, "10.0.0.11".parse().unwrap(), &SERVING, None);
        assert_eq!((v4.serves, v4.vip, v4.flags, v4.encap), (7, 7, 0, Encap::IpipV4 as u32));
        assert_eq!((v4.next_hop, v4.source_mac, v4.ifindex, v4.mtu), (HOP.mac, HOP.source_mac, 3, 1480));
        assert_eq!(v4.outer_destination, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 11]);
        let v6 = target(7, "2001:db8::1".parse().unwrap(), &SERVING, None);
        assert_eq!((v6.encap, v6.checksum, v6.mtu), (Encap::IpipV6 as u32, 0, 1460));
    }

    #[test]
    fn each_encapsulation_leaves_its_room_and_reads_back() {
        let (v4, v6) = ("10.0.0.11".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let sum = constant_sum(Encap::IpipV4, v4);
        for (asked, backend, encap, mtu, checksum) in [
            (model::Encap::Ipip, v4, Encap::IpipV4, 1480, sum),
            (model::Encap::Ipip, v6, Encap::IpipV6, 1460, 0),
            (model::Encap::Gue, v4, Encap::GueV4, 1472, sum),
            (model::Encap::Gue, v6, Encap::GueV6, 1452, 0),
            (model::Encap::L2, v4, Encap::L2, 1500, 0),
            (model::Encap::L2, v6, Encap::L2, 1500, 0),
        ] {
            let hop = NextHop { on_link: asked == model::Encap::L2, tags: [[0x81, 0, 0, 7], [0; 4]], ..HOP };
            let wanted = WantedTarget { encap: asked, next_hop: Some(hop), ..SERVING };
            let made = target(7, backend, &wanted, None);
            assert_eq!((made.serves, made.encap, made.mtu, made.checksum), (7, encap as u32, mtu, checksum));
            assert_eq!(hop_of(&made), hop);
        }
    }

    #[test]
    fn a_backend_reached_by_its_mac_is_on_this_network_or_down() {
        let routed = WantedTarget { encap: model::Encap::L2, ..SERVING };
        assert_eq!(target(7, "10.0.0.11".parse().unwrap(), &routed, None).serves, 0);
    }

    #[test]
    fn this_host_needs_no_way() {
        let local = WantedTarget { local: true, next_hop: None, ..SERVING };
        let made = target(7, "10.0.0.11".parse().unwrap(), &local, None);
        assert_eq!((made.serves, made.encap, made.mtu), (7, Encap::Local as u32, Target::NO_LIMIT));
        assert_eq!((made.next_hop, made.ifindex, made.checksum), ([0; 6], 0, 0));
    }

    #[test]
    fn without_an_interface_tags_are_kept() {
        let gateway = NextHop { ifindex: 0, source_mac: [0; 6], ..HOP };
        let wanted = WantedTarget { next_hop: Some(gateway), ..SERVING };
        let drained = WantedTarget { disposition: Disposition::Draining, ..wanted };
        let backend = "10.0.0.11".parse().unwrap();
        assert_eq!(target(7, backend, &wanted, None).flags, Target::KEEPS_TAGS);
        let before = target(7, backend, &drained, None);
        assert_eq!(before.flags, Target::KEEPS_TAGS | Target::DRAINING);
        let lost = WantedTarget { next_hop: None, ..wanted };
        assert_eq!(target(7, backend, &lost, Some(&before)).flags, Target::KEEPS_TAGS);
    }

    #[test]
    fn an_unknown_mtu_is_no_limit_and_a_tiny_one_is() {
        assert_eq!(inner_mtu(Encap::IpipV4, 0), 65_515);
        assert_eq!(inner_mtu(Encap::L2, 0), Target::NO_LIMIT);
        assert_eq!(inner_mtu(Encap::IpipV4, 12), 1);
    }

    #[test]
    fn a_lost_next_hop_leaves_the_last_way_in_place() {
        let backend = "10.0.0.11".parse().unwrap();
        let before = target(7, backend, &SERVING, None);
        let lost = WantedTarget { next_hop: None, ..SERVING };
        assert_eq!(target(7, backend, &lost, Some(&before)), Target { serves: 0, ..before });
        let never = target(7, backend, &lost, None);
        assert_eq!((never.serves, never.vip, never.next_hop, never.mtu), (0, 7, [0; 6], 0));
    }

    #[test]
    fn addresses_survive_the_tables() {
        for text in ["10.0.0.11", "2001:db8::1", "::1", "255.255.255.255"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of(address_bytes(address)), address);
        }
    }
}
