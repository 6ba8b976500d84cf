//! Rings and lists of the latest plan, so that the next one neither builds nor compares those again that stay as they are.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{ListId, RingDigest, prefixes::Prefixes};
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

/// Digests of the rings that the latest plan wanted, and its lists.
///
/// Only digests outlive a plan: the slots of a default ring are 131 KiB, and are needed again only if the ring has to be
/// written, which is rare and then costs 1.5 ms.
#[derive(Clone, Debug, Default)]
pub struct RingCache {
    rings: BTreeMap<Recipe, Entry>,
    lists: BTreeMap<ListId, List>,
    /// Slots that stand in for those of any ring of their number, while only room matters.
    blank: Option<BTreeMap<u32, Arc<[u16]>>>,
}

/// A list that a plan wanted.
#[derive(Clone, Debug)]
struct List {
    wanted: Arc<Prefixes>,
    /// What the numbers of `wanted` stand for, unless for themselves.
    numbers: Option<Vec<u32>>,
    /// The same with these numbers.
    numeric: Arc<Prefixes>,
    used: bool,
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
        if let Some(blank) = &mut self.blank {
            let zeros = || vec![0; recipe.1 as usize].into();
            return Arc::clone(blank.entry(recipe.1).or_insert_with(zeros));
        }
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

    /// What a table should hold for the list `wanted`, whose numbers stand for those of `numbers`: `held` itself if that
    /// is the same, so that the next comparison is one of two addresses.
    pub(super) fn list(
        &mut self,
        id: ListId,
        wanted: &Arc<Prefixes>,
        numbers: Option<&[u32]>,
        held: Option<&Arc<Prefixes>>,
    ) -> Arc<Prefixes> {
        let same = |list: &&mut List| Arc::ptr_eq(&list.wanted, wanted) && list.numbers.as_deref() == numbers;
        let known = self.lists.get_mut(&id).filter(same).map(|list| Arc::clone(&list.numeric));
        let is_wanted = |held: &&Arc<Prefixes>| match (&known, numbers) {
            (Some(known), _) => Arc::ptr_eq(known, held) || known == *held,
            (None, None) => wanted == *held,
            (None, Some(numbers)) => wanted.is_renumbered(numbers, held),
        };
        let numeric = match (held.filter(is_wanted), known, numbers) {
            (Some(held), ..) => Arc::clone(held),
            (None, Some(known), _) => known,
            (None, None, None) => Arc::clone(wanted),
            (None, None, Some(numbers)) => Arc::new(wanted.renumbered(numbers)),
        };
        let list = List {
            wanted: Arc::clone(wanted),
            numbers: numbers.map(<[u32]>::to_vec),
            numeric: Arc::clone(&numeric),
            used: true,
        };
        self.lists.insert(id, list);
        numeric
    }

    /// From now on rings that have to be written have no slots of their own: building those of a thousand takes more than
    /// a second, and whether there is room for them does not depend on what they say.
    pub(super) fn leave_blank(&mut self, blank: bool) {
        self.blank = blank.then(BTreeMap::new);
    }

    /// Ends a plan: rings and lists that it didn't ask for are forgotten, and all slots.
    pub(super) fn end_plan(&mut self) {
        self.lists.retain(|_, list| list.used);
        self.rings.retain(|_, entry| entry.used);
        self.end_patch();
    }

    /// Ends a plan for a part: only slots are forgotten, as it didn't ask for the others' rings and lists.
    pub(super) fn end_patch(&mut self) {
        for list in self.lists.values_mut() {
            list.used = false;
        }
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
    fn a_list_is_compared_once() {
        let prefix = |bits| super::super::prefixes::Prefix { address: [0; 16], bits };
        let id = ListId { table: super::super::ListTable::Routes, vip: 1 };
        let list = |numbers: [u32; 2]| Arc::new(Prefixes::new(vec![(prefix(1), numbers[0]), (prefix(2), numbers[1])]));
        let (wanted, held) = (list([0, 1]), list([5, 6]));
        let mut cache = RingCache::default();
        assert!(Arc::ptr_eq(&cache.list(id, &wanted, Some(&[5, 6]), Some(&held)), &held));
        cache.end_plan();
        assert!(Arc::ptr_eq(&cache.list(id, &wanted, Some(&[5, 6]), Some(&held)), &held));
        let other = cache.list(id, &wanted, Some(&[5, 7]), Some(&held));
        assert_eq!(other, list([5, 7]));
        assert!(Arc::ptr_eq(&cache.list(id, &wanted, Some(&[5, 7]), Some(&held)), &other));
        assert!(Arc::ptr_eq(&cache.list(id, &wanted, None, None), &wanted));
        cache.end_plan();
        cache.end_plan();
        assert!(cache.lists.is_empty());
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
