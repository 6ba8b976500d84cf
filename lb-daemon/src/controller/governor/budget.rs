//! How many slots of a ring may move when. Pure.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Slots that moved in the last while. A log, not a bucket that fills: of no stretch of that length more is allowed than
/// its budget, wherever it begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves(VecDeque<(Instant, u32)>);

impl Moves {
    /// Forgets what is `per` ago by `now`.
    pub(super) fn forget(&mut self, per: Duration, now: Instant) {
        while self.0.front().is_some_and(|(at, _)| *at + per <= now) {
            self.0.pop_front();
        }
    }

    /// Notes that so many moved.
    pub(super) fn note(&mut self, slots: u32, now: Instant) {
        if slots > 0 {
            self.0.push_back((now, slots));
        }
    }

    /// Notes that what was to move at `planned` moved at `now`.
    pub(super) fn put_off(&mut self, planned: Instant, now: Instant) {
        self.0.iter_mut().filter(|(at, _)| *at == planned).for_each(|(at, _)| *at = now);
    }

    /// Forgets what was to move at `planned`, and did not.
    pub(super) fn take_back(&mut self, planned: Instant) {
        self.0.retain(|(at, _)| *at != planned);
    }

    /// What is left of a budget.
    pub(super) fn left(&self, budget: u32) -> u32 {
        budget.saturating_sub(self.0.iter().map(|(_, slots)| *slots).sum())
    }

    /// When there will be more; `None` if nothing moved of late.
    pub(super) fn more_at(&self, per: Duration) -> Option<Instant> {
        self.0.front().map(|(at, _)| *at + per)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_allowed_again_when_its_time_is_over() {
        let (start, per) = (Instant::now(), Duration::from_secs(10));
        let mut moves = Moves::default();
        assert_eq!((moves.left(7), moves.more_at(per)), (7, None));
        moves.note(0, start);
        moves.note(3, start);
        moves.note(4, start + per / 2);
        assert_eq!((moves.left(7), moves.left(9), moves.left(5)), (0, 2, 0));
        assert_eq!(moves.more_at(per), Some(start + per));
        moves.forget(per, start + per - Duration::from_millis(1));
        assert_eq!(moves.left(7), 0);
        moves.forget(per, start + per);
        assert_eq!((moves.left(7), moves.more_at(per)), (3, Some(start + per * 3 / 2)));
        moves.forget(per, start + per * 2);
        assert_eq!((moves.left(7), moves.more_at(per)), (7, None));
    }
}
