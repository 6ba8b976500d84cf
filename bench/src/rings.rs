//! How good rings are: time to build one, how evenly backends share it, and what moves when a backend comes or goes.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr},
};

use fastrand::Rng;
use lb_daemon::maglev;

/// The weight of a backend where all are alike.
const WEIGHT: u32 = 100;
/// Weights in turn where they are not.
const MIXED: [u32; 4] = [50, 100, 200, 400];

/// A backend's address and weight.
pub type Backend = (IpAddr, u32);

/// How slots are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// As `lb` does it, turns by weight.
    Lb,
    /// As the pseudocode of the paper does it: all take turns in the same order. Knows no weights.
    Paper,
}

/// Weights of backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// All alike.
    Equal,
    /// Half, once, twice and four times as much, in turn.
    Mixed,
}

/// What befalls a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many, chosen at random, fail at once.
    Fail(usize),
    /// One more comes.
    Add,
    /// One that is chosen at random gets half its weight.
    Halve,
}

/// What an event moved, in parts of all slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Slots that have another backend than before, although theirs lives.
    pub moved: f64,
    /// What cannot be avoided of that if shares are to be kept: slots that living backends have to give away.
    pub needed: f64,
}

/// How evenly backends share a ring, each count as a multiple of what its weight entitles it to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// Of the one that has least.
    pub least: f64,
    /// Of the one that has most.
    pub most: f64,
    /// Standard deviation.
    pub deviation: f64,
}

impl Fill {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lb => "lb",
            Self::Paper => "paper",
        }
    }

    /// The ring: every slot holds an index into `backends`.
    pub fn ring(self, backends: &[Backend], slots: u32) -> Vec<u16> {
        match self {
            Self::Lb => maglev::ring(backends, slots),
            Self::Paper => in_turns(backends, slots),
        }
    }
}

impl Weights {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Mixed => "mixed",
        }
    }

    /// So many backends.
    pub fn backends(self, count: usize) -> Vec<Backend> {
        (0..count).map(|number| self.backend(number)).collect()
    }

    fn backend(self, number: usize) -> Backend {
        let weight = match self {
            Self::Equal => WEIGHT,
            Self::Mixed => MIXED[number % MIXED.len()],
        };
        let host = u32::try_from(number).unwrap_or(u32::MAX);
        (Ipv4Addr::from_bits(0x0a00_0001_u32.saturating_add(host)).into(), weight)
    }
}

impl Event {
    /// In a word.
    pub fn name(self) -> String {
        match self {
            Self::Fail(count) => format!("fail-{count}"),
            Self::Add => "add-one".to_owned(),
            Self::Halve => "halve-weight".to_owned(),
        }
    }

    /// The pool afterwards.
    pub fn befalls(self, weights: Weights, before: &[Backend], random: &mut Rng) -> Vec<Backend> {
        let mut after = before.to_vec();
        match self {
            Self::Fail(count) => {
                for _ in 0..count.min(before.len()) {
                    after.swap_remove(random.usize(..after.len()));
                }
            }
            Self::Add => after.push(weights.backend(before.len() + random.usize(..1 << 20))),
            Self::Halve => {
                let chosen = random.usize(..after.len());
                after[chosen].1 = after[chosen].1.div_ceil(2);
            }
        }
        after
    }
}

/// What moves between the rings of two pools.
pub fn moved(fill: Fill, before: &[Backend], after: &[Backend], slots: u32) -> Moved {
    // Indices of the pool before, then of those that came.
    let mut numbers: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (address, _) in before.iter().chain(after) {
        let next = numbers.len();
        numbers.entry(*address).or_insert(next);
    }
    let mut lives = vec![false; numbers.len()];
    let renumbered: Vec<usize> = after.iter().map(|(address, _)| numbers[address]).collect();
    for &number in &renumbered {
        lives[number] = true;
    }
    let (old, new) = (fill.ring(before, slots), fill.ring(after, slots));
    let (mut had, mut has) = (vec![0_usize; lives.len()], vec![0_usize; lives.len()]);
    let mut moved = 0;
    for (&old, &new) in old.iter().zip(&new) {
        let (old, new) = (usize::from(old), renumbered[usize::from(new)]);
        had[old] += 1;
        has[new] += 1;
        moved += usize::from(old != new && lives[old]);
    }
    let given = had.iter().zip(&has).zip(&lives).filter(|(_, lives)| **lives);
    let needed = given.map(|((had, has), _)| had.saturating_sub(*has)).sum();
    Moved { moved: part(moved, old.len()), needed: part(needed, old.len()) }
}

