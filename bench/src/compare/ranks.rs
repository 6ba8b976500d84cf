//! How much larger one list of numbers is than another, and how sure that is: by ranks, so that a few wild rounds decide
//! nothing and no shape of the noise is taken for granted.

/// How rarely an interval may miss the truth.
const ALPHA: f64 = 0.01;
/// Fewest numbers in each of two lists that can have bounds, and fewest pairs.
pub const FEWEST_APART: usize = 5;
/// See [`FEWEST_APART`].
pub const FEWEST_PAIRED: usize = 8;
/// Its quantile of the normal distribution, both sides.
const NORMAL: f64 = 2.5758;
/// Longer lists are counted by the normal distribution.
const EXACT: usize = 40;

/// A difference, with the bounds between which it lies but for one time in a hundred.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The median of all differences.
    pub middle: f64,
    /// The bounds; `None` if there are too few numbers for any.
    pub bounds: Option<(f64, f64)>,
}

/// By how much `new` lies above `old`, two lists that have nothing to do with each other: the estimate of Hodges and
/// Lehmann with the bounds of the rank-sum test. `None` if one is empty.
pub fn apart(new: &[f64], old: &[f64]) -> Option<Shift> {
    let differences = new.iter().flat_map(|new| old.iter().map(move |old| new - old)).collect();
    let (m, n) = (new.len(), old.len());
    let outside = if m.max(n) <= EXACT {
        rarest(&rank_sums(m, n))
    } else {
        Some(normal(count(m * n) / 2.0, (count(m * n * (m + n + 1)) / 12.0).sqrt()))
    };
    shift(differences, outside)
}

/// By how much numbers lie above zero, each the difference of a pair: the same with the signed-rank test.
pub fn paired(differences: &[f64]) -> Option<Shift> {
    let means = differences.iter().enumerate();
    let means = means.flat_map(|(at, a)| differences[at..].iter().map(move |b| f64::midpoint(*a, *b))).collect();
    let n = differences.len();
    let outside = if n <= EXACT {
        rarest(&signed_rank_sums(n))
    } else {
        Some(normal(count(n * (n + 1)) / 4.0, (count(n * (n + 1) * (2 * n + 1)) / 24.0).sqrt()))
    };
    shift(means, outside)
}

/// The median of sorted differences, and the bounds that leave so many of them out on each side.
fn shift(mut differences: Vec<f64>, outside: Option<usize>) -> Option<Shift> {
    differences.sort_by(f64::total_cmp);
    let last = differences.len().checked_sub(1)?;
    let middle = f64::midpoint(differences[last / 2], differences[last.div_ceil(2)]);
    let bounds =
        outside.and_then(|outside| Some((*differences.get(outside)?, *differences.get(last.checked_sub(outside)?)?)));
    Some(Shift { middle, bounds })
}

