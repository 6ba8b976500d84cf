//! What a plan looks like in each case, by name.

use lb_common::layout::prefix::Group;

use super::*;

fn backend(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

fn vip(backends: &[(u8, WantedTarget)]) -> WantedVip {
    let backends = backends.iter().map(|(number, wanted)| (backend(*number), *wanted)).collect();
    WantedVip { ring_size: 31, backends, ..WantedVip::default() }
}

fn one_vip(backends: &[(u8, WantedTarget)]) -> Wanted {
    Wanted { vips: [(key(0), vip(backends))].into(), ..Wanted::default() }
}

fn serving_all(backends: std::ops::RangeInclusive<u8>) -> Wanted {
    one_vip(&backends.map(|number| (number, serving(1))).collect::<Vec<_>>())
}

fn drained(target: WantedTarget) -> WantedTarget {
    WantedTarget { disposition: Disposition::Draining, ..target }
}

fn down(target: WantedTarget) -> WantedTarget {
    WantedTarget { disposition: Disposition::Down, ..target }
}

/// The ops that lead from one state to the other, in words.
fn words(from: &Wanted, to: &Wanted) -> Vec<String> {
    let mut lab = Lab::new(ROOMY);
    lab.reach(from, &[]).unwrap();
    words_to(&mut lab, to)
}

fn words_to(lab: &mut Lab, to: &Wanted) -> Vec<String> {
    let ops = plan(&lab.memory.observe().unwrap(), to, &mut RingCache::default()).unwrap();
    lab.reach(to, &[]).unwrap();
    check_reached(lab, to);
    ops.iter().map(word).collect()
}

/// A VIP of eight backends that fill its range, having begun with few.
fn full_range(capacity: Capacity) -> Lab {
    let mut lab = Lab::new(capacity);
    lab.reach(&serving_all(1..=5), &[]).unwrap();
    lab.reach(&serving_all(1..=8), &[]).unwrap();
    lab
}

fn word(op: &Op) -> String {
    match op {
        Op::SetTarget { id, target } if target.is_free() => format!("free {id}"),
        Op::SetTarget { id, target } => {
            let flags = match target.flags {
                Target::DRAINING => " draining",
                Target::GONE => " gone",
                _ => "",
            };
            format!("target {id} serves {}{flags}", target.serves)
        }
        Op::ClearCounters { id } => format!("clear {id}"),
        Op::WriteRing { base, slots } => format!("ring of {} at {base}", slots.len()),
        Op::WriteHistory { after, remembers_all, gone, .. } => {
            format!("history at {} without {gone:?}, all remembered: {remembers_all}", after.history_base)
        }
        Op::Disown { vip, gone } => format!("history at {} without {gone:?}", vip.history_base),
        Op::SetVip { key, .. } if key.is_address() => "address".into(),
        Op::SetVip { vip, .. } => {
            format!(
                "vip {} targets {}+{} ring {}+{}",
                vip.id, vip.target_base, vip.target_count, vip.ring_base, vip.ring_slots
            )
        }
        Op::RemoveVip { key } if key.is_address() => "remove address".into(),
        Op::RemoveVip { .. } => "remove vip".into(),
        Op::Grace => "grace".into(),
        Op::SweepFlows { forget, renumber } => format!("forget {forget:?} renumber {renumber:?}"),
        Op::SetGroup { id, group: Group { vip: 0, .. } } => format!("free group {id}"),
        Op::SetGroup { id, group } => format!("group {id} ring {}+{}", group.ring_base, group.ring_slots),
        Op::SetServer { key, target } => format!("server {} of {} is {target}", key.id(), key.vip),
        Op::RemoveServer { key } => format!("remove server {} of {}", key.id(), key.vip),
        Op::SetList { list, to } => format!("{} of {}: {}", list.table.name(), list.vip, to.len()),
        Op::SetTunnel { .. } => "tunnel".into(),
        Op::RemoveTunnel { .. } => "remove tunnel".into(),
        Op::SetBond { member, bond } => format!("{member} is in {bond}"),
        Op::RemoveBond { member } => format!("{member} is in none"),
    }
}

#[test]
fn a_first_plan_fills_targets_then_the_ring_then_the_vip() {
    let wanted = one_vip(&[(1, serving(1)), (2, drained(serving(1))), (3, down(serving(1)))]);
    assert_eq!(
        words(&Wanted::default(), &wanted),
        [
            "target 1 serves 1",
            "target 2 serves 1 draining",
            "target 3 serves 0",
            "address",
            "ring of 31 at 0",
            "vip 1 targets 1+8 ring 0+31",
        ]
    );
}

#[test]
fn a_backend_that_goes_down_leaves_the_ring_and_keeps_its_number() {
    let lost = one_vip(&[(1, serving(1)), (2, down(serving(1)))]);
    assert_eq!(
        words(&serving_all(1..=2), &lost),
        ["ring of 31 at 1", "vip 1 targets 1+8 ring 1+31", "target 2 serves 0", "grace"]
    );
    assert_eq!(
        words(&lost, &serving_all(1..=2)),
        ["target 2 serves 1", "ring of 31 at 1", "vip 1 targets 1+8 ring 1+31", "grace"]
    );
}

#[test]
fn without_a_serving_backend_there_is_no_ring() {
    let none = one_vip(&[(1, down(serving(1))), (2, drained(serving(1)))]);
    assert_eq!(
        words(&serving_all(1..=2), &none),
        ["vip 1 targets 1+8 ring 0+0", "target 1 serves 0", "target 2 serves 1 draining", "grace"]
    );
}

#[test]
fn a_new_way_is_one_write() {
    let moved = one_vip(&[(1, serving(1)), (2, WantedTarget { next_hop: Some(hop(9000)), ..serving(1) })]);
    assert_eq!(words(&serving_all(1..=2), &moved), ["target 2 serves 1"]);
}

#[test]
fn a_lost_way_takes_the_backend_down_and_stays_written() {
    let mut lab = Lab::new(ROOMY);
    lab.reach(&serving_all(1..=2), &[]).unwrap();
    lab.reach(&one_vip(&[(1, serving(1)), (2, WantedTarget { next_hop: None, ..serving(1) })]), &[]).unwrap();
    let target = lab.memory.observe().unwrap().targets[&2];
    assert_eq!((target.serves, target.vip, target.next_hop, target.mtu), (0, 1, [4; 6], 1480));
}

#[test]
fn a_new_weight_writes_the_ring_alone() {
    let heavier = one_vip(&[(1, serving(1)), (2, serving(5))]);
    assert_eq!(words(&serving_all(1..=2), &heavier), ["ring of 31 at 1", "vip 1 targets 1+8 ring 1+31", "grace"]);
}

#[test]
fn a_removed_backend_is_forgotten_before_its_number_is_free() {
    assert_eq!(
        words(&serving_all(1..=2), &serving_all(1..=1)),
        [
            "ring of 31 at 1",
            "vip 1 targets 1+8 ring 1+31",
            "target 2 serves 0 gone",
            "grace",
            "forget {2} renumber {}",
            "clear 2",
            "free 2",
            "grace",
        ]
    );
}

#[test]
fn a_replaced_backend_does_not_get_the_number_of_its_predecessor() {
    let words = words(&serving_all(1..=2), &serving_all(2..=3));
    assert_eq!(words[0], "target 3 serves 1");
    assert!(words.contains(&"free 1".into()));
}

#[test]
fn a_full_range_moves_and_its_flows_with_it() {
    let words = words_to(&mut full_range(ROOMY), &serving_all(1..=9));
    assert_eq!(words[0], "target 9 serves 1");
    let switch = words.iter().position(|word| word == "vip 1 targets 9+16 ring 0+31").unwrap();
    let sweep = "forget {} renumber {1: 9, 2: 10, 3: 11, 4: 12, 5: 13, 6: 14, 7: 15, 8: 16}";
    // Twice: a packet may have rewritten an entry under its old number during the first.
    assert_eq!(words[switch + 1..=switch + 4], ["grace", sweep, "grace", sweep]);
    assert_eq!(words[switch + 5..=switch + 6], ["clear 1", "free 1"]);
    assert_eq!(words.last().unwrap(), "grace");
}

#[test]
fn a_removed_vip_takes_its_address_along_unless_another_service_has_it() {
    let web = (key(0), vip(&[(1, serving(1))]));
    let both = Wanted { vips: [web.clone(), (key(1), vip(&[(1, serving(1))]))].into(), ..Wanted::default() };
    let one = Wanted { vips: [web].into(), ..Wanted::default() };
    let end = ["grace", "forget {9} renumber {}", "clear 9", "free 9", "grace"];
    assert_eq!(words(&both, &one), [&["remove vip", "target 9 serves 0 gone"][..], &end].concat());
    let end = ["grace", "forget {1} renumber {}", "clear 1", "free 1", "grace"];
    assert_eq!(
        words(&one, &Wanted::default()),
        [&["remove vip", "remove address", "target 1 serves 0 gone"][..], &end].concat()
    );
}

#[test]
fn a_backend_that_returns_before_it_was_freed_keeps_number_and_flows() {
    let mut lab = Lab::new(ROOMY);
    lab.reach(&serving_all(1..=2), &[]).unwrap();
    lab.attempt(&serving_all(1..=1), Some(4)).unwrap();
    assert_eq!(lab.memory.observe().unwrap().targets[&2].flags, Target::GONE);
    lab.reach(&serving_all(1..=2), &[]).unwrap();
    check_reached(&mut lab, &serving_all(1..=2));
    assert_eq!(lab.memory.observe().unwrap().targets[&2].serves, 1);
}

#[test]
fn rings_wait_for_each_other_where_room_is_short() {
    let pool = |weight| vip(&[(1, serving(1)), (2, serving(weight))]);
    let vips =
        |weight| Wanted { vips: (0..3).map(|number| (key(number), pool(weight))).collect(), ..Wanted::default() };
    let mut lab = Lab::new(Capacity { ring_blocks: 4, ..ROOMY });
    lab.reach(&vips(1), &[]).unwrap();
    let ops = plan(&lab.memory.observe().unwrap(), &vips(2), &mut RingCache::default()).unwrap();
    let writes: Vec<String> = ops.iter().map(word).filter(|word| !word.starts_with("vip")).collect();
    let expected = ["ring of 31 at 3", "grace", "ring of 31 at 0", "grace", "ring of 31 at 1", "grace"];
    assert_eq!(writes, expected);
    lab.reach(&vips(2), &[]).unwrap();
    check_reached(&mut lab, &vips(2));
}

#[test]
fn what_leaves_is_freed_first_where_targets_are_short() {
    let other = Wanted { vips: [(key(2), vip(&[(1, serving(1)), (2, serving(1))]))].into(), ..Wanted::default() };
    let first_fill =
        |words: &[String]| words.iter().position(|word| word.starts_with("target") && !word.ends_with("gone"));
    let sweep = |words: &[String]| words.iter().position(|word| word.starts_with("forget"));
    let roomy = words_to(&mut full_range(ROOMY), &other);
    assert!(first_fill(&roomy) < sweep(&roomy), "{roomy:?}");
    let tight = words_to(&mut full_range(Capacity { targets: 10, ..ROOMY }), &other);
    assert!(sweep(&tight) < first_fill(&tight), "{tight:?}");
}

#[test]
fn a_move_cut_short_leads_flows_on_to_the_next_range() {
    let mut lab = full_range(ROOMY);
    let ops = plan(&lab.memory.observe().unwrap(), &serving_all(1..=9), &mut RingCache::default()).unwrap();
    let switch = ops.iter().position(|op| matches!(op, Op::SetVip { .. })).unwrap();
    lab.attempt(&serving_all(1..=9), Some(switch + 1)).unwrap();
    let again = plan(&lab.memory.observe().unwrap(), &serving_all(1..=17), &mut RingCache::default()).unwrap();
    let sweep = again.iter().find_map(|op| match op {
        Op::SweepFlows { renumber, .. } => Some(renumber.clone()),
        _ => None,
    });
    // Targets 1 to 8 are left from before the first move, 9 to 17 from before the second.
    let expected = (1..=8).map(|id| (id, id + 24)).chain((9..=17).map(|id| (id, id + 16)));
    assert_eq!(sweep, Some(expected.collect()));
    lab.reach(&serving_all(1..=17), &[]).unwrap();
    check_reached(&mut lab, &serving_all(1..=17));
}

/// Why `wanted` has no plan on tables of this size that hold one VIP already.
fn refusal(capacity: Capacity, wanted: &Wanted) -> String {
    let mut lab = Lab::new(capacity);
    lab.reach(&serving_all(1..=2), &[]).unwrap();
    plan(&lab.memory.observe().unwrap(), wanted, &mut RingCache::default()).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_is_refused_with_the_figures() {
    let two = |ring_size| {
        let more = WantedVip { ring_size, ..vip(&[(1, serving(1))]) };
        Wanted {
            vips: [(key(0), vip(&[(1, serving(1)), (2, serving(1))])), (key(2), more)].into(),
            ..Wanted::default()
        }
    };
    assert_eq!(
        refusal(Capacity { vips: 3, ..ROOMY }, &two(31)),
        format!("the configuration takes 4 entries for VIPs and their addresses, the table holds 3")
    );
    assert_eq!(
        refusal(Capacity { targets: 9, ..ROOMY }, &two(31)),
        format!(
            "192.0.2.1:2 tcp needs 1 places in a row for its targets; of the table's 8, 0 are free, 0 in a row at most"
        )
    );
    assert_eq!(
        refusal(Capacity { ring_blocks: 2, ..ROOMY }, &two(61)),
        format!(
            "the new ring of 192.0.2.1:2 tcp needs 2 blocks in a row; of the table's 2, 1 are free, \
             1 in a row at most"
        )
    );
    let crowd = (0..65_536).map(|number| (Ipv4Addr::from_bits(number).into(), serving(1))).collect();
    let crowded = Wanted {
        vips: [(key(0), WantedVip { ring_size: 31, backends: crowd, ..WantedVip::default() })].into(),
        ..Wanted::default()
    };
    assert_eq!(
        refusal(ROOMY, &crowded),
        "192.0.2.0 tcp has 65536 backends, the limit is 65535; spread them over several VIPs"
    );
}

#[test]
fn needs_leave_room_to_grow() {
    let least = Capacity {
        groups: 256,
        servers: 4096,
        prefixes: 4_194_304,
        tunnel_sources: 4096,
        own: 256,
        ..Capacity::default()
    };
    assert_eq!(needs(&Wanted::default()), Capacity { vips: 64, targets: 4097, ring_blocks: 16 * 2049, ..least });
    let vips = |count: u16, ring_size| {
        let vip = |number: u16| {
            let backends = (0..100).map(|number| (backend(number), serving(1))).collect();
            (
                VipKey::service([1; 16], number.to_be_bytes(), TCP),
                WantedVip { ring_size, backends, ..WantedVip::default() },
            )
        };
        Wanted { vips: (0..count).map(vip).collect(), ..Wanted::default() }
    };
    // 1,000 services on one address; ranges of 256 for 100 backends.
    let large = Capacity { vips: 2048, targets: 524_289, ring_blocks: 2_049_000 + 512_250, ..least };
    assert_eq!(needs(&vips(1000, 65_537)), large);
    let huge_ring = needs(&vips(1, 6_553_577));
    assert_eq!(huge_ring.ring_blocks, 2 * blocks(6_553_577));
    assert_eq!(needs(&vips(4096, 31)).targets, MAX_TARGETS);
}
