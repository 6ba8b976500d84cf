//! What a preview says of a plan, against what the plan does.

use std::cell::RefCell;

use super::{lab::Lab, *};
use crate::{
    config,
    dataplane::{FlowCount, flows::Liveness},
    plan::{
        lists::Lists,
        preview::{Input, Preview, ReadRing, Side, VipChange, preview},
        wanted::service,
    },
};

/// By which all flows of these tests go on.
const RULE: Liveness = Liveness { now: 0, udp_idle: 7 };

/// What is said of these ops, of tables without names.
fn said(ring: ReadRing, state: &State, ops: &[Op], flows: &FlowCount) -> Preview {
    let config = config::parse("", "lb.toml").unwrap();
    let new = Side { config: &config, lists: &Lists::default() };
    preview(&Input { state, ops, ring, flows: &flows.live_by_target, old: None, new })
}

/// Where each slot of a ring of a VIP leads.
fn leads(memory: &Memory, state: &State, vip: &Vip, base: u32, slots: u32) -> Vec<[u8; 16]> {
    let target = |place: u16| state.targets[&(vip.target_base + u32::from(place))].outer_destination;
    memory.slots_at(base, slots).map(target).collect()
}

/// Slots that lead elsewhere, found by trying every part of the space of hashes.
fn moved(before: &[[u8; 16]], after: &[[u8; 16]]) -> u64 {
    let (old, new) = (before.len(), after.len());
    if new == 0 {
        return old as u64;
    }
    let differs = |part: &usize| before[part / new] != after[part / old];
    ((0..old * new).filter(differs).count() as u64).div_ceil(new as u64)
}

/// A key's VIP by the tables, with the slots that leave it: of its own ring, and of groups.
fn moved_of(key: &VipKey, then: (&Memory, &State), now: (&Memory, &State)) -> u64 {
    let Some(old) = then.1.vips.get(key) else { return 0 };
    let new = now.1.vips.get(key);
    let ring =
        |(memory, state): (&Memory, &State), vip: &Vip| leads(memory, state, vip, vip.ring_base, vip.open_slots());
    let own_after = new.map(|new| ring(now, new)).unwrap_or_default();
    let groups = then.1.groups.values().filter(|group| group.vip == old.id).map(|group| {
        let before = leads(then.0, then.1, old, group.ring_base, group.ring_slots);
        let same = now.1.groups.values().find(|other| (other.vip, other.identity) == (group.vip, group.identity));
        let after = match (same, new) {
            (Some(same), Some(new)) => leads(now.0, now.1, new, same.ring_base, same.ring_slots),
            _ => own_after.clone(),
        };
        moved(&before, &after)
    });
    moved(&ring(then, old), &own_after) + groups.sum::<u64>()
}

fn check_shares(said: &VipChange, key: &VipKey, now: (&Memory, &State)) {
    let slots = now.1.vips.get(key).map(|vip| leads(now.0, now.1, vip, vip.ring_base, vip.open_slots()));
    let slots = slots.unwrap_or_default();
    for backend in &said.backends {
        let address = crate::plan::target::address_bytes(backend.address.unwrap());
        let count = |number: usize| f64::from(u32::try_from(number).unwrap());
        let own = count(slots.iter().filter(|lead| **lead == address).count());
        assert!((backend.share_after * count(slots.len()) - own).abs() < 1e-6, "{backend:?}");
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_preview_says_what_the_ops_do(first in chosen::any_wanted(), second in chosen::any_wanted()) {
        let mut lab = Lab::new(ROOMY);
        lab.reach(&first, &[]).unwrap();
        let mut then = lab.memory.clone();
        let state = then.observe().unwrap();
        let ops = plan(&state, &second, &mut RingCache::default()).unwrap();
        let ring = |base, slots| then.slots_at(base, slots).collect();
        let said = said(&ring, &state, &ops, &then.clone().flows(RULE).unwrap());
        let mut now = then.clone();
        for op in &ops {
            now.apply(op).unwrap();
        }
        let reached = now.observe().unwrap();

        prop_assert_eq!(said.differs, !ops.is_empty());
        let services: BTreeSet<VipKey> =
            state.vips.keys().chain(reached.vips.keys()).filter(|key| !key.is_address()).copied().collect();
        let mut sum = 0;
        for key in &services {
            let moved = moved_of(key, (&then, &state), (&now, &reached));
            let name = service(key).unwrap().to_string();
            let vip = said.vips.iter().find(|vip| vip.name == name);
            prop_assert_eq!(vip.map_or(0, |vip| vip.slots.moved), moved, "{}", name);
            if let Some(vip) = vip {
                check_shares(vip, key, (&now, &reached));
            }
            sum += moved;
        }
        prop_assert_eq!(said.slots.moved, sum);

        let serves = |state: &State, id: u32| state.targets.get(&id).filter(|target| target.serves != 0).copied();
        let after: BTreeMap<u32, u32> = now.remembered().map(|entry| (entry.tag(), entry.target())).collect();
        let backend = |target: Target| (target.vip, target.outer_destination);
        let loses = |entry: &lb_common::layout::flow::FlowEntry| {
            let had = serves(&state, entry.target()).map(backend);
            let has = after.get(&entry.tag()).and_then(|id| serves(&reached, *id)).map(backend);
            had.is_some() && had != has
        };
        let lost = then.remembered().filter(loses).count() as u64;
        prop_assert_eq!((said.flows.moved, said.flows.total), (lost, then.remembered().count() as u64));
        let of_vips: u64 = said.vips.iter().map(|vip| vip.flows.moved).sum();
        prop_assert_eq!(of_vips, lost);
    }

    #[test]
    fn rings_that_stay_are_not_read(wanted in chosen::any_wanted()) {
        let mut lab = Lab::new(ROOMY);
        lab.reach(&wanted, &[]).unwrap();
        let state = lab.memory.observe().unwrap();
        let read = RefCell::new(Vec::new());
        let ring = |base, slots| {
            read.borrow_mut().push(base);
            lab.memory.slots_at(base, slots).collect()
        };
        let said = said(&ring, &state, &[], &FlowCount::default());
        prop_assert!(!said.differs);
        prop_assert_eq!(read.take(), Vec::<u32>::new());
    }
}
