//! Tables of another size, with what they hold.

use std::{collections::BTreeMap, fs, process::Command, sync::Arc};

use lb_common::{
    layout::{
        counter::TargetCounters,
        flow::{FlowEntry, FlowState},
        prefix::Group,
        server::ServerKey,
        target::Target,
        vip::{TCP, Vip, VipKey, mapped},
    },
    maps,
};
use lb_daemon::{
    dataplane::{
        Dataplane, cpus,
        flows::Liveness,
        kernel::{Kernel, Live, OpenError, Options},
        lookups::Lookups as _,
    },
    model::{AttachMode, Interface},
    plan::{
        Capacity, ListId, ListTable, Op, Room, State,
        prefixes::{Prefix, Prefixes},
    },
};

use super::{
    ops::{self, update},
    place::{CAPACITY, FLOW_ENTRIES, Net, Place, chain},
};

/// Twice of everything.
const DOUBLE: Capacity = Capacity {
    vips: 32,
    targets: 128,
    ring_blocks: 64,
    groups: 16,
    servers: 32,
    prefixes: 128,
    tunnel_sources: 16,
    own: 8,
};

fn key(last: u8) -> VipKey {
    VipKey::service(mapped([192, 0, 2, last]), [1, 187], TCP)
}

/// Parameters of the program in force.
fn loaded_with(place: &Place) -> maps::Tuning {
    *Live::open(&place.path, None).unwrap().tuning()
}

/// Something in every table that the daemon writes.
fn fill(kernel: &mut Kernel) {
    let slots: Arc<[u16]> = (0..257).map(|slot| slot * 7 % 3).collect();
    let vip = Vip { id: 1, target_base: 1, target_count: 3, ring_base: 4, ring_slots: 257, ..Vip::default() };
    let target = |last| Target {
        serves: 1,
        vip: 1,
        encap: 1,
        outer_destination: mapped([10, 0, 0, last]),
        next_hop: [2, 0, 0, 0, 0, last],
        ..Target::default()
    };
    let prefix = |last, bits| Prefix { address: mapped([10, 0, 0, last]), bits: 96_u8 + bits };
    let list = |table, vip| ListId { table, vip };
    let many = Arc::new(Prefixes::new((0..60).map(|last| (prefix(last, 32), 1 + u32::from(last) % 2)).collect()));
    let one = Arc::new(Prefixes::new(vec![(prefix(0, 8), 1)]));
    for op in [
        Op::SetTarget { id: 1, target: target(1) },
        Op::SetTarget { id: 63, target: target(2) },
        Op::WriteRing { base: 4, slots },
        Op::SetGroup { id: 3, group: Group { vip: 1, ring_base: 4, ring_slots: 33, reserved: 0, identity: 77 } },
        Op::SetServer { key: ServerKey::new(1, 0x1234 << 64 | 5), target: 63 },
        Op::SetList { list: list(ListTable::Routes, 1), to: Arc::clone(&one) },
        Op::SetList { list: list(ListTable::Access, 0), to: many },
        Op::SetList { list: list(ListTable::TunnelSources, 0), to: one },
        Op::SetTunnel { address: mapped([10, 9, 9, 9]) },
        Op::SetBond { member: 4, bond: 9 },
        Op::SetVip { key: key(1), vip },
        Op::SetVip { key: VipKey { port: [0; 2], ..key(0) }.prefix(8), vip: Vip { wildcard_bits: 8, ..vip } },
    ] {
        kernel.apply(&op).unwrap();
    }
}

/// A bucket's bytes.
fn bucket(entries: &[FlowEntry]) -> Vec<String> {
    let mut words = [0; 8];
    words.iter_mut().zip(entries).for_each(|(word, entry)| *word = entry.0);
    ops::bucket(words)
}

fn size(place: &Place, name: &str) -> u64 {
    place.bpftool("map", &format!("maps/{name}"))["max_entries"].as_u64().unwrap()
}

