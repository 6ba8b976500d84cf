//! Access lists: who may send to a VIP. Whoever may not leaves no trace in any table.

use lb_common::{
    layout::{
        counter::PathEvent::IcmpSteered,
        flow::FlowState::Established,
        prefix::AclRule::{Allow, Deny},
        vip::{TCP, Vip},
    },
    maps::feature,
    verdict::Verdict::Denied,
};
use netns_tests::packet::{
    Case, Frame,
    frame::flags::{ACK, SYN},
    given::{FEATURES, Given},
};

use super::site::{BACKEND, WEB, WEB_V6, site};

/// Targets 1 and 2 of the VIPs that `WEB` and `WEB_V6` name, and 3 of one without a list.
fn web() -> Given {
    let other = "192.0.2.11:443";
    Given::nothing().vip(WEB, TCP, &[BACKEND]).vip(WEB_V6, TCP, &[BACKEND]).vip(other, TCP, &[BACKEND])
}

fn from(client: &str) -> Frame {
    Frame::tcp(client, if client.starts_with('[') { WEB_V6 } else { WEB }, SYN)
}

fn denied(name: &'static str, given: &Given, frame: Frame) -> Case {
    Case::left_alone(name, given, frame, Denied).remembers(&[])
}

fn let_in(name: &'static str, given: &Given, frame: &Frame, target: u32) -> Case {
    Case::forwarded(name, given, frame, target).opens(target)
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = lists();
    cases.extend(both());
    cases.extend(traces());
    cases
}

fn lists() -> Vec<Case> {
    let deny = web().rule(1, "203.0.113.0/24", Deny).rule(2, "2001:db8:f::/48", Deny);
    let allow = web().rule(1, "203.0.113.0/24", Allow).rule(1, "::/0", Deny);
    let hole = web().rule(1, "203.0.113.0/24", Deny).rule(1, "203.0.113.64/26", Allow).rule(1, "203.0.113.65/32", Deny);
    let to_other = Frame::tcp("203.0.113.9:1000", "192.0.2.11:443", SYN);
    let without = deny.clone().features(FEATURES & !feature::ACL);
    vec![
        denied("a prefix that is denied", &deny, from("203.0.113.9:1000")),
        denied("a prefix that is denied, IPv6", &deny, from("[2001:db8:f::9]:1000")),
        let_in("a source that is not denied", &deny, &from("203.0.112.9:1000"), 1),
        let_in("a source that is not denied, IPv6", &deny, &from("[2001:db8:e::9]:1000"), 2),
        let_in("a source that another VIP denies", &deny, &to_other, 3),
        let_in("a prefix that is allowed", &allow, &from("203.0.113.9:1000"), 1),
        denied("a source that is not allowed", &allow, from("203.0.112.9:1000")),
        denied("the longest prefix decides", &hole, from("203.0.113.9:1000")),
        let_in("an allowed prefix within a denied one", &hole, &from("203.0.113.66:1000"), 1),
        denied("a denied address within an allowed prefix", &hole, from("203.0.113.65:1000")),
        denied("a denied source with a tag", &deny, from("203.0.113.9:1000").tagged(&[(0x8100, 5)])),
        let_in("a program without access lists", &without, &from("203.0.113.9:1000"), 1),
    ]
}

/// The list of all VIPs comes first, and what it lets in the VIP's own may keep out.
fn both() -> Vec<Case> {
    let all = web().rule_for_all("203.0.113.0/24", Deny);
    let own_allows = all.clone().rule(1, "203.0.113.0/24", Allow).rule(1, "::/0", Deny);
    let all_allow =
        web().rule_for_all("203.0.113.0/24", Allow).rule_for_all("::/0", Deny).rule(1, "203.0.113.9/32", Deny);
    let to_other = |client: &str| Frame::tcp(client, "192.0.2.11:443", SYN);
    let unflagged = all.clone().asks(1, |vip| vip.flags &= !Vip::ACL_GLOBAL);
    vec![
        denied("all VIPs deny a prefix", &all, from("203.0.113.9:1000")),
        denied("all VIPs deny a prefix, the other VIP", &all, to_other("203.0.113.9:1000")),
        let_in("all VIPs deny another prefix", &all, &from("198.51.100.9:1000"), 1),
        denied("a VIP cannot allow what all VIPs deny", &own_allows, from("203.0.113.9:1000")),
        denied("a VIP denies what all VIPs allow", &all_allow, from("203.0.113.9:1000")),
        let_in("what all VIPs allow and the VIP does not deny", &all_allow, &from("203.0.113.10:1000"), 1),
        denied("all VIPs deny a prefix, and pings from it", &all, Frame::echo("203.0.113.9", "192.0.2.10", 1)),
        Case::answered(
            "a ping from a prefix that only a VIP denies",
            &web().rule(1, "203.0.113.0/24", Deny),
            &Frame::echo("203.0.113.9", "192.0.2.10", 1),
            &Frame::echo("203.0.113.9", "192.0.2.10", 1).answered(),
        ),
        denied("what all VIPs don't allow", &all_allow, from("198.51.100.9:1000")),
        let_in("a VIP that does not ask for the list of all", &unflagged, &from("203.0.113.9:1000"), 1),
    ]
}

fn traces() -> Vec<Case> {
    let given = web().rule(1, "203.0.113.0/24", Deny);
    let ack = Frame::tcp("203.0.113.9:1000", WEB, ACK);
    let known = given.clone().flow(&ack, 1, 7, Established);
    let datagram = Frame::udp("203.0.113.9:1000", "192.0.2.10:53").payload(&[7; 64]).identification(5);
    let dns = site().rule(3, "203.0.113.0/24", Deny);
    let [first, second, _] = &datagram.fragments(24)[..] else { panic!("three fragments") };
    let limited = given.clone().source_limit(1_000_000_000, 1_000_000_000).new_flow_limit(1, 1_000_000_000, 0);
    let error = Frame::error("203.0.113.1", [3, 4], [0; 4], &Frame::tcp(WEB, "198.51.100.7:51000", ACK), 28);
    vec![
        Case::left_alone("a denied packet of a known flow leaves it as it is", &known, ack, Denied).remembers(&[(
            1,
            Established,
            7,
        )]),
        denied("a denied first fragment is not remembered", &dns, first.clone())
            .remembers_datagrams(&[])
            .then(Case::left_alone("", &dns, second.clone(), lb_common::verdict::Verdict::FragmentUnknown)),
        denied("a denied packet counts for no limit", &limited, from("203.0.113.9:1000")),
        Case::forwarded("an error about the flow of a client who may send", &given, &error, 1)
            .event(IcmpSteered)
            .remembers(&[]),
    ]
}
