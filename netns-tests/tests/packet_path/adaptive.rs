//! Flows of a VIP that remembers them only where its ring changed.

use lb_common::{
    layout::{
        counter::{
            PathEvent::{MissSyn, MissTcp, Moved, NotRemembered, StrayLost},
            TargetCounters,
        },
        flow::FlowState::{Established, HalfOpen, PickedUp},
        target::Target,
        vip::Vip,
    },
    verdict::Verdict,
};
use netns_tests::packet::{
    Case, Given,
    frame::flags::{ACK, SYN},
};

use super::{
    errors,
    site::{pair, segment},
};

/// The web VIP's slots lead to target 2; what they had before is target 1.
fn tracked() -> Given {
    pair(2, 4).history(1, Some(1))
}

/// The same, none of them tracked.
fn untracked() -> Given {
    pair(2, 4).history(1, None)
}

/// What a flow costs that is remembered.
fn created(counters: &mut TargetCounters) {
    counters.flows_created = 1;
}

pub(crate) fn cases() -> Vec<Case> {
    let (syn, ack) = (segment(SYN), segment(ACK));
    let down = |given: Given, id| given.target(id, |target| target.serves = 0);
    let drained = |given: Given, id| given.target(id, |target| target.flags = Target::DRAINING);
    let full = [(2, 100, Established); 8];
    let same = full.map(|(id, age, state)| (id, state, age));
    let closed = |given: Given| given.flags(1, Vip::CLOSED);
    // Who was in the last ring is not configured any more.
    let gone = |given: Given, id| given.target(id, |target| *target = Target::default());
    // A packet may hold the value of a VIP that was closed and removed, while another VIP has its range already.
    let anothers = |given: Given, id| given.target(id, |target| (target.vip, target.serves) = (2, 2));
    vec![
        Case::forwarded("untracked: a new flow is not remembered", &untracked(), &syn, 2),
        Case::forwarded("untracked: nor is one that goes on", &untracked(), &ack, 2),
        Case::forwarded("untracked: nobody looks for an entry", &untracked().flow(&ack, 1, 0, Established), &ack, 2)
            .remembers(&[(1, Established, 0)]),
        Case::forwarded("without a history too", &pair(2, 4).flags(1, Vip::ADAPTIVE), &syn, 2),
        Case::forwarded("tracked: a new flow goes to the new target", &tracked(), &syn, 2).opens(2),
        Case::forwarded("tracked: an old one stays", &tracked(), &ack, 1)
            .event(MissTcp)
            .counts(1, created)
            .remembers(&[(1, PickedUp, 0)]),
        Case::forwarded("also on a target that drains", &drained(tracked(), 1), &ack, 1)
            .event(MissTcp)
            .counts(1, created)
            .remembers(&[(1, PickedUp, 0)]),
        Case::forwarded("and moves if that is down", &down(tracked(), 1), &ack, 2)
            .event(MissTcp)
            .event(Moved)
            .counts(2, |counters| (counters.flows_created, counters.flows_moved) = (1, 1))
            .remembers(&[(2, PickedUp, 0)]),
        Case::forwarded(
            "a tag that matches another VIP's entry says nothing",
            &tracked().flow(&ack, 4, 0, Established),
            &ack,
            1,
        )
        .counts(1, created)
        .remembers(&[(1, PickedUp, 0)]),
        Case::forwarded("what is remembered counts", &tracked().flow(&ack, 2, 0, Established), &ack, 2).remembers(&[(
            2,
            Established,
            0,
        )]),
        Case::forwarded("a SYN without room goes where it is found", &tracked().bucket(&syn, full), &syn, 1)
            .event(MissSyn)
            .event(NotRemembered)
            .event(StrayLost)
            .remembers(&same),
        Case::forwarded("or else to the new target", &down(tracked().bucket(&syn, full), 1), &syn, 2)
            .event(MissSyn)
            .event(NotRemembered)
            .remembers(&same),
        Case::forwarded("closed: an old flow stays", &closed(drained(untracked(), 2)), &ack, 2),
        dropped("closed: a new one finds nobody", &closed(drained(untracked(), 2)), SYN),
        dropped("nor one whose target is down", &closed(down(untracked(), 2)), ACK),
        dropped("closed: a new one finds nobody where the last one left", &closed(gone(untracked(), 2)), SYN),
        dropped("nor does one that goes on", &closed(gone(untracked(), 2)), ACK),
        dropped("closed: nor where another VIP's backend came after", &closed(anothers(untracked(), 2)), SYN),
        dropped("in the middle of a flow likewise", &closed(anothers(untracked(), 2)), ACK),
        dropped("and where it was before", &closed(anothers(anothers(tracked(), 1), 2)), ACK).event(MissTcp),
        dropped("tracked and closed likewise", &closed(tracked()), SYN).event(MissSyn),
        dropped("and where all left", &closed(gone(gone(tracked(), 1), 2)), ACK).event(MissTcp),
        about("an error follows the ring", &untracked(), 2),
        about("an error about a tracked flow goes where that is", &tracked().flow(&ack, 2, 0, HalfOpen), 2)
            .remembers(&[(2, HalfOpen, 0)]),
        about("one that is not remembered is at the previous target", &tracked(), 1),
        about("while that serves", &down(tracked(), 1), 2),
        about("closed: an error about an old flow goes where that is", &closed(drained(untracked(), 2)), 2),
        lost("but to nobody who is down", &closed(down(untracked(), 2))),
        lost("nor who left", &closed(gone(untracked(), 2))),
        lost("nor who came after", &closed(anothers(untracked(), 2))),
    ]
}

/// An ICMP error about the flow.
fn about(name: &'static str, given: &Given, target: u32) -> Case {
    errors::steered(name, given, &errors::about([3, 1], &segment(ACK), 8), target)
}

/// Such an error that nobody is to have.
fn lost(name: &'static str, given: &Given) -> Case {
    Case::left_alone(name, given, errors::about([3, 1], &segment(ACK), 8), Verdict::NoBackend)
}

/// A closed VIP drops what no backend is to take.
fn dropped(name: &'static str, given: &Given, flags: u8) -> Case {
    Case::left_alone(name, given, segment(flags), Verdict::NoBackend)
}
