//! What serves on while a changed configuration waits for first results. Pure.
//!
//! A VIP whose backends are all replaced at once has nobody for a moment: the new ones were not checked yet, and the way to
//! them is being asked for. Until that is known of all of them, or the patience is over, it keeps those that served before.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_common::layout::vip::VipKey;

use super::{
    Reports, beliefs,
    concerned::{Inputs, part},
};
use crate::{
    model::{Config, Pool, RouteTo, Service, Vip},
    plan::{
        State,
        lists::Lists,
        wanted::{Disposition, Wanted, WantedTarget, WantedVip, key},
    },
};

/// VIPs as they were before the configuration changed, as far as they wait for first results.
#[derive(Clone, Debug, Default)]
pub(super) struct Former(BTreeMap<VipKey, WantedVip>);

impl Former {
    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes how these VIPs were when `before` was in force, over tables that held `state`.
    pub(super) fn note(&mut self, services: &BTreeSet<Service>, before: &Inputs, state: &State) {
        let Inputs { config, lists, reports } = before;
        let config = part(config, lists, services);
        let mut wanted = beliefs::wanted(&config, lists, state, &reports.health, &reports.hops);
        // What was kept for them until now is what serves.
        self.hold(&mut wanted, &Inputs { config: config.into(), ..before.clone() });
        self.0.extend(wanted.vips);
    }

    /// Keeps in use what served before, where all that are to take its place are waited for.
    pub(super) fn hold(&self, wanted: &mut Wanted, now: &Inputs) {
        let Inputs { config, lists, reports } = now;
        for vip in &config.vips {
            let key = key(&vip.service);
            let (Some(before), Some(wanted)) = (self.0.get(&key), wanted.vips.get_mut(&key)) else { continue };
            let waits = |pool: &str| config.pools.get(pool).is_some_and(|pool| waits_for(config, vip, pool, reports));
            if waits(&vip.pool) {
                hold_own(wanted, before);
            }
            let groups = lists.vips.get(&key).map(|lists| lists.groups.as_slice()).unwrap_or_default();
            for (number, (_, to)) in groups.iter().enumerate() {
                let pool = match to {
                    RouteTo::Pool(pool) => pool,
                    RouteTo::Backend(_) => &vip.pool,
                };
                if waits(pool) {
                    hold_group(wanted, number, before);
                }
            }
        }
    }
}

/// VIPs of which first results are waited for: of all, or of these alone.
pub(super) fn waiting(inputs: &Inputs, among: Option<&BTreeSet<Service>>) -> BTreeSet<Service> {
    let Inputs { config, lists, reports } = inputs;
    let vips = config.vips.iter().filter(|vip| among.is_none_or(|among| among.contains(&vip.service)));
    vips.filter(|vip| waits(config, lists, vip, reports)).map(|vip| vip.service).collect()
}

/// Whether some backend of a VIP may take new flows once first results of it are in.
pub(super) fn waits(config: &Config, lists: &Lists, vip: &Vip, reports: &Reports) -> bool {
    lists.pools(config, vip).into_iter().any(|pool| waits_for(config, vip, pool, reports))
}

fn waits_for(config: &Config, vip: &Vip, pool: &Pool, reports: &Reports) -> bool {
    let waits = |backend| beliefs::is_waited_for(config, vip, pool, backend, &reports.health, &reports.hops);
    !vip.disabled && pool.backends.iter().any(waits)
}

/// Lets the VIP's own ring be as before, unless it leads to one that it led to before.
fn hold_own(wanted: &mut WantedVip, before: &WantedVip) {
    let own = |vip: &WantedVip| -> BTreeMap<IpAddr, u32> {
        let serving = vip.backends.iter().filter(|(_, target)| serves(target) && target.weight > 0);
        serving.map(|(address, target)| (*address, target.weight)).collect()
    };
    let kept = kept(wanted, before, &own(before), &own(wanted));
    if kept.is_empty() {
        return;
    }
    take_over(wanted, before, &kept);
    for (address, target) in &mut wanted.backends {
        target.weight = kept.get(address).copied().unwrap_or(0);
    }
}

/// The same of the ring of a group.
fn hold_group(wanted: &mut WantedVip, number: usize, before: &WantedVip) {
    let Some(group) = wanted.groups.get(number) else { return };
    let Some(old) = before.groups.iter().find(|old| old.identity == group.identity) else { return };
    let kept = kept(wanted, before, &old.members, &group.members);
    if kept.is_empty() {
        return;
    }
    take_over(wanted, before, &kept);
    if let Some(group) = wanted.groups.get_mut(number) {
        group.members = kept;
    }
}

/// Which of the members of before can serve on; none if one of them is among those of now.
fn kept(
    wanted: &WantedVip,
    before: &WantedVip,
    old: &BTreeMap<IpAddr, u32>,
    new: &BTreeMap<IpAddr, u32>,
) -> BTreeMap<IpAddr, u32> {
    if old.keys().any(|address| new.contains_key(address)) {
        return BTreeMap::new();
    }
    // One that is to take nothing any more takes nothing at once; one that drains does so a moment later.
    let can = |address: &IpAddr| {
        let now = wanted.backends.get(address).is_none_or(|target| target.effective() != Disposition::Down);
        now && before.backends.get(address).is_some_and(serves)
    };
    old.iter().filter(|(address, _)| can(address)).map(|(address, weight)| (*address, *weight)).collect()
}

fn serves(target: &WantedTarget) -> bool {
    target.effective() == Disposition::Serving
}

/// Has these serve as before.
fn take_over(wanted: &mut WantedVip, before: &WantedVip, kept: &BTreeMap<IpAddr, u32>) {
    for address in kept.keys() {
        if let Some(target) = before.backends.get(address) {
            let now = wanted.backends.entry(*address).or_insert(WantedTarget { weight: 0, ..*target });
            now.disposition = Disposition::Serving;
        }
    }
    if wanted.servers.is_empty() {
        return;
    }
    let servers = before.servers.iter().filter(|(_, address)| kept.contains_key(*address));
    for (id, address) in servers {
        wanted.servers.entry(*id).or_insert(*address);
    }
}
