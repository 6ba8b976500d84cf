//! Tables of older layouts. From this one to the next: netns-tests/tests/upgrade.rs.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, process::Command};

use lb_common::{
    layout::{
        LAYOUT_VERSION,
        counter::TargetCounters,
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
    place::{CAPACITY, Place},
};

fn bpftool(arguments: &[&str]) {
    let output = Command::new("bpftool").arg("map").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
}

/// In place of the VIPs that are pinned: a hash table, which version 2 kept them in. Nor had that a table of traffic.
fn as_version_2(place: &Place, vips: &[(VipKey, Vip)]) {
    let tables = place.path.join(format!("v{LAYOUT_VERSION}/maps"));
    fs::remove_file(tables.join(maps::TRAFFIC)).unwrap();
    let path = tables.join(maps::VIPS);
    fs::remove_file(&path).unwrap();
    let path = path.to_str().unwrap();
    let entries = CAPACITY.vips.to_string();
    bpftool(&["create", path, "type", "hash", "key", "24", "value", "40", "entries", &entries, "name", "VIPS"]);
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
    as_version_2(&place, &vips);

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
