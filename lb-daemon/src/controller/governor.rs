//! Change that health causes, at a pace: backends that come up start slowly (`slow_start`), and of a VIP's ring no more moves
//! in a while than it may (`max_ring_change`). Pure: time comes in as a value.
//!
//! What the tables should hold if every check passed, and no agent held anything back, tells what health changed: who is
//! missing from it is gone by configuration, by an operator's order or for want of a way, at once. See
//! `docs/adr/0019-rings-change-at-a-pace.md` and `0021-agents-are-health.md`.

mod budget;
mod ring;
mod shares;
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::SystemTime,
};

use lb_common::layout::vip::VipKey;
use tokio::time::Instant;

use self::{
    ring::{Aim, Held, Ring},
    steps::When,
};
use crate::{
    model::{Config, Pool, RouteTo, Service, Vip},
    plan::{
        lists::Lists,
        wanted::{Disposition, Wanted, WantedVip, key},
    },
};

/// The VIP's own ring, or that of a group.
pub(super) type Which = (VipKey, Option<u64>);

/// Rings that are on their way to what health asks for: VIPs' own, and those of groups.
pub type UnderWay = BTreeMap<(VipKey, Option<u64>), Partway>;

/// How far such a ring has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Partway {
    /// The weights in force.
    pub weights: BTreeMap<IpAddr, u32>,
    /// Those who have less of it, or more, than health alone would give them.
    pub held: BTreeSet<IpAddr>,
}

/// All rings that are to change at a pace.
#[derive(Debug)]
pub(super) struct Governor {
    epoch: Instant,
    rings: BTreeMap<Which, Ring>,
}

/// What the rings are judged by.
pub(super) struct Ground<'a> {
    /// The VIPs that are governed, with their pools.
    pub(super) config: &'a Config,
    pub(super) lists: &'a Lists,
    /// What the tables should hold if every check passed.
    pub(super) eligible: &'a Wanted,
    /// Pools of which all backends are used since few are up, each for a VIP.
    pub(super) panics: &'a BTreeSet<(Service, String)>,
    /// First results are waited for.
    pub(super) settling: bool,
    pub(super) now: Instant,
}

/// Why a backend has less of its VIP's ring, or more, than health alone would give it.
#[derive(Clone, Debug, PartialEq)]
pub struct Waits {
    /// In words.
    pub why: String,
    /// When the next slots may move, if that is waited for.
    pub until: Option<SystemTime>,
}

impl Waits {
    /// In words, with the time that is left: `waits: ring budget, 3 s`.
    pub fn told(&self, now: SystemTime) -> String {
        match self.until {
            Some(until) => {
                let left = until.duration_since(now).unwrap_or_default();
                format!("{}, {} s", self.why, left.as_millis().div_ceil(1000))
            }
            None => self.why.clone(),
        }
    }
}

/// The VIPs whose rings are to change at a pace.
pub(super) fn governed(config: &Config, lists: &Lists) -> BTreeSet<Service> {
    let starts = |pool: &&Pool| pool.health.slow_start.is_some();
    let is = |vip: &&Vip| vip.max_ring_change.is_some() || lists.pools(config, vip).iter().any(starts);
    config.vips.iter().filter(is).map(|vip| vip.service).collect()
}

