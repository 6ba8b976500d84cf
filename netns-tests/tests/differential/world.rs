//! Random tables: VIPs that ask for all there is.

use lb_common::layout::{
    flow::{FlowEntry, FlowState, TIME_MASK, WAYS},
    prefix::AclRule::{Allow, Deny},
    target::{Encap, Target},
    vip::{TCP, UDP, Vip},
};
use netns_tests::packet::{
    Given,
    case::INGRESS,
    given::{BUCKETS, FEATURES},
    kernel::unit,
};

use crate::random::Random;

/// Where packets may go: services, addresses in prefixes, and neither.
pub(crate) const SERVICES: [&str; 14] = [
    "192.0.2.10:443",
    "192.0.2.10:53",
    "192.0.2.11:8080",
    "192.0.2.99:443",
    "192.0.2.130:443",
    "192.0.2.131:53",
    "192.0.2.10:8443",
    "192.0.2.12:443",
    "192.0.2.13:443",
    "[2001:db8::10]:443",
    "[2001:db8::10]:53",
    "[2001:db8::99]:443",
    "[2001:db8:1::5]:443",
    "[2001:db8:1:2::5]:8080",
];
/// Where other lbs' tunnels end.
pub(crate) const TUNNELS: [&str; 2] = ["192.0.2.200", "2001:db8::200"];
/// Targets of all VIPs.
const TARGETS: u32 = 33;
/// More than a limit of one second ever allows, so that time plays no part.
const NEVER: u32 = 2_000_000_000;

/// Tables for a program with these features. The parameters are always the same, as it is loaded but once.
pub(crate) fn given(random: &mut Random, features: u32) -> Given {
    let backends = ["10.0.0.11", "10.0.0.12", "fd00::11", "fd00::12"];
    let given = Given::nothing()
        .vip(SERVICES[0], TCP, &backends)
        .vip(SERVICES[1], UDP, &backends)
        .vip("192.0.2.11:0", TCP, &backends[..2])
        .vip(SERVICES[9], TCP, &backends)
        .vip(SERVICES[10], UDP, &backends[1..])
        .vip(SERVICES[6], TCP, &[])
        .prefix_vip("192.0.2.128/25", 443, TCP, &backends)
        .prefix_vip("192.0.2.128/26", 0, UDP, &backends[..1])
        .prefix_vip("2001:db8:1::/48", 443, TCP, &backends)
        .prefix_vip("2001:db8:1:2::/64", 0, TCP, &backends[2..])
        .vip(SERVICES[9], UDP, &backends[..3])
        .vip(SERVICES[7], TCP, &backends[..1])
        .vip(SERVICES[8], TCP, &backends[..1]);
    let given = given.features(features).drops_unknown_ports(4).drops_unknown_ports(7);
    let given = given.tunnel_address(TUNNELS[0]).tunnel_address(TUNNELS[1]);
    let given = given.tunnel_source("172.16.0.0/16").tunnel_source("100::/64").bond(INGRESS, 4001);
    let given = [1, 2, 3, 4, 5, 7, 8, 9, 10, 11].into_iter().fold(given, |given, vip| asking(given, vip, random));
    let given = [1, 3, 4, 7].into_iter().fold(given, |given, vip| adaptive(given, vip, random));
    let given = targets(given, random);
    let given = if random.one_in(2) { given.told_too_big(1_000_000_000_000) } else { given };
    let given = if random.one_in(2) { given.silent_for(60_000_000_000) } else { given };
    given
        .new_flow_limit(12, NEVER, 0)
        .flags(13, Vip::LIMIT_SOURCES)
        .tuned(|tuning| (tuning.source_packet_ns, tuning.source_flow_ns) = (NEVER.into(), 1))
}

/// A VIP's wishes.
fn asking(given: Given, vip: u32, random: &mut Random) -> Given {
    let flags = [0, 0, 0, Vip::HASH_SOURCE, Vip::HASH_SOURCE_PORT, Vip::HASH_PORT, Vip::UNTRACKED];
    let ids = [0, 0, Vip::TCP_SERVER_ID | Vip::UDP_SERVER_ID, Vip::QUIC_LB, Vip::QUIC_KATRAN];
    let given = given.flags(vip, random.of(&flags) | random.of(&ids)).asks(vip, |vip| vip.quic_lengths = 0x14);
    // Targets that may be another VIP's, or none.
    let given = (1..=4).fold(given, |given, id| given.server(vip, id, 1 + random.below(40) as u32));
    let given = match random.below(4) {
        0 => given.source_route(vip, "203.0.113.0/24", 1).source_route(vip, "2001:db8:f::/48", 2),
        _ => given,
    };
    match random.below(6) {
        0 => given.rule(vip, "203.0.113.0/25", Deny).rule(vip, "203.0.113.8/32", Allow),
        1 => given.rule(vip, "198.51.100.0/24", Allow).rule(vip, "::/0", Deny),
        _ => given,
    }
}

