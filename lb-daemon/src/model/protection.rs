//! What keeps a VIP from harm while many of its backends are down.

use std::{fmt, time::Duration};

/// `min_healthy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    /// So many backends.
    Count(u32),
    /// This share of them, in percent.
    Share(u8),
}

impl Least {
    /// How many of so many backends that is.
    pub fn of(self, backends: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Share(percent) => (backends * usize::from(percent)).div_ceil(100),
        }
    }
}

impl fmt::Display for Least {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Share(percent) => write!(f, "{percent}%"),
        }
    }
}

/// `max_ring_change` with `max_ring_change_per`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingChange {
    /// Share of the slots, in percent, from 1.
    pub percent: u8,
    /// In any stretch of this length.
    pub per: Duration,
}

impl RingChange {
    /// How many slots of a ring that is.
    pub fn slots(self, ring_size: u32) -> u32 {
        let slots = u64::from(ring_size) * u64::from(self.percent) / 100;
        u32::try_from(slots).unwrap_or(ring_size).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_ring_is_at_least_a_slot() {
        let slots = |percent, size| RingChange { percent, per: Duration::from_secs(10) }.slots(size);
        assert_eq!([slots(10, 65_537), slots(100, 65_537), slots(1, 7)], [6553, 65_537, 1]);
    }

    #[test]
    fn a_share_is_rounded_up_and_a_count_is_one() {
        assert_eq!([0, 1, 2, 3, 10].map(|backends| Least::Share(50).of(backends)), [0, 1, 1, 2, 5]);
        assert_eq!([0, 100].map(|percent| Least::Share(percent).of(7)), [0, 7]);
        assert_eq!(Least::Count(3).of(1), 3);
        assert_eq!([Least::Count(3), Least::Share(50)].map(|least| least.to_string()), ["3", "50%"]);
    }
}
