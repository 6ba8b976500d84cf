//! Lists of source prefixes, up to a million long: shared, compared and changed without being copied.

use std::{
    cmp::{Ordering, Reverse},
    net::IpAddr,
};

use ipnet::IpNet;

use super::target::address_bytes;

/// Bits that an IPv4 prefix has more in the tables than it says itself.
const MAPPED_BITS: u8 = 96;

/// A prefix of source addresses, as the tables keep it: IPv4 mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Its first address.
    pub address: [u8; 16],
    /// Bits that count, of 128.
    pub bits: u8,
}

impl Prefix {
    /// All sources, of both families.
    pub const ALL: Self = Self { address: [0; 16], bits: 0 };
    /// All IPv4 sources.
    pub const V4: Self = Self { address: lb_common::layout::vip::mapped([0; 4]), bits: MAPPED_BITS };

    /// The prefix as the tables keep it.
    pub fn of(net: &IpNet) -> Self {
        let added = if matches!(net.network(), IpAddr::V4(_)) { MAPPED_BITS } else { 0 };
        Self { address: address_bytes(net.network()), bits: net.prefix_len() + added }
    }

    /// Whether every address of `other` is one of this prefix.
    pub fn covers(&self, other: &Self) -> bool {
        let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
        let differ = u128::from_be_bytes(self.address) ^ u128::from_be_bytes(other.address);
        self.bits <= other.bits && differ & mask == 0
    }
}

/// Prefixes and a number that each stands for; the longest that an address is in decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(Vec<(Prefix, u32)>);

/// Writes and removals that lead from one list to another. Carried out in this order, every address finds at each moment
/// what it found in the old list or what it will find in the new one: what is written first is longer than what is not
/// yet, and whatever is removed leaves longer ones of the old list in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Prefixes that are new or mean another number, the longest first.
    pub write: Vec<(Prefix, u32)>,
    /// Prefixes that are not in the new list, the shortest first.
    pub remove: Vec<Prefix>,
}

impl Prefixes {
    /// A list of these; of several numbers for the same prefix the first counts.
    pub fn new(mut entries: Vec<(Prefix, u32)>) -> Self {
        entries.sort_by_key(|(prefix, _)| *prefix);
        entries.dedup_by_key(|(prefix, _)| *prefix);
        Self(entries)
    }

    /// Number of prefixes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The prefixes with their numbers, by address.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, u32)> {
        self.0.iter().copied()
    }

    /// The number that this very prefix stands for.
    pub fn get(&self, prefix: &Prefix) -> Option<u32> {
        let at = self.0.binary_search_by_key(prefix, |(prefix, _)| *prefix).ok()?;
        self.0.get(at).map(|(_, number)| *number)
    }

    /// The same prefixes, each standing for what `numbers` has at its number.
    pub(super) fn renumbered(&self, numbers: &[u32]) -> Self {
        Self(self.iter().map(|(prefix, number)| (prefix, looked_up(numbers, number))).collect())
    }

    /// Whether [`Prefixes::renumbered`] would be `other`.
    pub(super) fn is_renumbered(&self, numbers: &[u32], other: &Self) -> bool {
        let same = |((prefix, number), (other, named)): ((Prefix, u32), (Prefix, u32))| {
            prefix == other && looked_up(numbers, number) == named
        };
        self.len() == other.len() && self.iter().zip(other.iter()).all(same)
    }

    /// What leads from this list to `new`.
    pub fn changes(&self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        self.merge(new, |old, new| match (old, new) {
            (Some((prefix, _)), None) => changes.remove.push(prefix),
            (old, Some(new)) if old != Some(new) => changes.write.push(new),
            _ => {}
        });
        changes.write.sort_by_key(|(prefix, _)| Reverse(prefix.bits));
        changes.remove.sort_by_key(|prefix| prefix.bits);
        changes
    }

    /// Prefixes that are in this list, in `other` or in both.
    pub fn joint_len(&self, other: &Self) -> usize {
        let mut count = 0;
        self.merge(other, |_, _| count += 1);
        count
    }

    /// Calls `each` for every prefix of either list, with its entry in both.
    fn merge(&self, other: &Self, mut each: impl FnMut(Option<(Prefix, u32)>, Option<(Prefix, u32)>)) {
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((left, _)), Some((right, _))) => left.cmp(right),
            };
            let one = if order.is_le() { left.next() } else { None };
            let other = if order.is_ge() { right.next() } else { None };
            each(one, other);
        }
    }
}

