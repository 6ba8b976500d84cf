//! VIPs that serve prefixes, and ports that nobody serves.

use lb_common::{
    layout::vip::{TCP, UDP},
    verdict::Verdict::{self, EchoReplied, Fragment, NotVip, Truncated, Unreadable},
};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::SYN,
    given::{FEATURES, Given},
};

use super::site::{BACKEND, BACKEND_V6, CLIENT, CLIENT_V6};

/// Prefixes within prefixes, with a port of their own or without: targets 1 to 7 by VIP.
fn nested() -> Given {
    Given::nothing()
        .prefix_vip("192.0.2.0/24", 443, TCP, &[BACKEND])
        .prefix_vip("192.0.2.128/25", 0, TCP, &[BACKEND])
        .prefix_vip("192.0.2.192/26", 443, TCP, &[BACKEND])
        .prefix_vip("192.0.2.192/26", 0, TCP, &[BACKEND_V6])
        .vip("192.0.2.250:443", TCP, &[BACKEND])
        .vip("192.0.2.251:0", TCP, &[BACKEND])
        .prefix_vip("192.0.2.0/24", 53, UDP, &[BACKEND])
}

fn nested_v6() -> Given {
    Given::nothing()
        .prefix_vip("2001:db8:1::/48", 443, TCP, &[BACKEND_V6])
        .prefix_vip("2001:db8:1:2::/64", 0, TCP, &[BACKEND_V6])
        .prefix_vip("2001:db8:1:2::100/120", 443, TCP, &[BACKEND])
        .vip("[2001:db8:1:2::1ff]:443", TCP, &[BACKEND_V6])
}

fn opens(name: &'static str, given: &Given, to: &str, target: u32) -> Case {
    let from = if to.starts_with('[') { CLIENT_V6 } else { CLIENT };
    Case::forwarded(name, given, &Frame::tcp(from, to, SYN), target).opens(target)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = longest();
    cases.extend(addresses());
    cases.extend(unknown_ports());
    cases
}

fn longest() -> Vec<Case> {
    let (v4, v6) = (nested(), nested_v6());
    let passes = |name, given: &Given, to: &str| {
        let from = if to.starts_with('[') { CLIENT_V6 } else { CLIENT };
        Case::left_alone(name, given, Frame::tcp(from, to, SYN), NotVip)
    };
    let everything = Given::nothing().prefix_vip("0.0.0.0/0", 0, TCP, &[BACKEND]);
    let everything_v6 = Given::nothing().prefix_vip("::/0", 0, TCP, &[BACKEND]);
    let single = Given::nothing().prefix_vip("192.0.2.0/31", 443, TCP, &[BACKEND]);
    let query = Frame::udp(CLIENT, "192.0.2.77:53");
    let plain = nested().features(FEATURES & !lb_common::maps::feature::PREFIX_VIPS);
    vec![
        opens("an address in a prefix", &v4, "192.0.2.7:443", 1),
        opens("the first address of a prefix", &v4, "192.0.2.0:443", 1),
        opens("the longer prefix, though of any port", &v4, "192.0.2.129:443", 2),
        opens("any port of a prefix", &v4, "192.0.2.129:22", 2),
        opens("a port of its own at equal length", &v4, "192.0.2.200:443", 3),
        opens("any port at equal length", &v4, "192.0.2.200:80", 4),
        opens("the last address of a prefix", &v4, "192.0.2.255:443", 3),
        opens("a single address before its prefix", &v4, "192.0.2.250:443", 5),
        opens("another port of such an address, by its prefix", &v4, "192.0.2.250:444", 4),
        opens("any port of a single address before a prefix's own", &v4, "192.0.2.251:443", 6),
        Case::forwarded("UDP beside TCP of a prefix", &v4, &query, 7)
            .event(lb_common::layout::counter::PathEvent::MissUdp)
            .creates(7),
        opens("a prefix of two addresses", &single, "192.0.2.1:443", 1),
        opens("every IPv4 address", &everything, "203.0.113.200:22", 1),
        opens("an address in an IPv6 prefix", &v6, "[2001:db8:1:ffff::9]:443", 1),
        opens("the longer IPv6 prefix, of any port", &v6, "[2001:db8:1:2::9]:443", 2),
        opens("the longest IPv6 prefix", &v6, "[2001:db8:1:2::1fe]:443", 3),
        opens("any port of an IPv6 prefix", &v6, "[2001:db8:1:2::1fe]:80", 2),
        opens("a single IPv6 address before its prefix", &v6, "[2001:db8:1:2::1ff]:443", 4),
        opens("every IPv6 address", &everything_v6, "[2001:db8:9::9]:22", 1),
        passes("an address behind a prefix", &single, "192.0.2.2:443"),
        passes("a port that no prefix serves", &v4, "192.0.2.7:22"),
        passes("an address before an IPv6 prefix", &v6, "[2001:db8:0:ffff::9]:443"),
        passes("IPv6 where every IPv4 address is served", &everything, "[2001:db8:9::9]:22"),
        passes("a program that does not know of prefixes", &plain, "192.0.2.7:443"),
    ]
}

