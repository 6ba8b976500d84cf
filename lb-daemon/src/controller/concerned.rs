//! Which VIPs a change concerns, so that a plan can be made for these alone. Pure.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{Reports, members};
use crate::{
    health::Standing,
    model::{Config, Pool, Service, Vip},
    plan::lists::Lists,
};

/// So many VIPs are few, however many there are.
const FEW: usize = 16;

/// What a plan is made of, besides what the tables hold.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub(super) config: Arc<Config>,
    /// Those of `config`.
    pub(super) lists: Arc<Lists>,
    pub(super) reports: Reports,
}

/// The VIPs for which `after` may want something else than `before`. `None` if that cannot be told of single VIPs: VIPs
/// come or go, or something changes that concerns all; or if it is so many that looking at all of them is no more work.
pub(super) fn concerned(before: &Inputs, after: &Inputs) -> Option<BTreeSet<Service>> {
    if before.reports.hops.bonds != after.reports.hops.bonds {
        return None;
    }
    let mut concerned = by_config(before, after)?;
    concerned.extend(by_health(&before.reports, after));
    concerned.extend(by_hops(&before.reports, after));
    (concerned.len() <= (after.config.vips.len() / 4).max(FEW)).then_some(concerned)
}

/// The configuration of some VIPs alone.
pub(super) fn part(config: &Config, lists: &Lists, services: &BTreeSet<Service>) -> Config {
    let vips: Vec<Vip> = config.vips.iter().filter(|vip| services.contains(&vip.service)).cloned().collect();
    let pools = vips.iter().flat_map(|vip| lists.pools(config, vip));
    let pools: BTreeMap<&str, &Pool> = pools.map(|pool| (pool.name.as_str(), pool)).collect();
    let pools = pools.into_iter().map(|(name, pool)| (name.to_owned(), pool.clone())).collect();
    let Config { dataplane, daemon, api_socket, api_read_only_socket, metrics_listen, .. } = config;
    Config {
        dataplane: dataplane.clone(),
        daemon: daemon.clone(),
        api_socket: api_socket.clone(),
        api_read_only_socket: api_read_only_socket.clone(),
        metrics_listen: *metrics_listen,
        pools,
        vips,
    }
}

/// Those that are configured otherwise.
fn by_config(before: &Inputs, after: &Inputs) -> Option<BTreeSet<Service>> {
    if Arc::ptr_eq(&before.config, &after.config) {
        return Some(BTreeSet::new());
    }
    let (old, new) = (&before.config, &after.config);
    // What becomes of packets to other ports is said with the address, which VIPs share.
    let of_all =
        |config: &Config| config.vips.iter().map(|vip| (vip.service, vip.drops_unknown_port)).collect::<Vec<_>>();
    if of_all(old) != of_all(new) || old.dataplane != new.dataplane {
        return None;
    }
    let changed: BTreeSet<&str> = new
        .pools
        .iter()
        .filter(|(name, pool)| old.pools.get(*name) != Some(*pool))
        .map(|(name, _)| name.as_str())
        .collect();
    let differs = |(was, is): &(&Vip, &Vip)| {
        let mut pools = after.lists.pools(new, is).into_iter();
        was != is || pools.any(|pool| changed.contains(pool.name.as_str()))
    };
    Some(old.vips.iter().zip(&new.vips).filter(differs).map(|(_, vip)| vip.service).collect())
}

/// Those with a backend that came up, went down, is to have another part of its weight, or was first or no longer reported
/// on.
fn by_health(before: &Reports, after: &Inputs) -> BTreeSet<Service> {
    let after = &after.reports.health;
    if Arc::ptr_eq(&before.health, after) {
        return BTreeSet::new();
    }
    let same = |was: &Standing, is: &Standing| was.counts() == is.counts();
    differing(&before.health, after, same).into_iter().map(|member| member.service).collect()
}

/// Those with a backend that is reached by another way, or of which is known what was not known.
fn by_hops(before: &Reports, after: &Inputs) -> BTreeSet<Service> {
    let (was, is) = (&before.hops, &after.reports.hops);
    if Arc::ptr_eq(was, is) {
        return BTreeSet::new();
    }
    let mut addresses: BTreeSet<IpAddr> = differing(&was.hops, &is.hops, PartialEq::eq);
    addresses.extend(differing(&was.reasons, &is.reasons, PartialEq::eq));
    if addresses.is_empty() {
        return BTreeSet::new();
    }
    let reached = members(&after.config).filter(|(_, _, backend)| addresses.contains(&backend.address));
    reached.map(|(vip, ..)| vip.service).collect()
}

