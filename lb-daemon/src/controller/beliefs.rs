//! What to believe of a backend that nobody has reported on yet.
//!
//! A daemon that starts over running tables must not take down what serves because its checks have just begun. So a
//! backend without a result keeps what the tables say, until its first one. Over empty tables there is nothing to keep:
//! the first plan waits for results a little, or the first backend that answers would get all the traffic.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use lb_common::layout::target::Target;

use super::{by_pool, checks, hop_targets, member, members};
use crate::{
    health::{HealthView, Member, Standing, WHOLE, roster::start_spread},
    model::{AdminState, Backend, Config, NextHopConfig, Pool, Service, Vip},
    nexthop::{self, NextHop, NextHops, Snapshot, Unreachable},
    plan::{
        State,
        lists::Lists,
        target::{address_of, hop_of},
        wanted::{self, Disposition, Wanted, key},
    },
};

/// Longest wait for first results.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// What a first result may take beyond its check's timeout and the time over which starts of probes are spread.
const GRACE: Duration = Duration::from_millis(200);
/// Largest packet on Ethernet, in bytes.
const ETHERNET_MTU: u32 = 1500;
/// Stands for a next hop that nobody knows yet.
const ANY_HOP: NextHop = NextHop {
    ifindex: 0,
    source_mac: [0; 6],
    mac: [2, 0, 0, 0, 0, 1],
    mtu: ETHERNET_MTU,
    tags: [[0; 4]; 2],
    on_link: true,
};

/// What the tables should hold by what is known, and where nothing is known, by what they hold now. `lists` are those of
/// `config`.
pub fn wanted(config: &Config, lists: &Lists, observed: &State, health: &HealthView, hops: &Snapshot) -> Wanted {
    let found = Found::in_tables(observed);
    wanted::wanted(config, lists, &found.health(config, health), &found.hops(config, hops), found.bonds(config, hops))
}

/// What the tables should hold if every check passed, over the ways that are known; and which pools of which VIPs are used
/// whole since few of their backends are up.
pub fn eligible(
    config: &Config,
    lists: &Lists,
    observed: &State,
    health: &HealthView,
    hops: &Snapshot,
) -> (Wanted, BTreeSet<(Service, String)>) {
    let found = Found::in_tables(observed);
    let health = found.health(config, health);
    let pools = config.vips.iter().flat_map(|vip| lists.pools(config, vip).into_iter().map(move |pool| (vip, pool)));
    let panics = pools.filter(|(vip, pool)| wanted::in_panic(vip, pool, &health));
    let panics = panics.map(|(vip, pool)| (vip.service, pool.name.clone())).collect();
    (all_up(config, lists, &found.hops(config, hops), found.bonds(config, hops)), panics)
}

/// What the tables should hold if every check passed and no agent held anything back.
pub fn all_up(config: &Config, lists: &Lists, hops: &NextHops, bonds: &BTreeMap<u32, u32>) -> Wanted {
    let up = || Standing { up: true, ..Standing::default() };
    let health = members(config).map(|(vip, _, backend)| (member(vip, backend), up())).collect();
    wanted::wanted(config, lists, &health, hops, bonds)
}

/// What is taken for granted because nobody knows it yet: backends by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assumed {
    /// Those that no check has reported on.
    pub up: BTreeSet<IpAddr>,
    /// Those whose next hop is still to be found.
    pub reachable: BTreeSet<IpAddr>,
    /// Those whose share of a ring is on its way to what health asks for.
    pub whole: BTreeSet<IpAddr>,
}

