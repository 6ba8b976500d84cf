use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x22];
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 0x01];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(up: bool) -> Link {
    Link { name: "eth0".into(), mac: Some(OWN), mtu: 1500, up, kind: Kind::Plain, master: None }
}

fn resolved(mac: [u8; 6]) -> Neighbour {
    Neighbour::Resolved { mac, stale: false }
}

fn via(neighbour: &str) -> Route {
    Route::Via { place: (2, ip(neighbour)), mtu: None }
}

/// A table with `eth0` as link 2 and one route to 10.0.0.11, which is on it.
fn table(now: Instant) -> Table {
    let mut table = Table::default();
    table.set_links(BTreeMap::from([(2, link(true))]), now);
    table.set_routes(BTreeMap::from([(ip("10.0.0.11"), via("10.0.0.11"))]), now);
    table
}

fn hop(table: &Table, now: Instant) -> Option<NextHop> {
    table.snapshot(now).hops[&ip("10.0.0.11")]
}

fn reason(table: &Table, now: Instant) -> String {
    table.snapshot(now).reason(ip("10.0.0.11")).unwrap().to_string()
}

fn place() -> Place {
    (2, ip("10.0.0.11"))
}

#[test]
fn a_direct_neighbour_is_the_next_hop() {
    let now = Instant::now();
    let mut table = table(now);
    assert!(table.set_neighbour(place(), Some(resolved(MAC)), now));
    assert_eq!(
        hop(&table, now),
        Some(NextHop { ifindex: 2, source_mac: OWN, mac: MAC, mtu: 1500, tags: [[0; 4]; 2], on_link: true })
    );
    assert!(table.snapshot(now).reasons.is_empty());
}

#[test]
fn a_gateway_is_the_next_hop_of_all_that_lie_behind_it() {
    let now = Instant::now();
    let mut table = table(now);
    let routes = ["10.1.0.1", "10.1.0.2"].map(|address| (ip(address), via("fe80::1")));
    table.set_routes(BTreeMap::from(routes), now);
    assert!(!table.set_neighbour((3, ip("fe80::1")), Some(resolved(OTHER)), now), "same address, other interface");
    assert!(table.set_neighbour((2, ip("fe80::1")), Some(resolved(MAC)), now));
    let snapshot = table.snapshot(now);
    assert_eq!(snapshot.hops.len(), 2);
    assert!(snapshot.hops.values().all(|hop| hop.unwrap().mac == MAC && !hop.unwrap().on_link));
}

#[test]
fn the_smaller_of_the_links_and_the_routes_mtu_counts() {
    let now = Instant::now();
    let mut table = table(now);
    table.set_neighbour(place(), Some(resolved(MAC)), now);
    for (route, expected) in [(Some(1400), 1400), (Some(9000), 1500), (None, 1500)] {
        table.set_routes(BTreeMap::from([(ip("10.0.0.11"), Route::Via { place: place(), mtu: route })]), now);
        assert_eq!(hop(&table, now).unwrap().mtu, expected, "route's MTU {route:?}");
    }
}

#[test]
fn an_unknown_neighbour_is_solicited_with_growing_waits_until_it_is_resolved() {
    let start = Instant::now();
    let mut table = table(start);
    assert!(reason(&table, start).contains("10.0.0.11 on eth0 is not resolved"));
    assert!(table.is_resolving());
    let mut now = start;
    let mut waits = Vec::new();
    for _ in 0..7 {
        assert_eq!(table.solicit(now), [place()]);
        assert_eq!(table.solicit(now), [], "only once each time");
        table.set_neighbour(place(), Some(Neighbour::Incomplete), now);
        let next = table.next_deadline(now).unwrap();
        waits.push((next - now).as_secs());
        now = next;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16]);
    table.set_neighbour(place(), Some(resolved(MAC)), now);
    assert_eq!(table.next_deadline(now), None);
    assert!(!table.is_resolving());
    assert_eq!(table.solicit(now + Duration::from_mins(1)), []);
}

