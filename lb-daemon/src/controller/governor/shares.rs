//! Arithmetic of the shares of a ring. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use crate::maglev;

/// A backend as the ring may have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    /// What its weight would be if health had nothing against it; above 0.
    pub(super) weight: f64,
    /// How much of that is in force.
    pub(super) factor: f64,
    /// How much of that it should have.
    pub(super) goal: f64,
}

/// Brings the factors of `parts` nearer to their goals, by moving `amount` of the whole from those who have too much to
/// those who have too little: first from those who should have nothing, one after the other in the order of `first`, then
/// from the others alike. Who is down therefore never gets more by another's going.
pub(super) fn approach(parts: &BTreeMap<IpAddr, Part>, first: &[IpAddr], amount: f64) -> BTreeMap<IpAddr, f64> {
    let whole: f64 = parts.values().map(|part| part.weight * part.factor).sum();
    let wanted: f64 = parts.values().map(|part| part.weight * part.goal).sum();
    let share = |part: &Part| part.weight * part.factor / whole;
    let aim = |part: &Part| part.weight * part.goal / wanted;
    let mut shares: BTreeMap<IpAddr, f64> = parts.iter().map(|(address, part)| (*address, share(part))).collect();
    let (mut left, mut taken) = (amount, 0.0);
    for address in first {
        if let Some(share) = shares.get_mut(address) {
            let gives = share.min(left);
            *share -= gives;
            left -= gives;
            taken += gives;
        }
    }
    let above = |address: &IpAddr, part: &Part| if first.contains(address) { 0.0 } else { share(part) - aim(part) };
    let surplus: f64 = parts.iter().map(|(address, part)| above(address, part).max(0.0)).sum();
    let lack: f64 = parts.values().map(|part| (aim(part) - share(part)).max(0.0)).sum();
    let given = left.min(surplus).max(0.0);
    taken += given;
    for (address, part) in parts {
        let Some(share) = shares.get_mut(address) else { continue };
        let difference = above(address, part);
        if difference > 0.0 && surplus > 0.0 {
            *share -= given * difference / surplus;
        } else if difference < 0.0 && lack > 0.0 {
            *share += taken * -difference / lack;
        }
    }
    // Only proportions matter. The largest factor is made what the largest goal is, so that whoever joins has his right share.
    let factor = |(address, share): (&IpAddr, &f64)| {
        let weight = parts.get(address).map_or(1.0, |part| part.weight);
        (*address, if *share > NOTHING { share / weight } else { 0.0 })
    };
    let factors: BTreeMap<IpAddr, f64> = shares.iter().map(factor).collect();
    let largest = factors.values().copied().fold(0.0, f64::max);
    let highest = parts.values().map(|part| part.goal).fold(0.0, f64::max);
    factors.into_iter().map(|(address, factor)| (address, factor * highest / largest)).collect()
}

/// A share that is left over by rounding. A slot of the largest ring is a thousand times as much.
const NOTHING: f64 = 1e-9;