impl Governor {
    /// Without rings; steps of slow starts are counted from `epoch`.
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, rings: BTreeMap::new() }
    }

    /// Forgets the rings of VIPs that are not among these.
    pub(super) fn keep(&mut self, services: &BTreeSet<Service>) {
        let keys: BTreeSet<VipKey> = services.iter().map(key).collect();
        self.rings.retain(|(vip, _), _| keys.contains(vip));
    }

    /// When there is something to do although nothing new is reported.
    pub(super) fn next(&self) -> Option<Instant> {
        self.rings.values().filter_map(Ring::next).min()
    }

    /// VIPs for which there is something to do by now.
    pub(super) fn due(&self, config: &Config, now: Instant) -> BTreeSet<Service> {
        let due = self.rings.iter().filter(|(_, ring)| ring.next().is_some_and(|next| next <= now));
        let keys: BTreeSet<VipKey> = due.map(|((vip, _), _)| *vip).collect();
        let vips = config.vips.iter().map(|vip| vip.service);
        if keys.is_empty() { BTreeSet::new() } else { vips.filter(|service| keys.contains(&key(service))).collect() }
    }

    /// Lets `wanted` be what may be in force now. `found` counts the slots of a ring's backends in the tables; it is asked for
    /// rings that are new here.
    pub(super) fn govern(
        &mut self,
        wanted: &mut Wanted,
        ground: &Ground,
        found: impl Fn(&Which) -> BTreeMap<IpAddr, u32>,
    ) {
        let when = When { now: ground.now, epoch: self.epoch, settling: ground.settling };
        for vip in &ground.config.vips {
            let key = key(&vip.service);
            let (Some(plain), Some(eligible)) = (wanted.vips.get_mut(&key), ground.eligible.vips.get(&key)) else {
                continue;
            };
            let groups = ground.lists.vips.get(&key).map(|lists| lists.groups.as_slice()).unwrap_or_default();
            let groups = groups.iter().filter_map(|(identity, to)| match to {
                RouteTo::Pool(pool) => Some((Some(*identity), pool)),
                // One backend is all that its sources have.
                RouteTo::Backend(_) => None,
            });
            for (which, pool) in [(None, &vip.pool)].into_iter().chain(groups) {
                let Some(pool) = ground.config.pools.get(pool) else { continue };
                let aim = Aim {
                    size: plain.ring_size,
                    eligible: members(eligible, which),
                    plain: members(plain, which),
                    panics: ground.panics.contains(&(vip.service, pool.name.clone())),
                    slow_start: pool.health.slow_start,
                    limit: vip.max_ring_change,
                };
                let which_ring = (key, which);
                let ring = self.rings.entry(which_ring);
                let ring = ring.or_insert_with(|| Ring::found(&found(&which_ring), &aim.eligible));
                ring.step(&aim, when);
                put(plain, which, ring.weights());
            }
        }
    }

    /// What was planned is in the tables by now.
    pub(super) fn applied(&mut self, now: Instant) {
        self.rings.values_mut().for_each(|ring| ring.applied(now));
    }

    /// Not all that was planned is in the tables. Rings go on from what is there, which `found` tells as above.
    pub(super) fn failed(&mut self, now: Instant, found: impl Fn(&Which) -> BTreeMap<IpAddr, u32>) {
        self.rings.iter_mut().for_each(|(which, ring)| ring.failed(&found(which), now));
    }

    /// The rings that are on their way.
    pub(super) fn under_way(&self) -> UnderWay {
        let all = self
            .rings
            .iter()
            .map(|(which, ring)| (*which, Partway { weights: ring.weights().clone(), held: ring.all_held() }));
        all.filter(|(_, ring)| !ring.held.is_empty()).collect()
    }

    /// What share of new flows a backend of a VIP's own pool has, and why it is not what health alone would give it; `None`
    /// if nothing is done about the VIP.
    pub(super) fn told(
        &self,
        service: &Service,
        address: IpAddr,
        now: (Instant, SystemTime),
    ) -> Option<(f64, Option<Waits>)> {
        let ring = self.rings.get(&(key(service), None))?;
        let address = address.to_canonical();
        let all: f64 = ring.weights().values().map(|weight| f64::from(*weight)).sum();
        let own = ring.weights().get(&address).map_or(0.0, |weight| f64::from(*weight));
        let waits = ring.held(address).map(|held| match held {
            Held::Budget(until) => {
                let until = Some(now.1 + until.saturating_duration_since(now.0));
                Waits { why: "waits: ring budget".into(), until }
            }
            Held::Kept => Waits { why: "kept in the ring since nobody may take over".into(), until: None },
            Held::Starts(percent) => Waits { why: format!("slow start, {percent}% of its weight"), until: None },
        });
        Some((own / all.max(1.0), waits))
    }
}

/// Weights of those that a ring leads to.
fn members(vip: &WantedVip, which: Option<u64>) -> BTreeMap<IpAddr, u32> {
    let serves =
        |address: &IpAddr| vip.backends.get(address).is_some_and(|target| target.effective() == Disposition::Serving);
    let weights: BTreeMap<IpAddr, u32> = match which {
        None => vip.backends.iter().map(|(address, target)| (*address, target.weight)).collect(),
        Some(identity) => {
            let group = vip.groups.iter().find(|group| group.identity == identity);
            group.map(|group| group.members.clone()).unwrap_or_default()
        }
    };
    weights.into_iter().filter(|(address, weight)| *weight > 0 && serves(address)).collect()
}

/// Lets a VIP's ring, or that of a group, have these weights. Those who are in it serve, whatever health says.
pub(super) fn put(vip: &mut WantedVip, which: Option<u64>, weights: &BTreeMap<IpAddr, u32>) {
    for address in weights.keys() {
        if let Some(target) = vip.backends.get_mut(address) {
            target.disposition = Disposition::Serving;
        }
    }
    match which {
        None => {
            for (address, target) in &mut vip.backends {
                target.weight = weights.get(address).copied().unwrap_or(0);
            }
        }
        Some(identity) => {
            for group in vip.groups.iter_mut().filter(|group| group.identity == identity) {
                group.members.clone_from(weights);
            }
        }
    }
}
