//! A new flow and a bucket that is full.

use lb_common::layout::{
    counter::{PathEvent, TargetCounters},
    flow::{
        FlowState::{self, Closing, Datagram, Established, FirstDatagram, HalfOpen, PickedUp},
        WAYS,
    },
};
use netns_tests::packet::{Case, frame::flags::SYN};

use super::site::{pair, segment};

/// Flows of target 1, by age and state; the seven others are in use and fresh.
fn full(victims: &[(u32, FlowState)]) -> [(u32, u32, FlowState); WAYS] {
    std::array::from_fn(|way| victims.get(way).map_or((1, 0, Established), |(age, state)| (1, *age, *state)))
}

/// The first of `victims` must give way to a SYN's flow.
fn evicts(name: &'static str, victims: &[(u32, FlowState)]) -> Case {
    let syn = segment(SYN);
    let flows = full(victims);
    let mut after: Vec<(u32, FlowState, u32)> = flows[1..].iter().map(|(id, age, state)| (*id, *state, *age)).collect();
    after.push((2, HalfOpen, 0));
    let count = |counters: &mut TargetCounters| (counters.flows_created, counters.syns) = (1, 1);
    Case::forwarded(name, &pair(2, 4).bucket(&syn, flows), &syn, 2)
        .event(PathEvent::MissSyn)
        .event(PathEvent::Evicted)
        .counts(2, count)
        .remembers(&after)
}

pub(crate) fn cases() -> Vec<Case> {
    let syn = segment(SYN);
    let in_use = full(&[(63, Established), (7, Datagram)]);
    let same = in_use.map(|(id, age, state)| (id, state, age));
    vec![
        evicts("a silent closed flow goes first", &[(2, Closing), (8, Datagram), (9, HalfOpen), (99, Established)]),
        evicts("then an expired datagram", &[(8, Datagram), (9, HalfOpen), (7, Datagram), (99, Established)]),
        evicts("then the oldest single packet", &[(3, HalfOpen), (2, PickedUp), (1, FirstDatagram), (99, Established)]),
        evicts("picked up, it is a single packet too", &[(3, PickedUp), (2, HalfOpen), (99, Established)]),
        evicts("a first datagram is a single packet too", &[(3, FirstDatagram), (2, HalfOpen), (99, Established)]),
        evicts("a closed flow just now is not silent", &[(2, HalfOpen), (1, Closing), (99, Established)]),
        evicts("then a flow idle for 64 units", &[(64, Established), (63, Established), (0, Datagram)]),
        evicts("the one idle for longest", &[(4095, Established), (64, Established), (2000, Established)]),
        Case::forwarded("no flow in use gives way", &pair(2, 4).bucket(&syn, in_use), &syn, 2)
            .event(PathEvent::MissSyn)
            .event(PathEvent::NotRemembered)
            .remembers(&same),
    ]
}