/// Some VIPs are adaptive: with a previous target that may be any, with none, or closed.
fn adaptive(given: Given, vip: u32, random: &mut Random) -> Given {
    let first = [1, 1, 9, 11, 14, 18, 18][vip as usize - 1];
    let kind = random.below(6);
    // What is refused together: their flows would be looked for in the wrong slot.
    let others = Vip::HASH_MASK | Vip::UNTRACKED | Vip::SOURCE_ROUTES | Vip::TCP_SERVER_ID;
    let given = if kind < 4 { given.asks(vip, |vip| vip.flags &= !others) } else { given };
    match kind {
        0 | 1 => given.history(vip, Some(first + random.below(4) as u32)),
        2 => given.history(vip, None),
        3 => given.history(vip, Some(first)).flags(vip, Vip::CLOSED),
        _ => given,
    }
}

/// Targets of every kind, some down, draining or misplaced.
fn targets(given: Given, random: &mut Random) -> Given {
    let tags = [[0x81, 0, 0, 9], [0x88, 0xa8, 0, 10]];
    let given = (1..=TARGETS).fold(given, |given, id| {
        let (kind, bits) = (random.below(24), random.next());
        given.target(id, |target| match kind {
            0 | 1 => target.serves = 0,
            2 => target.flags = Target::DRAINING,
            3 => target.ifindex = 4000,
            4 => target.ifindex = 4001,
            5 => target.next_hop = [bits as u8; 6],
            6 => target.tags = [tags[0], [0; 4]],
            7 => target.tags = [tags[1], tags[0]],
            8 | 9 => target.flags = Target::KEEPS_TAGS,
            10 | 11 => target.mtu = 100,
            12 | 13 => target.encap = Encap::L2 as u32,
            14 => target.encap = Encap::Local as u32,
            15..20 if target.encap == Encap::IpipV4 as u32 => target.encap = Encap::GueV4 as u32,
            15..20 => target.encap = Encap::GueV6 as u32,
            _ => {}
        })
    });
    let given = given.group(1, &[1]).group(4, &[11, 12, 13]);
    // Our own fault, in one place, so that most frames come through.
    let misplaced = 1 + random.below(TARGETS as usize) as u32;
    let another_vip = random.one_in(2);
    given.target(misplaced, |target| if another_vip { target.vip = 99 } else { target.encap = 7 })
}

/// All features, and none.
pub(crate) const PROGRAMS: [u32; 2] = [FEATURES, 0];

/// A flow table full of others' flows, many of them in use.
pub(crate) fn crowded(random: &mut Random) -> Vec<[u64; WAYS]> {
    let states = [FlowState::Established, FlowState::Established, FlowState::Datagram, FlowState::Datagram];
    let word = |random: &mut Random| {
        let state = if random.one_in(4) { random.of(&FlowState::ALL[1..]) } else { random.of(&states) };
        let target = 1 + random.below(TARGETS as usize) as u32;
        FlowEntry::new(1 + random.next() as u32 / 32, target, unit(), state).0
    };
    (0..BUCKETS).map(|_| std::array::from_fn(|_| if random.one_in(16) { 0 } else { word(random) })).collect()
}

/// The flow table as it would be some time later: all entries older by up to what matters, some gone.
pub(crate) fn aged(flows: &[[u64; WAYS]], random: &mut Random) -> Vec<[u64; WAYS]> {
    let age = |word: u64, random: &mut Random| {
        let entry = FlowEntry(word);
        let units = random.of(&[0, 0, 1, 6, 7, 8, 63, 64, 4000]);
        match FlowState::try_from(entry.state()) {
            _ if entry.is_empty() || random.one_in(16) => 0,
            Ok(state) => entry.touched(entry.time().wrapping_sub(units) & TIME_MASK, state as u32).0,
            Err(state) => panic!("state {state}"),
        }
    };
    flows.iter().map(|bucket| bucket.map(|word| age(word, random))).collect()
}
