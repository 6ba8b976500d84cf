//! Next hops against the real kernel: a namespace with one veth to a second namespace that plays backend and router.

use std::{net::IpAddr, process::Command, sync::Arc, time::Duration};

use lb_daemon::nexthop::{self, NextHop, Snapshot, Unreachable};
use tokio::time::timeout;

#[path = "nexthop/lab.rs"]
mod lab;
#[path = "nexthop/layer2.rs"]
mod layer2;

use lab::{Watched, addresses, lab};

const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x01];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const NEW_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x22];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac_of(snapshot: &Snapshot, backend: &str) -> Option<[u8; 6]> {
    snapshot.hops[&address(backend)].map(|hop| hop.mac)
}

#[test]
fn resolves_neighbours_of_both_families_that_were_never_spoken_to() {
    let Some(lab) = lab() else { return };
    lab.run(async || {
        let snapshot = nexthop::resolve_once(&addresses(&["10.7.0.11", "fd07::11"])).await.unwrap();
        for backend in ["10.7.0.11", "fd07::11"] {
            let hop = snapshot.hops[&address(backend)].unwrap_or_else(|| panic!("{backend}: {:?}", snapshot.reasons));
            assert_eq!(
                hop,
                NextHop {
                    ifindex: hop.ifindex,
                    source_mac: LB_MAC,
                    mac: PEER_MAC,
                    mtu: 1500,
                    tags: [[0; 4]; 2],
                    on_link: true
                }
            );
            assert_ne!(hop.ifindex, 0);
        }
    });
}

#[test]
fn resolves_through_gateways_also_an_ipv6_one_for_ipv4() {
    let Some(lab) = lab() else { return };
    lab.in_lb("route add 10.8.0.0/24 via 10.7.0.11 mtu 1400");
    lab.in_lb("route add 10.9.0.0/24 via inet6 fe80::11 dev eth0");
    lab.in_lb("route add fd08::/64 via fd07::11");
    lab.run(async || {
        let snapshot = nexthop::resolve_once(&addresses(&["10.8.0.1", "10.9.0.1", "fd08::1"])).await.unwrap();
        for (backend, mtu) in [("10.8.0.1", 1400), ("10.9.0.1", 1500), ("fd08::1", 1500)] {
            let hop = snapshot.hops[&address(backend)].unwrap_or_else(|| panic!("{backend}: {:?}", snapshot.reasons));
            assert_eq!((hop.mac, hop.mtu, hop.on_link), (PEER_MAC, mtu, false), "{backend}");
        }
    });
}

#[test]
fn says_why_an_address_cannot_be_reached() {
    let Some(lab) = lab() else { return };
    lab.in_lb("route add blackhole 10.20.0.1");
    lab.in_lb("route add unreachable 10.20.0.2");
    lab.in_lb("route add prohibit 10.20.0.3");
    lab.in_lb("route add blackhole fd20::1");
    lab.in_lb("route add unreachable fd20::2");
    lab.in_lb("route add 10.21.0.1 dev lo scope link");
    let expected = [
        ("10.7.0.1", Unreachable::Local),
        ("fd07::1", Unreachable::Local),
        ("10.7.0.255", Unreachable::NotUnicast),
        ("10.20.0.1", Unreachable::Refused),
        ("10.20.0.2", Unreachable::Refused),
        ("10.20.0.3", Unreachable::Refused),
        ("fd20::1", Unreachable::Refused),
        ("fd20::2", Unreachable::Refused),
        ("10.21.0.1", Unreachable::NoEthernet { interface: "lo".into() }),
        ("203.0.113.1", Unreachable::NoRoute),
        ("2001:db8::1", Unreachable::NoRoute),
        ("10.7.0.99", Unreachable::Unresolved { neighbour: address("10.7.0.99"), interface: "eth0".into() }),
    ];
    lab.run(async || {
        let asked = expected.iter().map(|(backend, _)| address(backend)).collect();
        let snapshot = nexthop::resolve_once(&asked).await.unwrap();
        for (backend, reason) in &expected {
            assert_eq!(snapshot.hops[&address(backend)], None, "{backend}");
            assert_eq!(snapshot.reason(address(backend)), Some(reason), "{backend}");
        }
    });
}

#[test]
fn follows_a_changed_mac_address() {
    let Some(lab) = lab() else { return };
    lab.run(async || {
        let mut watched = Watched::new(&["10.7.0.11", "fd07::11"]).await;
        assert_eq!(mac_of(&watched.snapshots.borrow(), "10.7.0.11"), Some(PEER_MAC));
        for backend in ["10.7.0.11", "fd07::11"] {
            lab.in_lb(&format!("neighbour replace {backend} lladdr 02:00:00:00:00:22 dev eth0 nud reachable"));
            watched.until("new MAC", |snapshot| mac_of(snapshot, backend) == Some(NEW_MAC)).await;
        }
        watched.end().await;
    });
}

#[test]
fn keeps_the_mac_of_an_entry_that_is_collected_and_has_it_resolved_again() {
    let Some(lab) = lab() else { return };
    lab.run(async || {
        let mut watched = Watched::new(&["10.7.0.11"]).await;
        watched.snapshots.mark_unchanged();
        // The peer comes back under another MAC address, silently; only a fresh solicitation can find that out.
        lab.in_peer("link set eth0 address 02:00:00:00:00:22");
        lab.in_lb("neighbour delete 10.7.0.11 dev eth0");
        timeout(Duration::from_secs(3), watched.snapshots.changed()).await.expect("a change").unwrap();
        let snapshot = watched.snapshots.borrow_and_update().clone();
        assert_eq!(mac_of(&snapshot, "10.7.0.11"), Some(NEW_MAC), "no gap between: {:?}", snapshot.reasons);
        watched.end().await;
    });
}

