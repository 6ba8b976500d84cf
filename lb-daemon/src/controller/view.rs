//! From the tables and all reports to how it is with each VIP and backend. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::SystemTime,
};

use lb_common::layout::{ring, target::Target, vip::Vip as VipValue};
use tokio::time::Instant;

use super::{
    Reports, beliefs, former,
    governor::Governor,
    member,
    snapshot::{BackendView, Headcount, VipView},
};
use crate::{
    health::{Member, Standing, WHOLE},
    model::{
        AdminState, Backend, Config, Encap, NextHopConfig, Pool, Service, Vip,
        overrides::{BackendOverride, Overrides, StateOverride},
    },
    plan::{
        Capacity, ListTable, State,
        lists::Lists,
        target::address_of,
        wanted::{self, Disposition, Few, key, service},
    },
};

/// Places in use.
pub(crate) fn used(state: &State) -> Capacity {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let groups = state.groups.values().map(|group| group.ring_slots);
    let rings = state.vips.values().map(|vip| vip.ring_slots).chain(groups);
    let prefixes = |table: ListTable| -> usize {
        state.lists.iter().filter(|(id, _)| id.table == table).map(|(_, list)| list.len()).sum()
    };
    Capacity {
        vips: count(state.vips.len()),
        targets: count(state.targets.len()),
        ring_blocks: rings.map(ring::blocks).sum(),
        groups: count(state.groups.len()),
        servers: count(state.servers.len()),
        prefixes: count(prefixes(ListTable::Access).max(prefixes(ListTable::Routes))),
        tunnel_sources: count(prefixes(ListTable::TunnelSources)),
        own: count(state.tunnels.len().max(state.bonds.len())),
    }
}

/// All that is known of VIPs and backends.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    /// The configuration in force.
    pub(super) config: &'a Config,
    /// Those of `config`.
    pub(super) lists: &'a Lists,
    /// What operators want, which `config` has in it.
    pub(super) overrides: &'a Overrides,
    /// The tables.
    pub(super) state: &'a State,
    /// Results of checks, and next hops.
    pub(super) reports: &'a Reports,
    /// How far rings have come.
    pub(super) governor: &'a Governor,
    /// Whether first results are waited for.
    pub(super) settling: bool,
}

/// All VIPs of the configuration, as the tables have them.
pub(super) fn views(known: &Known) -> Vec<VipView> {
    let Known { config, lists, overrides, state, reports, governor, settling } = *known;
    let now = (Instant::now(), SystemTime::now());
    let view = |vip: &Vip| {
        let value = state.vips.get(&key(&vip.service));
        let targets = value.map(|value| targets(value, state)).unwrap_or_default();
        let mut seen = BTreeSet::new();
        let mut backends = Vec::new();
        let mut own = 0;
        for pool in lists.pools(config, vip) {
            // A backend of several pools is one target, shown as its first pool has it.
            let new = pool.backends.iter().filter(|backend| seen.insert(backend.address));
            let overridden = overrides.of_pool(&pool.name);
            let view = |backend: &Backend| {
                let found = targets.get(&backend.address).copied();
                let overridden = overridden.get(backend.name.as_str()).copied();
                Seen { known, vip, pool, backend, found, overridden }.view()
            };
            backends.extend(new.map(view));
            if pool.name == vip.pool {
                own = backends.len();
            }
        }
        // Those of other pools take new flows of some sources only.
        share_out(&mut backends[..own]);
        for backend in &mut backends[..own] {
            if let Some((share, waits)) = governor.told(&vip.service, backend.address, now) {
                (backend.share, backend.waits) = (share, waits);
                if backend.waits.is_some() && backend.effect == Disposition::Serving {
                    backend.reason = against(backend.up, &backend.last_check, backend.advice.as_deref());
                }
            }
        }
        let panic = config.pools.get(&vip.pool).and_then(|pool| panic(vip, pool, reports, &targets));
        let healthy = headcount(vip, &backends[..own], panic);
        VipView {
            name: vip.name.clone(),
            service: vip.service,
            pool: vip.pool.clone(),
            disabled: overrides.vips.get(&vip.name).copied(),
            settling: settling && former::waits(config, lists, vip, reports),
            healthy,
            ring_slots: value.map_or(0, VipValue::open_slots),
            tracked_slots: value.and_then(|value| tracked_slots(value, state)),
            ring_digest: value.and_then(|value| ring_digest(value, state)),
            backends,
        }
    };
    config.vips.iter().map(view).collect()
}

