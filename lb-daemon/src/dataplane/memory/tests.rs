use lb_common::layout::{flow::FlowState, vip::TCP};

use super::*;
use crate::plan::RingDigest;

const SIZES: Capacity =
    Capacity { vips: 1, targets: 4, ring_blocks: 2, groups: 2, servers: 1, prefixes: 3, tunnel_sources: 1, own: 1 };
const KEY: VipKey = VipKey::service([1; 16], [0, 80], TCP);

fn ring(slots: &[u16]) -> Op {
    Op::WriteRing { base: 1, slots: slots.into() }
}

fn filled(id: u32) -> Op {
    Op::SetTarget { id, target: Target { vip: 1, serves: 1, ..Target::default() } }
}

fn vip(ring_slots: u32) -> Op {
    Op::SetVip {
        key: KEY,
        vip: Vip { id: 1, target_base: 2, target_count: 2, ring_base: 1, ring_slots, ..Vip::default() },
    }
}

fn code(result: Result<(), Error>) -> Option<i32> {
    match result {
        Err(Error::Table { source, .. }) => source.raw_os_error(),
        _ => None,
    }
}

#[test]
fn what_is_written_is_observed() {
    let mut memory = Memory::new(SIZES, 1);
    for op in [filled(2), filled(3), ring(&[0, 1, 1]), vip(3)] {
        memory.apply(&op).unwrap();
    }
    let state = memory.observe().unwrap();
    assert_eq!(state.capacity, SIZES);
    assert_eq!(state.targets.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(state.rings, [(1, digest(&[0, 1, 1]))].into());
    assert_eq!(state.vips[&KEY].id, 1);
    assert_eq!(memory.route(&KEY, 0).map(|(id, _)| id), Some(2));
    assert_eq!(memory.route(&KEY, 2).map(|(id, _)| id), Some(3));
    assert!(memory.route(&KEY, 3).is_none());
}

#[test]
fn a_vip_without_ring_has_no_digest() {
    let mut memory = Memory::new(SIZES, 1);
    memory.apply(&vip(0)).unwrap();
    assert_eq!(memory.observe().unwrap().rings, BTreeMap::<u32, RingDigest>::new());
}

#[test]
fn full_tables_refuse_as_the_kernel_does() {
    let mut memory = Memory::new(SIZES, 1);
    memory.apply(&vip(0)).unwrap();
    memory.apply(&vip(3)).unwrap();
    let other = VipKey { port: [0, 81], ..KEY };
    assert_eq!(code(memory.apply(&Op::SetVip { key: other, vip: Vip::default() })), Some(libc::E2BIG));
    assert_eq!(code(memory.apply(&filled(4))), Some(libc::E2BIG));
    assert_eq!(code(memory.apply(&Op::ClearCounters { id: 4 })), Some(libc::E2BIG));
    assert_eq!(code(memory.apply(&ring(&[0; 33]))), Some(libc::E2BIG));
    assert_eq!(code(memory.apply(&Op::RemoveVip { key: other })), Some(libc::ENOENT));
}

#[test]
fn the_op_asked_for_fails_once_and_without_effect() {
    let mut memory = Memory::new(SIZES, 1);
    memory.fail_after(1);
    memory.apply(&filled(1)).unwrap();
    assert!(matches!(memory.apply(&filled(2)), Err(Error::Injected(1))));
    assert_eq!(memory.observe().unwrap().targets.len(), 1);
    memory.apply(&filled(2)).unwrap();
    assert_eq!(memory.observe().unwrap().targets.len(), 2);
}

#[test]
fn flows_are_counted_swept_and_renumbered() {
    let mut memory = Memory::new(SIZES, 1);
    for (tag, target) in [(1, 1), (2, 2), (3, 3), (4, 3)] {
        assert!(memory.remember(0, FlowEntry::new(tag, target, 0, FlowState::Established)));
    }
    let sweep = Op::SweepFlows { forget: [1, 2].into(), renumber: [(3, 2), (2, 1)].into() };
    memory.apply(&sweep).unwrap();
    let flows = memory.flows(Liveness { now: 0, udp_idle: 7 }).unwrap();
    assert_eq!((flows.capacity, flows.live), (8, 2));
    assert_eq!(flows.by_target, [(2, 2)].into());
    assert_eq!(flows.by_state[FlowState::Established as usize], 2);
    let tags: Vec<u32> = memory.remembered().map(FlowEntry::tag).collect();
    assert_eq!(tags, [3, 4]);
}

#[test]
fn a_full_bucket_remembers_no_more() {
    let mut memory = Memory::new(SIZES, 1);
    let flow = FlowEntry::new(1, 1, 0, FlowState::HalfOpen);
    assert_eq!((0..10).filter(|_| memory.remember(0, flow)).count(), WAYS);
    assert!(!memory.remember(1, flow));
}

#[test]
fn counters_are_those_of_targets_in_use() {
    let mut memory = Memory::new(SIZES, 1);
    memory.apply(&filled(2)).unwrap();
    memory.target_counters(2).unwrap().packets = 5;
    memory.target_counters(3).unwrap().packets = 6;
    memory.verdict_counters(Verdict::NoBackend).unwrap().packets = 7;
    *memory.path_counter(PathEvent::Moved).unwrap() = 8;
    let counters = memory.counters().unwrap();
    assert_eq!(counters.targets.into_iter().map(|(id, of)| (id, of.packets)).collect::<Vec<_>>(), [(2, 5)]);
    assert_eq!(counters.verdicts[Verdict::NoBackend as usize].packets, 7);
    assert_eq!(counters.path[PathEvent::Moved as usize], 8);
    memory.apply(&Op::ClearCounters { id: 2 }).unwrap();
    assert_eq!(memory.counters().unwrap().targets[&2], TargetCounters::default());
}

#[test]
fn what_selects_backends_is_observed_and_refused_where_full() {
    use crate::plan::prefixes::Prefix;
    let mut memory = Memory::new(SIZES, 1);
    let group = Group { vip: 1, ring_base: 1, ring_slots: 3, reserved: 0, identity: 9 };
    let list = ListId { table: ListTable::Routes, vip: 1 };
    let prefixes = |from: u8, to: u8| {
        let entries = (from..to).map(|bits| (Prefix { address: [0; 16], bits }, 1));
        Arc::new(Prefixes::new(entries.collect()))
    };
    let set = |to: &Arc<Prefixes>| Op::SetList { list, to: Arc::clone(to) };
    let server = |id| Op::SetServer { key: ServerKey::new(1, id), target: 2 };
    let three = prefixes(0, 3);
    let tunnel = |byte| Op::SetTunnel { address: [byte; 16] };
    let bond = |member| Op::SetBond { member, bond: 9 };
    for op in [ring(&[0, 1, 1]), Op::SetGroup { id: 1, group }, server(1), set(&three), tunnel(1), bond(1)] {
        memory.apply(&op).unwrap();
    }
    let state = memory.observe().unwrap();
    assert_eq!((&state.groups, &state.rings), (&[(1, group)].into(), &[(1, digest(&[0, 1, 1]))].into()));
    assert_eq!(state.servers, [(ServerKey::new(1, 1), 2)].into());
    assert_eq!((&state.tunnels, &state.bonds), (&[[1; 16]].into(), &[(1, 9)].into()));
    assert!(Arc::ptr_eq(&state.lists[&list], &three));
    for op in [Op::SetGroup { id: 2, group }, server(2), tunnel(2), bond(2)] {
        assert_eq!(code(memory.apply(&op)), Some(libc::E2BIG), "{op:?}");
    }
    // The old list and the new one must both find room.
    assert_eq!(code(memory.apply(&set(&prefixes(2, 4)))), Some(libc::ENOSPC));
    memory.apply(&set(&prefixes(1, 2))).unwrap();
    memory.apply(&set(&prefixes(2, 4))).unwrap();
    let key = ServerKey::new(1, 1);
    for op in [Op::RemoveServer { key }, Op::RemoveTunnel { address: [1; 16] }, Op::RemoveBond { member: 1 }] {
        memory.apply(&op).unwrap();
        assert_eq!(code(memory.apply(&op)), Some(libc::ENOENT), "{op:?}");
    }
    memory.apply(&Op::SetGroup { id: 1, group: Group::default() }).unwrap();
    memory.apply(&set(&Arc::default())).unwrap();
    assert_eq!(memory.observe().unwrap(), Memory::new(SIZES, 1).observe().unwrap());
}
