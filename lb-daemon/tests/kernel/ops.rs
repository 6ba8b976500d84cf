//! Each op, read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::Arc,
};

use lb_common::{
    layout::{
        prefix::Group,
        server::ServerKey,
        target::Target,
        vip::{TCP, Vip, VipKey, mapped},
    },
    verdict::Verdict,
};
use lb_daemon::{
    dataplane::{
        Dataplane,
        flows::{self, Liveness},
    },
    plan::{
        self, ListId, ListTable, Op,
        prefixes::{Prefix, Prefixes},
    },
};

use super::place::{CAPACITY, FLOW_ENTRIES, Place, chain};

fn target(vip: u32, last: u8) -> Target {
    Target {
        serves: vip,
        vip,
        flags: Target::DRAINING,
        encap: 1,
        outer_destination: mapped([10, 0, 0, last]),
        next_hop: [2, 0, 0, 0, 0, last],
        source_mac: [2, 0, 0, 0, 1, last],
        ifindex: 77,
        checksum: 0x1234,
        mtu: 1480,
        tags: [[0; 4]; 2],
    }
}

fn key(last: u8) -> VipKey {
    VipKey::service(mapped([192, 0, 2, last]), 443_u16.to_be_bytes(), TCP)
}

#[test]
fn reads_back_what_it_wrote() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    // 257 is prime and no multiple of a block's 32 slots.
    let slots: Arc<[u16]> = (0..257).map(|slot| slot * 7 % 3).collect();
    let vip = Vip { id: 1, target_base: 1, target_count: 3, ring_base: 4, ring_slots: 257, ..Vip::default() };
    let ops = [
        Op::SetTarget { id: 1, target: target(1, 11) },
        Op::SetTarget { id: 63, target: target(1, 12) },
        Op::WriteRing { base: 4, slots: Arc::clone(&slots) },
        Op::SetVip { key: key(1), vip },
        Op::SetVip { key: VipKey::address(mapped([192, 0, 2, 1]), 1), vip: Vip::default() },
        Op::Grace,
    ];
    for op in &ops {
        kernel.apply(op).unwrap();
    }
    let state = kernel.observe().unwrap();
    assert_eq!(state.targets, BTreeMap::from([(1, target(1, 11)), (63, target(1, 12))]));
    assert_eq!(state.vips[&key(1)], vip);
    assert_eq!(state.vips.len(), 2);
    assert_eq!(state.rings, BTreeMap::from([(4, plan::digest(&slots))]));
    assert_eq!(state.capacity, CAPACITY);

    // A second process sees the same, and so does whoever looks at the maps themselves.
    drop(kernel);
    let mut kernel = place.open();
    assert_eq!(kernel.observe().unwrap(), state);
    let element = dump(&place, "TARGETS", 1);
    assert_eq!(element[32..38], [2, 0, 0, 0, 0, 11]);

    kernel.apply(&Op::RemoveVip { key: key(1) }).unwrap();
    assert!(kernel.apply(&Op::RemoveVip { key: key(1) }).is_err(), "it is gone already");
    kernel.apply(&Op::SetTarget { id: 63, target: Target::default() }).unwrap();
    kernel.apply(&Op::SetTarget { id: 1, target: target(2, 13) }).unwrap();
    let state = kernel.observe().unwrap();
    assert_eq!(state.targets, BTreeMap::from([(1, target(2, 13))]));
    assert_eq!(state.vips.len(), 1);
    assert!(state.rings.is_empty());
}

