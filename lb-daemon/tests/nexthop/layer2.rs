//! Next hops over VLAN devices, bonds and bridges. Not every kernel has all of them: a test whose devices cannot be made
//! says so.

use std::{collections::BTreeMap, sync::Arc};

use lb_daemon::nexthop::{self, NextHop, Snapshot, Unreachable};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};

use super::{
    LB_MAC, PEER_MAC, address,
    lab::{Lab, Watched, addresses, lab, lab_with},
};

const VLAN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x33];

/// A VLAN device at both ends, over a device that both have, with addresses 10.NETWORK.0.1 and 10.NETWORK.0.11.
fn join(lab: &Lab, below: &str, name: &str, kind: &str, network: u8) {
    lab.in_lb(&format!("link add link {below} name {name} address 02:00:00:00:00:33 type vlan {kind}"));
    lab.in_peer(&format!("link add link {below} name {name} type vlan {kind}"));
    lab.in_lb(&format!("address add 10.{network}.0.1/24 dev {name}"));
    lab.in_peer(&format!("address add 10.{network}.0.11/24 dev {name}"));
    lab.in_lb(&format!("link set {name} up"));
    lab.in_peer(&format!("link set {name} up"));
}

/// Puts the lb's end into a bond or a bridge, which takes its address over.
fn subdue(lab: &Lab, master: &str, kind: &str) {
    lab.in_lb(&format!("link add {master} type {kind}"));
    lab.in_lb("link set eth0 down");
    lab.in_lb("address flush dev eth0");
    lab.in_lb(&format!("link set eth0 master {master}"));
    lab.in_lb(&format!("address add 10.7.0.1/24 dev {master}"));
    lab.in_lb("link set eth0 up");
    lab.in_lb(&format!("link set {master} up"));
}

/// Number of an interface of this thread's namespace.
fn number(name: &str) -> u32 {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
    name_to_index(socket, name).unwrap_or_else(|error| panic!("interface {name}: {error}"))
}

fn hop(snapshot: &Snapshot, backend: &str) -> Option<NextHop> {
    snapshot.hops[&address(backend)]
}

fn tags(snapshot: &Snapshot, backend: &str) -> Option<[[u8; 4]; 2]> {
    hop(snapshot, backend).map(|hop| hop.tags)
}

#[test]
fn packets_to_a_vlan_leave_by_the_device_below_with_its_tag() {
    let Some(lab) = lab_with("vlan") else { return };
    join(&lab, "eth0", "eth0.100", "id 100 egress-qos-map 0:3", 30);
    join(&lab, "eth0", "outer", "protocol 802.1ad id 300", 31);
    join(&lab, "outer", "inner", "id 5", 32);
    join(&lab, "inner", "third", "id 6", 33);
    lab.in_lb("link set inner mtu 1480");
    lab.in_lb("route add 10.40.0.0/16 via 10.30.0.11");
    lab.run(async || {
        let asked = ["10.7.0.11", "10.30.0.11", "10.31.0.11", "10.32.0.11", "10.33.0.11", "10.40.0.1"];
        let snapshot = nexthop::resolve_once(&addresses(&asked)).await.unwrap();
        let plain = NextHop {
            ifindex: number("eth0"),
            source_mac: LB_MAC,
            mac: PEER_MAC,
            mtu: 1500,
            tags: [[0; 4]; 2],
            on_link: true,
        };
        let tagged = |tags| Some(NextHop { source_mac: VLAN_MAC, tags, ..plain });
        assert_eq!(hop(&snapshot, "10.7.0.11"), Some(plain));
        let first = [[0x81, 0, 0x60, 100], [0; 4]];
        assert_eq!(hop(&snapshot, "10.30.0.11"), tagged(first));
        assert_eq!(hop(&snapshot, "10.31.0.11"), tagged([[0x88, 0xa8, 0x01, 0x2c], [0; 4]]));
        let two = [[0x88, 0xa8, 0x01, 0x2c], [0x81, 0, 0, 5]];
        assert_eq!(hop(&snapshot, "10.32.0.11"), tagged(two).map(|hop| NextHop { mtu: 1480, ..hop }));
        assert_eq!(hop(&snapshot, "10.40.0.1"), tagged(first).map(|hop| NextHop { on_link: false, ..hop }));
        let refused = Unreachable::TooManyTags { interface: "third".into() };
        assert_eq!(snapshot.reason(address("10.33.0.11")), Some(&refused));
    });
}

#[test]
fn follows_a_vlan_device_that_is_made_anew_with_another_id() {
    let Some(lab) = lab_with("vlan") else { return };
    let first = [[0x81, 0, 0, 100], [0; 4]];
    let second = [[0x81, 0, 0, 200], [0; 4]];
    join(&lab, "eth0", "lan", "id 100", 30);
    lab.run(async || {
        let mut watched = Watched::new(&["10.30.0.11"]).await;
        watched.until("first tag", |snapshot| tags(snapshot, "10.30.0.11") == Some(first)).await;
        lab.in_lb("link delete lan");
        lab.in_peer("link delete lan");
        let lost = |snapshot: &Arc<Snapshot>| snapshot.reason(address("10.30.0.11")) == Some(&Unreachable::NoRoute);
        watched.until("lost route", lost).await;
        join(&lab, "eth0", "lan", "id 200", 30);
        let snapshot = watched.until("second tag", |snapshot| tags(snapshot, "10.30.0.11") == Some(second)).await;
        assert_eq!(hop(&snapshot, "10.30.0.11").unwrap().ifindex, number("eth0"));
        watched.end().await;
    });
}

