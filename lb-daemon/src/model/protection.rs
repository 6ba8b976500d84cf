//! What keeps a VIP from harm while many of its backends are down.

use std::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_and_a_count_is_one() {
        assert_eq!([0, 1, 2, 3, 10].map(|backends| Least::Share(50).of(backends)), [0, 1, 1, 2, 5]);
        assert_eq!([0, 100].map(|percent| Least::Share(percent).of(7)), [0, 7]);
        assert_eq!(Least::Count(3).of(1), 3);
        assert_eq!([Least::Count(3), Least::Share(50)].map(|least| least.to_string()), ["3", "50%"]);
    }
}
