//! What is told where several fare alike: what else is wrong must not drown.

use std::time::{Duration, SystemTime};

use super::{HinderedPool, VipView};
use crate::controller::preview::{NAMED, first};

/// Says of each of a few pools, and of many at once, that checks cannot be made.
pub(super) fn told_as_hindered(pools: &[HinderedPool], now: SystemTime) -> Vec<String> {
    let told = |checks: usize, of: &str, since: SystemTime, why: &str| {
        let checks = if checks == 1 { "1 check".to_owned() } else { format!("{checks} checks") };
        let lasting = match now.duration_since(since).unwrap_or_default().as_secs() {
            0..60 => "cannot be made".to_owned(),
            // Seconds of what has lasted for hours say nothing.
            age => {
                let age = Duration::from_secs(if age < 3600 { age } else { age - age % 60 });
                format!("could not be made for {}", humantime::format_duration(age))
            }
        };
        format!("{checks} of {of} {lasting}, all stays as it was: {why}")
    };
    if pools.len() > NAMED
        && let Some(longest) = pools.iter().min_by_key(|pool| pool.since)
    {
        let names: Vec<&str> = pools.iter().map(|pool| pool.pool.as_str()).collect();
        let checks = pools.iter().map(|pool| pool.checks).sum();
        return vec![told(checks, &format!("pools {}", first(&names)), longest.since, &longest.why)];
    }
    let each = pools.iter().map(|HinderedPool { pool, backends, checks, since, why }| {
        let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
        told(*checks, &format!("pool {pool} ({})", first(&backends)), *since, why)
    });
    each.collect()
}

/// Says of each of a few VIPs, and of many at once, that they have no backend: what else is wrong must not drown.
pub(super) fn told_as_empty(vips: &[&str]) -> Vec<String> {
    if vips.len() > NAMED {
        return vec![format!("vips {} have no serving backend", first(vips))];
    }
    vips.iter().map(|vip| format!("vip {vip} has no serving backend")).collect()
}

/// Says of each of a few VIPs, and of many at once, that too few of its backends are healthy. Of one without any it was said.
pub(super) fn told_as_few(vips: &[VipView]) -> Vec<String> {
    let told = |what: fn(&VipView) -> Option<String>, many: &str| {
        let few: Vec<(&str, String)> = vips.iter().filter_map(|vip| Some((vip.name.as_str(), what(vip)?))).collect();
        if few.len() > NAMED {
            let names: Vec<&str> = few.iter().map(|(name, _)| *name).collect();
            return vec![format!("vips {} {many}", first(&names))];
        }
        few.into_iter().map(|(name, what)| format!("vip {name} {what}")).collect()
    };
    let down =
        told(|vip| Some(format!("is down: {}", vip.lacks()?)), "are down: fewer healthy backends than min_healthy");
    let panics = told(|vip| Some(format!("is in {}", vip.panic()?)), "are in panic: all their backends are used");
    [down, panics].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_vips_without_a_backend_are_told_in_one_line() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        assert_eq!(told_as_empty(&[]), [""; 0]);
        assert_eq!(told_as_empty(&names[..2]), ["vip a has no serving backend", "vip b has no serving backend"]);
        assert_eq!(told_as_empty(&names[..5]).len(), 5);
        assert_eq!(told_as_empty(&names), ["vips a, b, c, d, e and 2 more have no serving backend"]);
    }

    #[test]
    fn checks_that_cannot_be_made_are_told_by_pool_with_the_reason() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(10);
        let pool = |name: &str, checks: usize, ago| HinderedPool {
            pool: name.into(),
            backends: (1..=checks.min(7)).map(|nth| format!("{name}-{nth}")).collect(),
            checks,
            since: now - Duration::from_secs(ago),
            why: format!("{name} why"),
        };
        assert_eq!(told_as_hindered(&[], now), [""; 0]);
        assert_eq!(
            told_as_hindered(&[pool("a", 1, 72), pool("b", 30, 7269), pool("c", 2, 3)], now),
            [
                "1 check of pool a (a-1) could not be made for 1m 12s, all stays as it was: a why",
                "30 checks of pool b (b-1, b-2, b-3, b-4, b-5 and 2 more) could not be made for 2h 1m, all stays as it was: b why",
                "2 checks of pool c (c-1, c-2) cannot be made, all stays as it was: c why",
            ]
        );
        let many: Vec<HinderedPool> = ["a", "b", "c", "d", "e", "f"].map(|name| pool(name, 2, 60)).into();
        assert_eq!(
            told_as_hindered(&many, now),
            ["12 checks of pools a, b, c, d, e and 1 more could not be made for 1m, all stays as it was: a why"]
        );
    }
}