#[test]
fn reads_back_what_selects_backends() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    let prefix = |last, bits| Prefix { address: mapped([10, 0, 0, last]), bits: 96_u8 + bits };
    let list = |table, vip| ListId { table, vip };
    let routes = Arc::new(Prefixes::new(vec![(prefix(0, 24), 3), (prefix(0, 25), 0), (prefix(128, 25), 3)]));
    let access = Arc::new(Prefixes::new(vec![(Prefix::ALL, 2), (prefix(7, 32), 1)]));
    let group = Group { vip: 1, ring_base: 4, ring_slots: 33, reserved: 0, identity: 77 };
    let slots: Arc<[u16]> = (0..33).collect();
    let server = ServerKey::new(1, 0x1234 << 64 | 5);
    let prefixed = VipKey::service(mapped([192, 0, 2, 0]), [1, 187], TCP).prefix(8);
    let vip = Vip { id: 1, target_base: 1, target_count: 3, wildcard_bits: 8, ..Vip::default() };
    for op in [
        Op::WriteRing { base: 4, slots: Arc::clone(&slots) },
        Op::SetGroup { id: 3, group },
        Op::SetServer { key: server, target: 2 },
        Op::SetList { list: list(ListTable::Routes, 1), to: Arc::clone(&routes) },
        Op::SetList { list: list(ListTable::Access, 0), to: Arc::clone(&access) },
        Op::SetList { list: list(ListTable::Access, 1), to: Arc::clone(&access) },
        Op::SetList { list: list(ListTable::TunnelSources, 0), to: Arc::clone(&access) },
        Op::SetTunnel { address: mapped([10, 9, 9, 9]) },
        Op::SetBond { member: 4, bond: 9 },
        Op::SetVip { key: prefixed, vip },
    ] {
        kernel.apply(&op).unwrap();
    }
    // What was written is known; a second process has to read it.
    for mut kernel in [kernel].into_iter().chain(std::iter::once_with(|| place.open())) {
        let state = kernel.observe().unwrap();
        assert_eq!(state.vips, BTreeMap::from([(prefixed, vip)]));
        assert_eq!((state.groups, state.rings), ([(3, group)].into(), [(4, plan::digest(&slots))].into()));
        assert_eq!(state.servers, BTreeMap::from([(server, 2)]));
        assert_eq!(state.tunnels, BTreeSet::from([mapped([10, 9, 9, 9])]));
        assert_eq!(state.bonds, BTreeMap::from([(4, 9)]));
        let tables =
            [(ListTable::Access, 0), (ListTable::Access, 1), (ListTable::Routes, 1), (ListTable::TunnelSources, 0)];
        assert!(state.lists.keys().copied().eq(tables.map(|(table, vip)| list(table, vip))));
        assert_eq!(state.lists[&list(ListTable::Routes, 1)], routes);
        assert_eq!(state.lists[&list(ListTable::Access, 1)], access);
    }
}

#[test]
fn a_list_that_could_not_be_written_whole_is_read_again() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    let list = ListId { table: ListTable::Access, vip: 0 };
    let long = |count: u8| {
        let entry = |last| (Prefix { address: mapped([10, 0, 0, last]), bits: 128 }, 1);
        Arc::new(Prefixes::new((0..count).map(entry).collect()))
    };
    assert!(kernel.apply(&Op::SetList { list, to: long(65) }).is_err(), "the table holds 64");
    assert_eq!(kernel.observe().unwrap().lists[&list].len(), 64, "what was written before it was full");
    kernel.apply(&Op::SetList { list, to: long(2) }).unwrap();
    assert_eq!(kernel.observe().unwrap().lists[&list], long(2));
    kernel.apply(&Op::SetList { list, to: Arc::default() }).unwrap();
    assert_eq!(kernel.observe().unwrap().lists, BTreeMap::new());
}

#[test]
fn refuses_what_lies_outside_of_the_tables() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    let before = kernel.observe().unwrap();
    let beyond = [
        Op::SetTarget { id: CAPACITY.targets, target: target(1, 1) },
        Op::SetTarget { id: u32::MAX, target: target(1, 1) },
        Op::ClearCounters { id: CAPACITY.targets },
        Op::SetGroup { id: CAPACITY.groups, group: Group { vip: 1, ..Group::default() } },
        Op::RemoveServer { key: ServerKey::new(1, 1) },
        Op::RemoveTunnel { address: [1; 16] },
        Op::RemoveBond { member: 1 },
        Op::WriteRing { base: CAPACITY.ring_blocks - 1, slots: vec![0; 33].into() },
        Op::WriteRing { base: u32::MAX, slots: vec![0; 1].into() },
    ];
    for op in &beyond {
        assert!(kernel.apply(op).is_err(), "{op:?}");
    }
    // Twice as many as it promises: a change needs a record beside the one in force.
    let most = u8::try_from(CAPACITY.vips * 2).unwrap();
    for last in 0..most {
        kernel.apply(&Op::SetVip { key: key(last), vip: Vip::default() }).unwrap();
    }
    let error = kernel.apply(&Op::SetVip { key: key(most), vip: Vip::default() }).unwrap_err();
    assert!(chain(&error).contains("no place left"), "{}", chain(&error));
    for last in 0..most {
        kernel.apply(&Op::RemoveVip { key: key(last) }).unwrap();
    }
    assert_eq!(kernel.observe().unwrap(), before);
}

