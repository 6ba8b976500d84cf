//! What decides the slot of the ring, and that flows stay where they are whatever it is.

use lb_common::layout::{
    counter::PathEvent,
    flow::FlowState::{Datagram, Established, FirstDatagram},
    vip::{TCP, UDP, Vip},
};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, SYN},
    given::Given,
};

use super::site::{chosen, four};

const ANY: &str = "192.0.2.11:0";

/// A client's packet to a port of the VIP.
fn from(client: u8, port: u16, to: u16) -> Frame {
    Frame::tcp(&format!("198.51.100.{client}:{port}"), &format!("192.0.2.11:{to}"), SYN)
}

fn opens(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    Case::forwarded(name, given, frame, target).opens(target)
}

/// All these frames open flows at one target.
fn together(name: &'static str, given: &Given, frames: &[Frame]) -> Case {
    let target = chosen(given, &frames[0]);
    let one = |frame: &Frame| opens(name, given, frame, target);
    frames[1..].iter().fold(one(&frames[0]), |case, frame| case.then(one(frame)))
}

/// These frames open flows, and they don't all go to one target.
fn spread(name: &'static str, given: &Given, frames: &[Frame]) -> Case {
    let targets: Vec<u32> = frames.iter().map(|frame| chosen(given, frame)).collect();
    let mut different = targets.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different, [1, 2, 3, 4], "{name}");
    let mut all = frames.iter().zip(targets).map(|(frame, target)| opens(name, given, frame, target));
    let first = all.next().expect("frames");
    all.fold(first, Case::then)
}

fn clients() -> Vec<Frame> {
    (1..=24).map(|client| from(client, 41_000, 443)).collect()
}

fn source_ports() -> Vec<Frame> {
    (0..24).map(|number| from(7, 40_000 + number, 443)).collect()
}

fn ports() -> Vec<Frame> {
    (0..24).map(|number| from(7, 40_000, 8000 + number)).collect()
}

pub(crate) fn cases() -> Vec<Case> {
    let hashed = |hash| four(ANY, TCP).flags(1, hash);
    let (tuple, source) = (hashed(0), hashed(Vip::HASH_SOURCE));
    let (source_port, port) = (hashed(Vip::HASH_SOURCE_PORT), hashed(Vip::HASH_PORT));
    let mut cases = vec![
        spread("the 5-tuple spreads source ports", &tuple, &source_ports()),
        spread("the 5-tuple spreads clients", &tuple, &clients()),
        spread("the 5-tuple spreads ports", &tuple, &ports()),
        together("all flows of a client go together", &source, &[source_ports(), ports()].concat()),
        spread("clients spread by their addresses alone", &source, &clients()),
        together("a client's flows to one port go together", &source_port, &source_ports()),
        spread("a client's flows to several ports spread", &source_port, &ports()),
        spread("clients of one port spread", &source_port, &clients()),
        together("all flows to a port go together", &port, &[source_ports(), clients()].concat()),
        spread("ports spread whoever comes", &port, &ports()),
    ];
    cases.extend(tracked());
    cases.extend(untracked());
    cases
}

/// The flow's own tuple is what is remembered, and its packets hit.
fn tracked() -> Vec<Case> {
    let modes = [
        ("flows by source are remembered each for itself", Vip::HASH_SOURCE),
        ("flows by source and port are remembered each for itself", Vip::HASH_SOURCE_PORT),
        ("flows by port are remembered each for itself", Vip::HASH_PORT),
    ];
    let again = modes.map(|(name, hash)| {
        let given = four(ANY, TCP).flags(1, hash);
        let (one, other) = (from(7, 40_000, 443), from(7, 40_001, 443));
        let target = chosen(&given, &one);
        opens(name, &given, &one, target)
            .then(opens("", &given, &other, target))
            .then(
                Case::forwarded("", &given, &one.flags(ACK), target).counts(target, |counters| counters.handshakes = 1),
            )
            .then(Case::forwarded("", &given, &one.flags(ACK), target))
            .remembers(&[(target, Established, 0), (target, lb_common::layout::flow::FlowState::HalfOpen, 0)])
    });
    let given = four(ANY, TCP).flags(1, Vip::HASH_SOURCE);
    let frame = from(7, 40_000, 443).flags(ACK);
    let elsewhere = 1 + chosen(&given, &frame) % 4;
    let known = given.flow(&frame, elsewhere, 0, Established);
    let mut cases = again.to_vec();
    cases.push(Case::forwarded("a known flow stays where it is, whatever the hash", &known, &frame, elsewhere));
    let udp = four("192.0.2.11:0", UDP).flags(1, Vip::HASH_SOURCE);
    let datagram = Frame::udp("198.51.100.7:40000", "192.0.2.11:443");
    let target = chosen(&udp, &datagram);
    cases.push(
        Case::forwarded("datagrams by source hit their flow", &udp, &datagram, target)
            .event(PathEvent::MissUdp)
            .creates(target)
            .remembers(&[(target, FirstDatagram, 0)])
            .then(Case::forwarded("", &udp, &datagram, target).remembers(&[(target, Datagram, 0)])),
    );
    cases
}

fn untracked() -> Vec<Case> {
    let given = four(ANY, TCP).flags(1, Vip::UNTRACKED);
    let (syn, ack) = (from(7, 40_000, 443), from(7, 40_000, 443).flags(ACK));
    let target = chosen(&given, &syn);
    let elsewhere = 1 + target % 4;
    let recorded = given.clone().flow(&ack, elsewhere, 5, Established);
    let error = Frame::error("203.0.113.1", [3, 4], [0; 4], &ack.reversed(), 28);
    let pieces = ack.clone().payload(&[4; 44]).identification(6).fragments(32);
    let [first, second] = &pieces[..] else { panic!("two fragments") };
    let both = four(ANY, TCP).flags(1, Vip::UNTRACKED | Vip::HASH_SOURCE);
    let by_source = chosen(&both, &syn);
    let other = from(7, 50_000, 80).flags(ACK);
    vec![
        Case::forwarded("an untracked flow is not remembered", &given, &syn, target)
            .remembers(&[])
            .then(Case::forwarded("", &given, &ack, target).remembers(&[])),
        Case::forwarded("an untracked flow's entry is not looked at", &recorded, &ack, target).remembers(&[(
            elsewhere,
            Established,
            5,
        )]),
        Case::forwarded("an error about an untracked flow", &given, &error, target).event(PathEvent::IcmpSteered),
        Case::forwarded("an error about an untracked flow by source", &both, &error, by_source)
            .event(PathEvent::IcmpSteered),
        Case::forwarded("an untracked flow's fragments go together", &given, first, target)
            .event(PathEvent::FragmentFirst)
            .remembers(&[])
            .then(Case::forwarded("", &given, second, target).event(PathEvent::FragmentFollowed)),
        Case::forwarded("untracked, by source", &both, &syn, by_source)
            .then(Case::forwarded("", &both, &other, by_source).remembers(&[])),
        Case::left_alone(
            "untracked without backends",
            &given.ring(1, None),
            syn,
            lb_common::verdict::Verdict::NoBackend,
        ),
    ]
}
