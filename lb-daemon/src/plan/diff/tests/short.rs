//! What was cut short where room is short, by name.

use super::*;
use crate::plan::wanted::WantedGroup;

/// Backends 1 to `last`, of which the first has another weight than the rest.
fn pool(last: u8, ring_size: u32, weight: u32) -> WantedVip {
    let serving = |number| serving(if number == 1 { weight } else { 1 });
    let backends = (1..=last).map(|number| (Ipv4Addr::new(10, 0, 0, number).into(), serving(number)));
    WantedVip { ring_size, backends: backends.collect(), ..WantedVip::default() }
}

fn wanted(vips: impl IntoIterator<Item = (u8, WantedVip)>) -> Wanted {
    Wanted { vips: vips.into_iter().map(|(number, vip)| (key(number), vip)).collect(), ..Wanted::default() }
}

/// After a failure at any op of the way from one state to the other, the other is reached still.
fn reached_after_any_failure(capacity: Capacity, way: &[Wanted]) {
    let mut start = Lab::new(capacity);
    let (last, before) = way.split_last().unwrap();
    for wanted in before {
        start.reach(wanted, &[]).unwrap();
    }
    let ops = plan(&start.memory.observe().unwrap(), last, &mut RingCache::default()).unwrap();
    for (fault, op) in ops.iter().enumerate() {
        let mut lab = start.clone();
        let reached = lab.reach(last, &[fault]);
        assert_eq!(reached, Ok(()), "after a failure at op {fault}, {op:?}");
        check_reached(&mut lab, last);
    }
}

#[test]
fn a_move_cut_short_does_not_give_the_next_vip_more_room_than_there_is() {
    // Of 37 places, 17 to 24 are the second VIP's. It moves to 1 to 16; the others share the 13 at the end, without
    // head-room. Once it has moved, the places it left and these 13 would hold a range with head-room, but not both VIPs.
    let way = [
        wanted([(0, pool(6, 7, 1)), (1, pool(5, 7, 1))]),
        wanted([(1, pool(5, 7, 1))]),
        wanted([(1, pool(16, 7, 1)), (2, pool(6, 7, 1)), (3, pool(6, 7, 1))]),
    ];
    reached_after_any_failure(Capacity { targets: 38, ..ROOMY }, &way);
}

#[test]
fn rings_cut_short_do_not_break_up_the_room_for_a_long_one() {
    // Blocks 0 and 1 are the first VIP's, 3 the third's, and 5 to 7 are free. The first moves to 5 and 6; what it leaves
    // is all that the last one's ring fits in, and must not go to the third VIP's, which needs one block only.
    let start = [(0, pool(2, 61, 1)), (1, pool(2, 31, 1)), (2, pool(2, 31, 1)), (3, pool(2, 31, 1))];
    let end = [(0, pool(2, 61, 3)), (1, pool(2, 31, 1)), (2, pool(2, 31, 3)), (3, pool(2, 31, 1)), (4, pool(2, 61, 1))];
    reached_after_any_failure(Capacity { ring_blocks: 8, ..ROOMY }, &[wanted(start), wanted(end)]);
}

#[test]
fn only_serving_backends_are_in_the_ring() {
    for other in [Disposition::Draining, Disposition::Down] {
        let mut vip = pool(3, 61, 1);
        let second = vip.backends.values_mut().nth(1).unwrap();
        second.disposition = other;
        let mut lab = Lab::new(ROOMY);
        // From the start, and as a change of a ring that it was in.
        for states in [vec![wanted([(0, vip.clone())])], vec![wanted([(0, pool(3, 61, 1))]), wanted([(0, vip)])]] {
            for state in &states {
                lab.reach(state, &[]).unwrap();
            }
            let vip = lab.memory.observe().unwrap().vips[&key(0)];
            let places: BTreeSet<u16> = lab.memory.ring(&vip).into_iter().collect();
            assert_eq!(places, [0, 2].into(), "{other:?}");
        }
    }
}

#[test]
fn rings_of_groups_leave_room_for_histories() {
    let adaptive = |weight| WantedVip { flags: Vip::ADAPTIVE, ..pool(3, 61, weight) };
    let groups = (1..=2).map(|identity| WantedGroup { identity, ring_size: 31, members: BTreeMap::new() });
    let other = WantedVip { groups: groups.collect(), ..pool(2, 31, 1) };
    // 4 blocks for the first VIP and as many again, 3 for the other.
    let state = |weight| wanted([(0, adaptive(weight)), (1, other.clone())]);
    let lab = |ring_blocks| Lab::new(Capacity { ring_blocks, ..ROOMY });
    let short = lab(10).reach(&state(1), &[]).unwrap_err();
    assert!(matches!(short, PlanError::HistorySpace { needed: 11, places: 10, .. }), "{short}");
    let mut lab = lab(11);
    for weight in 1..5 {
        lab.reach(&state(weight), &[]).unwrap();
    }
}