/// A program over tables that hold something, on an interface.
fn serving(place: &Place) -> Kernel {
    let mut kernel = place.open();
    kernel.attach(&[Interface { name: "lbx0".into(), mode: AttachMode::Native }]).unwrap();
    fill(&mut kernel);
    kernel
}

/// No table waits to take another's place.
fn assert_tidy(place: &Place) {
    assert!(place.names().iter().all(|name| !name.ends_with("-next")), "{:?}", place.names());
}

fn flows(kernel: &mut Kernel) -> BTreeMap<u32, u64> {
    kernel.flows(Liveness { now: 77, udp_idle: 7 }).unwrap().by_target
}

#[test]
fn every_table_grows_with_what_it_holds_and_the_program_goes_by_the_new_ones() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = serving(&place);
    let flow = FlowEntry::new(9, 63, 77, FlowState::Established);
    update(&place, maps::FLOWS, 5, &bucket(&[flow]));
    let before = kernel.observe().unwrap();
    let (program, link) = (place.id("prog", "prog"), place.bpftool("link", "link-lbx0")["prog_id"].clone());
    assert_eq!(link, program);

    let room = Room { capacity: DOUBLE, flow_entries: FLOW_ENTRIES * 4 };
    kernel.resize(&room).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_tidy(&place);
    assert_eq!(kernel.room(), room);
    assert_eq!(kernel.observe().unwrap(), State { capacity: DOUBLE, ..before.clone() });
    assert_eq!(flows(&mut kernel), BTreeMap::from([(63, 4)]), "wherever its hash may lead");
    let now = place.id("prog", "prog");
    assert_ne!(now, program);
    assert_eq!(place.bpftool("link", "link-lbx0")["prog_id"], now);
    let used = place.bpftool("prog", "prog")["map_ids"].as_array().cloned().unwrap();
    for name in maps::ALL {
        let id = place.id("map", &format!("maps/{name}"));
        assert!(used.contains(&id.into()), "the program goes by another {name}");
    }
    assert_eq!(size(&place, maps::VIP_LIMITS), 33, "what follows from the size of another grows too");
    assert_eq!(size(&place, maps::TARGET_COUNTERS), 128);
    assert_eq!(size(&place, maps::TRAFFIC), 128 * u64::from(cpus::numbers().unwrap() + 1));

    // A restart finds them, and sizes that are asked for in vain change nothing.
    let tables: Vec<u64> = maps::ALL.iter().map(|name| place.id("map", &format!("maps/{name}"))).collect();
    kernel.resize(&room).unwrap();
    drop(kernel);
    let mut kernel = Kernel::open(&Options { flow_entries: room.flow_entries, ..place.options() }).unwrap();
    assert_eq!(kernel.observe().unwrap(), State { capacity: DOUBLE, ..before });
    let again: Vec<u64> = maps::ALL.iter().map(|name| place.id("map", &format!("maps/{name}"))).collect();
    assert_eq!(again, tables);
}

#[test]
fn a_start_gives_the_flow_table_the_size_that_is_asked_for() {
    let Some(place) = Place::new() else { return };
    drop(place.open());
    let flow = |tag| FlowEntry::new(tag, 1, 77, FlowState::Established);
    update(&place, maps::FLOWS, 5, &bucket(&[flow(1), flow(2)]));
    update(&place, maps::FLOWS, 5 + 256, &bucket(&[flow(3)]));
    for (factor, entries) in [(2, 6), (1, 3)] {
        let options = Options { flow_entries: FLOW_ENTRIES * factor, ..place.options() };
        let mut kernel = Kernel::open(&options).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(kernel.adopted());
        assert_eq!(size(&place, maps::FLOWS), u64::from(FLOW_ENTRIES * factor / 8));
        assert_eq!(flows(&mut kernel), BTreeMap::from([(1, entries)]));
    }
    let options = Options { flow_entries: FLOW_ENTRIES / 2, ..place.options() };
    let mut kernel = Kernel::open(&options).unwrap();
    assert_eq!(flows(&mut kernel), BTreeMap::from([(1, 3)]), "buckets 5 and 261 are one now");
    assert_tidy(&place);
}