/// What the tables serve, told without a configuration: by addresses, since tables have no names.
pub(crate) fn found(state: &State) -> Vec<VipView> {
    let view = |(service, value): (Service, &VipValue)| {
        let backend = |(address, (id, target)): (IpAddr, (u32, &Target))| BackendView {
            pool: String::new(),
            name: address.to_string(),
            address,
            target: Some(id),
            effect: effect(target),
            reason: None,
            waits: None,
            admin: AdminState::Active,
            weight: 1,
            overridden: None,
            share: 0.0,
            up: None,
            last_check: String::new(),
            permille: WHOLE,
            advice: None,
            silent: false,
            next_hop: Some(target.next_hop).filter(|mac| *mac != [0; 6]),
            ifindex: target.ifindex,
        };
        VipView {
            name: service.to_string(),
            service,
            pool: String::new(),
            disabled: None,
            settling: false,
            healthy: Headcount::default(),
            ring_slots: value.open_slots(),
            tracked_slots: tracked_slots(value, state),
            ring_digest: ring_digest(value, state),
            backends: targets(value, state).into_iter().map(backend).collect(),
        }
    };
    state.vips.iter().filter_map(|(key, value)| Some((service(key)?, value))).map(view).collect()
}

/// Digest of the ring that new flows go by.
fn ring_digest(value: &VipValue, state: &State) -> Option<u64> {
    state.rings.get(&value.ring_base).filter(|_| value.open_slots() > 0).map(|digest| digest.0)
}

/// Slots of an adaptive VIP whose flows are remembered.
fn tracked_slots(value: &VipValue, state: &State) -> Option<u32> {
    let counted = |value: &VipValue| state.histories.get(&value.history_base).map_or(0, |slots| *slots);
    let tracked = if value.flags & VipValue::HISTORY == 0 { 0 } else { counted(value) };
    (value.flags & VipValue::ADAPTIVE != 0).then_some(tracked)
}

/// Targets of a VIP that are configured, by backend address.
pub(super) fn targets<'a>(vip: &VipValue, state: &'a State) -> BTreeMap<IpAddr, (u32, &'a Target)> {
    each_target(vip, state).collect()
}

