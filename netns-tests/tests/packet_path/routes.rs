//! Source routes: the client's prefix decides which backends take its new flows.

use lb_common::{
    layout::{
        counter::PathEvent::{IcmpSteered, Moved, SourceRouted},
        flow::FlowState::Established,
        vip::{TCP, Vip},
    },
    maps::feature,
};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, SYN},
    given::{FEATURES, Given},
};

use super::site::{BACKEND, WEB, WEB_V6, chosen};

/// Targets 1 and 2 (IPv4), 3 and 4 (IPv6). The rings point to 1 and 3; groups: 1 is target 2, 2 is target 4, 3 is empty, 4 is
/// target 1, 5 is targets 1 and 2.
fn given() -> Given {
    let backends = [BACKEND, "10.0.0.12"];
    Given::nothing()
        .vip(WEB, TCP, &backends)
        .vip(WEB_V6, TCP, &backends)
        .ring(1, Some(1))
        .ring(2, Some(3))
        .group(1, &[2])
        .group(2, &[4])
        .group(1, &[])
        .group(1, &[1])
        .group(1, &[1, 2])
        .source_route(1, "203.0.113.0/24", 1)
        .source_route(1, "203.0.113.128/25", 4)
        .source_route(1, "203.0.113.200/32", 1)
        .source_route(1, "198.18.0.0/15", 3)
        .source_route(1, "198.51.100.0/24", 5)
        .source_route(2, "2001:db8:f::/48", 2)
}

fn from(client: &str, flags: u8) -> Frame {
    Frame::tcp(client, if client.starts_with('[') { WEB_V6 } else { WEB }, flags)
}

fn routed(name: &'static str, client: &str, target: u32) -> Case {
    Case::forwarded(name, &given(), &from(client, SYN), target).opens(target).event(SourceRouted)
}

fn unrouted(name: &'static str, given: &Given, client: &str, target: u32) -> Case {
    Case::forwarded(name, given, &from(client, SYN), target).opens(target)
}

pub(crate) fn cases() -> Vec<Case> {
    let known = given().flow(&from("203.0.113.9:1000", ACK), 1, 0, Established);
    let down = known.clone().target(1, |target| target.serves = 0);
    let everyone = given().source_route(1, "0.0.0.0/0", 1);
    let other_vip = Given::nothing()
        .vip(WEB, TCP, &[BACKEND, "10.0.0.12"])
        .vip("192.0.2.11:443", TCP, &[BACKEND])
        .ring(1, Some(1))
        .group(1, &[2])
        .source_route(1, "203.0.113.0/24", 1)
        .flags(2, Vip::SOURCE_ROUTES);
    let foreign = Given::nothing()
        .vip(WEB, TCP, &[BACKEND, "10.0.0.12"])
        .vip("192.0.2.11:443", TCP, &[BACKEND])
        .ring(1, Some(1))
        .group(2, &[3])
        .source_route(1, "203.0.113.0/24", 1);
    let without = given().features(FEATURES & !feature::SOURCE_ROUTES);
    let untracked = given().flags(1, Vip::UNTRACKED);
    let client = from("203.0.113.9:1000", ACK);
    let error = Frame::error("203.0.113.9", [3, 4], [0; 4], &client.reversed(), 28);
    let (ring_of_two, shared) = (from("198.51.100.7:1001", SYN), given());
    let share = chosen(&shared, &ring_of_two);
    vec![
        routed("a client of a prefix", "203.0.113.9:1000", 2),
        routed("a client of a prefix, IPv6", "[2001:db8:f::9]:1000", 4),
        routed("a client of a longer prefix", "203.0.113.130:1000", 1),
        routed("a client with a route of its own", "203.0.113.200:1000", 2),
        routed("the last address of a routed prefix", "203.0.113.255:1000", 1),
        unrouted("a client without a route", &given(), "192.0.2.200:1000", 1),
        unrouted("a client without a route, IPv6", &given(), "[2001:db8:e::9]:1000", 3),
        unrouted("a route to a group that takes no flows", &given(), "198.18.9.9:1000", 1),
        unrouted("a route of another VIP", &other_vip, "198.18.9.9:1000", 1),
        Case::forwarded(
            "a client's other VIP has no route",
            &other_vip,
            &Frame::tcp("203.0.113.9:9", "192.0.2.11:443", SYN),
            3,
        )
        .opens(3),
        unrouted("a route to another VIP's group", &foreign, "203.0.113.9:1000", 1),
        Case::forwarded("a route for everyone", &everyone, &from("192.0.2.200:7", SYN), 2).opens(2).event(SourceRouted),
        Case::forwarded("a group's own ring", &shared, &ring_of_two, share).opens(share).event(SourceRouted),
        unrouted("routes in a program that does not know them", &without, "203.0.113.9:1000", 1),
        Case::forwarded("a known flow stays, whatever its route", &known, &client, 1).remembers(&[(1, Established, 0)]),
        Case::forwarded("a flow whose target is down moves by its route", &down, &client, 2)
            .event(Moved)
            .event(SourceRouted)
            .counts(2, |counters| counters.flows_moved = 1)
            .remembers(&[(2, Established, 0)]),
        Case::forwarded("a route, untracked", &untracked, &client, 2).event(SourceRouted).remembers(&[]),
        Case::forwarded("an error about a routed flow that is not known", &given(), &error, 2)
            .event(IcmpSteered)
            .event(SourceRouted)
            .remembers(&[]),
    ]
}