/// What the tables would hold in the end, given what is known, if all turned out well that is not: where [`wanted()`] waits
/// for a first result it is taken to be good. `running` is the configuration whose checks and next hops are reported; what
/// these have not found yet stays as the tables say, as everything found does where there is none.
pub fn expected(
    config: &Config,
    lists: &Lists,
    observed: &State,
    (health, hops): (&HealthView, &Snapshot),
    running: Option<&Config>,
) -> (Wanted, Assumed) {
    let found = Found::in_tables(observed);
    let (mut view, mut ways) = (found.health(config, health), found.hops(config, hops));
    let asked = running.map(checks).unwrap_or_default();
    let mut assumed = Assumed::default();
    for (vip, _, backend) in by_pool(config).filter(|(_, pool, _)| pool.health.is_watched()) {
        let member = member(vip, backend);
        let waits = if running.is_some() { asked.contains_key(&member) } else { found.has(&member) };
        if !view.contains_key(&member) && !waits {
            view.insert(member, Standing { up: true, ..Standing::default() });
            if backend.state != AdminState::Disabled {
                assumed.up.insert(backend.address);
            }
        }
    }
    for address in hop_targets(config).into_iter().filter(|address| is_open(hops, *address)) {
        let is_found = !hops.hops.contains_key(&address) && found.is_there(address);
        if ways.get(&address).is_none_or(Option::is_none) && !is_found {
            ways.insert(address, Some(ANY_HOP));
            assumed.reachable.insert(address);
        }
    }
    (wanted::wanted(config, lists, &view, &ways, found.bonds(config, hops)), assumed)
}

/// The same if every backend were reachable besides: the most that `config` can need.
pub fn best_case(config: &Config, lists: &Lists) -> Wanted {
    let hops = members(config).map(|(_, _, backend)| (backend.address, Some(ANY_HOP))).collect();
    let mut wanted = all_up(config, lists, &hops, &BTreeMap::new());
    // What is taken out of use by hand may come back by hand, and finds room then.
    for vip in wanted.vips.values_mut() {
        if !vip.backends.values().any(|target| target.disposition == Disposition::Serving) {
            vip.backends
                .values_mut()
                .for_each(|target| (target.disposition, target.weight) = (Disposition::Serving, 1));
        }
        for group in vip.groups.iter_mut().filter(|group| group.members.is_empty()) {
            group.members = vip.backends.keys().map(|address| (*address, 1)).collect();
        }
    }
    wanted
}

/// How long to wait for first results before backends without one count as down.
pub fn patience(config: &Config) -> Duration {
    let checks = checks(config);
    let each = || checks.values().flat_map(|health| health.asked());
    let slowest = each().map(|check| check.timeout).max().unwrap_or_default();
    (start_spread(each().count()) + slowest + GRACE).min(LONGEST_WAIT)
}

/// Whether each check has a result, and of each backend the way is known, or that there is none.
pub fn complete(config: &Config, health: &HealthView, hops: &Snapshot) -> bool {
    let known = |address: &IpAddr| !is_open(hops, *address);
    checks(config).keys().all(|member| health.contains_key(member)) && hop_targets(config).iter().all(known)
}

/// Whether a backend of a VIP would take new flows if first results of it, which are still to come, were good.
pub fn is_waited_for(
    config: &Config,
    vip: &Vip,
    pool: &Pool,
    backend: &Backend,
    health: &HealthView,
    hops: &Snapshot,
) -> bool {
    let up = if pool.health.is_watched() {
        health.get(&member(vip, backend)).map(|standing| standing.up)
    } else {
        Some(true)
    };
    let reachable = match config.dataplane.next_hop {
        NextHopConfig::Auto if !backend.local => {
            (!is_open(hops, backend.address)).then(|| hops.hops.get(&backend.address).is_some_and(Option::is_some))
        }
        _ => Some(true),
    };
    let known = [up, reachable];
    wanted::takes_new_flows(backend) && known.contains(&None) && !known.contains(&Some(false))
}

/// What to believe of a backend of `pool`, if anything: what is known of it, and what the tables say of one that serves, or
/// drains, and was not asked yet, or could never be asked. One that is only presumed to be down was not found so, and unless
/// it serves it is nobody whom a panic could use.
pub fn believed<'a>(pool: &Pool, known: Option<&'a Standing>, target: Option<&Target>) -> Option<Cow<'a, Standing>> {
    let found = target.filter(|target| target.serves != 0);
    match known {
        Some(standing) if !standing.is_unknown() => {
            (found.is_some() || !standing.is_presumed()).then_some(Cow::Borrowed(standing))
        }
        unknown => {
            // Who drains by an order does so as long as that stands, but what an agent wants nobody else knows.
            let drains = found?.flags & Target::DRAINING != 0 && pool.health.agent.is_some();
            let told = unknown.and_then(|standing| standing.agent.as_ref()).map(|agent| agent.word.permille());
            let permille = told.unwrap_or(if drains { 0 } else { WHOLE });
            let why = unknown.map_or("not checked yet", |standing| &standing.reason);
            let reason = format!("{why}, kept as found");
            Some(Cow::Owned(Standing { up: true, permille, reason, ..Standing::default() }))
        }
    }
}