#[test]
fn follows_the_device_below_a_vlan_device() {
    let Some(lab) = lab_with("vlan") else { return };
    // Else it goes down with the device below, and only its own change would be seen.
    join(&lab, "eth0", "lan", "id 100 loose_binding on", 30);
    lab.run(async || {
        let mut watched = Watched::new(&["10.30.0.11"]).await;
        let known = |snapshot: &Arc<Snapshot>| hop(snapshot, "10.30.0.11").is_some();
        watched.until("next hop", known).await;
        lab.in_lb("link set eth0 mtu 1400");
        let smaller = |snapshot: &Arc<Snapshot>| hop(snapshot, "10.30.0.11").is_some_and(|hop| hop.mtu == 1400);
        watched.until("smaller MTU", smaller).await;
        lab.in_lb("link set eth0 down");
        lab.in_lb("link set eth0 name wire");
        let down = Unreachable::LinkDown { interface: "wire".into() };
        watched.until("its new name", |snapshot| snapshot.reason(address("10.30.0.11")) == Some(&down)).await;
        lab.in_lb("link set wire up");
        watched.until("next hop again", known).await;
        watched.end().await;
    });
}

#[test]
fn packets_leave_by_the_bond_and_its_members_are_followed() {
    let Some(lab) = lab_with("bond") else { return };
    subdue(&lab, "bond0", "bond mode active-backup miimon 50");
    lab.in_lb("link add spare type veth peer name spare-peer");
    lab.run(async || {
        let mut watched = Watched::new(&["10.7.0.11"]).await;
        let (bond, eth0, spare) = (number("bond0"), number("eth0"), number("spare"));
        let way = |snapshot: &Arc<Snapshot>| hop(snapshot, "10.7.0.11").is_some_and(|hop| hop.ifindex == bond);
        let snapshot = watched.until("way by the bond", way).await;
        assert_eq!(snapshot.bonds, BTreeMap::from([(eth0, bond)]));
        assert_eq!(hop(&snapshot, "10.7.0.11").unwrap().source_mac, LB_MAC);
        lab.in_lb("link set spare master bond0");
        let both = BTreeMap::from([(eth0, bond), (spare, bond)]);
        watched.until("second member", |snapshot| snapshot.bonds == both).await;
        lab.in_lb("link set eth0 nomaster");
        let one = BTreeMap::from([(spare, bond)]);
        watched.until("lost member", |snapshot| snapshot.bonds == one).await;
        lab.in_lb("link delete bond0");
        watched.until("no bond", |snapshot| snapshot.bonds.is_empty()).await;
        watched.end().await;
    });
}

#[test]
fn a_vlan_device_over_a_bond_leads_to_the_bond() {
    let (Some(_), Some(lab)) = (lab_with("vlan"), lab_with("bond")) else { return };
    subdue(&lab, "bond0", "bond mode active-backup miimon 50");
    // `join` wants one name at both ends.
    lab.in_peer("link set eth0 down");
    lab.in_peer("link set eth0 name bond0");
    lab.in_peer("link set bond0 up");
    join(&lab, "bond0", "lan", "id 100", 30);
    lab.run(async || {
        let mut watched = Watched::new(&["10.30.0.11"]).await;
        let known = |snapshot: &Arc<Snapshot>| hop(snapshot, "10.30.0.11").is_some();
        let snapshot = watched.until("way by the bond", known).await;
        let hop = hop(&snapshot, "10.30.0.11").unwrap();
        assert_eq!((hop.ifindex, hop.tags), (number("bond0"), [[0x81, 0, 0, 100], [0; 4]]));
        assert_eq!((hop.source_mac, hop.mac), (VLAN_MAC, PEER_MAC));
        watched.end().await;
    });
}

#[test]
fn packets_leave_by_a_bridge_itself_and_its_ports_are_no_members_of_a_bond() {
    let Some(lab) = lab() else { return };
    subdue(&lab, "br0", "bridge");
    lab.run(async || {
        let mut watched = Watched::new(&["10.7.0.11"]).await;
        let way = |snapshot: &Arc<Snapshot>| hop(snapshot, "10.7.0.11").is_some();
        let snapshot = watched.until("way by the bridge", way).await;
        let hop = hop(&snapshot, "10.7.0.11").unwrap();
        assert_eq!((hop.ifindex, hop.tags), (number("br0"), [[0; 4]; 2]));
        assert_eq!(snapshot.bonds, BTreeMap::new());
        watched.end().await;
    });
}
