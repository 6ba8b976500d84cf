//! `TRAFFIC` in memory: packets and bytes of each target.

use lb_common::layout::traffic::{Rows, Traffic};

use super::{error::OpenError, explain::system, mapping::Mapping};
use crate::dataplane::cpus;

/// Words of a value.
pub(super) const WORDS: usize = size_of::<Traffic>() / 8;

/// The table.
pub(super) struct Table {
    words: Mapping,
    cpus: u32,
}

impl Table {
    /// The table that is mapped here.
    pub(super) fn of(words: Mapping) -> Result<Self, OpenError> {
        Ok(Self { words, cpus: numbers()? })
    }

    /// Its rows.
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows::new(self.words.words(), self.cpus)
    }

    /// Takes over what another one counts until now, in place of what was taken over from it before.
    pub(super) fn carry(&self, from: &Self) {
        let (from, to) = (from.rows(), self.rows());
        for (target, sum) in (0..from.targets()).map(|target| (target, from.sum(target))) {
            // What counted nothing has no page of its own yet, and need not get one.
            if sum != Traffic::default() {
                to.carry(target, sum);
            }
        }
    }
}

/// How many CPUs it has rows for.
pub(super) fn numbers() -> Result<u32, OpenError> {
    cpus::numbers().map_err(|source| system("ask for the numbers of CPUs", source))
}
