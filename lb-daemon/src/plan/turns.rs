//! In which order, and where, rings are renewed where room is so short that the first order tried gets stuck.

use std::{cmp::Reverse, collections::BTreeSet, ops::Range};

use super::space::Space;

/// Steps after which the search is given up.
const MOST_STEPS: u32 = 20_000;
/// Choices that are followed at each step, the most promising ones.
const MOST_CHOICES: usize = 32;

/// A ring to be renewed: what is held is given up once the new one is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    /// Blocks of the new ring; at least 1.
    pub(super) needed: u32,
    /// Blocks of the ring in force; empty if there is none.
    pub(super) held: Range<u32>,
}

/// The first block of each new ring, in an order in which each finds it free; `None` if there is no such order, or none
/// was found in time.
///
/// A plan that was cut short has left an order that gets through, its own, but none that a fixed rule would find: blocks
/// that were still being read when it chose are free now.
pub(super) fn turns(free: &Space, renewals: &[Renewal]) -> Option<Vec<(usize, u32)>> {
    let mut space = free.clone();
    // Long rings first: they find the fewest places.
    let longest_first = |(at, renewal): (usize, &Renewal)| (Reverse(renewal.needed), at);
    let mut waiting: BTreeSet<(Reverse<u32>, usize)> = renewals.iter().enumerate().map(longest_first).collect();
    let mut open = vec![choices(&space, &waiting)];
    let mut made: Vec<(usize, u32)> = Vec::with_capacity(renewals.len());
    for _ in 0..MOST_STEPS {
        if waiting.is_empty() {
            return Some(made);
        }
        if let Some((at, base)) = open.last_mut()?.next() {
            let Renewal { needed, held } = renewals[at].clone();
            space.reserve(base..base + needed);
            space.release(held);
            space.settle();
            waiting.remove(&(Reverse(needed), at));
            made.push((at, base));
            open.push(choices(&space, &waiting));
        } else {
            open.pop();
            let (at, base) = made.pop()?;
            let Renewal { needed, held } = renewals[at].clone();
            space.reserve(held);
            space.release(base..base + needed);
            space.settle();
            waiting.insert((Reverse(needed), at));
        }
    }
    None
}

/// What may come next, the tightest fit first: which ring, and its first block, at the start or the end of a free run.
fn choices(space: &Space, waiting: &BTreeSet<(Reverse<u32>, usize)>) -> std::vec::IntoIter<(usize, u32)> {
    let mut found: BTreeSet<(u32, Reverse<u32>, usize, u32)> = BTreeSet::new();
    for &(Reverse(needed), at) in waiting.iter().take(MOST_CHOICES) {
        for run in space.runs().filter(|run| run.end - run.start >= needed) {
            let slack = run.end - run.start - needed;
            found.extend([run.start, run.end - needed].map(|base| (slack, Reverse(needed), at, base)));
        }
    }
    let best = found.into_iter().take(MOST_CHOICES).map(|(_, _, at, base)| (at, base));
    best.collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(free: &[Range<u32>]) -> Space {
        let mut space = Space::new(0..0);
        for run in free {
            space.release(run.clone());
        }
        space.settle();
        space
    }

    fn renewal(needed: u32, held: Range<u32>) -> Renewal {
        Renewal { needed, held }
    }

    #[test]
    fn a_short_ring_leaves_the_long_run_to_a_long_one() {
        let renewals = [renewal(1, 7..8), renewal(2, 0..0)];
        assert_eq!(turns(&space(&[2..4, 5..6]), &renewals), Some(vec![(1, 2), (0, 5)]));
    }

    #[test]
    fn a_ring_waits_for_what_another_gives_up() {
        let renewals = [renewal(3, 4..6), renewal(2, 2..4)];
        assert_eq!(turns(&Space::new(0..2), &renewals), None);
        let renewals = [renewal(3, 4..6), renewal(1, 1..3)];
        assert_eq!(turns(&space(&[0..1, 3..4]), &renewals), Some(vec![(1, 0), (0, 1)]));
    }

    #[test]
    fn the_end_of_a_run_is_tried_too() {
        // Only there does the short ring leave room that its old block makes long enough.
        let renewals = [renewal(1, 0..1), renewal(3, 0..0)];
        assert_eq!(turns(&Space::new(1..4), &renewals), Some(vec![(0, 3), (1, 0)]));
    }

    #[test]
    fn a_hopeless_search_ends() {
        let free: Vec<Range<u32>> = (0..300).map(|run| run * 4..run * 4 + 2).collect();
        let renewals: Vec<Renewal> = (0..300).map(|ring| renewal(1 + ring % 2, ring * 4 + 2..ring * 4 + 3)).collect();
        let never = [renewals, vec![renewal(2000, 0..0)]].concat();
        assert_eq!(turns(&space(&free), &never), None);
    }
}