/// Addresses of a prefix are VIPs' addresses.
fn addresses() -> Vec<Case> {
    let ping = |to: &str| Frame::echo(if to.contains(':') { "2001:db8:c::7" } else { "198.51.100.7" }, to, 3);
    let answered = |name, given: &Given, to: &str| {
        let request = ping(to);
        Case::new(name, given, request.build(), EchoReplied, request.answered().build())
    };
    let cut = |to: &str| Frame::tcp(CLIENT, to, SYN).build()[..50].to_vec();
    let later = Frame::udp(CLIENT, "192.0.2.7:53").fragment(9, true);
    let outside = Frame::udp(CLIENT, "192.0.3.7:53").fragment(9, true);
    let error = Frame::error("203.0.113.1", [3, 4], [0; 4], &Frame::tcp("192.0.2.7:443", CLIENT, SYN), 28);
    vec![
        answered("a ping of an address in a prefix", &nested(), "192.0.2.7"),
        answered("a ping of an address in an IPv6 prefix", &nested_v6(), "2001:db8:1::7"),
        Case::left_alone("a ping beside a prefix", &nested(), ping("192.0.3.7"), Verdict::Icmp),
        Case::left_alone("a broken packet to an address in a prefix", &nested(), cut("192.0.2.7:443"), Truncated),
        Case::left_alone("a broken packet beside a prefix", &nested(), cut("192.0.3.7:443"), Unreadable),
        Case::left_alone("a later fragment to a prefix", &nested(), later, Verdict::FragmentUnknown),
        Case::left_alone("a later fragment beside a prefix", &nested(), outside, Fragment),
        Case::forwarded("an error about a flow of a prefix", &nested(), &error, 1)
            .event(lb_common::layout::counter::PathEvent::IcmpSteered),
    ]
}

fn unknown_ports() -> Vec<Case> {
    use Verdict::UnknownPort;
    let web = |drops: bool| {
        let given = Given::nothing().vip("192.0.2.10:443", TCP, &[BACKEND]).vip("[2001:db8::10]:443", TCP, &[BACKEND]);
        if drops { given.drops_unknown_ports(1).drops_unknown_ports(2) } else { given }
    };
    let segment = |to: &str| Frame::tcp(if to.starts_with('[') { CLIENT_V6 } else { CLIENT }, to, SYN);
    let left =
        |name, given: &Given, frame: Frame, verdict| Case::left_alone(name, given, frame, verdict).remembers(&[]);
    let prefix = Given::nothing().prefix_vip("192.0.2.0/24", 443, TCP, &[BACKEND]).drops_unknown_ports(1);
    let gre = Frame::raw("198.51.100.7", "192.0.2.10", 47, b"tunnelled");
    let plain = web(true).features(0);
    vec![
        left("a port that nobody serves passes", &web(false), segment("192.0.2.10:22"), NotVip),
        left("a port that nobody serves is dropped", &web(true), segment("192.0.2.10:22"), UnknownPort),
        left("a port that nobody serves is dropped, IPv6", &web(true), segment("[2001:db8::10]:22"), UnknownPort),
        left("a protocol that nobody serves is dropped", &web(true), Frame::udp(CLIENT, "192.0.2.10:443"), UnknownPort),
        left("another address' port passes", &web(true), segment("192.0.2.11:22"), NotVip),
        left("a port of a prefix that nobody serves is dropped", &prefix, segment("192.0.2.99:22"), UnknownPort),
        left("a port beside the prefix passes", &prefix, segment("192.0.3.99:22"), NotVip),
        left("another protocol passes, even so", &web(true), gre, Verdict::NotBalanced),
        left("a program that drops no ports", &plain, segment("192.0.2.10:22"), NotVip),
        opens("a port that is served, where others are dropped", &web(true), "192.0.2.10:443", 1),
    ]
}