#[test]
fn sums_and_clears_counters() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    kernel.apply(&Op::SetTarget { id: 5, target: target(1, 5) }).unwrap();
    // Every CPU counted: packets 3, bytes 4, and so on to rsts 11.
    // bpftool writes the value for each CPU.
    update(&place, "TARGET_COUNTERS", 5, &bytes(&[3, 4, 5, 6, 7, 8, 9, 10, 11]));
    let counters = kernel.counters().unwrap();
    assert_eq!(counters.targets.len(), 1, "free targets are absent");
    let sum = counters.targets[&5];
    let cpus = possible_cpus();
    assert_eq!((sum.packets, sum.bytes, sum.flows_created, sum.flows_moved), (3 * cpus, 4 * cpus, 5 * cpus, 6 * cpus));
    assert_eq!((sum.syns, sum.syn_retransmits, sum.handshakes), (7 * cpus, 8 * cpus, 9 * cpus));
    assert_eq!((sum.fins, sum.rsts), (10 * cpus, 11 * cpus));
    assert_eq!(counters.verdicts.len(), Verdict::ALL.len());
    kernel.apply(&Op::ClearCounters { id: 5 }).unwrap();
    assert_eq!(kernel.counters().unwrap().targets[&5], lb_common::layout::counter::TargetCounters::default());
}

#[test]
fn sweeps_and_counts_flows() {
    use lb_common::layout::flow::{FlowEntry, FlowState};
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    let flow = |target| FlowEntry::new(0xfff_ffff, target, 4095, FlowState::Established).0;
    let half_open = FlowEntry::new(1, 3, 9, FlowState::HalfOpen).0;
    update(&place, "FLOWS", 0, &bucket([flow(1), 0, flow(2), half_open, flow(3), 0, 0, flow(60)]));
    let last = FLOW_ENTRIES / 8 - 1;
    update(&place, "FLOWS", last, &bucket([0, 0, 0, 0, 0, 0, flow(1), flow(2)]));
    update(&place, "FRAGMENTS", 5, &bucket([flow(1), flow(2), 0, 0, 0, 0, 0, flow(60)]));
    let rule = Liveness { now: 25, udp_idle: 7 };
    let counted = kernel.flows(rule).unwrap();
    assert_eq!(counted.capacity, u64::from(FLOW_ENTRIES));
    assert_eq!(counted.by_state, [0, 1, 0, 6, 0, 0, 0]);
    assert_eq!(counted.by_target, BTreeMap::from([(1, 2), (2, 2), (3, 2), (60, 1)]));
    // The half-open one ended 16 units ago.
    assert_eq!(counted.live_by_target, BTreeMap::from([(1, 2), (2, 2), (3, 1), (60, 1)]));
    assert_eq!((0..flows::PARTS).map(|part| kernel.forget_ended(rule, part)).sum::<u64>(), 1);
    let counted = kernel.flows(rule).unwrap();
    assert_eq!((counted.live, counted.by_target), (6, counted.live_by_target));
    kernel.apply(&Op::SweepFlows { forget: BTreeSet::from([1]), renumber: BTreeMap::from([(2, 3), (3, 7)]) }).unwrap();
    assert_eq!(kernel.flows(rule).unwrap().by_target, BTreeMap::from([(3, 2), (7, 1), (60, 1)]));
    let bytes = dump(&place, "FLOWS", last);
    assert_eq!(u64::from_le_bytes(bytes[56..64].try_into().unwrap()), flow(3));
    assert_eq!(bytes[..56], [0; 56]);
    let words = dump(&place, "FRAGMENTS", 5);
    let words: Vec<u64> = words.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [0, flow(3), 0, 0, 0, 0, 0, flow(60)]);
}

/// A value as the kernel has it.
fn dump(place: &Place, table: &str, index: u32) -> Vec<u8> {
    let path = place.path.join("maps").join(table);
    let key = index.to_le_bytes().map(|byte| byte.to_string());
    let mut command = Command::new("bpftool");
    command.args(["-j", "map", "lookup", "pinned"]).arg(path).arg("key").args(key);
    let output = command.output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let hex =
        |byte: &serde_json::Value| u8::from_str_radix(byte.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    json["value"].as_array().unwrap_or_else(|| panic!("{json}")).iter().map(hex).collect()
}

/// How many CPUs may be there: of a list with holes fewer than its highest number.
pub(super) fn possible_cpus() -> u64 {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    let ranges = list.trim().split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
    ranges.map(|(first, last)| number(last) - number(first) + 1).sum()
}

/// A bucket's bytes for [`update`].
pub(super) fn bucket(entries: [u64; 8]) -> Vec<String> {
    bytes(&entries)
}

/// Words as bpftool takes them.
pub(super) fn bytes(words: &[u64]) -> Vec<String> {
    words.iter().flat_map(|word| word.to_le_bytes().map(|byte| byte.to_string())).collect()
}

/// Writes a value behind the tables' back, as packets do. The table is named, or given by its path.
pub(super) fn update(place: &Place, table: &str, index: u32, value: &[String]) {
    let path = place.path.join("maps").join(table);
    let key = index.to_le_bytes().map(|byte| byte.to_string());
    let mut command = Command::new("bpftool");
    command.args(["map", "update", "pinned"]).arg(path).arg("key").args(key).arg("value").args(value);
    assert!(command.status().unwrap().success());
}
