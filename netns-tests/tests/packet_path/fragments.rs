//! Datagrams in fragments: the first says whose they are, the others follow it.

use lb_common::{
    layout::{
        counter::PathEvent::{self, FragmentFirst, FragmentFollowed, FragmentLate},
        flow::FlowState::{Datagram, Empty, FirstDatagram, HalfOpen},
    },
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, SYN},
};

use super::site::{CLIENT, CLIENT_V6, DNS, DNS_V6, datagram, datagram_v6, pair, segment, segment_v6, site, site_with};

/// A datagram or segment in three fragments.
fn three(frame: &Frame) -> [Frame; 3] {
    let frame = frame.clone().payload(&[0x42; 50]).identification(0x1234);
    frame.fragments(24).try_into().expect("three fragments")
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = firsts();
    cases.extend(rests());
    cases.extend(out_of_order());
    cases.extend(remembering());
    cases.extend(oddities());
    cases.extend(headers());
    cases
}

/// For how long a datagram is remembered, and what gives way to it.
fn remembering() -> Vec<Case> {
    let [first, second, _] = three(&datagram());
    let aged = |age| site().datagram(&second, 3, age, Datagram);
    let unknown = |name, given: &_| Case::left_alone(name, given, second.clone(), Verdict::FragmentUnknown);
    let full = |state| site().datagrams(&second, std::array::from_fn(|way| (1, u32::from(way == 5), state)));
    let others = |state, aged: usize, fresh: usize| [vec![(1, state, 1); aged], vec![(1, state, 0); fresh]].concat();
    let arrives = |name, given: &_| {
        Case::forwarded(name, given, &first, 3).event(FragmentFirst).event(PathEvent::MissUdp).creates(3)
    };
    let mut takes_oldest = others(Datagram, 0, 7);
    takes_oldest.push((3, Datagram, 0));
    vec![
        Case::forwarded("a later fragment within the time of reassembly", &aged(7), &second, 3).event(FragmentFollowed),
        unknown("a later fragment after the time of reassembly", &aged(8)).remembers_datagrams(&[(0, Empty, 0)]),
        unknown("an unknown datagram takes no known one's place", &full(Datagram))
            .remembers_datagrams(&others(Datagram, 1, 7)),
        arrives("a first fragment takes the oldest one's place", &full(Datagram)).remembers_datagrams(&takes_oldest),
        arrives("a first fragment long after a later one", &site().datagram(&second, 0, 8, Empty))
            .remembers_datagrams(&[(3, Datagram, 0)]),
    ]
}

/// Headers between the fragment header and the ports are part of what is cut.
fn headers() -> Vec<Case> {
    let query = datagram_v6().payload(&[0x42; 48]);
    let content = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &query.packet()[40..]].concat();
    let cut = Frame::raw("2001:db8:c::7", "2001:db8::10", 60, &content).identification(77).fragments(32);
    let [first, second] = &cut[..] else { panic!("two fragments") };
    let first = first.clone().about(&datagram_v6());
    vec![
        Case::forwarded("destination options behind the fragment header", &site(), &first, 4)
            .event(FragmentFirst)
            .event(PathEvent::MissUdp)
            .creates(4)
            .then(Case::forwarded("", &site(), second, 4).event(FragmentFollowed)),
    ]
}

fn firsts() -> Vec<Case> {
    let crossed = site_with("fd00::11", "10.0.0.11");
    let first = |name, given: &_, frame: &Frame, target| {
        let [first, ..] = three(frame);
        Case::forwarded(name, given, &first, target)
            .event(FragmentFirst)
            .event(PathEvent::MissUdp)
            .creates(target)
            .remembers(&[(target, FirstDatagram, 0)])
            .remembers_datagrams(&[(target, Datagram, 0)])
    };
    let [start, ..] = three(&segment(SYN));
    vec![
        first("a first fragment is steered by its flow", &site(), &datagram(), 3),
        first("a first fragment is steered by its flow, IPv6", &site(), &datagram_v6(), 4),
        first("a first fragment, IPv4 in IPv6", &crossed, &datagram(), 3),
        first("a first fragment, IPv6 in IPv4", &crossed, &datagram_v6(), 4),
        Case::forwarded("a first fragment of a SYN", &site(), &start, 1)
            .event(FragmentFirst)
            .opens(1)
            .remembers(&[(1, HalfOpen, 0)])
            .remembers_datagrams(&[(1, Datagram, 0)]),
    ]
}

