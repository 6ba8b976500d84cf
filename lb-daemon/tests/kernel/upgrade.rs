//! Tables of older layouts. From this one to the next: netns-tests/tests/upgrade.rs.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    process::Command,
};

use lb_common::{
    layout::{
        LAYOUT_VERSION,
        counter::{PathEvent, TargetCounters},
        target::Target,
        vip::{TCP, Vip, VipKey, mapped},
    },
    maps,
};
use lb_daemon::{
    dataplane::{Dataplane, kernel::Live, lookups::Lookups as _},
    plan::Op,
};
use zerocopy::IntoBytes as _;

use super::{
    ops::{bytes, update},
    place::{CAPACITY, Net, Place},
};

/// Events that version 2 counted.
const EVENTS: u32 = 16;

fn bpftool(arguments: &[&str]) {
    let output = Command::new("bpftool").arg("map").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
}

/// Makes tables of version 2 of those that are pinned, in which it kept these VIPs: in a hash table. It counted fewer events, and
/// had no table of traffic.
fn as_version_2(place: &Place, vips: &[(VipKey, Vip)], capacity: u32) {
    let tables = place.path.join(format!("v{LAYOUT_VERSION}/maps"));
    fs::remove_file(tables.join(maps::TRAFFIC)).unwrap();
    let path = tables.join(maps::VIPS);
    fs::remove_file(&path).unwrap();
    let path = path.to_str().unwrap();
    let entries = capacity.to_string();
    bpftool(&["create", path, "type", "hash", "key", "24", "value", "40", "entries", &entries, "name", "VIPS"]);
    let events = tables.join(maps::PATH_COUNTERS);
    fs::remove_file(&events).unwrap();
    let (events, entries) = (events.to_str().unwrap(), EVENTS.to_string());
    bpftool(&[
        "create",
        events,
        "type",
        "percpu_array",
        "key",
        "4",
        "value",
        "8",
        "entries",
        &entries,
        "name",
        "EVENTS",
    ]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:#04x}")).collect::<Vec<_>>();
    for (key, vip) in vips {
        let (key, vip) = (hex(key.as_bytes()), hex(vip.as_bytes()));
        let words = ["update", "pinned", path, "key"].into_iter().chain(key.iter().map(String::as_str));
        let words = words.chain(["value"]).chain(vip.iter().map(String::as_str));
        bpftool(&words.collect::<Vec<_>>());
    }
    fs::rename(place.path.join(format!("v{LAYOUT_VERSION}")), place.path.join("v2")).unwrap();
    fs::remove_file(place.path.join("maps")).unwrap();
    symlink("v2/maps", place.path.join("maps")).unwrap();
}

#[test]
fn vips_of_version_2_find_their_places_and_counters_go_on() {
    let Some(place) = Place::new() else { return };
    let key = |last| VipKey::service(mapped([192, 0, 2, last]), [1, 187], TCP);
    let vip = |id| Vip { id, target_base: id, target_count: 1, ring_base: id, ..Vip::default() };
    let mut vips: Vec<(VipKey, Vip)> = (1..).map(|id| (key(id), vip(id.into()))).take(15).collect();
    vips.push((VipKey::address(mapped([192, 0, 2, 1]), 1), Vip { flags: Vip::DROP_UNKNOWN_PORT, ..Vip::default() }));
    let prefix = (VipKey { port: [0; 2], ..key(0) }.prefix(8), Vip { wildcard_bits: 8, ..vip(99) });

    let mut kernel = place.open();
    for (key, vip) in vips.iter().chain([&prefix]).copied() {
        kernel.apply(&Op::SetVip { key, vip }).unwrap();
    }
    let target = Target { serves: 1, vip: 1, encap: 1, outer_destination: mapped([10, 0, 0, 7]), ..Target::default() };
    kernel.apply(&Op::SetTarget { id: 7, target }).unwrap();
    update(&place, maps::TARGET_COUNTERS, 7, &bytes(&[1, 2, 3, 4, 5, 6, 7, 8, 9]));
    let counted = kernel.counted(&[7]).unwrap()[&7];
    let (before, flows) = (kernel.observe().unwrap(), place.id("map", "maps/FLOWS"));
    let names = place.names();
    drop(kernel);
    as_version_2(&place, &vips, CAPACITY.vips);

    let mut kernel = place.open();
    assert!(kernel.adopted());
    assert_eq!(kernel.observe().unwrap(), before);
    // On the first CPU, as the program counts.
    update(&place, maps::TRAFFIC, 7, &bytes(&[10, 1000]));
    let TargetCounters { packets, bytes, .. } = counted;
    assert!(packets > 0, "{counted:?}");
    let counted = TargetCounters { packets: packets + 10, bytes: bytes + 1000, ..counted };
    assert_eq!(kernel.counted(&[7]).unwrap(), BTreeMap::from([(7, counted)]));
    assert_eq!(place.names(), names, "nothing of version 2 is left");
    assert_eq!(place.id("map", "maps/FLOWS"), flows, "what is the same is not copied");
    let live = Live::open(&place.path, Some(kernel.tuning())).unwrap();
    for (key, vip) in &vips {
        assert_eq!(live.vip(key).unwrap(), Some(*vip));
    }
    assert_eq!(live.vip(&key(200)).unwrap(), None);
    assert_eq!(maps::ALL.len(), fs::read_dir(place.path.join("maps")).unwrap().count());
}

#[test]
fn a_daemon_that_dies_when_packets_go_by_the_new_tables_leaves_them_to_the_next() {
    let Some(place) = Place::new() else { return };
    let _net = Net::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.toml");
    let text = "[dataplane]\ninterfaces = [\"lbx0\"]\nnext_hop = \"02:00:00:00:00:01\"\n[pool.web]\nbackends = [{ name = \"a\", address = \"10.0.0.7\" }]\n\
                [[vip]]\nname = \"web\"\naddress = \"192.0.2.10\"\nport = 443\nprotocol = \"tcp\"\npool = \"web\"\n";
    fs::write(&file, text).unwrap();
    let load = |latch: &str| {
        let mut lb = Command::new(env!("CARGO_BIN_EXE_lb"));
        lb.arg("--pin-path").arg(&place.path).args(["load", "--config"]).arg(&file).env("LB_LATCH", latch);
        lb.output().unwrap()
    };
    let loaded = load("");
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    let mut kernel = place.open();
    let (before, flows) = (kernel.observe().unwrap(), place.id("map", "maps/FLOWS"));
    drop(kernel);
    let vips: Vec<(VipKey, Vip)> = before.vips.iter().map(|(key, vip)| (*key, *vip)).collect();
    as_version_2(&place, &vips, before.capacity.vips);

    let died = load("program-swapped");
    assert_eq!(died.status.signal(), Some(9), "{}", String::from_utf8_lossy(&died.stderr));
    let target = *before.targets.keys().next().unwrap();
    let (program, traffic) = (place.id("prog", "prog-next"), format!("v{LAYOUT_VERSION}/maps/TRAFFIC"));
    assert_eq!(place.bpftool("link", "link-lbx0")["prog_id"], program);
    let id = place.id("map", &traffic);
    assert!(place.bpftool("prog", "prog-next")["map_ids"].as_array().unwrap().contains(&id.into()));
    // While no daemon runs, packets are counted.
    update(&place, place.path.join(&traffic).to_str().unwrap(), target, &bytes(&[10, 1000]));

    let mut kernel = place.open();
    assert_eq!((kernel.observe().unwrap(), place.id("map", "maps/FLOWS")), (before, flows));
    assert_eq!(place.id("map", "maps/TRAFFIC"), id, "it is completed, not begun again");
    let counted = TargetCounters { packets: 10, bytes: 1000, ..TargetCounters::default() };
    assert_eq!(kernel.counted(&[target]).unwrap(), BTreeMap::from([(target, counted)]));
    let entries = place.bpftool("map", "maps/PATH_COUNTERS")["max_entries"].clone();
    assert_eq!(entries, PathEvent::ALL.len());
    assert!(place.names().iter().all(|name| !name.contains("v2") && !name.ends_with("-next")), "{:?}", place.names());
}
