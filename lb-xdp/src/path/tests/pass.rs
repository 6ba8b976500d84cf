//! What is not ours: passed on, not a bit of it changed.

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv6Extensions, Ipv6FragmentHeader, Ipv6RawExtHeader, PacketBuilder,
};
use lb_common::verdict::Verdict;

use super::{Scene, scenes};
use crate::{
    fixture::frames::{
        PAYLOAD, ROUTER, ends,
        flags::{ACK, SYN},
        ip,
    },
    path::Exit,
};

#[track_caller]
fn demand_passed(frame: &[u8], verdict: Verdict) {
    for scene in scenes() {
        let sent = scene.world.send(frame);
        assert_eq!(sent.exit, Exit::from(verdict));
        assert_eq!(sent.frame, frame, "not touched");
        assert_eq!(scene.world.verdict_counter(verdict), (1, frame.len() as u64));
        assert_eq!((scene.world.flows(), scene.world.events()), (vec![], vec![]));
        assert_eq!(verdict.action(), lb_common::verdict::Action::Pass);
    }
}

#[test]
fn other_addresses_ports_and_protocols_pass() {
    for (from, to) in [
        ("198.51.100.7:51000", "192.0.2.9:443"),
        ("198.51.100.7:51000", "192.0.2.10:444"),
        ("198.51.100.7:443", "192.0.2.10:51000"),
        ("192.0.2.10:443", "198.51.100.7:51000"),
        ("[2001:db8:c::7]:51000", "[2001:db8::11]:443"),
        ("[2001:db8:c::7]:51000", "[2001:db8::10]:22"),
        // An IPv4-mapped address in an IPv6 header is not the IPv4 VIP.
        ("[2001:db8:c::7]:51000", "[::ffff:192.0.2.10]:443"),
    ] {
        demand_passed(&ends(from, to).tcp(SYN), Verdict::NotVip);
        demand_passed(&ends(from, to).udp(), Verdict::NotVip);
    }
    // Right port, wrong protocol.
    demand_passed(&Scene::web()[0].udp(), Verdict::NotVip);
    demand_passed(&Scene::dns()[0].tcp(SYN), Verdict::NotVip);
}

#[test]
fn what_is_not_ip_passes() {
    let mut arp = Vec::new();
    let packet = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        etherparse::ArpOperation::REQUEST,
        &ROUTER,
        &[198, 51, 100, 1],
        &[0; 6],
        &[192, 0, 2, 10],
    );
    let packet = packet.expect("an ARP packet");
    PacketBuilder::ethernet2(ROUTER, [0xff; 6]).arp(packet).write(&mut arp).expect("a frame");
    demand_passed(&arp, Verdict::NotIp);
    for ether_type in [0x0000_u16, 0x0801, 0x8100, 0x88a8, 0x8863, 0x88cc, 0xdd86, 0x0008, 0xffff] {
        let mut frame = Scene::web()[0].tcp(SYN);
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        demand_passed(&frame, Verdict::NotIp);
    }
}

#[test]
fn ip_protocols_that_are_not_balanced_pass() {
    for ends in Scene::web() {
        let icmp = if ends.from.is_ipv4() { IpNumber::ICMP } else { IpNumber::IPV6_ICMP };
        for protocol in (0..=255).map(IpNumber).filter(|protocol| {
            // Extension headers are another test's.
            let extensions = [0, 43, 44, 60].map(IpNumber);
            let is_balanced = [IpNumber::TCP, IpNumber::UDP, icmp].contains(protocol);
            !is_balanced && (ends.from.is_ipv4() || !extensions.contains(protocol))
        }) {
            demand_passed(&ends.ip_of(ip(ends, 64)).raw(protocol, PAYLOAD), Verdict::NotBalanced);
        }
    }
    // Protocol 44 means nothing in IPv4.
    let ends = Scene::web()[0];
    let frame = ends.ip_of(ip(ends, 64)).raw(IpNumber::IPV6_FRAGMENTATION_HEADER, PAYLOAD);
    demand_passed(&frame, Verdict::NotBalanced);
}

#[test]
fn icmp_of_the_other_ip_version_passes() {
    let [v4, v6] = Scene::web();
    // An echo request to a VIP, were it of the right version.
    let echo = [128, 0, 0, 0, 0, 1, 0, 1];
    demand_passed(&v4.ip_of(ip(v4, 64)).raw(IpNumber::IPV6_ICMP, &echo), Verdict::NotBalanced);
    let echo = [8, 0, 0, 0, 0, 1, 0, 1];
    demand_passed(&v6.ip_of(ip(v6, 64)).raw(IpNumber::ICMP, &echo), Verdict::NotBalanced);
}

#[test]
fn fragments_to_other_addresses_pass_and_first_ones_too() {
    let [v4, v6] = [ends("198.51.100.7:51000", "192.0.2.99:443"), ends("[2001:db8:c::7]:51000", "[2001:db8::99]:443")];
    for (offset, more) in [(0, true), (1, true), (185, false), (8191, false), (8191, true)] {
        let offset = IpFragOffset::try_new(offset).expect("13 bits");
        let IpHeaders::Ipv4(mut header, none) = ip(v4, 64) else { panic!("an IPv4 flow") };
        (header.fragment_offset, header.more_fragments) = (offset, more);
        // The first has ports, by which it is known to be for no VIP.
        let verdict = if offset.value() == 0 { Verdict::NotVip } else { Verdict::Fragment };
        demand_passed(&v4.ip_of(IpHeaders::Ipv4(header, none)).tcp(SYN), verdict);

        let IpHeaders::Ipv6(header, _) = ip(v6, 64) else { panic!("an IPv6 flow") };
        let fragment = Ipv6FragmentHeader::new(IpNumber::TCP, offset, more, 7);
        let extensions = Ipv6Extensions { fragment: Some(fragment), ..Ipv6Extensions::default() };
        demand_passed(&v6.ip_of(IpHeaders::Ipv6(header, extensions)).tcp(SYN), verdict);
    }
}

#[test]
fn dont_fragment_and_the_reserved_bit_make_no_fragment() {
    let scene = Scene::new(&super::BACKENDS_V4);
    for flags in [0x00, 0x40, 0x80, 0xc0] {
        let mut frame = Scene::web()[0].tcp(ACK);
        frame[20] = flags;
        assert_eq!(scene.world.send(&frame).exit.verdict, Verdict::Forwarded, "{flags:#x}");
    }
}

#[test]
fn ipv6_extension_headers_to_other_addresses_pass() {
    let v6 = ends("[2001:db8:c::7]:51000", "[2001:db8::99]:443");
    let IpHeaders::Ipv6(header, _) = ip(v6, 64) else { panic!("an IPv6 flow") };
    let options = Ipv6RawExtHeader::new_raw(IpNumber::TCP, &[1, 4, 0, 0, 0, 0]).expect("8 bytes");
    for destination in [false, true] {
        let [hop_by_hop_options, destination_options] =
            [!destination, destination].map(|on| on.then(|| options.clone()));
        let extensions = Ipv6Extensions { hop_by_hop_options, destination_options, ..Ipv6Extensions::default() };
        let frame = v6.ip_of(IpHeaders::Ipv6(header.clone(), extensions)).tcp(SYN);
        demand_passed(&frame, Verdict::NotVip);
    }
}