#[test]
fn a_collected_entry_keeps_its_mac_and_is_solicited_at_once() {
    let now = Instant::now();
    let mut table = table(now);
    table.set_neighbour(place(), Some(resolved(MAC)), now);
    table.set_neighbour(place(), None, now);
    assert_eq!(hop(&table, now).unwrap().mac, MAC);
    assert_eq!(table.solicit(now), [place()]);
    let later = now + Duration::from_hours(1);
    assert_eq!(hop(&table, later).unwrap().mac, MAC, "not silent, only forgotten");
}

#[test]
fn a_silent_neighbour_keeps_its_mac_for_thirty_seconds_from_its_first_failure() {
    let now = Instant::now();
    let mut table = table(now);
    table.set_neighbour(place(), Some(resolved(MAC)), now);
    table.set_neighbour(place(), Some(Neighbour::Failed), now);
    let soon = now + Duration::from_secs(20);
    table.set_neighbour(place(), Some(Neighbour::Incomplete), soon);
    table.set_neighbour(place(), None, soon);
    table.set_neighbour(place(), Some(Neighbour::Failed), soon);
    assert_eq!(hop(&table, now + Duration::from_millis(29_999)).unwrap().mac, MAC);
    table.solicit(soon);
    table.solicit(now + Duration::from_secs(29));
    assert_eq!(table.next_deadline(now + Duration::from_secs(29)), Some(now + SILENCE), "its end wakes the watcher");
    assert_eq!(hop(&table, now + SILENCE), None);
    assert!(reason(&table, now + SILENCE).contains("does not answer"));
    let back = now + Duration::from_secs(40);
    table.set_neighbour(place(), Some(resolved(OTHER)), back);
    assert_eq!(hop(&table, back).unwrap().mac, OTHER);
}

#[test]
fn a_neighbour_that_never_answered_has_no_grace() {
    let now = Instant::now();
    let mut table = table(now);
    table.set_neighbour(place(), Some(Neighbour::Failed), now);
    assert_eq!(hop(&table, now), None);
    assert!(reason(&table, now).contains("does not answer"));
    assert_eq!(table.solicit(now), [place()]);
}

#[test]
fn a_link_that_goes_down_ends_the_trust_in_its_neighbours() {
    let now = Instant::now();
    let mut table = table(now);
    table.set_neighbour(place(), Some(resolved(MAC)), now);
    assert!(table.set_link(2, Some(link(false)), now));
    assert_eq!(hop(&table, now), None);
    assert_eq!(reason(&table, now), "interface eth0 is down");
    assert_eq!(table.solicit(now), [], "nobody to ask");
    table.set_neighbour(place(), None, now);
    assert!(table.set_link(2, Some(link(true)), now));
    assert!(!table.set_link(2, Some(link(true)), now), "nothing new");
    assert_eq!(hop(&table, now), None, "the old MAC is not taken up again");
    assert_eq!(table.solicit(now), [place()]);
    assert!(table.set_link(2, None, now));
    assert_eq!(reason(&table, now), "interface number 2 is down");
}

#[test]
fn a_link_without_ethernet_address_has_no_next_hop() {
    let now = Instant::now();
    let mut table = table(now);
    table.set_link(2, Some(Link { name: "tun0".into(), mac: None, ..link(true) }), now);
    table.set_neighbour(place(), Some(resolved(MAC)), now);
    assert_eq!(hop(&table, now), None);
    assert_eq!(reason(&table, now), "interface tun0 has no Ethernet address");
    assert_eq!(table.solicit(now), []);
}

#[test]
fn an_address_without_route_is_reported_with_its_reason() {
    let now = Instant::now();
    let mut table = table(now);
    table.set_routes(BTreeMap::from([(ip("10.0.0.11"), Route::Unreachable(Unreachable::Local))]), now);
    assert_eq!(hop(&table, now), None);
    assert_eq!(reason(&table, now), "it is an address of this host");
    assert!(!table.set_neighbour(place(), Some(resolved(MAC)), now), "no route needs it now");
}