fn rests() -> Vec<Case> {
    let crossed = site_with("fd00::11", "10.0.0.11");
    let follows = |name, given: &netns_tests::packet::Given, frame: &Frame, target| {
        let [first, second, third] = three(frame);
        let follow = |piece: &Frame| Case::forwarded(name, given, piece, target).event(FragmentFollowed);
        Case::forwarded(name, given, &first, target)
            .event(FragmentFirst)
            .event(PathEvent::MissUdp)
            .creates(target)
            .then(follow(&second))
            .then(follow(&third))
            .then(follow(&second))
            .remembers(&[(target, FirstDatagram, 0)])
            .remembers_datagrams(&[(target, Datagram, 0)])
    };
    let [_, second, _] = three(&datagram());
    // The ring points to target 2, but the first fragment went to 1.
    let remembered = pair(2, 4).datagram(&second, 3, 1, Datagram);
    let [_, later, _] = three(&segment(ACK));
    let of_tcp = pair(2, 4).datagram(&later, 1, 0, Datagram);
    vec![
        follows("later fragments follow the first", &site(), &datagram(), 3),
        follows("later fragments follow the first, IPv6", &site(), &datagram_v6(), 4),
        follows("later fragments follow, IPv4 in IPv6", &crossed, &datagram(), 3),
        follows("later fragments follow, IPv6 in IPv4", &crossed, &datagram_v6(), 4),
        Case::forwarded("a later fragment goes where the first went", &remembered, &second, 3)
            .event(FragmentFollowed)
            .remembers(&[]),
        Case::forwarded("a later fragment of a segment", &of_tcp, &later, 1).event(FragmentFollowed).remembers(&[]),
    ]
}

fn out_of_order() -> Vec<Case> {
    let unknown = |name, piece: &Frame| {
        Case::left_alone(name, &site(), piece.clone(), Verdict::FragmentUnknown)
            .remembers(&[])
            .remembers_datagrams(&[(0, Empty, 0)])
    };
    let [first, second, third] = three(&datagram());
    let [_, second_v6, _] = three(&datagram_v6());
    let late = Case::forwarded("", &site(), &first, 3)
        .event(FragmentFirst)
        .event(FragmentLate)
        .event(PathEvent::MissUdp)
        .creates(3)
        .remembers_datagrams(&[(3, Datagram, 0)]);
    let other = second.clone().identification(0x1235);
    let down = site().datagram(&second, 3, 0, Datagram).target(3, |target| target.serves = 0);
    vec![
        unknown("a later fragment of an unknown datagram", &second),
        unknown("a later fragment of an unknown datagram, IPv6", &second_v6),
        unknown("a last fragment before its first", &third)
            .then(late)
            .then(Case::forwarded("", &site(), &third, 3).event(FragmentFollowed)),
        Case::left_alone(
            "a fragment of another datagram between the same hosts",
            &site().datagram(&second, 3, 0, Datagram),
            other,
            Verdict::FragmentUnknown,
        )
        .remembers_datagrams(&[(0, Empty, 0), (3, Datagram, 0)]),
        Case::left_alone("a later fragment to a target that is down", &down, second, Verdict::FragmentUnknown),
    ]
}

fn oddities() -> Vec<Case> {
    use Verdict::{Fragment, NotVip, Truncated};
    let host = |name, frame: Frame, verdict| {
        Case::left_alone(name, &site(), frame, verdict).remembers(&[]).remembers_datagrams(&[])
    };
    let other = |port: &str| Frame::udp(CLIENT, &format!("192.0.2.1:{port}"));
    let [first, second, _] = three(&other("53"));
    let [first_v6, second_v6, _] = three(&Frame::udp(CLIENT_V6, "[2001:db8::1]:53"));
    let [to_other_port, its_second, its_third] = three(&Frame::udp(CLIENT, "192.0.2.10:5353"));
    let [tiny, ..] = &segment_v6(SYN).fragments(8)[..] else { panic!("a first fragment") };
    let [tiny_v4, ..] = &segment(SYN).fragments(8)[..] else { panic!("a first fragment") };
    let tagged = |frame: Frame| frame.tagged(&[(0x8100, 5)]);
    let [tagged_first, tagged_second, _] = three(&Frame::udp(CLIENT, DNS)).map(tagged);
    let [options, ..] = three(&datagram().options(&[1; 8]));
    let [extended, ..] = three(&Frame::udp(CLIENT_V6, DNS_V6).extension(60, &[1, 4, 0, 0, 0, 0]));
    let steered = |name, piece: &Frame, target| {
        let case = Case::forwarded(name, &site(), piece, target).event(FragmentFirst).event(PathEvent::MissUdp);
        case.creates(target).remembers_datagrams(&[(target, Datagram, 0)])
    };
    vec![
        host("a first fragment to the host", first, NotVip),
        host("a later fragment to the host", second, Fragment),
        host("a first fragment to the host, IPv6", first_v6, NotVip),
        host("a later fragment to the host, IPv6", second_v6, Fragment),
        // The host gets all of a datagram that is its own, or could put none together.
        Case::left_alone("fragments to another port of a VIP's address", &site(), to_other_port, NotVip)
            .event(FragmentFirst)
            .remembers(&[])
            .remembers_datagrams(&[(0, Datagram, 0)])
            .then(Case::left_alone("", &site(), its_second, Fragment))
            .then(Case::left_alone("", &site(), its_third, Fragment)),
        host("a first fragment shorter than its TCP header", tiny_v4.clone(), Truncated),
        host("a first fragment shorter than its TCP header, IPv6", tiny.clone(), Truncated),
        steered("a first fragment with a tag", &tagged_first, 3)
            .then(Case::forwarded("", &site(), &tagged_second, 3).event(FragmentFollowed)),
        steered("a first fragment with options", &options, 3),
        steered("a first fragment behind destination options", &extended, 4),
    ]
}
