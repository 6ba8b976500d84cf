//! What the controller shows of itself: the newest state that it applied, and how it is with each backend.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

use lb_common::layout::{ring, target::Target, vip::Vip as VipValue};

use super::engine::Attached;
use crate::{
    health::{CheckId, HealthView},
    model::{AdminState, Backend, Check, Config, NextHopConfig, Pool, Service, Vip},
    nexthop,
    plan::{
        Capacity, State,
        target::address_of,
        wanted::{Disposition, key, service},
    },
};

/// The controller's state at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Number of the applied state; 0 before the first.
    pub generation: u64,
    /// First results are still waited for.
    pub settling: bool,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// VIPs in the order of the file.
    pub vips: Vec<VipView>,
    /// Where the program is attached.
    pub attached: Vec<Attached>,
    /// Places of the tables in use.
    pub used: Capacity,
    /// Places of the tables.
    pub capacity: Capacity,
    /// What went wrong at the last attempt to apply, if it did.
    pub failing: Option<Failing>,
    /// How the last change of configuration ended.
    pub last_reload: LastReload,
}

/// A VIP as it is in the tables.
#[derive(Clone, Debug, PartialEq)]
pub struct VipView {
    /// Its name.
    pub name: String,
    /// What it serves.
    pub service: Service,
    /// Its pool.
    pub pool: String,
    /// Slots of its ring; 0 while no backend takes new flows.
    pub ring_slots: u32,
    /// Digest of its ring.
    pub ring_digest: Option<u64>,
    /// Its backends, in the order of the file.
    pub backends: Vec<BackendView>,
}

/// A backend of a VIP as it is in the tables.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendView {
    /// Its name, unique in its pool.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its number in the tables.
    pub target: Option<u32>,
    /// What it may take, by the tables.
    pub effect: Disposition,
    /// Why it is not serving, or why it is although its check fails.
    pub reason: Option<String>,
    /// What the operator wants.
    pub admin: AdminState,
    /// Its weight in the file.
    pub weight: u32,
    /// Its share of new flows, 0 to 1: its weight over that of all that serve.
    pub share: f64,
    /// Whether its check is passed; `None` before the first result.
    pub up: Option<bool>,
    /// The last result in words.
    pub last_check: String,
    /// MAC address of its next hop, if the tables have one.
    pub next_hop: Option<[u8; 6]>,
    /// Interface to leave by; 0 is the one a packet came in by.
    pub ifindex: u32,
}

/// Applying fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: SystemTime,
    /// Attempts that failed.
    pub attempts: u32,
    /// What went wrong, with its causes.
    pub message: String,
}

/// How the last change of configuration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastReload {
    /// When it was tried.
    pub at: SystemTime,
    /// When one last succeeded.
    pub succeeded_at: SystemTime,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
}

impl LastReload {
    /// One that succeeds now.
    pub(super) fn succeeded() -> Self {
        let now = SystemTime::now();
        Self { at: now, succeeded_at: now, refused: None }
    }

    /// The next one, refused now.
    pub(super) fn refused(&self, why: String) -> Self {
        Self { at: SystemTime::now(), refused: Some(why), ..self.clone() }
    }
}

impl Snapshot {
    /// What can be said before anything was applied.
    pub(super) fn starting(config: &Config, attached: &[Attached], state: &State, last_reload: &LastReload) -> Self {
        Self {
            generation: 0,
            settling: true,
            config: Arc::new(config.clone()),
            vips: views(config, state, &HealthView::new(), &nexthop::Snapshot::default()),
            attached: attached.to_vec(),
            used: used(state),
            capacity: state.capacity,
            failing: None,
            last_reload: last_reload.clone(),
        }
    }

    /// VIPs without a backend that takes new flows.
    pub fn without_backend(&self) -> impl Iterator<Item = &VipView> {
        self.vips.iter().filter(|vip| vip.serving() == 0)
    }

    /// What an operator should look at; empty when all is well.
    pub fn problems(&self) -> Vec<String> {
        let empty = self.without_backend().map(|vip| format!("vip {} has no serving backend", vip.name));
        let failing = self.failing.iter().map(|failing| format!("applying fails: {}", failing.message));
        let refused = self.last_reload.refused.iter().map(|why| format!("the last reload was refused: {why}"));
        failing.chain(refused).chain(empty).collect()
    }
}

impl VipView {
    /// Number of backends that take new flows.
    pub fn serving(&self) -> usize {
        self.backends.iter().filter(|backend| backend.effect == Disposition::Serving).count()
    }
}

/// Places in use.
pub(crate) fn used(state: &State) -> Capacity {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Capacity {
        vips: count(state.vips.len()),
        targets: count(state.targets.len()),
        ring_blocks: state.vips.values().map(|vip| ring::blocks(vip.ring_slots)).sum(),
    }
}