/// Of counts by statistic: how many of the lowest statistics together are rarer than half of [`ALPHA`], less one, which
/// is the number of differences to leave out on a side. `None` if the very lowest is not that rare.
fn rarest(counts: &[f64]) -> Option<usize> {
    let total: f64 = counts.iter().sum();
    let mut below = 0.0;
    let rare = counts.iter().take_while(|count| {
        below += **count / total;
        below <= ALPHA / 2.0
    });
    rare.count().checked_sub(1)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of differences in memory")]
fn normal(mean: f64, deviation: f64) -> usize {
    (mean - NORMAL * deviation).floor().max(0.0) as usize
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples")]
fn count(number: usize) -> f64 {
    number as f64
}

/// In how many ways `m` of `m + n` ranks have each sum, from the lowest sum on: the distribution of the number of pairs in
/// which the first is larger.
fn rank_sums(m: usize, n: usize) -> Vec<f64> {
    let mut ways = vec![vec![0.0; m * n + 1]; m + 1];
    ways[0][0] = 1.0;
    // Choosing the k-th smallest with j unchosen below it adds j to the statistic: partitions into m parts of n at most.
    for unchosen in 0..=n {
        for chosen in 1..=m {
            for sum in unchosen..=m * n {
                ways[chosen][sum] += ways[chosen - 1][sum - unchosen];
            }
        }
    }
    ways.swap_remove(m)
}

/// In how many ways the ranks 1 to `n`, each taken or not, have each sum.
fn signed_rank_sums(n: usize) -> Vec<f64> {
    let mut ways = vec![0.0; n * (n + 1) / 2 + 1];
    ways[0] = 1.0;
    for rank in 1..=n {
        for sum in (rank..ways.len()).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between 0 and 1 that look random, the same each time.
    fn noise(seed: u64) -> impl Iterator<Item = f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(state >> 33).unwrap()) / f64::from(1_u32 << 31)
        })
    }

    #[test]
    fn counts_what_tables_of_the_tests_count() {
        assert_eq!(rank_sums(2, 2), [1.0, 1.0, 2.0, 1.0, 1.0]);
        assert!((rank_sums(3, 5).iter().sum::<f64>() - 56.0).abs() < 1e-9, "3 of 8");
        assert_eq!(signed_rank_sums(3), [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0]);
        // The critical values of printed tables at 1 % on both sides: 5 and 5: 0; 7 and 7: 4; 11 and 11: 21; 8 pairs: 0; 10: 3.
        assert_eq!([(5, 5), (7, 7), (11, 11)].map(|(m, n)| rarest(&rank_sums(m, n))), [Some(0), Some(4), Some(21)]);
        assert_eq!([8, 10].map(|n| rarest(&signed_rank_sums(n))), [Some(0), Some(3)]);
        let (lists, pairs) = (|n| rarest(&rank_sums(n, n)), |n| rarest(&signed_rank_sums(n)));
        assert_eq!((lists(FEWEST_APART - 1), pairs(FEWEST_PAIRED - 1)), (None, None));
        assert!(lists(FEWEST_APART).is_some() && pairs(FEWEST_PAIRED).is_some());
    }

    #[test]
    fn the_normal_distribution_takes_over_where_counting_ends() {
        let exact = rarest(&rank_sums(40, 40)).unwrap();
        let about = normal(800.0, (f64::from(40 * 40 * 81) / 12.0).sqrt());
        assert!(exact.abs_diff(about) <= 3, "{exact} {about}");
    }

    #[test]
    fn the_bounds_miss_the_truth_about_once_in_a_hundred() {
        let misses = |of: fn(&[f64], &[f64]) -> Option<Shift>| {
            let miss = |seed: &u64| {
                let samples = |seed| noise(seed).take(11).collect::<Vec<f64>>();
                let (low, high) = of(&samples(2 * seed), &samples(2 * seed + 1)).unwrap().bounds.unwrap();
                low > 0.0 || high < 0.0
            };
            (1..=2000_u64).filter(miss).count()
        };
        let pairs =
            |new: &[f64], old: &[f64]| paired(&new.iter().zip(old).map(|(new, old)| new - old).collect::<Vec<_>>());
        for (count, test) in [(misses(apart), "apart"), (misses(pairs), "paired")] {
            assert!((5..=40).contains(&count), "{test}: {count} of 2000");
        }
    }

    #[test]
    fn pairs_see_what_lists_by_themselves_do_not() {
        let drift: Vec<f64> = (0..11).map(f64::from).collect();
        let new: Vec<f64> = drift.iter().map(|value| value + 0.5).collect();
        let (low, high) = apart(&new, &drift).unwrap().bounds.unwrap();
        assert!(low < 0.0 && high > 0.0, "{low} {high}");
        let differences: Vec<f64> = new.iter().zip(&drift).map(|(new, old)| new - old).collect();
        assert_eq!(paired(&differences).unwrap(), Shift { middle: 0.5, bounds: Some((0.5, 0.5)) });
    }

    #[test]
    fn too_few_numbers_have_a_middle_and_no_bounds() {
        assert_eq!(apart(&[3.0], &[1.0]), Some(Shift { middle: 2.0, bounds: None }));
        assert_eq!(paired(&[1.0, 3.0]), Some(Shift { middle: 2.0, bounds: None }));
        assert_eq!((apart(&[], &[1.0]), paired(&[])), (None, None));
    }
}