#[test]
fn counters_go_along_and_are_counted_once() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    fill(&mut kernel);
    // On each CPU the same.
    update(&place, maps::TARGET_COUNTERS, 63, &ops::bytes(&[3; 9]));
    let (cpus, possible) = (cpus::numbers().unwrap(), ops::possible_cpus());
    for cpu in 0..cpus {
        let words = [5, 100 + u64::from(cpu)];
        update(&place, maps::TRAFFIC, cpu * CAPACITY.targets + 63, &ops::bytes(&words));
    }
    let before = kernel.counters().unwrap();
    let counted = before.targets[&63];
    let sum = (0..u64::from(cpus)).map(|cpu| 100 + cpu).sum::<u64>();
    assert_eq!((counted.packets, counted.rsts), (5 * u64::from(cpus) + 3 * possible, 3 * possible));
    assert_eq!(counted.bytes, 3 * possible + sum);
    assert_eq!(loaded_with(&place).traffic_row, CAPACITY.targets);
    assert_eq!(before.targets[&1], TargetCounters::default());
    kernel.resize(&Room { capacity: DOUBLE, ..kernel.room() }).unwrap();
    assert_eq!(kernel.counters().unwrap(), before);
    assert_eq!(loaded_with(&place).traffic_row, DOUBLE.targets);
    assert_eq!(kernel.counted(&[63, 9_999]).unwrap(), BTreeMap::from([(63, before.targets[&63])]));
    kernel.apply(&Op::ClearCounters { id: 63 }).unwrap();
    assert_eq!(kernel.counters().unwrap().targets[&63], TargetCounters::default());
}

#[test]
fn without_memory_for_larger_tables_all_stays_as_it_was() {
    let Some(place) = Place::new() else { return };
    let mut kernel = place.open();
    fill(&mut kernel);
    let (names, before, room) = (place.names(), kernel.observe().unwrap(), kernel.room());
    let (program, table) = (place.id("prog", "prog"), place.id("map", "maps/FLOWS"));
    // 256 GiB of rings, and other tables that could well be had.
    let asked = Room { capacity: Capacity { ring_blocks: u32::MAX, ..DOUBLE }, ..room };
    let error = kernel.resize(&asked).unwrap_err();
    assert!(matches!(&error, OpenError::NoMemory { needs, .. } if *needs >= 256 << 30), "{error}");
    // What the kernel does not know of the sum until it is asked.
    let asked = Room { capacity: Capacity { servers: u32::MAX, ..DOUBLE }, ..room };
    let error = kernel.resize(&asked).unwrap_err();
    assert!(error.to_string().contains("SERVER_IDS") || matches!(error, OpenError::NoMemory { .. }), "{error}");
    assert_eq!((place.names(), kernel.observe().unwrap(), kernel.room()), (names, before, room));
    assert_eq!((place.id("prog", "prog"), place.id("map", "maps/FLOWS")), (program, table));
    kernel.resize(&Room { capacity: DOUBLE, ..room }).unwrap();
}

#[test]
fn tables_that_nobody_goes_by_are_removed_at_the_next_start() {
    let Some(place) = Place::new() else { return };
    drop(place.open());
    let (names, program) = (place.names(), place.id("prog", "prog"));
    for name in ["maps/FLOWS-next", "maps/VIPS-next"] {
        let arguments = ["type", "array", "key", "4", "value", "64", "entries", "64", "name", "left", "flags", "1024"];
        let path = place.path.join(name);
        assert!(Command::new("bpftool").args(["map", "create"]).arg(path).args(arguments).status().unwrap().success());
    }
    drop(place.open());
    assert_eq!(place.names(), names);
    assert_ne!(place.id("prog", "prog"), program);
}

