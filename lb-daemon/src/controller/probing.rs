//! Probes that go to VIPs: what carries them to backends, and by which ways.

mod sources;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use lb_common::layout::target::{Encap, Target};
use tokio::time::Instant;
use tracing::{error, info};

use self::sources::Taken;
use super::{Controller, chain, engine::Engine, tell, view};
use crate::{
    dataplane::kernel::ProbeSettings,
    health::{Checks, HealthView, Member, Way, Ways},
    model::{Config, NextHopConfig},
    plan::{State, wanted::key},
};

/// So many VIPs and interfaces are looked at, at most, for what keeps answers away: all of them fare alike.
const MOST_LOOKUPS: usize = 4;

/// What carries probes is tried again after this time.
const CARRY_AGAIN: Duration = Duration::from_secs(10);
const NOT_CARRIED: &str = "health probes cannot be carried by vips' ways";

/// What carries probes, as `config` needs it; `None` if all go to backends' own addresses.
pub(super) fn settings(config: &Config) -> Option<ProbeSettings> {
    let asks = |pool: &crate::model::Pool| pool.health.checks.iter().any(|check| check.route.is_by_vip());
    let interface = match config.dataplane.next_hop {
        NextHopConfig::Auto => None,
        NextHopConfig::Gateway(_) => config.dataplane.interfaces.first().map(|interface| interface.name.clone()),
    };
    let settings = || ProbeSettings { tag: config.daemon.probe_mark, interface };
    config.pools.values().any(asks).then(settings)
}

/// The ways to backends that `checks` asks by their VIPs' addresses, in tables that hold `state`. `own` tells the addresses of
/// this host that others can answer to, each with its interface.
fn ways(checks: &Checks, state: &State, tag: u32, taken: &Taken, own: impl Fn() -> Vec<(u32, IpAddr)>) -> Ways {
    let found = OnceCell::new();
    // Asked of the kernel only where it matters.
    let own = || found.get_or_init(&own);
    let whole = if taken.is_any_whole() { taken.whole(own()) } else { BTreeSet::new() };
    let mut sources: BTreeMap<u32, [Option<IpAddr>; 2]> = BTreeMap::new();
    let mut ways = BTreeMap::new();
    let mut last = None;
    let mut targets = BTreeMap::new();
    let asked = checks.iter().filter(|(_, health)| health.checks.iter().any(|check| check.route.is_by_vip()));
    for (&member, _) in asked {
        if last != Some(member.service) {
            last = Some(member.service);
            let vip = state.vips.get(&key(&member.service));
            targets = vip.map(|vip| view::targets(vip, state)).unwrap_or_default();
        }
        let Some(&(number, target)) = targets.get(&member.backend.to_canonical()) else { continue };
        let at = target.ifindex;
        let mut source = || sources.entry(at).or_insert_with(|| taken.source(own(), at)).to_owned();
        ways.extend(way(member, tag | number, target, !whole.is_empty(), &mut source).map(|way| (member, way)));
    }
    Ways { of: ways, taken: whole }
}

/// The way to a target, if it has one. What the kernel chooses to send from may be one of those that are `taken`.
fn way(
    member: Member,
    mark: u32,
    target: &Target,
    taken: bool,
    source: &mut impl FnMut() -> [Option<IpAddr>; 2],
) -> Option<Way> {
    if target.encap == Encap::Local as u32 {
        return Some(Way::Here);
    }
    if target.next_hop == [0; 6] {
        return None;
    }
    let vip_is_v4 = member.service.address.is_ipv4();
    // Where the kernel knows the way to the backend it chooses the address too.
    let chooses = vip_is_v4 == member.backend.is_ipv4() && target.ifindex != 0 && !taken;
    let [v4, v6] = if chooses { [None; 2] } else { source() };
    Some(Way::Carried { mark, source: if vip_is_v4 { v4 } else { v6 } })
}