/// All VIPs of `config`, as `state` has them.
pub(super) fn views(config: &Config, state: &State, health: &HealthView, hops: &nexthop::Snapshot) -> Vec<VipView> {
    let view = |vip: &Vip| {
        let value = state.vips.get(&key(&vip.service));
        let targets = value.map(|value| targets(value, state)).unwrap_or_default();
        let pool = config.pools.get(&vip.pool);
        let members = pool.into_iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
        let mut backends: Vec<BackendView> = members
            .map(|(pool, backend)| {
                let found = targets.get(&backend.address).copied();
                Seen { config, vip, pool, backend, found, health, hops }.view()
            })
            .collect();
        share_out(&mut backends);
        VipView {
            name: vip.name.clone(),
            service: vip.service,
            pool: vip.pool.clone(),
            ring_slots: value.map_or(0, |value| value.ring_slots),
            ring_digest: value.and_then(|value| state.rings.get(&value.ring_base)).map(|digest| digest.0),
            backends,
        }
    };
    config.vips.iter().map(view).collect()
}

/// What the tables serve, told without a configuration: by addresses, since tables have no names.
pub(crate) fn found(state: &State) -> Vec<VipView> {
    let view = |(service, value): (Service, &VipValue)| {
        let backend = |(address, (id, target)): (IpAddr, (u32, &Target))| BackendView {
            name: address.to_string(),
            address,
            target: Some(id),
            effect: effect(target),
            reason: None,
            admin: AdminState::Active,
            weight: 1,
            share: 0.0,
            up: None,
            last_check: String::new(),
            next_hop: Some(target.next_hop),
            ifindex: target.ifindex,
        };
        VipView {
            name: service.to_string(),
            service,
            pool: String::new(),
            ring_slots: value.ring_slots,
            ring_digest: state.rings.get(&value.ring_base).map(|digest| digest.0),
            backends: targets(value, state).into_iter().map(backend).collect(),
        }
    };
    state.vips.iter().filter_map(|(key, value)| Some((service(key)?, value))).map(view).collect()
}

/// Targets of a VIP that are configured, by backend address.
fn targets<'a>(vip: &VipValue, state: &'a State) -> BTreeMap<IpAddr, (u32, &'a Target)> {
    let range = state.targets.range(vip.target_base..vip.target_base.saturating_add(vip.target_count));
    let own = range.filter(|(_, target)| target.vip == vip.id && target.flags & Target::GONE == 0);
    own.map(|(id, target)| (address_of(target.outer_destination), (*id, target))).collect()
}

/// Shares new flows out among those that serve.
fn share_out(backends: &mut [BackendView]) {
    let serves = |backend: &BackendView| backend.effect == Disposition::Serving;
    let sum: u64 = backends.iter().filter(|backend| serves(backend)).map(|backend| u64::from(backend.weight)).sum();
    for backend in backends.iter_mut().filter(|backend| serves(backend)) {
        // At most some thousand weights of 16 bits: exact in a double.
        #[expect(clippy::cast_precision_loss, reason = "a sum of 16-bit weights is far below 2^52")]
        let whole = sum.max(1) as f64;
        backend.share = f64::from(backend.weight) / whole;
    }
}

/// A backend, and all that is known of it.
struct Seen<'a> {
    config: &'a Config,
    vip: &'a Vip,
    pool: &'a Pool,
    backend: &'a Backend,
    found: Option<(u32, &'a Target)>,
    health: &'a HealthView,
    hops: &'a nexthop::Snapshot,
}

impl Seen<'_> {
    fn view(&self) -> BackendView {
        let Backend { name, address, weight, state } = self.backend;
        let target = self.found.map(|(_, target)| target);
        let effect = target.map_or(Disposition::Down, effect);
        let known = self.health.get(&CheckId { service: self.vip.service, backend: *address });
        let unchecked = self.pool.health.check == Check::None;
        let (up, last_check) = match known {
            _ if unchecked => (Some(true), "no check".into()),
            Some(status) => (Some(status.up), status.last.clone()),
            None => (None, "not checked yet".into()),
        };
        BackendView {
            name: name.clone(),
            address: *address,
            target: self.found.map(|(id, _)| id),
            effect,
            reason: self.reason(effect, up, &last_check),
            admin: *state,
            weight: *weight,
            share: 0.0,
            up,
            last_check,
            next_hop: target.map(|target| target.next_hop).filter(|mac| *mac != [0; 6]),
            ifindex: target.map_or(0, |target| target.ifindex),
        }
    }

    /// Why the backend is as it is, where that is not plain.
    fn reason(&self, effect: Disposition, up: Option<bool>, last_check: &str) -> Option<String> {
        let by_kernel = self.config.dataplane.next_hop == NextHopConfig::Auto;
        let lost = self.hops.reason(self.backend.address).filter(|_| by_kernel);
        match (effect, self.backend.state) {
            (Disposition::Serving, _) if up == Some(false) => {
                Some(format!("check fails ({last_check}), used since too few backends are up"))
            }
            (Disposition::Serving, _) => None,
            (_, AdminState::Disabled) => Some("disabled by the configuration".into()),
            _ if let Some(lost) = lost => Some(lost.to_string()),
            _ if up == Some(false) => Some(last_check.to_owned()),
            (_, AdminState::Drain) => Some("drained by the configuration".into()),
            _ if self.backend.weight == 0 => Some("weight 0".into()),
            _ if up.is_none() => Some("not checked yet".into()),
            _ => Some("not applied yet".into()),
        }
    }
}

/// What a target takes.
fn effect(target: &Target) -> Disposition {
    match target.serves {
        0 => Disposition::Down,
        _ if target.flags & Target::DRAINING != 0 => Disposition::Draining,
        _ => Disposition::Serving,
    }
}
