//! Runs of numbers fitted together where space is so short that taking the lowest free run for each fails.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

/// Steps after which the search is given up. Where there is a little room to spare the first try fits; this many steps
/// take about ten milliseconds.
const MOST_STEPS: u32 = 100_000;

/// The first number of each run, for runs of these lengths (each at least 1) that share the numbers of `free`; `None` if
/// there is no way to fit them, or none was found in time.
///
/// Whether a way is found must not depend on the order of the runs or on which of several holes is the lowest: a plan that
/// was cut short has to be found again from any state that it went through, where other holes are free than before.
pub(super) fn pack(free: impl Iterator<Item = Range<u32>>, lengths: &[u32]) -> Option<Vec<u32>> {
    let mut holes = Holes::default();
    for run in free {
        holes.give(run.end - run.start, run.start);
    }
    // Long runs have the fewest holes to choose from.
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&run| Reverse(lengths[run]));
    let mut chosen: Vec<(u32, u32)> = Vec::with_capacity(order.len());
    let mut shortest = 0;
    for _ in 0..MOST_STEPS {
        let Some(&run) = order.get(chosen.len()) else {
            return Some(in_order(&order, &chosen));
        };
        if let Some((hole, start)) = holes.take(shortest.max(lengths[run])) {
            holes.give(hole - lengths[run], start + lengths[run]);
            chosen.push((hole, start));
            shortest = 0;
        } else {
            // Back to the run before: the next longer hole for that one.
            let (hole, start) = chosen.pop()?;
            let length = lengths[order[chosen.len()]];
            holes.take_back(hole - length);
            holes.give(hole, start);
            shortest = hole + 1;
        }
    }
    None
}

/// The starts that were chosen, by run.
fn in_order(order: &[usize], chosen: &[(u32, u32)]) -> Vec<u32> {
    let mut starts = vec![0; order.len()];
    for (&run, &(_, start)) in order.iter().zip(chosen) {
        starts[run] = start;
    }
    starts
}

/// Free runs: their first numbers, by length. Of several as long as each other it doesn't matter which one is taken.
#[derive(Default)]
struct Holes(BTreeMap<u32, Vec<u32>>);

impl Holes {
    fn give(&mut self, length: u32, start: u32) {
        self.0.entry(length).or_default().push(start);
    }

    /// Takes one of the shortest holes of at least `length` numbers: its length and its start.
    fn take(&mut self, length: u32) -> Option<(u32, u32)> {
        let (&length, _) = self.0.range(length..).next()?;
        Some((length, self.take_back(length)?))
    }

    /// Takes the hole of this length that was given last.
    fn take_back(&mut self, length: u32) -> Option<u32> {
        let starts = self.0.get_mut(&length)?;
        let start = starts.pop();
        if starts.is_empty() {
            self.0.remove(&length);
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_way_is_found_that_no_single_rule_finds() {
        // The longest run first into the tightest hole that takes it, 7 into 8, leaves no room for 4 and 4 besides 5.
        let holes = [0..8, 10..22];
        assert_eq!(pack(holes.into_iter(), &[4, 7, 4, 5]), Some(vec![0, 10, 4, 17]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(pack([0..8, 10..18].into_iter(), &[9]), None);
        assert_eq!(pack([0..8, 10..18].into_iter(), &[5, 5, 5]), None);
        assert_eq!(pack([].into_iter(), &[1]), None);
        assert_eq!(pack([].into_iter(), &[]), Some(vec![]));
    }

    #[test]
    fn a_hopeless_search_ends() {
        let holes = (0..200).map(|hole| hole * 100..hole * 100 + 50 + hole % 40);
        let lengths: Vec<u32> = (0..400).map(|run| 26 + run % 9).collect();
        assert_eq!(pack(holes, &lengths), None);
    }

    proptest! {
        /// Holes that are cut into runs take these runs again, in any order.
        #[test]
        fn what_can_fit_is_fitted(
            cut in prop::collection::vec(prop::collection::vec(1_u32..12, 1..4), 1..5),
            spare in 0_u32..3,
            shuffle in prop::collection::vec(any::<u32>(), 16),
        ) {
            let mut next = 1;
            let holes: Vec<Range<u32>> = cut.iter().map(|runs| {
                let hole = next..next + runs.iter().sum::<u32>() + spare;
                next = hole.end + 1;
                hole
            }).collect();
            let mut lengths: Vec<(u32, u32)> = shuffle.into_iter().zip(cut.into_iter().flatten()).collect();
            lengths.sort_unstable();
            let lengths: Vec<u32> = lengths.into_iter().map(|(_, length)| length).collect();
            let starts = pack(holes.iter().cloned(), &lengths).unwrap();
            let mut runs: Vec<Range<u32>> = starts.iter().zip(&lengths).map(|(&at, length)| at..at + length).collect();
            runs.sort_unstable_by_key(|run| run.start);
            prop_assert!(runs.windows(2).all(|pair| pair[0].end <= pair[1].start));
            let inside = |run: &Range<u32>| holes.iter().any(|hole| hole.start <= run.start && run.end <= hole.end);
            prop_assert!(runs.iter().all(inside));
        }
    }
}