#[test]
fn leaves_a_permanent_entry_as_the_operator_made_it() {
    let Some(lab) = lab() else { return };
    lab.in_lb("neighbour add 10.7.0.99 lladdr 02:00:00:00:00:22 dev eth0 nud permanent");
    lab.run(async || {
        let watched = Watched::new(&["10.7.0.99"]).await;
        assert_eq!(mac_of(&watched.snapshots.borrow(), "10.7.0.99"), Some(NEW_MAC));
        let shown = Command::new("ip").args(["neighbour", "show", "10.7.0.99"]).output().unwrap();
        assert!(String::from_utf8_lossy(&shown.stdout).contains("PERMANENT"));
        watched.end().await;
    });
}

#[test]
fn has_the_kernel_verify_a_stale_entry() {
    let Some(lab) = lab() else { return };
    lab.in_lb("neighbour add 10.7.0.11 lladdr 02:00:00:00:00:22 dev eth0 nud stale");
    lab.run(async || {
        let watched = Watched::new(&["10.7.0.11"]).await;
        assert_eq!(mac_of(&watched.snapshots.borrow(), "10.7.0.11"), Some(NEW_MAC), "stale is good enough");
        let shown = Command::new("ip").args(["neighbour", "show", "10.7.0.11"]).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("DELAY") || shown.contains("PROBE"), "{shown}");
        watched.end().await;
    });
}

#[test]
fn follows_a_changed_mtu() {
    let Some(lab) = lab() else { return };
    lab.run(async || {
        let mut watched = Watched::new(&["10.7.0.11"]).await;
        lab.in_lb("link set eth0 mtu 1450");
        let smaller =
            |snapshot: &Arc<Snapshot>| snapshot.hops[&address("10.7.0.11")].is_some_and(|hop| hop.mtu == 1450);
        watched.until("smaller MTU", smaller).await;
        watched.end().await;
    });
}

#[test]
fn follows_a_changed_route() {
    let Some(lab) = lab() else { return };
    lab.in_peer("address add 10.7.0.12/24 dev eth0");
    lab.in_lb("route add 10.8.0.0/24 via 10.7.0.11");
    lab.in_lb("neighbour add 10.7.0.12 lladdr 02:00:00:00:00:22 dev eth0 nud permanent");
    lab.run(async || {
        let mut watched = Watched::new(&["10.8.0.1"]).await;
        assert_eq!(mac_of(&watched.snapshots.borrow(), "10.8.0.1"), Some(PEER_MAC));
        lab.in_lb("route replace 10.8.0.0/24 via 10.7.0.12 mtu 1300");
        let moved = |snapshot: &Arc<Snapshot>| mac_of(snapshot, "10.8.0.1") == Some(NEW_MAC);
        let snapshot = watched.until("new gateway", moved).await;
        assert_eq!(snapshot.hops[&address("10.8.0.1")].unwrap().mtu, 1300);
        lab.in_lb("route delete 10.8.0.0/24");
        let lost = |snapshot: &Arc<Snapshot>| snapshot.reason(address("10.8.0.1")) == Some(&Unreachable::NoRoute);
        watched.until("lost route", lost).await;
        watched.end().await;
    });
}

#[test]
fn follows_a_link_that_goes_down_and_returns() {
    let Some(lab) = lab() else { return };
    let backends = ["10.7.0.11", "fd07::11"];
    lab.run(async || {
        let mut watched = Watched::new(&backends).await;
        let all_known = |snapshot: &Arc<Snapshot>| backends.iter().all(|backend| mac_of(snapshot, backend).is_some());
        let none_known = |snapshot: &Arc<Snapshot>| backends.iter().all(|backend| mac_of(snapshot, backend).is_none());
        watched.until("next hop", all_known).await;
        // The far end takes the carrier away; routes stay.
        lab.in_peer("link set eth0 down");
        watched.until("lost carrier", none_known).await;
        lab.in_peer("link set eth0 up");
        let returned = |snapshot: &Arc<Snapshot>| mac_of(snapshot, "10.7.0.11") == Some(PEER_MAC);
        watched.until("carrier again", returned).await;
        // The near end goes down: IPv4 routes vanish without a message of their own.
        lab.in_lb("link set eth0 down");
        watched.until("link down", none_known).await;
        lab.in_lb("link set eth0 up");
        watched.until("link up again", returned).await;
        watched.end().await;
    });
}

#[test]
fn takes_up_addresses_that_are_added_later_and_those_that_answer_later() {
    let Some(lab) = lab() else { return };
    lab.run(async || {
        let mut watched = Watched::new(&[]).await;
        assert!(watched.snapshots.borrow().hops.is_empty());
        watched.targets.send(addresses(&["10.7.0.11", "10.7.0.55"])).unwrap();
        watched
            .until("new address", |snapshot| snapshot.hops.len() == 2 && mac_of(snapshot, "10.7.0.11").is_some())
            .await;
        assert_eq!(mac_of(&watched.snapshots.borrow(), "10.7.0.55"), None);
        lab.in_peer("address add 10.7.0.55/24 dev eth0");
        watched.until("late answer", |snapshot| mac_of(snapshot, "10.7.0.55") == Some(PEER_MAC)).await;
        watched.targets.send(addresses(&["10.7.0.55"])).unwrap();
        watched.until("removed address", |snapshot| snapshot.hops.len() == 1).await;
        watched.end().await;
    });
}

#[test]
fn ends_when_nobody_listens() {
    let Some(lab) = lab() else { return };
    lab.run(async || {
        let Watched { targets, snapshots, task } = Watched::new(&["10.7.0.11"]).await;
        drop(snapshots);
        timeout(Duration::from_secs(1), task).await.expect("the watcher ends without receivers").unwrap();
        drop(targets);
    });
}