/// A number beyond the end stands for nothing, which is 0.
fn looked_up(numbers: &[u32], number: u32) -> u32 {
    numbers.get(number as usize).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::of(&text.parse().unwrap())
    }

    #[test]
    fn prefixes_of_both_families_are_of_one_space() {
        assert_eq!(prefix("0.0.0.0/0"), Prefix::V4);
        assert_eq!(prefix("::/0"), Prefix::ALL);
        assert_eq!(prefix("192.0.2.7/24"), prefix("192.0.2.0/24"));
        assert!(
            prefix("10.0.0.0/8").covers(&prefix("10.1.0.0/16")) && !prefix("10.1.0.0/16").covers(&prefix("10.0.0.0/8"))
        );
        assert!(Prefix::ALL.covers(&Prefix::V4) && prefix("::/8").covers(&Prefix::V4));
        assert!(!prefix("2000::/3").covers(&Prefix::V4));
    }

    #[test]
    fn numbers_are_looked_up() {
        let list = Prefixes::new(vec![(prefix("10.0.0.0/8"), 1), (prefix("::/0"), 0), (prefix("10.0.0.0/9"), 9)]);
        let numeric = list.renumbered(&[7, 8]);
        assert_eq!(numeric.get(&prefix("10.0.0.0/8")), Some(8));
        assert_eq!(numeric.get(&prefix("10.0.0.0/9")), Some(0), "what stands for nothing");
        assert!(list.is_renumbered(&[7, 8], &numeric));
        assert!(!list.is_renumbered(&[7, 7], &numeric));
    }

    /// What an address finds in a trie.
    fn find(trie: &BTreeMap<Prefix, u32>, address: Prefix) -> Option<u32> {
        let matching = trie.iter().filter(|(prefix, _)| prefix.covers(&address));
        matching.max_by_key(|(prefix, _)| prefix.bits).map(|(_, number)| *number)
    }

    fn any_list() -> impl Strategy<Value = Vec<(Prefix, u32)>> {
        // Prefixes of one byte's bits: nested ones are frequent.
        let prefix = (0_u8..=5, any::<u8>()).prop_map(|(bits, byte)| {
            let mask = u8::MAX.checked_shl(u32::from(8 - bits)).unwrap_or(0);
            let mut address = [0; 16];
            address[0] = byte & mask & 0xf8;
            Prefix { address, bits }
        });
        prop::collection::vec((prefix, 0_u32..3), 0..14)
    }

    proptest! {
        /// Each address finds what it found or what it is to find, after each single write.
        #[test]
        fn every_source_is_decided_by_the_old_list_or_the_new(old in any_list(), new in any_list()) {
            let (old, new) = (Prefixes::new(old), Prefixes::new(new));
            let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.iter().collect(), new.iter().collect());
            let addresses = (0..32_u8).map(|high| {
                let mut address = [0; 16];
                address[0] = high << 3;
                Prefix { address, bits: 128 }
            });
            let Changes { write, remove } = old.changes(&new);
            let mut trie = before.clone();
            let writes = write.into_iter().map(|(prefix, number)| (prefix, Some(number)));
            for (prefix, number) in writes.chain(remove.into_iter().map(|prefix| (prefix, None))) {
                match number {
                    Some(number) => _ = trie.insert(prefix, number),
                    None => prop_assert!(trie.remove(&prefix).is_some()),
                }
                prop_assert!(trie.len() <= old.joint_len(&new));
                for address in addresses.clone() {
                    let found = find(&trie, address);
                    prop_assert!(found == find(&before, address) || found == find(&after, address));
                }
            }
            prop_assert_eq!(trie, after);
        }
    }
}
