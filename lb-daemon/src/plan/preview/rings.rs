//! How much of a ring leads elsewhere, told by backends: places of a VIP's range may be renumbered without a flow noticing.

use std::{collections::BTreeMap, net::IpAddr};

use super::{after::Slots, report::Moved};

/// Slots of the ring of before that lead to another backend in the ring of after.
///
/// Where the rings differ in length, a slot of one is parts of several slots of the other: what is counted then is the share
/// of hashes that lead elsewhere, in slots of the ring of before, rounded up. A ring that was empty has nothing to move.
pub(super) fn moved(before: &Slots, after: &Slots) -> Moved {
    let total = before.len() as u64;
    let moved = match (before.len(), after.len()) {
        (0, _) => 0,
        (_, 0) => total,
        (one, other) if one == other => {
            before.iter().zip(after).filter(|(before, after)| before != after).count() as u64
        }
        _ => by_hash(before, after).div_ceil(after.len() as u64),
    };
    Moved::new(moved, total)
}

/// Of as many parts as the product of both lengths, into which both rings divide evenly, those that lead elsewhere.
fn by_hash(before: &Slots, after: &Slots) -> u64 {
    let (old, new) = (before.len() as u64, after.len() as u64);
    let (mut at, mut moved) = (0, 0);
    let (mut in_old, mut in_new) = (0, 0);
    while let (Some(from), Some(to)) = (before.get(in_old), after.get(in_new)) {
        let (old_end, new_end) = ((in_old as u64 + 1) * new, (in_new as u64 + 1) * old);
        let end = old_end.min(new_end);
        if from != to {
            moved += end - at;
        }
        at = end;
        in_old += usize::from(old_end == end);
        in_new += usize::from(new_end == end);
    }
    moved
}

/// Each backend's share of a ring, 0 to 1.
pub(super) fn shares(slots: &Slots) -> BTreeMap<IpAddr, f64> {
    let mut counts: BTreeMap<IpAddr, u64> = BTreeMap::new();
    for backend in slots.iter().flatten() {
        *counts.entry(*backend).or_default() += 1;
    }
    let total = slots.len() as u64;
    counts.into_iter().map(|(backend, slots)| (backend, Moved::new(slots, total).share)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(text: &str) -> Slots {
        text.bytes().map(|letter| Some(IpAddr::from([10, 0, 0, letter]))).collect()
    }

    #[test]
    fn slots_are_compared_one_by_one() {
        assert_eq!(moved(&ring("abcd"), &ring("abca")), Moved::new(1, 4));
        assert_eq!(moved(&ring("abcd"), &ring("")), Moved::new(4, 4), "nobody is left");
        assert_eq!(moved(&ring(""), &ring("abcd")), Moved::new(0, 0), "nobody was there");
    }

    #[test]
    fn rings_of_different_lengths_are_compared_by_hash() {
        assert_eq!(moved(&ring("ab"), &ring("aabb")).moved, 0);
        // The last quarter of all hashes is half a slot.
        assert_eq!(moved(&ring("ab"), &ring("aaba")), Moved::new(1, 2));
        // Of 15 parts aaaaabbbbbccccc and aaabbbcccaaabbb, those at 3, 4, 6 to 8 and 10 to 14 differ, and 9: 3 to each new slot.
        let differing =
            "aaaaabbbbbccccc".bytes().zip("aaabbbcccaaabbb".bytes()).filter(|(old, new)| old != new).count();
        assert_eq!(by_hash(&ring("abc"), &ring("abcab")), differing as u64);
    }

    #[test]
    fn shares_add_up() {
        assert_eq!(shares(&ring("abaa")).into_values().collect::<Vec<_>>(), [0.75, 0.25]);
    }
}
