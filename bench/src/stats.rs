//! Order statistics.

/// The value below which `share` (0 to 1) of the values lie, the nearest one that is there, and half-way between two of them
/// their mean, as the median of an even number is; `None` without values.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, reason = "an index into a list in memory")]
    let place = share.clamp(0.0, 1.0) * last as f64;
    // Both round to the nearest, and apart only half-way.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index, times 0 to 1")]
    let [below, above] = [(place - 0.5).ceil(), (place + 0.5).floor()].map(|index| index as usize);
    Some(f64::midpoint(*sorted.get(below)?, *sorted.get(above)?))
}

/// What a list of samples boils down to, ns per packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// A tenth of the samples is below.
    pub p10: f64,
    /// Half of the samples is below.
    pub median: f64,
}

impl Summary {
    /// Of the samples; `None` if there is none.
    pub fn of(samples: &[f64]) -> Option<Self> {
        Some(Self { p10: percentile(samples, 0.1)?, median: percentile(samples, 0.5)? })
    }

    /// Each figure less the one of `other`.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self { p10: hundredths(self.p10 - other.p10), median: hundredths(self.median - other.median) }
    }
}

/// No clock tells more, and files stay readable.
pub fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Five digits: more than any of these figures is worth.
pub fn significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the exponent of a number")]
    let digits = 4 - value.abs().log10().floor() as i32;
    // Dividing by a power of ten is exact to the last digit, where multiplying by its inverse is not.
    if digits >= 0 {
        let scale = 10_f64.powi(digits);
        (value * scale).round() / scale
    } else {
        let scale = 10_f64.powi(-digits);
        (value / scale).round() * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_nearest_value_that_is_there() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.1), Some(10.0));
        assert_eq!(percentile(&values, 0.5), Some(50.0));
        assert_eq!(percentile(&values, 1.0), Some(100.0));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.1), Some(1.0));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.3), Some(2.0));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_both_in_the_middle() {
        assert_eq!(percentile(&[4.0, 1.0, 2.0, 9.0], 0.5), Some(3.0));
        assert_eq!(percentile(&[2.0, 1.0], 0.5), Some(1.5));
        assert_eq!(percentile(&[7.0], 0.5), Some(7.0));
        assert_eq!(percentile(&[1.0, f64::INFINITY], 0.5), Some(f64::INFINITY));
    }

    #[test]
    fn has_no_percentile_of_nothing() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn stays_within_the_values_for_any_share() {
        assert_eq!(percentile(&[1.0, 2.0], -3.0), Some(1.0));
        assert_eq!(percentile(&[1.0, 2.0], 7.0), Some(2.0));
    }

    #[test]
    fn keeps_five_digits_of_any_number() {
        for (value, kept) in [
            (123_456.7, 123_460.0),
            (-1.234_567, -1.2346),
            (0.000_123_456_7, 0.000_123_46),
            (0.0, 0.0),
            (65_537.0, 65_537.0),
        ] {
            assert!((significant(value) - kept).abs() < 1e-12, "{value}: {}", significant(value));
        }
        assert_eq!(significant(0.1 + 0.2).to_string(), "0.3");
        assert!(significant(f64::NAN).is_nan());
    }

    #[test]
    fn subtracts_figure_by_figure() {
        let raw = Summary { p10: 12.0, median: 15.0 };
        let null = Summary { p10: 1.5, median: 2.0 };
        assert_eq!(raw.less(null), Summary { p10: 10.5, median: 13.0 });
    }
}
