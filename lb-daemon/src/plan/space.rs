//! Which numbers of a table are free: first fit, and none reused before packets on their way have passed.

use std::{collections::BTreeMap, ops::Range};

/// Free runs of numbers. What is given back is free only after [`Space::settle`].
#[derive(Clone, Debug)]
pub(super) struct Space {
    /// First number of each free run, to the one after its last. Runs neither overlap nor touch.
    free: BTreeMap<u32, u32>,
    /// Given back since the last [`Space::settle`].
    leaving: Vec<Range<u32>>,
}

impl Space {
    /// All of `numbers` free.
    pub(super) fn new(numbers: Range<u32>) -> Self {
        let free = if numbers.is_empty() { BTreeMap::new() } else { [(numbers.start, numbers.end)].into() };
        Self { free, leaving: Vec::new() }
    }

    /// Takes `numbers` out of what is free, as far as they are.
    pub(super) fn reserve(&mut self, numbers: Range<u32>) {
        let meets = |&(start, end): &(u32, u32)| start < numbers.end && numbers.start < end;
        let runs = self.free.range(..numbers.end).rev().map(|(&start, &end)| (start, end));
        let met: Vec<(u32, u32)> = runs.take_while(|&(_, end)| end > numbers.start).filter(meets).collect();
        for (start, end) in met {
            self.free.remove(&start);
            self.insert(start..numbers.start.min(end));
            self.insert(numbers.end.max(start)..end);
        }
    }

    /// Takes the lowest free run of `count` numbers and returns its first.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let fits = |(start, end): (&u32, &u32)| (end - start >= count).then_some((*start, *end));
        let (start, end) = self.free.iter().find_map(fits)?;
        self.free.remove(&start);
        self.insert(start + count..end);
        Some(start)
    }

    /// Gives `numbers` back; they are free after [`Space::settle`].
    pub(super) fn release(&mut self, numbers: Range<u32>) {
        if !numbers.is_empty() {
            self.leaving.push(numbers);
        }
    }

    /// Whether something waits for [`Space::settle`].
    pub(super) fn is_unsettled(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Frees what was given back: no packet is on its way any more that could have read it.
    pub(super) fn settle(&mut self) {
        for mut numbers in std::mem::take(&mut self.leaving) {
            // Whatever of it is free already would otherwise be free twice.
            self.reserve(numbers.clone());
            if let Some((&start, &end)) = self.free.range(..numbers.start).next_back()
                && end == numbers.start
            {
                numbers.start = start;
            }
            if let Some(end) = self.free.remove(&numbers.end) {
                numbers.end = end;
            }
            self.insert(numbers);
        }
    }

    /// Numbers that are free, and the length of the longest run of them.
    pub(super) fn free(&self) -> (u32, u32) {
        let lengths = self.free.iter().map(|(start, end)| end - start);
        (lengths.clone().sum(), lengths.max().unwrap_or(0))
    }

    /// Whether all of `numbers` are free.
    pub(super) fn is_free(&self, numbers: &Range<u32>) -> bool {
        self.free.range(..=numbers.start).next_back().is_some_and(|(_, &end)| numbers.end <= end)
    }

    /// The free runs, from the lowest on.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<u32>> {
        self.free.iter().map(|(&start, &end)| start..end)
    }

    fn insert(&mut self, run: Range<u32>) {
        if !run.is_empty() {
            self.free.insert(run.start, run.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_run_that_fits_is_taken() {
        let mut space = Space::new(1..100);
        space.reserve(5..50);
        assert_eq!(space.take(10), Some(50));
        assert_eq!(space.take(3), Some(1));
        assert_eq!(space.take(2), Some(60));
        assert_eq!(space.take(100), None);
        assert_eq!(space.free(), (1 + 38, 38));
    }

    #[test]
    fn nothing_is_reused_before_it_settles() {
        let mut space = Space::new(0..8);
        assert_eq!(space.take(8), Some(0));
        space.release(2..6);
        assert!(space.is_unsettled());
        assert_eq!(space.take(1), None);
        space.settle();
        assert!(!space.is_unsettled());
        assert_eq!(space.take(4), Some(2));
    }

    proptest! {
        /// Against a list of booleans.
        #[test]
        fn runs_are_what_the_numbers_say(steps in prop::collection::vec((0..3_u8, 0..64_u32, 1..16_u32), 1..60)) {
            let mut space = Space::new(0..64);
            let mut free = [true; 64];
            for (kind, at, count) in steps {
                let numbers = at..(at + count).min(64);
                match kind {
                    0 => {
                        let places = (0..=64 - count).find(|&at| (at..at + count).all(|number| free[number as usize]));
                        prop_assert_eq!(space.take(count), places);
                        places.into_iter().flat_map(|at| at..at + count).for_each(|number| free[number as usize] = false);
                    }
                    1 => {
                        space.reserve(numbers.clone());
                        numbers.for_each(|number| free[number as usize] = false);
                    }
                    _ => {
                        space.release(numbers.clone());
                        space.settle();
                        numbers.for_each(|number| free[number as usize] = true);
                    }
                }
                let total = free.iter().filter(|&&free| free).count();
                let longest = free.split(|free| !free).map(<[bool]>::len).max().unwrap_or(0);
                prop_assert_eq!(space.free(), (u32::try_from(total).unwrap(), u32::try_from(longest).unwrap()));
            }
        }
    }
}