impl<E: Engine> Controller<E> {
    /// Has in place what carries probes, if any are to be. Traffic does not depend on it, so a failure holds up nothing else: it
    /// is told, and tried again.
    pub(super) fn carry(&mut self) {
        let outcome = self.engine.carry_probes(settings(&self.config).as_ref()).map_err(|error| chain(&error));
        match (&outcome, &self.carrying) {
            (Err(error), before) if before.as_ref() != Some(&outcome) => error!(error, "{NOT_CARRIED}"),
            (Ok(()), Some(Err(_))) => info!("health probes are carried by vips' ways again"),
            _ => {}
        }
        self.carry_again = outcome.is_err().then(|| Instant::now() + CARRY_AGAIN);
        self.carrying = Some(outcome);
    }

    /// Whether something of that was lost, or returned, since the last look.
    pub(super) fn carries_otherwise(&self) -> bool {
        let carrying = self.carrying.as_ref().map(Result::is_ok);
        carrying != Some(self.engine.carries_probes(settings(&self.config).as_ref()))
    }

    /// Shows by which ways backends can be asked, as the tables are now.
    pub(super) fn show_ways(&self) {
        let ways = match (settings(&self.config), self.carrying.as_ref().map(Result::is_ok)) {
            (Some(settings), Some(true)) => {
                ways(&self.asked(), &self.state, settings.tag, &Taken::by(&self.config), || self.engine.answerable())
            }
            (Some(_), Some(false)) => {
                let closed = self.asked().keys().map(|member| (*member, Way::Closed)).collect();
                Ways { of: closed, ..Ways::default() }
            }
            (Some(_), None) | (None, _) => Ways::default(),
        };
        tell(&self.wires.ways, Arc::new(ways));
    }

    /// What is checked of the configuration in force.
    fn asked(&self) -> Arc<Checks> {
        Arc::clone(&self.wires.checks.borrow())
    }

    /// What is heard of health, as far as plans go by it. On a fresh start they have targets for probes alone, until first
    /// results are in: the first backend to answer would get all the traffic.
    pub(super) fn believed(&self) -> Arc<HealthView> {
        if self.fresh { Arc::default() } else { Arc::clone(&self.reports.health) }
    }

    /// Why backends are not asked by the VIP, or are down that were, where the kernel is known to drop what they answer.
    pub(super) fn unanswered(&self) -> Vec<String> {
        if let Some(Err(error)) = &self.carrying {
            return vec![format!("{NOT_CARRIED}: {error}")];
        }
        if settings(&self.config).is_none() {
            return Vec::new();
        }
        let health = self.reports.health.iter();
        let down: BTreeSet<Member> = health.filter(|(_, standing)| !standing.up).map(|(member, _)| *member).collect();
        if down.is_empty() {
            return Vec::new();
        }
        let mut told: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
        for (ifindex, vip) in expected(&down, &self.asked(), &self.state) {
            if let Some(interface) = self.engine.filters_answers(ifindex, vip) {
                told.entry(interface).or_insert(vip);
            }
        }
        told.into_iter().map(|(interface, vip)| filtered(&interface, vip)).collect()
    }
}

/// The interfaces that answers of some of these are expected by, and the VIPs that they come from.
fn expected(members: &BTreeSet<Member>, checks: &Checks, state: &State) -> BTreeSet<(u32, Ipv4Addr)> {
    let is_by_vip = |member: &&Member| {
        checks.get(member).is_some_and(|health| health.checks.iter().any(|check| check.route.is_by_vip()))
    };
    let mut found = BTreeSet::new();
    let (mut last, mut targets) = (None, BTreeMap::new());
    for member in members.iter().filter(is_by_vip) {
        // IPv6 knows no such filter.
        let IpAddr::V4(vip) = member.service.some_address() else { continue };
        if last != Some(member.service) {
            last = Some(member.service);
            let entry = state.vips.get(&key(&member.service));
            targets = entry.map(|entry| view::targets(entry, state)).unwrap_or_default();
        }
        let target = targets.get(&member.backend.to_canonical()).filter(|(_, target)| target.ifindex != 0);
        found.extend(target.map(|(_, target)| (target.ifindex, vip)));
        if found.len() == MOST_LOOKUPS {
            break;
        }
    }
    found
}

