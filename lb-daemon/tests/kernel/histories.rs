//! Histories of rings in the kernel's tables.

use std::{collections::BTreeSet, sync::Arc};

use lb_common::layout::{
    ring::UNTRACKED,
    vip::{TCP, Vip, VipKey, mapped},
};
use lb_daemon::{dataplane::Dataplane, plan::Op};

use super::place::Place;

#[test]
fn a_history_is_made_of_the_rings_in_the_tables_and_changed_in_place() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    let rings: [Arc<[u16]>; 2] = [(0..67).map(|slot| slot % 3).collect(), (0..67).map(|slot| slot % 2).collect()];
    let key = VipKey::service(mapped([192, 0, 2, 10]), 443_u16.to_be_bytes(), TCP);
    let before = Vip { id: 1, flags: Vip::ADAPTIVE, ring_base: 1, ring_slots: 67, ..Vip::default() };
    let after = Vip { flags: Vip::ADAPTIVE | Vip::HISTORY, ring_base: 4, history_base: 7, ..before };
    let [old, new] = rings;
    for op in [
        Op::WriteRing { base: 1, slots: Arc::clone(&old) },
        Op::SetVip { key, vip: before },
        Op::WriteRing { base: 4, slots: Arc::clone(&new) },
        Op::WriteHistory { before, after, remembers_all: false, gone: BTreeSet::new() },
        Op::SetVip { key, vip: after },
    ] {
        kernel.apply(&op).unwrap();
    }
    let changed = |(old, new): (&u16, &u16)| if old == new { UNTRACKED } else { *old };
    let mut expected: Vec<u16> = old.iter().zip(new.iter()).map(changed).collect();
    assert_eq!(kernel.history(&after), expected);
    let tracked = expected.iter().filter(|slot| **slot != UNTRACKED).count();
    assert_eq!(kernel.observe().unwrap().histories, [(7, u32::try_from(tracked).unwrap())].into());

    kernel.apply(&Op::Disown { vip: after, gone: BTreeSet::from([2]) }).unwrap();
    expected.iter_mut().zip(new.iter()).filter(|(slot, _)| **slot == 2).for_each(|(slot, now)| *slot = *now);
    assert_eq!(kernel.history(&after), expected);
    kernel.write_slots(7, &[(0, 9), (33, 8), (66, UNTRACKED)]).unwrap();
    (expected[0], expected[33], expected[66]) = (9, 8, UNTRACKED);
    assert_eq!(kernel.history(&after), expected);
    assert_eq!(kernel.ring_in_force(&after), new[..], "beside it nothing changed");
    assert!(kernel.ring(&Vip { flags: after.flags | Vip::CLOSED, ..after }).is_empty());
    assert!(kernel.write_slots(u32::MAX, &[(0, 1)]).is_err());
}
