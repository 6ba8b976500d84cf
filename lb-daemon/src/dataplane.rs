//! Where ops are carried out and state is read back: the kernel's maps, or their model in memory.

use lb_common::layout::counter::{TargetCounters, VerdictCounters};

use crate::plan::{Op, State};

pub mod kernel;
pub mod memory;

/// The tables, behind which packets are forwarded.
pub trait Dataplane: Send {
    /// Reads back what the tables hold.
    ///
    /// # Errors
    /// When a table cannot be read.
    fn observe(&mut self) -> Result<State, Error>;

    /// Carries out one op.
    ///
    /// # Errors
    /// When the write fails; the tables are then as after the ops before.
    fn apply(&mut self, op: &Op) -> Result<(), Error>;

    /// Reads all counters, summed over CPUs.
    ///
    /// # Errors
    /// When a table cannot be read.
    fn counters(&mut self) -> Result<Counters, Error>;

    /// Counts the flow table's entries by state and by target.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn flows(&mut self) -> Result<FlowCount, Error>;
}

/// Counters of one moment, summed over CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By target number; free targets are absent.
    pub targets: std::collections::BTreeMap<u32, TargetCounters>,
    /// By [`lb_common::verdict::Verdict`].
    pub verdicts: Vec<VerdictCounters>,
    /// By [`lb_common::layout::counter::PathEvent`].
    pub path: Vec<u64>,
}

/// Contents of the flow table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowCount {
    /// Entries that the table can hold.
    pub capacity: u64,
    /// Entries by [`lb_common::layout::flow::FlowState`]; index 0 counts none.
    pub by_state: [u64; 7],
    /// Entries by target number.
    pub by_target: std::collections::BTreeMap<u32, u64>,
}

/// What can go wrong with the tables.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A table could not be read or written.
    #[error("cannot {what}")]
    Table {
        /// What was attempted, with the table's name.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A fault that a test asked for.
    #[error("injected fault at op {0}")]
    Injected(usize),
}
