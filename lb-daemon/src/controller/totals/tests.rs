//! Sums over targets that come and go.

use lb_common::layout::target::Target;

use super::*;
use crate::{
    model::Protocol,
    plan::{target::address_bytes, wanted::key},
};

fn web() -> Service {
    Service::of("192.0.2.1".parse().unwrap(), 80, Protocol::Tcp)
}

fn state(target_ids: &[u32]) -> State {
    let vip = Vip { id: 1, ..Vip::default() };
    let outer_destination = address_bytes("10.0.0.1".parse().unwrap());
    let target = Target { vip: 1, serves: 1, outer_destination, ..Target::default() };
    State {
        vips: [(key(&web()), vip)].into(),
        targets: target_ids.iter().map(|id| (*id, target)).collect(),
        ..State::default()
    }
}

fn counted(id: u32, packets: u64) -> Counters {
    let counters = TargetCounters { packets, ..TargetCounters::default() };
    Counters { targets: [(id, counters)].into(), ..Counters::default() }
}

fn packets(totals: &mut Totals, counters: Counters) -> [u64; 3] {
    let figures = totals.figures(counters);
    let pair = (web(), "10.0.0.1".parse().unwrap());
    [figures.forwarded.packets, figures.vips[&web()].packets, figures.backends[&pair].packets]
}

#[test]
fn a_freed_target_stays_in_the_sums_in_whichever_order_it_is_freed_and_cleared() {
    let mut totals = Totals::default();
    totals.learn(&state(&[7]));
    assert_eq!(packets(&mut totals, counted(7, 10)), [10; 3]);
    totals.take(7, &counted(7, 12).targets[&7]);
    assert_eq!(packets(&mut totals, counted(7, 12)), [12; 3], "taken, not cleared yet");
    totals.take(7, &counted(7, 13).targets[&7]);
    assert_eq!(packets(&mut totals, counted(7, 13)), [13; 3], "taken twice");
    totals.cleared(7);
    assert_eq!(packets(&mut totals, Counters::default()), [13; 3], "cleared");
    totals.learn(&state(&[7]));
    assert_eq!(packets(&mut totals, counted(7, 4)), [17; 3], "counting again");
}

#[test]
fn flows_and_packets_of_a_backend_that_moves_to_another_number_are_added_up() {
    let mut totals = Totals::default();
    totals.learn(&state(&[7, 9]));
    let by_target = [(7, 3), (9, 4), (100, 5)].into();
    let live_by_target = [(7, 2), (9, 1), (100, 5)].into();
    let flows = totals.flows(&FlowCount { capacity: 64, by_state: [0; 7], by_target, live: 8, live_by_target });
    assert_eq!(flows.backends.into_values().collect::<Vec<_>>(), [7]);
    assert_eq!(flows.live_backends.into_values().collect::<Vec<_>>(), [3]);
    assert_eq!(flows.live, 8);
}

#[test]
fn what_nobody_owns_still_counts_as_forwarded() {
    let mut totals = Totals::default();
    assert_eq!(totals.figures(counted(3, 5)).forwarded.packets, 5);
}

/// A state of two targets: one is this host, and the flows of its VIP are not remembered.
fn two_kinds(flip: bool) -> State {
    let mut state = state(&[3, 7]);
    state.targets.get_mut(&7).unwrap().vip = 2;
    let other = Service::of("192.0.2.2".parse().unwrap(), 80, Protocol::Udp);
    let flags = if flip { 0 } else { Vip::UNTRACKED };
    state.vips.insert(key(&other), Vip { id: 2, flags, ..Vip::default() });
    let encap = if flip { Encap::IpipV4 } else { Encap::Local };
    state.targets.get_mut(&7).unwrap().encap = encap as u32;
    state
}

#[test]
fn what_was_for_this_host_is_not_forwarded_and_what_was_not_looked_up_is_no_hit() {
    let mut totals = Totals::default();
    let read = |totals: &mut Totals, [plain, special]: [u64; 2]| {
        let mut counters = counted(3, plain);
        counters.targets.extend(counted(7, special).targets);
        let figures = totals.figures(counters);
        (figures.forwarded.packets, figures.hits, figures.vips.values().map(|vip| vip.packets).sum::<u64>())
    };
    totals.learn(&two_kinds(false));
    assert_eq!(read(&mut totals, [0, 0]), (0, 0, 0));
    assert_eq!(read(&mut totals, [5, 40]), (5, 5, 45));
    totals.learn(&two_kinds(true));
    assert_eq!(read(&mut totals, [5, 40]), (5, 5, 45), "what was counted before stays what it was");
    assert_eq!(read(&mut totals, [6, 43]), (9, 9, 49));
    totals.learn(&two_kinds(false));
    totals.take(7, &counted(7, 50).targets[&7]);
    assert_eq!(read(&mut totals, [6, 50]), (16, 16, 56), "taken as what it was when it was last counted");
    assert_eq!(read(&mut totals, [6, 60]), (16, 16, 66));
}

