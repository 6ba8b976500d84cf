//! Whether counts agree with weights.

use std::collections::BTreeMap;

use crate::traffic::Answers;

/// Standard deviations that a count may be off: by chance alone once in 1.7 million.
const SIGMAS: f64 = 5.0;
/// How far from its weight a ring's share may be, relative: what the ring promises.
const RING_ERROR: f64 = 0.01;

/// Compares who answered with the backends' weights. Each connection falls into a slot by a hash, so a backend's count
/// is binomial; a ring is allowed its own error besides.
///
/// # Errors
/// A line for each backend that is out of bounds, and for failures and unknown names.
pub fn compare(answers: &Answers, weights: &BTreeMap<String, u32>) -> Result<(), String> {
    let sum: f64 = weights.values().map(|weight| f64::from(*weight)).sum();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let (total, count) = (answers.total() as f64, |name: &str| answers.of(name) as f64);
    let mut wrong = Vec::new();
    if answers.failed() > 0 {
        wrong.push(format!("{answers}"));
    }
    for (name, weight) in weights {
        let share = f64::from(*weight) / sum;
        let expected = total * share;
        let allowed = SIGMAS * (total * share * (1.0 - share)).sqrt() + RING_ERROR * expected;
        let counted = count(name);
        if (counted - expected).abs() > allowed {
            wrong.push(format!("{name}: {counted} answers where {expected:.0} ± {allowed:.0} were expected"));
        }
    }
    wrong.extend(
        answers
            .by_backend
            .keys()
            .filter(|name| !weights.contains_key(*name))
            .map(|name| format!("{name} answered and should not have")),
    );
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(counts: &[(&str, u64)]) -> Answers {
        let by_backend = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Answers { by_backend, ..Answers::default() }
    }

    fn weights() -> BTreeMap<String, u32> {
        [("a".to_owned(), 100), ("b".to_owned(), 300)].into()
    }

    #[test]
    fn chance_is_allowed_and_more_is_not() {
        assert_eq!(compare(&answers(&[("a", 1000), ("b", 3000)]), &weights()), Ok(()));
        assert_eq!(compare(&answers(&[("a", 1100), ("b", 2900)]), &weights()), Ok(()));
        assert!(compare(&answers(&[("a", 1200), ("b", 2800)]), &weights()).is_err());
        assert!(compare(&answers(&[("a", 2000), ("b", 2000)]), &weights()).is_err());
    }

    #[test]
    fn strangers_and_failures_are_told() {
        assert!(compare(&answers(&[("a", 1000), ("b", 3000), ("c", 1)]), &weights()).is_err());
        let mut failed = answers(&[("a", 1000), ("b", 3000)]);
        failed.add(Err(anyhow::anyhow!("refused")));
        assert!(compare(&failed, &weights()).is_err());
    }
}
