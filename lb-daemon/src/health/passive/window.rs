//! What was counted of one backend, at moments that the backends of its group share.

use std::collections::VecDeque;

use super::Counted;

/// Sums at the latest of the group's moments, from zero on. They may wrap: only differences mean something, and these are
/// of less than two minutes.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// What the tables counted at the last moment.
    last: Option<Counted>,
    /// SYNs of new flows and handshakes.
    sums: VecDeque<(u32, u32)>,
}

/// New flows of some time, and how many of them were seen to complete their handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) completed: u32,
    pub(super) flows: u32,
}

impl Share {
    /// Both as a number from 0 to 1; 1 without flows.
    pub(super) fn ratio(self) -> f64 {
        if self.flows == 0 { 1.0 } else { (f64::from(self.completed) / f64::from(self.flows)).min(1.0) }
    }
}

impl Window {
    /// Notes what is counted now. Counters of another target, or that fell, begin anew; so does all after `None`.
    pub(super) fn note(&mut self, counted: Option<Counted>) {
        let Some(now) = counted else {
            *self = Self::default();
            return;
        };
        let goes_on =
            |last: &Counted| last.target == now.target && last.syns <= now.syns && last.handshakes <= now.handshakes;
        let sum = if let (Some(last), Some((syns, handshakes))) = (self.last.filter(goes_on), self.sums.back()) {
            let more = |now: u64, last: u64| u32::try_from(now - last).unwrap_or(u32::MAX);
            let completed = more(now.handshakes, last.handshakes);
            (syns.wrapping_add(more(now.syns, last.syns)), handshakes.wrapping_add(completed))
        } else {
            self.sums.clear();
            (0, 0)
        };
        self.last = Some(now);
        self.sums.push_back(sum);
    }

    /// Forgets all but the latest moments.
    pub(super) fn keep(&mut self, moments: usize) {
        while self.sums.len() > moments {
            self.sums.pop_front();
        }
    }

    /// The flows that began between the moments `from` and `to`, both counted back from the latest one, and the handshakes
    /// that completed since `from`. `None` if it was not counted for so long.
    pub(super) fn share(&self, from: usize, to: usize) -> Option<Share> {
        let back = |moments: usize| self.sums.get(self.sums.len().checked_sub(moments + 1)?);
        let ((first, completed_before), (last, _), (_, completed)) = (back(from)?, back(to)?, back(0)?);
        let flows = last.wrapping_sub(*first);
        Some(Share { completed: completed.wrapping_sub(*completed_before), flows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(target: u32, syns: u64, handshakes: u64) -> Counted {
        Counted { target, syns, handshakes }
    }

    #[test]
    fn a_share_is_of_the_flows_of_its_time_and_the_handshakes_since() {
        let mut window = Window::default();
        for (syns, handshakes) in [(100, 90), (110, 95), (130, 108), (131, 127)] {
            window.note(Some(counted(1, syns, handshakes)));
        }
        assert_eq!(window.share(3, 1), Some(Share { completed: 37, flows: 30 }));
        assert_eq!(window.share(2, 1), Some(Share { completed: 32, flows: 20 }));
        assert_eq!(window.share(3, 0), Some(Share { completed: 37, flows: 31 }));
        assert_eq!(window.share(4, 1), None, "it was not looked at for so long");
        window.keep(2);
        assert_eq!((window.share(2, 1), window.share(1, 0)), (None, Some(Share { completed: 19, flows: 1 })));
    }

    #[test]
    fn counters_that_fell_or_vanished_or_are_of_another_target_begin_anew() {
        let others = [counted(1, 5, 5), counted(1, 200, 5), counted(2, 150, 150)].map(Some);
        for next in others.into_iter().chain([None]) {
            let mut window = Window::default();
            window.note(Some(counted(1, 100, 100)));
            window.note(Some(counted(1, 110, 110)));
            window.note(next);
            assert_eq!(window.share(1, 0), None, "{next:?}");
            let begun = next.is_some();
            assert_eq!(window.share(0, 0).is_some(), begun, "{next:?}");
        }
        let mut window = Window::default();
        window.note(Some(counted(1, 100, 100)));
        window.note(Some(counted(2, 1_000, 0)));
        window.note(Some(counted(2, 1_010, 3)));
        assert_eq!(window.share(1, 0), Some(Share { completed: 3, flows: 10 }));
    }

    #[test]
    fn sums_may_wrap() {
        let mut window = Window::default();
        let near = u64::from(u32::MAX) - 5;
        window.note(Some(counted(1, 0, 0)));
        window.note(Some(counted(1, near, near)));
        window.note(Some(counted(1, near + 20, near + 10)));
        assert_eq!(window.share(1, 0), Some(Share { completed: 10, flows: 20 }));
        assert!((Share { completed: 10, flows: 20 }.ratio() - 0.5).abs() < 1e-9);
        assert!((Share { completed: 30, flows: 20 }.ratio() - 1.0).abs() < 1e-9);
    }
}