#[test]
fn only_needed_and_stale_neighbours_are_refreshed() {
    let now = Instant::now();
    let mut table = table(now);
    let stale = Neighbour::Resolved { mac: MAC, stale: true };
    table.set_neighbours(BTreeMap::from([(place(), stale), ((2, ip("10.0.0.99")), stale)]), now);
    assert_eq!(table.stale(), [place()]);
    assert_eq!(hop(&table, now).unwrap().mac, MAC);
    table.set_neighbour(place(), Some(resolved(MAC)), now);
    assert_eq!(table.stale(), []);
}

/// A VLAN device of that id over link 2.
fn vlan(id: u8) -> Link {
    let kind = Kind::Vlan { below: 2, tag: [0x81, 0, 0, id] };
    Link { name: format!("eth0.{id}"), mac: Some(OTHER), kind, ..link(true) }
}

/// The route of [`table`] leads through link 3, a VLAN device; its neighbour is known.
fn tagged(now: Instant) -> Table {
    let mut table = table(now);
    table.set_link(3, Some(vlan(100)), now);
    let place = (3, ip("10.0.0.11"));
    table.set_routes(BTreeMap::from([(ip("10.0.0.11"), Route::Via { place, mtu: None })]), now);
    assert!(table.set_neighbour(place, Some(resolved(MAC)), now));
    table
}

#[test]
fn a_vlan_device_gives_way_to_the_device_below_and_leaves_its_tag_and_its_own_mac() {
    let now = Instant::now();
    let expected = NextHop {
        ifindex: 2,
        source_mac: OTHER,
        mac: MAC,
        mtu: 1500,
        tags: [[0x81, 0, 0, 100], [0; 4]],
        on_link: true,
    };
    assert_eq!(hop(&tagged(now), now), Some(expected));
}

#[test]
fn changes_of_the_device_below_count() {
    let now = Instant::now();
    let mut table = tagged(now);
    assert!(table.set_link(2, Some(Link { mtu: 1400, ..link(true) }), now));
    assert_eq!(hop(&table, now).unwrap().mtu, 1400);
    assert!(table.set_link(2, Some(Link { name: "lan0".into(), ..link(false) }), now));
    assert_eq!(reason(&table, now), "interface lan0 is down");
    assert_eq!(table.solicit(now), [], "nobody to ask");
    assert!(table.set_link(2, None, now));
    assert_eq!(reason(&table, now), "interface number 2 is down");
    assert!(table.set_link(2, Some(link(true)), now));
    assert_eq!(hop(&table, now).unwrap().mac, MAC, "the kernel still says so");
    table.set_neighbour((3, ip("10.0.0.11")), None, now);
    assert!(table.set_link(2, Some(link(false)), now));
    assert!(table.set_link(2, Some(link(true)), now));
    assert_eq!(hop(&table, now), None, "the old MAC is not taken up again");
    assert_eq!(table.solicit(now), [(3, ip("10.0.0.11"))]);
}

#[test]
fn a_vlan_device_that_is_made_anew_counts_with_its_new_tag() {
    let now = Instant::now();
    let mut table = tagged(now);
    assert!(table.set_link(3, None, now));
    assert_eq!(hop(&table, now), None);
    assert!(table.set_link(3, Some(vlan(200)), now));
    table.set_neighbour((3, ip("10.0.0.11")), Some(resolved(MAC)), now);
    assert_eq!(hop(&table, now).unwrap().tags, [[0x81, 0, 0, 200], [0; 4]]);
}

#[test]
fn members_of_bonds_are_told_with_the_ways() {
    let now = Instant::now();
    let mut table = table(now);
    assert_eq!(table.snapshot(now).bonds, BTreeMap::new());
    let member = |master| Some(Link { master, ..link(true) });
    assert!(table.set_link(4, member(Some(9)), now));
    assert_eq!(table.snapshot(now).bonds, BTreeMap::new(), "whatever 9 is");
    assert!(table.set_link(9, Some(Link { kind: Kind::Bond, ..link(true) }), now));
    assert_eq!(table.snapshot(now).bonds, BTreeMap::from([(4, 9)]));
    assert!(table.set_link(4, member(None), now));
    assert_eq!(table.snapshot(now).bonds, BTreeMap::new());
}
