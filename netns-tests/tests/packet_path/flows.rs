//! Flows: each transition once. `lb-xdp`'s own tests go through all combinations.

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters},
        flow::FlowState::{Closing, Datagram, Established, FirstDatagram, HalfOpen, PickedUp},
        target::Target,
    },
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, FIN, PSH, RST, SYN},
    given::Given,
};

use super::site::{datagram, pair, segment};

/// Default of `udp_idle_timeout`, in units of the table's clock.
const UDP_IDLE: u32 = 7;

/// A flow of target 1 (web) or 3 (dns), while the rings point to 2 and 4.
fn known(frame: &Frame, target: u32, age: u32, state: lb_common::layout::flow::FlowState) -> Given {
    pair(2, 4).flow(frame, target, age, state)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = connections();
    cases.extend(datagrams());
    cases.extend(targets_down());
    cases
}

fn connections() -> Vec<Case> {
    let (syn, ack, fin, rst) = (segment(SYN), segment(ACK), segment(FIN | ACK), segment(RST));
    let stays = |name, frame: &Frame, age, state| Case::forwarded(name, &known(frame, 1, age, state), frame, 1);
    let opens = |case: Case| {
        let count = |counters: &mut TargetCounters| (counters.flows_created, counters.syns) = (1, 1);
        case.counts(2, count).remembers(&[(2, HalfOpen, 0)])
    };
    let new = pair(2, 4);
    let is_remembered = |case: Case, state| case.remembers(&[(1, state, 0)]);
    vec![
        opens(Case::forwarded("SYN of a new flow", &new, &syn, 2).event(PathEvent::MissSyn)),
        is_remembered(stays("SYN again", &syn, 1, HalfOpen).counts(1, |c| c.syn_retransmits = 1), HalfOpen),
        is_remembered(stays("ACK after SYN", &ack, 0, HalfOpen).counts(1, |c| c.handshakes = 1), Established),
        is_remembered(stays("data", &segment(PSH | ACK), 0, Established), Established),
        is_remembered(stays("data after an hour", &ack, 838, Established), Established),
        is_remembered(stays("SYN within a flow", &syn, 0, Established), Established),
        is_remembered(stays("FIN", &fin, 0, Established).counts(1, |c| c.fins = 1), Closing),
        is_remembered(stays("RST", &rst, 3, Established).counts(1, |c| c.rsts = 1), Closing),
        is_remembered(stays("FIN again", &fin, 0, Closing), Closing),
        is_remembered(stays("ACK after FIN", &ack, 1, Closing), Closing),
        opens(Case::forwarded("SYN after FIN", &known(&syn, 1, 0, Closing), &syn, 2)),
        Case::forwarded("ACK of an unknown flow", &new, &ack, 2)
            .event(PathEvent::MissTcp)
            .counts(2, |c| c.flows_created = 1)
            .remembers(&[(2, PickedUp, 0)]),
        is_remembered(stays("a second ACK", &ack, 0, PickedUp), Established),
        Case::forwarded("FIN of an unknown flow", &new, &fin, 2).event(PathEvent::MissTcp).remembers(&[]),
        Case::forwarded("RST of an unknown flow", &new, &rst, 2).event(PathEvent::MissTcp).remembers(&[]),
    ]
}

fn datagrams() -> Vec<Case> {
    let frame = datagram();
    let stays = |name, age, state| {
        Case::forwarded(name, &known(&frame, 3, age, state), &frame, 3).remembers(&[(3, Datagram, 0)])
    };
    let expires = |name, age, state| {
        Case::forwarded(name, &known(&frame, 3, age, state), &frame, 4)
            .event(PathEvent::Expired)
            .counts(4, |c| c.flows_created = 1)
            .remembers(&[(4, FirstDatagram, 0)])
    };
    vec![
        Case::forwarded("a first datagram", &pair(2, 4), &frame, 4)
            .event(PathEvent::MissUdp)
            .counts(4, |c| c.flows_created = 1)
            .remembers(&[(4, FirstDatagram, 0)]),
        stays("a second datagram", 0, FirstDatagram),
        stays("a datagram more", 0, Datagram),
        stays("a datagram at the end of the idle time", UDP_IDLE, Datagram),
        expires("a datagram after the idle time", UDP_IDLE + 1, Datagram),
        expires("a second datagram after the idle time", UDP_IDLE + 1, FirstDatagram),
    ]
}

fn targets_down() -> Vec<Case> {
    let (syn, ack, fin) = (segment(SYN), segment(ACK), segment(FIN | ACK));
    let down = |given: Given, id| given.target(id, |target| target.serves = 0);
    let draining = |given: Given, id| given.target(id, |target| target.flags = Target::DRAINING);
    let moves = |name, frame: &Frame, before, after| {
        Case::forwarded(name, &down(known(frame, 1, 2, before), 1), frame, 2)
            .event(PathEvent::Moved)
            .counts(2, |c| c.flows_moved = 1)
            .remembers(&[(2, after, 0)])
    };
    let opens = |case: Case| {
        let count = |counters: &mut TargetCounters| (counters.flows_created, counters.syns) = (1, 1);
        case.counts(2, count).remembers(&[(2, HalfOpen, 0)])
    };
    let no_ring = |given: Given| given.ring(1, None);
    vec![
        moves("ACK to a target that is down", &ack, Established, Established),
        moves("ACK to a target that is down, half-open", &ack, HalfOpen, PickedUp),
        moves("FIN to a target that is down", &fin, Established, Closing),
        opens(Case::forwarded("SYN to a target that is down", &down(known(&syn, 1, 0, Established), 1), &syn, 2)),
        Case::forwarded("a flow of another VIP's target", &known(&ack, 3, 0, Established), &ack, 2)
            .event(PathEvent::Moved)
            .counts(2, |c| c.flows_moved = 1)
            .remembers(&[(2, Established, 0)]),
        Case::forwarded("ACK to a draining target", &draining(known(&ack, 1, 0, Established), 1), &ack, 1)
            .remembers(&[(1, Established, 0)]),
        Case::forwarded("SYN in a flow of a draining target", &draining(known(&syn, 1, 0, Established), 1), &syn, 1)
            .remembers(&[(1, Established, 0)]),
        opens(Case::forwarded("SYN again to a draining target", &draining(known(&syn, 1, 0, HalfOpen), 1), &syn, 2)),
        opens(Case::forwarded("SYN after FIN at a draining target", &draining(known(&syn, 1, 0, Closing), 1), &syn, 2)),
        Case::forwarded("a known flow without a ring", &no_ring(known(&ack, 1, 0, Established)), &ack, 1),
        Case::left_alone(
            "a known flow without a ring or a target",
            &no_ring(down(known(&ack, 1, 9, Established), 1)),
            ack.clone(),
            Verdict::NoBackend,
        )
        .remembers(&[(1, Established, 9)]),
    ]
}