fn filtered(interface: &str, vip: Ipv4Addr) -> String {
    format!(
        "health probes get no answer: the kernel drops what comes in by {interface} from {vip}, as rp_filter is on and its \
         route to {vip} leads elsewhere; set net.ipv4.conf.all.rp_filter and net.ipv4.conf.{interface}.rp_filter to 0, or \
         `probe = \"direct\"`"
    )
}

#[cfg(test)]
mod tests {
    use lb_common::layout::vip::Vip;

    use super::*;
    use crate::model::{Protocol, Route, Service};

    fn member(vip: &str, backend: &str) -> Member {
        let service = Service::of(vip.parse().unwrap(), 80, Protocol::Tcp);
        Member { service, backend: backend.parse().unwrap() }
    }

    #[test]
    fn a_way_is_told_once_its_target_has_one() {
        let reached =
            Target { next_hop: [2, 0, 0, 0, 0, 1], ifindex: 7, encap: Encap::IpipV4 as u32, ..Target::default() };
        let found = ["198.51.100.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].map(Some);
        let way_if = |taken, member, target: &Target| way(member, 0x1b00_0005, target, taken, &mut || found);
        let way = |member, target: &Target| way_if(false, member, target);
        let same = member("192.0.2.1", "10.0.0.1");
        assert_eq!(way(same, &reached), Some(Way::Carried { mark: 0x1b00_0005, source: None }));
        assert_eq!(way(same, &Target { next_hop: [0; 6], ..reached }), None);
        assert_eq!(way(same, &Target { encap: Encap::Local as u32, ..Target::default() }), Some(Way::Here));
        // By the gateway's address alone the kernel may know no way.
        let blind = way(same, &Target { ifindex: 0, ..reached });
        assert_eq!(blind, Some(Way::Carried { mark: 0x1b00_0005, source: found[0] }));
        let mixed = way(member("2001:db8:1::1", "10.0.0.1"), &reached);
        assert_eq!(mixed, Some(Way::Carried { mark: 0x1b00_0005, source: found[1] }));
        // The kernel's choice may be no use.
        let taken = way_if(true, same, &reached);
        assert_eq!(taken, Some(Way::Carried { mark: 0x1b00_0005, source: found[0] }));
    }

    #[test]
    fn ways_go_by_the_numbers_that_the_tables_have() {
        use crate::model::{Ask, Check, Health};
        let check = |route| Check { route, ..Check::of(Ask::Tcp) };
        let health = |route| Arc::new(Health { checks: vec![check(route)], ..Health::default() });
        let (one, two, direct) =
            (member("192.0.2.1", "10.0.0.1"), member("192.0.2.1", "10.0.0.2"), member("192.0.2.2", "10.0.0.1"));
        let checks =
            Checks::from([(one, health(Route::Vip)), (two, health(Route::Vip)), (direct, health(Route::Direct))]);
        let target = |backend: &str| Target {
            vip: 3,
            encap: Encap::IpipV4 as u32,
            outer_destination: crate::plan::target::address_bytes(backend.parse().unwrap()),
            next_hop: [2, 0, 0, 0, 0, 1],
            ifindex: 7,
            ..Target::default()
        };
        let vip = Vip { id: 3, target_base: 8, target_count: 8, ..Vip::default() };
        let gone = Target { flags: Target::GONE, ..target("10.0.0.2") };
        let state = State {
            vips: BTreeMap::from([(key(&one.service), vip)]),
            targets: BTreeMap::from([(9, target("10.0.0.1")), (10, gone)]),
            ..State::default()
        };
        let not_asked = || panic!("nobody needs to know this host's addresses");
        let ways = ways(&checks, &state, 0x1b00_0000, &Taken::default(), not_asked);
        let of = BTreeMap::from([(one, Way::Carried { mark: 0x1b00_0009, source: None })]);
        assert_eq!(ways, Ways { of, ..Ways::default() });
    }
}