#[test]
fn tables_that_packets_go_by_already_keep_their_place_at_the_next_start() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = serving(&place);
    // As a daemon leaves it that is ended before the pins have their names: the new ones beside copies of the old.
    let before = [("prog", place.id("prog", "prog")), ("map", place.id("map", "maps/FLOWS"))];
    for (kind, name) in [("prog", "prog"), ("map", "maps/FLOWS")] {
        let id = place.id(kind, name);
        let path = place.path.join(format!("{name}-kept"));
        let pinned = Command::new("bpftool").args([kind, "pin", "id", &id.to_string()]).arg(path).status().unwrap();
        assert!(pinned.success());
    }
    let late = FlowEntry::new(7, 1, 77, FlowState::Established);
    kernel.resize(&Room { flow_entries: FLOW_ENTRIES * 2, ..kernel.room() }).unwrap();
    drop(kernel);
    for name in ["prog", "maps/FLOWS"] {
        fs::rename(place.path.join(name), place.path.join(format!("{name}-next"))).unwrap();
        fs::rename(place.path.join(format!("{name}-kept")), place.path.join(name)).unwrap();
    }
    // A flow of the last moments before the swap.
    update(&place, maps::FLOWS, 5, &bucket(&[late]));
    let (program, table) = (place.id("prog", "prog-next"), place.id("map", "maps/FLOWS-next"));
    assert_eq!(before, [("prog", place.id("prog", "prog")), ("map", place.id("map", "maps/FLOWS"))]);

    let opened = Kernel::open(&Options { flow_entries: FLOW_ENTRIES * 2, ..place.options() });
    let mut kernel = opened.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(place.id("map", "maps/FLOWS"), table);
    assert_ne!(place.id("prog", "prog"), program, "replaced, as at every start");
    assert_tidy(&place);
    assert_eq!(flows(&mut kernel), BTreeMap::from([(1, 2)]), "the late one came along");
    let capacity = kernel.observe().unwrap().capacity;
    assert_eq!(capacity, CAPACITY);
}

#[test]
fn what_cannot_get_its_name_is_in_force_all_the_same_and_gets_it_later() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let mut kernel = serving(&place);
    let before = kernel.observe().unwrap();
    let name = place.path.join("prog");
    fs::remove_file(&name).unwrap();
    fs::create_dir(&name).unwrap();

    let room = Room { capacity: DOUBLE, flow_entries: FLOW_ENTRIES * 2 };
    kernel.resize(&room).unwrap_or_else(|error| panic!("{}", chain(&error)));
    let program = place.bpftool("prog", "prog-next");
    assert_eq!(place.bpftool("link", "link-lbx0")["prog_id"], program["id"]);
    assert_eq!(
        (kernel.program_id().unwrap(), kernel.room()),
        (u32::try_from(program["id"].as_u64().unwrap()).unwrap(), room)
    );
    assert!(program["map_ids"].as_array().unwrap().contains(&place.id("map", "maps/TARGETS-next").into()));
    let target = Target { serves: 1, vip: 1, encap: 1, outer_destination: mapped([10, 0, 0, 9]), ..Target::default() };
    kernel.apply(&Op::SetTarget { id: 100, target }).unwrap();
    let mut after = State { capacity: DOUBLE, ..before };
    after.targets.insert(100, target);
    assert_eq!(kernel.observe().unwrap(), after);
    // What waits would have to make way for it.
    let more = Room { flow_entries: FLOW_ENTRIES * 4, ..room };
    let refused = chain(&kernel.resize(&more).unwrap_err());
    assert!(refused.contains(&name.display().to_string()), "{refused}");
    assert_eq!((kernel.observe().unwrap(), kernel.room()), (after.clone(), room));

    fs::remove_dir(&name).unwrap();
    assert_eq!(kernel.observe().unwrap(), after);
    assert_tidy(&place);
    assert_eq!(place.bpftool("link", "link-lbx0")["prog_id"], place.bpftool("prog", "prog")["id"]);
    kernel.resize(&more).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_tidy(&place);
    assert_eq!(kernel.observe().unwrap(), after);
}
