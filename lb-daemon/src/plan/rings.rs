//! Rings of the latest plan, so that the next one doesn't build those again that stay as they are.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::RingDigest;
use crate::maglev;

/// A backend in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    /// Its address, which decides its slots.
    pub(super) address: IpAddr,
    /// Its target's number within the VIP's range, which the slots say.
    pub(super) place: u16,
    /// Its share.
    pub(super) weight: u32,
}

/// What a ring is made of: its members, by address, and its slots.
pub(super) type Recipe = (Vec<Member>, u32);

/// Digests of the rings that the latest plan wanted.
///
/// Only digests outlive a plan: the slots of a default ring are 131 KiB, and are needed again only if the ring has to be
/// written, which is rare and then costs 1.5 ms.
#[derive(Clone, Debug, Default)]
pub struct RingCache {
    rings: BTreeMap<Recipe, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    digest: RingDigest,
    /// While a plan is being made: VIPs with the same pool share them.
    slots: Option<Arc<[u16]>>,
    /// Asked for by the plan that is being made.
    used: bool,
}

impl RingCache {
    /// Digest of the ring of `recipe`.
    pub(super) fn digest(&mut self, recipe: &Recipe) -> RingDigest {
        self.entry(recipe).digest
    }

    /// Slots of the ring of `recipe`.
    pub(super) fn slots(&mut self, recipe: &Recipe) -> Arc<[u16]> {
        self.entry(recipe).slots.get_or_insert_with(|| build(recipe)).clone()
    }

    fn entry(&mut self, recipe: &Recipe) -> &mut Entry {
        let entry = self.rings.entry(recipe.clone()).or_insert_with(|| {
            let slots = build(recipe);
            Entry { digest: super::digest(&slots), slots: Some(slots), used: true }
        });
        entry.used = true;
        entry
    }

    /// Ends a plan: rings that it didn't ask for are forgotten, and all slots.
    pub(super) fn end_plan(&mut self) {
        self.rings.retain(|_, entry| entry.used);
        for entry in self.rings.values_mut() {
            entry.used = false;
            entry.slots = None;
        }
    }
}

fn build((members, size): &Recipe) -> Arc<[u16]> {
    let weights: Vec<(IpAddr, u32)> = members.iter().map(|member| (member.address, member.weight)).collect();
    maglev::ring(&weights, *size).into_iter().map(|index| members[usize::from(index)].place).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn recipe(weights: &[u32]) -> Recipe {
        let member = |(place, &weight): (u16, &u32)| {
            let address = Ipv4Addr::from_bits(u32::from(place)).into();
            Member { address, place: place + 10, weight }
        };
        ((0..).zip(weights).map(member).collect(), 31)
    }

    #[test]
    fn slots_say_places() {
        let slots = RingCache::default().slots(&recipe(&[1, 1]));
        assert_eq!(slots.len(), 31);
        assert!(slots.contains(&10) && slots.contains(&11) && slots.iter().all(|slot| (10..=11).contains(slot)));
    }

    #[test]
    fn only_rings_of_the_latest_plan_are_kept_and_without_slots() {
        let mut cache = RingCache::default();
        let (old, new) = (recipe(&[1, 1]), recipe(&[1, 2]));
        let digest = cache.digest(&old);
        cache.end_plan();
        assert_eq!(cache.digest(&old), digest);
        assert_eq!(super::super::digest(&cache.slots(&old)), digest);
        cache.end_plan();
        cache.digest(&new);
        cache.end_plan();
        assert!(cache.rings.keys().eq([&new]));
        assert!(cache.rings.values().all(|entry| entry.slots.is_none()));
    }
}