/// How evenly a ring is shared.
pub fn balance(ring: &[u16], backends: &[Backend]) -> Balance {
    let mut counts = vec![0_usize; backends.len()];
    for &index in ring {
        counts[usize::from(index)] += 1;
    }
    let total: f64 = backends.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let entitled = |weight: u32| f64::from(weight) / total;
    let shares = counts.iter().zip(backends).map(|(&count, &(_, weight))| part(count, ring.len()) / entitled(weight));
    let shares: Vec<f64> = shares.collect();
    let variance = shares.iter().map(|share| (share - 1.0).powi(2)).sum::<f64>() / part(shares.len(), 1);
    Balance {
        least: shares.iter().copied().fold(f64::INFINITY, f64::min),
        most: shares.iter().copied().fold(0.0, f64::max),
        deviation: variance.sqrt(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of slots")]
fn part(count: usize, of: usize) -> f64 {
    count as f64 / of as f64
}

/// The paper's pseudocode 1: backend after backend takes the next slot of its permutation that is free.
#[expect(clippy::cast_possible_truncation, reason = "remainders of a u32")]
fn in_turns(backends: &[Backend], slots: u32) -> Vec<u16> {
    let hash = |salt: u8, address: IpAddr| {
        let mut hasher = DefaultHasher::new();
        (salt, address).hash(&mut hasher);
        hasher.finish()
    };
    let walk = |&(address, _): &Backend| {
        let offset = (hash(1, address) % u64::from(slots)) as u32;
        (offset, (hash(2, address) % u64::from(slots - 1)) as u32 + 1)
    };
    let mut walks: Vec<(u32, u32)> = backends.iter().map(walk).collect();
    let mut ring = vec![u16::MAX; slots as usize];
    let mut free = slots;
    while free > 0 {
        for (index, (at, skip)) in (0..u16::MAX).zip(&mut walks) {
            while ring[*at as usize] != u16::MAX {
                *at = ((u64::from(*at) + u64::from(*skip)) % u64::from(slots)) as u32;
            }
            ring[*at as usize] = index;
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
    ring
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fills_share_evenly_and_move_little() {
        for fill in [Fill::Lb, Fill::Paper] {
            let before = Weights::Equal.backends(100);
            let even = balance(&fill.ring(&before, 65_537), &before);
            assert!(even.least > 0.998 && even.most < 1.003, "{even:?}");
            let after = Event::Fail(1).befalls(Weights::Equal, &before, &mut Rng::with_seed(1));
            assert_eq!(after.len(), 99);
            let Moved { moved, needed } = moved(fill, &before, &after, 65_537);
            assert!(needed.abs() < 1e-9 && moved > 0.0 && moved < 0.02, "{fill:?}: {moved} {needed}");
        }
    }

    #[test]
    fn what_has_to_move_is_told_from_what_need_not() {
        let mut random = Rng::with_seed(1);
        let before = Weights::Equal.backends(10);
        let added = Event::Add.befalls(Weights::Equal, &before, &mut random);
        let Moved { moved: all, needed } = moved(Fill::Lb, &before, &added, 65_537);
        assert!((needed - 1.0 / 11.0).abs() < 0.001 && all >= needed, "{all} {needed}");
        let halved = Event::Halve.befalls(Weights::Equal, &before, &mut random);
        assert_eq!(halved.iter().filter(|(_, weight)| *weight == WEIGHT / 2).count(), 1);
        let Moved { moved: all, needed } = moved(Fill::Lb, &before, &halved, 65_537);
        assert!((needed - (0.1 - 0.05 / 0.95)).abs() < 0.001 && all >= needed, "{all} {needed}");
    }

    #[test]
    fn shares_are_measured_against_weights() {
        let backends = Weights::Mixed.backends(8);
        let even = balance(&Fill::Lb.ring(&backends, 65_537), &backends);
        assert!(even.least > 0.999 && even.most < 1.001 && even.deviation < 0.001, "{even:?}");
        let off = balance(&[0, 0, 0, 1], &Weights::Equal.backends(2));
        assert!((off.most - 1.5).abs() < 1e-9 && (off.least - 0.5).abs() < 1e-9 && (off.deviation - 0.5).abs() < 1e-9);
    }
}
