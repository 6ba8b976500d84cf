//! Which probes are due when.

use std::{collections::BTreeSet, time::Instant};

use super::Number;
use crate::{health::probe::Probe, model::Ask};

/// Deadlines of probes. Programs have theirs apart: who waits for room to ask over the network holds up no program.
#[derive(Debug, Default)]
pub(super) struct Queue {
    programs: BTreeSet<(Instant, Number)>,
    others: BTreeSet<(Instant, Number)>,
}

impl Queue {
    pub(super) fn insert(&mut self, probe: &Probe, at: Instant, number: Number) {
        let queue = if matches!(probe.ask, Ask::Exec(_)) { &mut self.programs } else { &mut self.others };
        queue.insert((at, number));
    }

    pub(super) fn remove(&mut self, at: Instant, number: Number) {
        self.programs.remove(&(at, number));
        self.others.remove(&(at, number));
    }

    /// The earliest of them, or of programs alone.
    pub(super) fn first(&self, programs_alone: bool) -> Option<(Instant, Number)> {
        let others = self.others.first().filter(|_| !programs_alone);
        self.programs.first().into_iter().chain(others).min().copied()
    }
}
