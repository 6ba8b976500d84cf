//! From overrides to what goes over the socket. Pure, but for clock and accounts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use super::seconds;
use crate::{
    api::types::{ListedOverride, Override, Pool},
    controller::{
        snapshot::{BackendView, Snapshot, VipView},
        totals::Flows,
    },
    http::Accounts,
    model::overrides::{BackendName, BackendOverride, Drain, Given, StateOverride},
};

/// Before so much time has passed nobody can tell how long a drain will take.
const SOONEST: Duration = Duration::from_secs(5);

/// What is left of what drains, by pool and backend.
pub(crate) struct Left {
    backends: BTreeMap<BackendName, Rest>,
    accounts: Accounts,
}

/// What is left to a backend, over all VIPs.
#[derive(Clone, Copy, Default)]
struct Rest {
    /// Live flows.
    flows: u64,
    /// There may be others, of which nobody has heard since.
    silent: bool,
}

impl Left {
    /// Of these VIPs.
    pub(crate) fn of(vips: &[VipView], flows: &Flows) -> Self {
        let mut backends: BTreeMap<BackendName, Rest> = BTreeMap::new();
        for vip in vips {
            for backend in vip.backends.iter().filter(|backend| drain(backend.overridden).is_some()) {
                let (pair, rest) = ((vip.service, backend.address), backends.entry(name(backend)).or_default());
                rest.flows += flows.live_backends.get(&pair).copied().unwrap_or(0);
                rest.silent |= flows.silent.contains(&pair);
            }
        }
        Self { backends, accounts: Accounts::default() }
    }

    /// The override of a backend of a VIP.
    pub(super) fn told(&self, backend: &BackendView) -> Option<Override> {
        let given = backend.overridden?;
        let left = self.backends.get(&name(backend)).copied();
        Some(of_backend(&given, left, &self.accounts, SystemTime::now()))
    }
}

fn name(backend: &BackendView) -> BackendName {
    BackendName { pool: backend.pool.clone(), name: backend.name.clone() }
}

fn drain(overridden: Option<BackendOverride>) -> Option<Drain> {
    match overridden?.state? {
        StateOverride::Draining(drain) => Some(drain),
        StateOverride::Active | StateOverride::Drained | StateOverride::Disabled => None,
    }
}

fn of_backend(given: &BackendOverride, left: Option<Rest>, accounts: &Accounts, now: SystemTime) -> Override {
    let drain = drain(Some(*given));
    let left = left.filter(|_| drain.is_some());
    // What is not heard of is over at once, some time.
    let counted = left.filter(|left| !left.silent).map(|left| left.flows);
    Override {
        state: given.state.map(|state| state.name().to_owned()),
        weight: given.weight,
        since: seconds(given.given.at),
        uid: given.given.uid,
        author: given.given.uid.and_then(|uid| accounts.name(uid)),
        deadline: drain.and_then(|drain| drain.deadline).map(seconds),
        flows_at_start: drain.map(|drain| drain.flows),
        flows_left: left.map(|left| left.flows),
        silent_flows: left.is_some_and(|left| left.silent),
        seconds_left: drain.zip(counted).and_then(|(drain, left)| estimate(&drain, left, now)),
    }
}

/// The override of a VIP that is disabled.
pub(crate) fn of_vip(given: Given, accounts: &Accounts) -> Override {
    Override {
        state: Some("disabled".into()),
        since: seconds(given.at),
        uid: given.uid,
        author: given.uid.and_then(|uid| accounts.name(uid)),
        ..Override::default()
    }
}

/// Seconds that a drain will yet take if flows end as fast as they did so far.
fn estimate(drain: &Drain, left: u64, now: SystemTime) -> Option<u64> {
    let passed = now.duration_since(drain.since).ok().filter(|passed| *passed >= SOONEST)?;
    let ended = drain.flows.checked_sub(left).filter(|ended| *ended > 0)?;
    let estimated = u128::from(left) * passed.as_millis() / u128::from(ended) / 1000;
    let to_deadline = drain.deadline.map(|deadline| deadline.duration_since(now).unwrap_or_default().as_secs());
    let estimated = u64::try_from(estimated).unwrap_or(u64::MAX);
    Some(to_deadline.map_or(estimated, |left| left.min(estimated)))
}

/// All overrides; how many flows are left where `flows` tell.
pub(crate) fn listed(snapshot: &Snapshot, flows: Option<&Flows>) -> Vec<ListedOverride> {
    let left = flows.map(|flows| Left::of(&snapshot.vips, flows));
    let (lost, lost_vips) = snapshot.overrides.unmatched(&snapshot.desired);
    let (lost, lost_vips): (BTreeSet<&BackendName>, BTreeSet<&str>) =
        (lost.into_iter().collect(), lost_vips.into_iter().collect());
    let (accounts, now) = (Accounts::default(), SystemTime::now());
    let backend = |(name, given): (&BackendName, &BackendOverride)| ListedOverride {
        pool: Some(name.pool.clone()),
        name: name.name.clone(),
        configured: !lost.contains(name),
        given: {
            let left = left.as_ref().and_then(|left| left.backends.get(name));
            of_backend(given, left.copied(), &accounts, now)
        },
    };
    let vip = |(name, given): (&String, &Given)| ListedOverride {
        pool: None,
        name: name.clone(),
        configured: !lost_vips.contains(name.as_str()),
        given: of_vip(*given, &accounts),
    };
    let overrides = &snapshot.overrides;
    overrides.backends.iter().map(backend).chain(overrides.vips.iter().map(vip)).collect()
}

/// `GET /v1/pools`
pub(crate) fn pools(snapshot: &Snapshot) -> Vec<Pool> {
    let names = |pool: &crate::model::Pool| pool.backends.iter().map(|backend| backend.name.clone()).collect();
    snapshot.desired.pools.values().map(|pool| Pool { name: pool.name.clone(), backends: names(pool) }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn how_long_a_drain_takes_is_told_by_how_it_went() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let drain = |deadline: Option<u64>| Drain { since: at(1000), deadline: deadline.map(at), flows: 100 };
        for (deadline, left, now, told) in [
            (None, 50, 1060, Some(60)),
            (None, 75, 1060, Some(180)),
            (None, 0, 1060, Some(0)),
            (Some(1100), 75, 1060, Some(40)),
            (Some(1050), 75, 1060, Some(0)),
            // Too early, nothing ended, more than at the start, a clock that was set back.
            (None, 50, 1004, None),
            (None, 100, 1060, None),
            (None, 101, 1060, None),
            (None, 50, 900, None),
        ] {
            assert_eq!(estimate(&drain(deadline), left, at(now)), told, "{left} at {now}");
        }
    }
}