/// Whether the way to `address` is still being asked for.
fn is_open(hops: &Snapshot, address: IpAddr) -> bool {
    match hops.hops.get(&address) {
        None => true,
        Some(Some(_)) => false,
        Some(None) => matches!(hops.reason(address), Some(Unreachable::Unresolved { .. })),
    }
}

/// What the tables say of backends.
struct Found<'a> {
    /// Number of each VIP and what its targets are, by backend address.
    targets: BTreeMap<u32, BTreeMap<IpAddr, &'a Target>>,
    /// The tables.
    observed: &'a State,
}

impl<'a> Found<'a> {
    fn in_tables(observed: &'a State) -> Self {
        let mut targets: BTreeMap<u32, BTreeMap<IpAddr, &Target>> = BTreeMap::new();
        for target in observed.targets.values().filter(|target| target.flags & Target::GONE == 0) {
            let address = address_of(target.outer_destination);
            targets.entry(target.vip).or_default().insert(address, target);
        }
        Self { targets, observed }
    }

    /// Whether they have the backend of a check.
    fn has(&self, member: &Member) -> bool {
        let id = self.observed.vips.get(&key(&member.service)).map(|vip| vip.id);
        let targets = id.and_then(|id| self.targets.get(&id));
        targets.is_some_and(|targets| targets.contains_key(&member.backend.to_canonical()))
    }

    /// Whether they have a backend of this address.
    fn is_there(&self, address: IpAddr) -> bool {
        self.targets.values().any(|targets| targets.contains_key(&address.to_canonical()))
    }

    /// Results of checks, completed by what is [believed].
    fn health(&self, config: &Config, known: &HealthView) -> HealthView {
        let mut completed = HealthView::new();
        for (vip, pool, backend) in members(config) {
            let member = member(vip, backend);
            let id = self.observed.vips.get(&key(&member.service)).map(|vip| vip.id);
            let target = id.and_then(|id| self.targets.get(&id)).and_then(|targets| targets.get(&member.backend));
            if let Some(standing) = believed(pool, known.get(&member), target.copied()) {
                completed.insert(member, standing.into_owned());
            }
        }
        completed
    }

    /// Members of bonds. While nobody has looked for next hops, nobody has looked for these; by a fixed gateway packets
    /// leave by the interface that they came in by, bond or not.
    fn bonds(&self, config: &Config, known: &'a Snapshot) -> &'a BTreeMap<u32, u32> {
        const NONE: &BTreeMap<u32, u32> = &BTreeMap::new();
        let is_known = |address: &IpAddr| known.hops.contains_key(address);
        match config.dataplane.next_hop {
            NextHopConfig::Gateway(_) => NONE,
            NextHopConfig::Auto if hop_targets(config).iter().any(is_known) || !known.bonds.is_empty() => &known.bonds,
            NextHopConfig::Auto => &self.observed.bonds,
        }
    }

    /// Next hops, completed: a way that is in use stays while it is being asked for. A fixed gateway serves them all, and
    /// nobody knows how large its packets may be.
    fn hops(&self, config: &Config, known: &Snapshot) -> NextHops {
        if let NextHopConfig::Gateway(mac) = config.dataplane.next_hop {
            let backends = members(config).map(|(_, _, backend)| backend.address).collect();
            return nexthop::gateway(&backends, mac, 0);
        }
        let mut completed = known.hops.clone();
        for address in hop_targets(config).into_iter().filter(|address| is_open(known, *address)) {
            let mut found = self.targets.values().filter_map(|targets| targets.get(&address));
            if let Some(target) = found.find(|target| target.serves != 0) {
                completed.insert(address, Some(hop_of(target)));
            }
        }
        completed
    }
}
