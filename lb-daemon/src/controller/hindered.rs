//! Checks that cannot be made, told by the pools that ask for them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Controller, by_pool, engine::Engine, member, snapshot::HinderedPool};
use crate::{
    health::{CheckId, Hindered, Member},
    model::Config,
};

impl<E: Engine> Controller<E> {
    /// Pools with checks that cannot be made.
    pub(super) fn hindered(&self) -> Vec<HinderedPool> {
        pools(&self.config, &self.wires.hindered.borrow())
    }
}

fn pools(config: &Config, hindered: &Hindered) -> Vec<HinderedPool> {
    if hindered.is_empty() {
        return Vec::new();
    }
    let members: BTreeSet<Member> = hindered.keys().map(|id| id.member).collect();
    let mut asking: BTreeMap<Member, (&str, &str)> = BTreeMap::new();
    for (vip, pool, backend) in by_pool(config).filter(|(_, pool, _)| pool.health.is_watched()) {
        let member = member(vip, backend);
        if members.contains(&member) {
            // The first pool that checks it says how.
            asking.entry(member).or_insert((&pool.name, &backend.name));
        }
    }
    let mut found: BTreeMap<&str, HinderedPool> = BTreeMap::new();
    for (CheckId { member, .. }, hindrance) in hindered {
        let Some(&(pool, backend)) = asking.get(member) else { continue };
        let told = found.entry(pool).or_insert_with(|| HinderedPool {
            pool: pool.to_owned(),
            backends: BTreeSet::new(),
            checks: 0,
            since: hindrance.since,
            why: hindrance.why.clone(),
        });
        told.checks += 1;
        told.backends.insert(backend.to_owned());
        if hindrance.since < told.since {
            (told.since, told.why) = (hindrance.since, hindrance.why.clone());
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{
        controller::tests::rig::{TEXT, config},
        health::Hindrance,
    };

    #[test]
    fn checks_are_counted_by_pool_and_the_one_that_waits_longest_tells_why() {
        let config = config(TEXT);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let hindrance = |since, why: &str| Hindrance { since: at(since), why: why.into() };
        let web =
            by_pool(&config).filter(|(_, pool, _)| pool.name == "web").map(|(vip, _, backend)| member(vip, backend));
        let members: Vec<Member> = web.collect();
        let id = |member: &Member| CheckId { member: *member, check: "tcp".into() };
        let mut hindered: Hindered = members.iter().map(|member| (id(member), hindrance(20, "no way"))).collect();
        hindered.insert(id(&members[1]), hindrance(10, "no descriptors"));
        // Of a configuration before this one.
        let gone = Member { backend: "10.9.9.9".parse().unwrap(), ..members[0] };
        hindered.insert(id(&gone), hindrance(1, "gone"));
        let backends = ["web-1", "web-2", "web-3"].map(str::to_owned).into();
        let why = "no descriptors".into();
        let told = HinderedPool { pool: "web".into(), backends, checks: members.len(), since: at(10), why };
        assert_eq!(pools(&config, &hindered), [told]);
        assert_eq!(pools(&config, &Hindered::new()), []);
    }
}
