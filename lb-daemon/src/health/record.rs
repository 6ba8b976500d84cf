//! What became of a check or a backend lately.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Something went up or down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, by the clock of those days.
    pub at: SystemTime,
    /// Whether it was up from then on.
    pub up: bool,
    /// The result that did it, such as `200 OK` or `connection refused`.
    pub text: String,
    /// How long the probe took; `None` where none did it.
    pub latency: Option<Duration>,
}

/// The latest records, the oldest first. Clones share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records(Arc<VecDeque<Record>>);

impl Records {
    /// So many are kept.
    pub const MOST: usize = 20;

    /// Adds the newest, for which the oldest goes if there are too many.
    pub fn push(&mut self, record: Record) {
        let records = Arc::make_mut(&mut self.0);
        if records.len() == Self::MOST {
            records.pop_front();
        }
        records.push_back(record);
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_for_the_newest_and_clones_stay_as_they_were() {
        let mut records = Records::default();
        let record = |nth: u64| Record {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(nth),
            up: nth.is_multiple_of(2),
            text: nth.to_string(),
            latency: None,
        };
        for nth in 0..20 {
            records.push(record(nth));
        }
        let before = records.clone();
        records.push(record(20));
        let texts = |records: &Records| records.iter().map(|record| record.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&records), (1..=20).map(|nth| nth.to_string()).collect::<Vec<_>>());
        assert_eq!(texts(&before), (0..20).map(|nth| nth.to_string()).collect::<Vec<_>>());
    }
}