#[test]
fn a_number_that_comes_to_be_another_target_s_counts_as_what_that_is() {
    let mut totals = Totals::default();
    totals.learn(&two_kinds(false));
    assert_eq!(totals.figures(counted(7, 40)).forwarded.packets, 0);
    totals.take(7, &counted(7, 50).targets[&7]);
    totals.cleared(7);
    totals.learn(&two_kinds(true));
    assert_eq!(totals.figures(counted(7, 3)).forwarded.packets, 3);
}

#[test]
fn many_more_pairs_than_are_remembered_are_summed_up_without_a_look_at_all_for_each() {
    let mut totals = Totals::default();
    let pairs = u32::try_from(REMEMBERED).unwrap() * 3 / 2;
    let pair = |id: u32| (web(), IpAddr::from((u128::from(id) + (0xfd << 120)).to_be_bytes()));
    totals.owners = (1..=pairs).map(|id| (id, pair(id))).collect();
    let started = std::time::Instant::now();
    for id in 1..=pairs {
        totals.take(id, &counted(id, 1).targets[&id]);
    }
    // A look takes more than a millisecond: half a minute for each of those beyond what is remembered.
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(totals.backends.len(), pairs as usize, "those in use stay");
    totals.owners = (1..=pairs * 3).map(|id| (id, pair(pairs + id))).collect();
    for id in 1..=pairs * 3 {
        totals.take(id, &counted(id, 2).targets[&id]);
    }
    assert_eq!(totals.backends.len(), pairs as usize * 3, "those that nobody has any more go");
}

#[test]
fn packets_that_go_by_other_flows_or_are_dropped_after_a_look_up_are_told_apart() {
    let mut totals = Totals::default();
    let mut hits = |forwarded, verdicts: &[(Verdict, u64)], path: &[(PathEvent, u64)]| {
        let mut counters = counted(3, forwarded);
        counters.verdicts = vec![VerdictCounters::default(); Verdict::ALL.len()];
        counters.path = vec![0; PathEvent::ALL.len()];
        for (verdict, packets) in verdicts {
            counters.verdicts[*verdict as usize].packets = *packets;
        }
        for (event, count) in path {
            counters.path[*event as usize] = *count;
        }
        totals.figures(counters).hits
    };
    assert_eq!(hits(0, &[], &[]), 0);
    let (errors, fragments) = ((PathEvent::IcmpSteered, 4), (PathEvent::FragmentFollowed, 5));
    assert_eq!(hits(12, &[], &[errors, fragments]), 3);
    let too_big = [(Verdict::TooBig, 1), (Verdict::TooBigAnswered, 2), (Verdict::TooBigLimited, 4)];
    assert_eq!(hits(12, &too_big, &[errors, fragments]), 10);
    let limited = [(Verdict::NewFlowLimit, 100), (Verdict::Denied, 7), (Verdict::SourceLimit, 9)];
    assert_eq!(hits(24, &limited, &[errors, fragments, (PathEvent::MissSyn, 102)]), 13, "all of them misses");
}

#[test]
fn hits_are_what_is_left_of_all_look_ups_and_never_fall() {
    let mut totals = Totals::default();
    let mut hits = |forwarded, no_backend, misses| {
        let mut counters = counted(3, forwarded);
        counters.verdicts = vec![VerdictCounters::default(); Verdict::ALL.len()];
        counters.verdicts[Verdict::NoBackend as usize].packets = no_backend;
        counters.path = vec![0; PathEvent::ALL.len()];
        counters.path[PathEvent::MissUdp as usize] = misses;
        counters.path[PathEvent::Evicted as usize] = 1000;
        totals.figures(counters).hits
    };
    assert_eq!(hits(50, 0, 80), 0, "targets that were freed before this daemon began are missing");
    assert_eq!(hits(60, 0, 83), 7);
    assert_eq!(hits(60, 10, 93), 7, "all of them misses, and no backend");
    assert_eq!(hits(60, 10, 95), 7, "read a little later than the targets");
    assert_eq!(hits(70, 10, 95), 15);
}