/// The same, by number.
pub(super) fn each_target<'a>(vip: &VipValue, state: &'a State) -> impl Iterator<Item = (IpAddr, (u32, &'a Target))> {
    let range = state.targets.range(vip.target_base..vip.target_base.saturating_add(vip.target_count));
    let number = vip.id;
    let own = range.filter(move |(_, target)| target.vip == number && target.flags & Target::GONE == 0);
    own.map(|(id, target)| (address_of(target.outer_destination), (*id, target)))
}

/// How many of the backends of a VIP's own pool are healthy, where it is in `panic` or is not.
fn headcount(vip: &Vip, backends: &[BackendView], panic: Option<Few>) -> Headcount {
    let eligible = || backends.iter().filter(|backend| backend.admin == AdminState::Active && backend.weight > 0);
    let is_up = |backend: &&BackendView| {
        backend.up.map_or(backend.effect == Disposition::Serving, |up| up && backend.permille > 0)
    };
    let of = eligible().count();
    // What is up and takes nothing has no way to it.
    let usable = eligible().filter(is_up).filter(|backend| backend.effect != Disposition::Down).count();
    let lacks = vip.min_healthy.filter(|least| usable < least.of(of));
    Headcount { usable, of, panic, lacks }
}

/// Whether a VIP uses all of its own pool, as plans have it.
fn panic(vip: &Vip, pool: &Pool, reports: &Reports, targets: &BTreeMap<IpAddr, (u32, &Target)>) -> Option<Few> {
    wanted::few(vip, pool, |backend| {
        let target = targets.get(&backend.address).map(|(_, target)| *target);
        let known = reports.health.get(&member(vip, backend));
        beliefs::believed(pool, known, target).map(|standing| standing.takes_new_flows())
    })
}

/// Shares new flows out among those that serve.
fn share_out(backends: &mut [BackendView]) {
    let serves = |backend: &BackendView| backend.effect == Disposition::Serving;
    // In panic some serve that are down, or want none, with their whole weight.
    let part = |backend: &BackendView| match (backend.up, backend.permille) {
        (Some(false), _) | (_, 0) => WHOLE,
        (_, permille) => permille,
    };
    let weight = |backend: &BackendView| u64::from(backend.weight) * u64::from(part(backend));
    let sum: u64 = backends.iter().filter(|backend| serves(backend)).map(weight).sum();
    for backend in backends.iter_mut().filter(|backend| serves(backend)) {
        // At most some ten thousand weights of 26 bits: exact in a double.
        #[expect(clippy::cast_precision_loss, reason = "a sum of 26-bit weights is far below 2^52")]
        let [own, whole] = [weight(backend), sum.max(1)].map(|weight| weight as f64);
        backend.share = own / whole;
    }
}

/// A backend, and all that is known of it.
struct Seen<'a> {
    known: &'a Known<'a>,
    vip: &'a Vip,
    pool: &'a Pool,
    backend: &'a Backend,
    found: Option<(u32, &'a Target)>,
    overridden: Option<BackendOverride>,
}

impl Seen<'_> {
    fn view(&self) -> BackendView {
        let Backend { name, address, weight, state, .. } = self.backend;
        let target = self.found.map(|(_, target)| target);
        let effect = target.map_or(Disposition::Down, effect);
        let known = self.known.reports.health.get(&Member { service: self.vip.service, backend: *address });
        let unchecked = !self.pool.health.is_watched();
        let (up, last_check) = match known {
            _ if unchecked => (Some(true), "no check".into()),
            Some(standing) => ((!standing.is_unknown()).then_some(standing.up), standing.reason.clone()),
            None => (None, "not checked yet".into()),
        };
        let advice = known.and_then(Standing::advice);
        let permille = known.map_or(WHOLE, |standing| standing.permille);
        BackendView {
            pool: self.pool.name.clone(),
            name: name.clone(),
            address: *address,
            target: self.found.map(|(id, _)| id),
            effect,
            reason: self.reason(effect, (up, &last_check), (permille, advice.as_deref())),
            waits: None,
            admin: *state,
            weight: *weight,
            overridden: self.overridden,
            share: 0.0,
            up,
            last_check,
            permille,
            advice,
            silent: known.and_then(|standing| standing.agent.as_ref()).is_some_and(|agent| !agent.status.up),
            next_hop: target.map(|target| target.next_hop).filter(|mac| *mac != [0; 6]),
            ifindex: target.map_or(0, |target| target.ifindex),
        }
    }

    /// Whether its frames would have to reach its MAC address through a router.
    fn is_behind_router(&self) -> bool {
        let hop = self.known.reports.hops.hops.get(&self.backend.address).copied().flatten();
        self.vip.encap == Encap::L2 && !self.backend.local && hop.is_some_and(|hop| !hop.on_link)
    }

    /// Why the backend is as it is, where that is not plain.
    fn reason(
        &self,
        effect: Disposition,
        (up, last_check): (Option<bool>, &str),
        (permille, advice): (u16, Option<&str>),
    ) -> Option<String> {
        let by_kernel = self.known.config.dataplane.next_hop == NextHopConfig::Auto;
        let lost = self.known.reports.hops.reason(self.backend.address).filter(|_| by_kernel && !self.backend.local);
        match (effect, self.backend.state) {
            (Disposition::Serving, _) => {
                let against = against(up, last_check, advice);
                let panics = up == Some(false) || permille == 0;
                if panics { against.map(|why| format!("{why}, used since too few backends are up")) } else { against }
            }
            (_, AdminState::Disabled) => Some(match self.overridden.and_then(|given| given.state) {
                Some(StateOverride::Drained) => "drained by an operator".into(),
                Some(_) => "disabled by an operator".into(),
                None => "disabled by the configuration".into(),
            }),
            _ if self.vip.disabled => Some("vip disabled by an operator".into()),
            _ if let Some(lost) = lost => Some(lost.to_string()),
            _ if self.is_behind_router() => {
                Some("behind a router, where frames to its own MAC address don't reach".into())
            }
            _ if up == Some(false) => Some(last_check.to_owned()),
            (_, AdminState::Drain) if self.overridden.is_some_and(|given| given.state.is_some()) => {
                Some("draining by an operator's order".into())
            }
            (_, AdminState::Drain) => Some("drained by the configuration".into()),
            _ if self.backend.weight == 0 => Some("weight 0".into()),
            _ if permille == 0 => advice.map(str::to_owned),
            _ if up.is_none() => Some(last_check.to_owned()),
            _ => Some("not applied yet".into()),
        }
    }
}

/// What speaks against a backend that serves.
fn against(up: Option<bool>, last_check: &str, advice: Option<&str>) -> Option<String> {
    if up == Some(false) { Some(format!("check fails ({last_check})")) } else { advice.map(str::to_owned) }
}

/// What a target takes.
fn effect(target: &Target) -> Disposition {
    match target.serves {
        0 => Disposition::Down,
        _ if target.flags & Target::DRAINING != 0 => Disposition::Draining,
        _ => Disposition::Serving,
    }
}