/// Weights of these factors, as whole numbers: no backend that has a share loses it by rounding.
pub(super) fn weights(parts: &BTreeMap<IpAddr, Part>, factor: impl Fn(&IpAddr, &Part) -> f64) -> BTreeMap<IpAddr, u32> {
    let factors = parts.iter().map(|(address, part)| (*address, part.weight, factor(address, part)));
    let factors: Vec<_> = factors.filter(|(_, _, factor)| *factor > 0.0).collect();
    // Weights that are in force whole are told as they are.
    let whole = factors.iter().all(|(_, _, factor)| (factor - 1.0).abs() < f64::EPSILON);
    let largest = factors.iter().map(|(_, weight, factor)| weight * factor).fold(1.0, f64::max);
    let scale = if whole { 1.0 } else { (f64::from(u32::MAX) / largest).min(FINE) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to u32::MAX")]
    let rounded = |share: f64| (share * scale).round().clamp(1.0, f64::from(u32::MAX)) as u32;
    factors.into_iter().map(|(address, weight, factor)| (address, rounded(weight * factor))).collect()
}

/// Parts that a weight of 1 is told in while some are not in force whole.
const FINE: f64 = 65_536.0;

/// The ring of these weights, with the backends' places in the map.
pub(super) fn ring(weights: &BTreeMap<IpAddr, u32>, size: u32) -> Vec<Option<IpAddr>> {
    let members: Vec<(IpAddr, u32)> = weights.iter().map(|(address, weight)| (*address, *weight)).collect();
    let slots = maglev::ring(&members, size);
    slots.into_iter().map(|index| members.get(usize::from(index)).map(|(address, _)| *address)).collect()
}

/// Slots of each backend in the ring of these weights.
pub(super) fn counted(weights: &BTreeMap<IpAddr, u32>, size: u32) -> BTreeMap<IpAddr, u32> {
    let mut slots = BTreeMap::new();
    if size > 0 {
        for address in ring(weights, size).into_iter().flatten() {
            *slots.entry(address).or_default() += 1;
        }
    }
    slots
}

/// Slots that lead elsewhere.
pub(super) fn moved(before: &[Option<IpAddr>], after: &[Option<IpAddr>]) -> u32 {
    let differ = before.iter().zip(after).filter(|(before, after)| before != after).count();
    let come_or_go = before.len().abs_diff(after.len());
    u32::try_from(differ + come_or_go).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(number: usize) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap()).into()
    }

    fn parts(all: &[(f64, f64, f64)]) -> BTreeMap<IpAddr, Part> {
        let part = |(number, &(weight, factor, goal)): (usize, &(f64, f64, f64))| {
            (address(number), Part { weight, factor, goal })
        };
        all.iter().enumerate().map(part).collect()
    }

    /// Shares that factors make.
    fn shares(parts: &BTreeMap<IpAddr, Part>, factors: &BTreeMap<IpAddr, f64>) -> Vec<f64> {
        let all: Vec<f64> = parts.iter().map(|(address, part)| part.weight * factors[address]).collect();
        all.iter().map(|one| one / all.iter().sum::<f64>()).collect()
    }

    #[test]
    fn the_first_to_go_goes_whole_before_the_next_begins() {
        let parts = parts(&[(1.0, 1.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)]);
        let after = shares(&parts, &approach(&parts, &[address(1), address(0)], 0.3));
        let expected = [0.2, 0.0, 0.4, 0.4];
        assert!(after.iter().zip(expected).all(|(is, should)| (is - should).abs() < 1e-9), "{after:?}");
    }

    #[test]
    fn weights_in_force_whole_are_those_of_the_file() {
        let told = |all: &[(f64, f64, f64)]| -> Vec<u32> {
            let parts = parts(all);
            weights(&parts, |_, part| part.factor).into_values().collect()
        };
        assert_eq!(told(&[(100.0, 1.0, 1.0), (50.0, 1.0, 1.0), (7.0, 0.0, 1.0)]), [100, 50]);
        assert_eq!(told(&[(100.0, 0.5, 1.0), (50.0, 1.0, 1.0)]), [50 << 16, 50 << 16]);
        assert_eq!(told(&[(65_535.0, 1.0, 1.0), (1.0, 1e-9, 1.0)]), [65_535 << 16, 1]);
    }

    proptest! {
        #[test]
        fn no_more_than_the_amount_moves_and_none_the_wrong_way(
            all in prop::collection::vec((1.0..100.0, 0.0..=1.0, prop_oneof![Just(0.0), 0.05..=1.0]), 2..20),
            amount in 0.0..1.0,
        ) {
            let parts = parts(&all);
            prop_assume!(all.iter().any(|(_, _, goal)| *goal > 0.0) && all.iter().any(|(_, factor, _)| *factor > 0.01));
            let first: Vec<IpAddr> =
                parts.iter().filter(|(_, part)| part.goal == 0.0).map(|(address, _)| *address).collect();
            let now: BTreeMap<IpAddr, f64> = parts.iter().map(|(address, part)| (*address, part.factor)).collect();
            let aims: BTreeMap<IpAddr, f64> = parts.iter().map(|(address, part)| (*address, part.goal)).collect();
            let (before, aim) = (shares(&parts, &now), shares(&parts, &aims));
            let after = shares(&parts, &approach(&parts, &first, amount));
            let went: f64 = before.iter().zip(&after).map(|(before, after)| (before - after).max(0.0)).sum();
            prop_assert!(went <= amount + 1e-6, "{went} went, {amount} may");
            for ((before, aim), after) in before.iter().zip(&aim).zip(&after) {
                let (low, high) = (before.min(*aim) - 1e-6, before.max(*aim) + 1e-6);
                prop_assert!((low..=high).contains(after), "{after} is not between {before} and {aim}");
            }
        }
    }
}