/// Keys under which the maps differ, or only one has something.
fn differing<K: Ord + Copy, V>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> BTreeSet<K> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    let mut keys = BTreeSet::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return keys,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((was, _)), Some((is, _))) => was.cmp(is),
        };
        let was = before.next_if(|_| order.is_le());
        let is = after.next_if(|_| order.is_ge());
        match (was, is) {
            (Some((_, was)), Some((_, is))) if same(was, is) => {}
            (Some((key, _)), _) | (None, Some((key, _))) => drop(keys.insert(*key)),
            (None, None) => return keys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controller::tests::rig::{TEXT, config},
        health::{HealthView, Member},
        nexthop::Snapshot,
    };

    fn inputs(config: Config) -> Inputs {
        let lists = Arc::new(Lists::of(&config));
        Inputs { config: Arc::new(config), lists, reports: Reports { health: Arc::default(), hops: Arc::default() } }
    }

    fn changed(change: impl FnOnce(&mut Config)) -> Option<Vec<String>> {
        let mut other = config(TEXT);
        change(&mut other);
        let (before, after) = (inputs(config(TEXT)), inputs(other));
        let names = |services: BTreeSet<Service>| {
            let vips = after.config.vips.iter().filter(|vip| services.contains(&vip.service));
            vips.map(|vip| vip.name.clone()).collect()
        };
        concerned(&before, &after).map(names)
    }

    #[test]
    fn a_pool_concerns_its_vips() {
        let vips = |pool: &str| {
            let config = config(TEXT);
            config.vips.iter().filter(|vip| vip.pool == pool).map(|vip| vip.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(changed(|_| {}), Some(vec![]));
        let weight = |config: &mut Config| config.pools.get_mut("dns").unwrap().backends[0].weight = 7;
        assert_eq!(changed(weight), Some(vips("dns")));
        assert_eq!(changed(|config| config.vips[0].panic_threshold = 50), Some(vec![vips("web")[0].clone()]));
    }

    #[test]
    fn what_concerns_all_is_told() {
        assert_eq!(changed(|config| drop(config.vips.pop())), None);
        assert_eq!(changed(|config| config.vips.swap(0, 1)), None);
        assert_eq!(changed(|config| config.vips[2].drops_unknown_port = true), None);
        assert_eq!(changed(|config| config.dataplane.mtu = Some(1400)), None);
    }

    #[test]
    fn reports_concern_the_vips_of_the_backend() {
        let config = config(TEXT);
        let (vip, backend) = (config.vips[0].service, config.pools["web"].backends[0].address);
        let before = inputs(config);
        let health = |up| {
            let standing = Standing { up, ..Standing::default() };
            let health: HealthView = [(Member { service: vip, backend }, standing)].into();
            let reports = Reports { health: health.into(), ..before.reports.clone() };
            Inputs { reports, ..before.clone() }
        };
        assert_eq!(concerned(&before, &health(true)), Some([vip].into()));
        assert_eq!(concerned(&health(true), &health(false)), Some([vip].into()));
        assert_eq!(concerned(&health(true), &health(true)), Some([].into()));
        let hops = |hops: Snapshot| {
            let reports = Reports { hops: hops.into(), ..before.reports.clone() };
            Inputs { reports, ..before.clone() }
        };
        let reached = hops(Snapshot { hops: [(backend, None)].into(), ..Snapshot::default() });
        assert!(concerned(&before, &reached).unwrap().contains(&vip));
        let bonded = hops(Snapshot { bonds: [(4, 9)].into(), ..Snapshot::default() });
        assert_eq!(concerned(&before, &bonded), None);
    }

    #[test]
    fn maps_are_compared_key_by_key() {
        let differing = |before: &[(u8, u8)], after: &[(u8, u8)]| {
            let map = |entries: &[(u8, u8)]| entries.iter().copied().collect::<BTreeMap<_, _>>();
            super::differing(&map(before), &map(after), PartialEq::eq).into_iter().collect::<Vec<_>>()
        };
        assert!(differing(&[], &[]).is_empty());
        assert_eq!(differing(&[(1, 1), (2, 2), (4, 4)], &[(2, 3), (3, 3), (4, 4)]), [1, 2, 3]);
        assert_eq!(differing(&[(1, 1)], &[(1, 1), (9, 9)]), [9]);
    }
}
