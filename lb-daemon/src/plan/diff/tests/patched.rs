//! Plans for some VIPs beside plans for all.

use super::*;
use crate::plan::patch::patch;

/// The VIPs of `wanted` that `other` has too, with the backends that they have there, and all else as it is; so backends
/// that groups or server IDs name stay in any case.
fn changed(wanted: &Wanted, other: &Wanted) -> BTreeMap<VipKey, WantedVip> {
    let both = wanted.vips.iter().filter_map(|(key, vip)| Some((key, vip, other.vips.get(key)?)));
    let changed = |(key, vip, other): (&VipKey, &WantedVip, &WantedVip)| {
        let named = |address: &IpAddr| {
            vip.groups.iter().any(|group| group.members.contains_key(address))
                || vip.servers.values().any(|server| server == address)
        };
        let mut backends = vip.backends.clone();
        backends.retain(|address, _| named(address));
        backends.extend(other.backends.clone());
        (*key, WantedVip { backends, ..vip.clone() })
    };
    both.map(changed).collect()
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_patch_leads_where_a_plan_does(first in chosen::any_wanted(), changes in prop::collection::vec(any_wanted(), 1..4)) {
        let mut lab = Lab::new(ROOMY);
        let mut wanted = first;
        lab.reach(&wanted, &[]).unwrap();
        for change in changes {
            let vips = changed(&wanted, &change);
            let part = Wanted { vips: vips.clone(), ..wanted.clone() };
            wanted.vips.extend(vips);
            if lab.patch(&part) {
                check_reached(&mut lab, &wanted);
            } else {
                lab.reach(&wanted, &[]).unwrap();
            }
        }
    }
}

fn one_of_two() -> (Lab, Wanted, VipKey) {
    let vip = |last| WantedVip {
        ring_size: 31,
        backends: (1..=last).map(|number| (address(number), serving(1))).collect(),
        ..WantedVip::default()
    };
    let wanted = Wanted { vips: [(key(0), vip(3)), (key(2), vip(5))].into(), ..Wanted::default() };
    let mut lab = Lab::new(ROOMY);
    lab.reach(&wanted, &[]).unwrap();
    let part = wanted.vips.iter().filter(|(other, _)| **other == key(2)).map(|(key, vip)| (*key, vip.clone()));
    let part = Wanted { vips: part.collect(), ..Wanted::default() };
    (lab, part, key(2))
}

fn ops(lab: &mut Lab, part: &Wanted) -> Option<Vec<Op>> {
    patch(&lab.memory.observe().unwrap(), part, &mut RingCache::default())
}

#[test]
fn a_weight_takes_a_ring_and_a_vip() {
    let (mut lab, mut part, key) = one_of_two();
    assert_eq!(ops(&mut lab, &part), Some(vec![]));
    part.vips.get_mut(&key).unwrap().backends.get_mut(&address(1)).unwrap().weight = 9;
    let ops = ops(&mut lab, &part).unwrap();
    assert!(matches!(&ops[..], [Op::WriteRing { .. }, Op::SetVip { .. }, Op::Grace]), "{ops:?}");
}

#[test]
fn backends_come_and_go_within_their_range() {
    let (mut lab, mut part, key) = one_of_two();
    let backends = &mut part.vips.get_mut(&key).unwrap().backends;
    backends.remove(&address(1));
    backends.insert(address(9), serving(2));
    assert!(lab.patch(&part));
    assert_eq!(ops(&mut lab, &part), Some(vec![]));
}

#[test]
fn what_needs_other_places_is_left_to_a_plan() {
    let (mut lab, part, key) = one_of_two();
    let mut moves = part.clone();
    moves.vips.get_mut(&key).unwrap().backends = (1..40).map(|number| (address(number), serving(1))).collect();
    assert_eq!(ops(&mut lab, &moves), None, "its range is too small");
    let mut comes = part.clone();
    comes.vips.insert(super::key(5), WantedVip { ring_size: 7, ..WantedVip::default() });
    assert_eq!(ops(&mut lab, &comes), None, "it is new");
    let mut served = part;
    served.vips.get_mut(&key).unwrap().servers = [(1, address(1))].into();
    assert_eq!(ops(&mut lab, &served), None, "others have server IDs in the same table");
}
