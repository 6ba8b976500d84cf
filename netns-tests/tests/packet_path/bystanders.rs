//! What is not for a VIP passes, whatever it is.

use lb_common::verdict::Verdict;
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, SYN},
};

use super::site::{CLIENT, CLIENT_V6, WEB, WEB_V6, segment, segment_v6, site};

fn passes(name: &'static str, frame: impl Into<Vec<u8>>, verdict: Verdict) -> Case {
    Case::left_alone(name, &site(), frame, verdict).remembers(&[])
}

/// A frame with another `EtherType`, and what it says in front of the IP packet.
fn typed(ether_type: u16, tag: &[u8]) -> Vec<u8> {
    let bytes = segment(SYN).build();
    [&bytes[..12], &ether_type.to_be_bytes(), tag, &bytes[14..]].concat()
}

pub(crate) fn cases() -> Vec<Case> {
    use Verdict::{Fragment, NotBalanced, NotIp, NotVip, Unreadable};
    let short = |frame: Frame, length: usize| frame.build()[..length].to_vec();
    vec![
        passes("TCP to the host", Frame::tcp(CLIENT, "192.0.2.1:22", SYN), NotVip),
        passes("TCP to the host, IPv6", Frame::tcp(CLIENT_V6, "[2001:db8::1]:22", ACK), NotVip),
        passes("UDP to the host", Frame::udp(CLIENT, "192.0.2.1:123"), NotVip),
        passes("another port of a VIP's address", Frame::tcp(CLIENT, "192.0.2.10:22", SYN), NotVip),
        passes("another protocol of a VIP's port", Frame::udp(CLIENT, WEB), NotVip),
        passes("another protocol of a VIP's port, IPv6", Frame::udp(CLIENT_V6, WEB_V6), NotVip),
        passes("UDP to a VIP of any TCP port", Frame::udp(CLIENT, "192.0.2.11:22"), NotVip),
        passes("from a VIP", Frame::tcp(WEB, CLIENT, ACK), NotVip),
        passes("options to the host", Frame::tcp(CLIENT, "192.0.2.1:22", SYN).options(&[1; 40]), NotVip),
        passes("ARP", typed(0x0806, &[0, 1]), NotIp),
        passes("LLDP", typed(0x88cc, &[]), NotIp),
        passes("a length instead of a type", typed(46, &[0x42, 0x42, 3]), NotIp),
        passes("an Ethernet header alone", short(segment(SYN), 14), Unreadable),
        passes("13 bytes", short(segment(SYN), 13), Unreadable),
        passes("nothing", vec![], Unreadable),
        passes("IPv4 cut within its header", short(segment(SYN), 33), Unreadable),
        passes("IPv6 cut within its header", short(segment_v6(SYN), 53), Unreadable),
        passes("a fragment to the host", Frame::udp(CLIENT, "192.0.2.1:53").fragment(9, true), Fragment),
        passes("GRE to a VIP", Frame::raw("198.51.100.7", "192.0.2.10", 47, b"tunnelled"), NotBalanced),
        passes("ESP to an IPv6 VIP", Frame::raw("2001:db8:c::7", "2001:db8::10", 50, b"sealed"), NotBalanced),
        passes("SCTP to a VIP", Frame::raw("198.51.100.7", "192.0.2.10", 132, b"chunks of it"), NotBalanced),
        passes("IP-in-IP to a VIP", Frame::raw("198.51.100.7", "192.0.2.10", 4, &segment(SYN).packet()), NotBalanced),
        passes(
            "ICMPv6 in IPv4",
            Frame::raw("198.51.100.7", "192.0.2.10", 58, &[128, 0, 0, 0, 0, 0, 0, 1]),
            NotBalanced,
        ),
        passes("ICMP in IPv6", Frame::raw("2001:db8:c::7", "2001:db8::10", 1, &[8, 0, 0, 0, 0, 0, 0, 1]), NotBalanced),
    ]
}
