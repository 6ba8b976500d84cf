//! Counters that move to larger tables: each value goes along, and what packets still counted in the old table afterwards is
//! kept by the daemon, so that its sums neither go backwards nor count anything twice.

use std::collections::BTreeMap;

use aya::maps::{Map, MapData, PerCpuArray};
use lb_common::{
    layout::counter::{TargetCounters, VerdictCounters},
    maps,
};

use super::{copy::failed, error::OpenError};
use crate::dataplane::Counters;

/// Counters by index, summed over CPUs, word by word; those that are all zero are absent.
pub(super) type Sums = BTreeMap<u32, Vec<u64>>;

const TARGET_WORDS: usize = size_of::<TargetCounters>() / 8;
const VERDICT_WORDS: usize = size_of::<VerdictCounters>() / 8;

/// Whether a table holds counters, per CPU.
pub(super) fn are_in(name: &str) -> bool {
    [maps::TARGET_COUNTERS, maps::VERDICT_COUNTERS, maps::PATH_COUNTERS].contains(&name)
}

/// Copies a table of counters that no packet uses yet. Returns what was copied.
pub(super) fn copy(name: &'static str, from: MapData, to: MapData) -> Result<Sums, OpenError> {
    match name {
        maps::TARGET_COUNTERS => copy_words::<TARGET_WORDS>(name, from, to),
        maps::VERDICT_COUNTERS => copy_words::<VERDICT_WORDS>(name, from, to),
        _ => copy_words::<1>(name, from, to),
    }
}

/// What a table of counters, which no packet uses any more, holds beyond what was `copied`.
pub(super) fn since(name: &'static str, old: MapData, copied: &Sums) -> Result<Sums, OpenError> {
    let mut sums = match name {
        maps::TARGET_COUNTERS => read::<TARGET_WORDS>(name, old)?,
        maps::VERDICT_COUNTERS => read::<VERDICT_WORDS>(name, old)?,
        _ => read::<1>(name, old)?,
    };
    for (id, sum) in &mut sums {
        let before = copied.get(id).map(Vec::as_slice).unwrap_or_default();
        sum.iter_mut().zip(before).for_each(|(now, before)| *now = now.wrapping_sub(*before));
    }
    sums.retain(|_, sum| sum.iter().any(|word| *word != 0));
    Ok(sums)
}

fn copy_words<const N: usize>(name: &'static str, from: MapData, to: MapData) -> Result<Sums, OpenError> {
    let from: PerCpuArray<_, [u64; N]> = Map::PerCpuArray(from).try_into().map_err(failed("copy", name))?;
    let mut to: PerCpuArray<_, [u64; N]> = Map::PerCpuArray(to).try_into().map_err(failed("copy", name))?;
    let mut sums = Sums::new();
    for id in 0..from.len().min(to.len()) {
        let values = from.get(&id, 0).map_err(failed("read", name))?;
        let sum = sum(&values);
        if sum.iter().any(|word| *word != 0) {
            to.set(id, values, 0).map_err(failed("fill", name))?;
            sums.insert(id, sum);
        }
    }
    Ok(sums)
}

fn read<const N: usize>(name: &'static str, from: MapData) -> Result<Sums, OpenError> {
    let from: PerCpuArray<_, [u64; N]> = Map::PerCpuArray(from).try_into().map_err(failed("read", name))?;
    let all = (0..from.len()).map(|id| Ok((id, sum(&from.get(&id, 0).map_err(failed("read", name))?))));
    all.collect()
}

fn sum<const N: usize>(values: &[[u64; N]]) -> Vec<u64> {
    let mut sum = vec![0; N];
    for value in values {
        add(&mut sum, value);
    }
    sum
}

fn add(sum: &mut [u64], more: &[u64]) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
}

/// What was counted in tables that are gone and is not in those that took their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rest(BTreeMap<&'static str, Sums>);

impl Rest {
    /// Adds what was counted in a table.
    pub(super) fn add(&mut self, name: &'static str, more: Sums) {
        let held = self.0.entry(name).or_default();
        for (id, more) in more {
            let words = more.len();
            add(held.entry(id).or_insert_with(|| vec![0; words]), &more);
        }
    }

    /// Adds all of another one.
    pub(super) fn join(&mut self, other: Self) {
        for (name, sums) in other.0 {
            self.add(name, sums);
        }
    }

    /// A target counts from zero again.
    pub(super) fn clear(&mut self, target: u32) {
        if let Some(targets) = self.0.get_mut(maps::TARGET_COUNTERS) {
            targets.remove(&target);
        }
    }

    /// Adds it to what the table of targets' counters holds.
    pub(super) fn add_to_targets(&self, targets: &mut BTreeMap<u32, TargetCounters>) {
        let Some(rest) = self.0.get(maps::TARGET_COUNTERS) else { return };
        for (id, counted) in targets {
            if let Some(rest) = rest.get(id) {
                let mut words: [u64; TARGET_WORDS] = zerocopy::transmute!(*counted);
                add(&mut words, rest);
                *counted = zerocopy::transmute!(words);
            }
        }
    }

    /// Adds it to what the tables hold.
    pub(super) fn add_to(&self, counters: &mut Counters) {
        let of = |name: &str, id: u32| self.0.get(name).and_then(|sums| sums.get(&id));
        self.add_to_targets(&mut counters.targets);
        for (id, counted) in (0..).zip(&mut counters.verdicts) {
            if let Some(rest) = of(maps::VERDICT_COUNTERS, id) {
                let mut words: [u64; VERDICT_WORDS] = zerocopy::transmute!(*counted);
                add(&mut words, rest);
                *counted = zerocopy::transmute!(words);
            }
        }
        for (id, counted) in (0..).zip(&mut counters.path) {
            if let Some(rest) = of(maps::PATH_COUNTERS, id) {
                add(std::slice::from_mut(counted), rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_is_added_until_the_target_counts_anew() {
        let mut rest = Rest::default();
        rest.add(maps::TARGET_COUNTERS, Sums::from([(3, vec![1, 100, 0, 0, 0, 0, 0, 0, 2])]));
        let mut more = Rest::default();
        more.add(maps::TARGET_COUNTERS, Sums::from([(3, vec![1, 50, 0, 0, 0, 0, 0, 0, 0])]));
        more.add(maps::VERDICT_COUNTERS, Sums::from([(1, vec![7, 8])]));
        more.add(maps::PATH_COUNTERS, Sums::from([(0, vec![5])]));
        rest.join(more);
        let held = || Counters {
            targets: [(3, TargetCounters { packets: 10, ..TargetCounters::default() })].into(),
            verdicts: vec![VerdictCounters::default(); 2],
            path: vec![1, 1],
        };
        let mut counters = held();
        rest.add_to(&mut counters);
        let target = TargetCounters { packets: 12, bytes: 150, rsts: 2, ..TargetCounters::default() };
        assert_eq!(counters.targets[&3], target);
        assert_eq!(counters.verdicts[1], VerdictCounters { packets: 7, bytes: 8 });
        assert_eq!(counters.path, [6, 1]);
        rest.clear(3);
        let mut counters = held();
        rest.add_to(&mut counters);
        assert_eq!(counters.targets, held().targets);
    }
}
