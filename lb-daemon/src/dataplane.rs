//! Where ops are carried out and state is read back: the kernel's maps, or their model in memory.

use std::collections::BTreeMap;

use lb_common::layout::{
    counter::{TargetCounters, VerdictCounters},
    flow::FlowEntry,
    vip::Vip,
};

use self::flows::Liveness;
use crate::plan::{Op, State};

pub mod cpus;
pub mod flows;
pub mod kernel;
pub mod lookups;
pub mod memory;
pub mod needs;
pub mod settle;

/// The tables, by which packets are forwarded, also while ops are carried out and after the daemon has ended.
///
/// Every way in is a system call or a walk through mapped memory: call it from a thread that may block. There is one
/// writer; observing what he wrote gives back just that, whoever wrote it and when.
pub trait Dataplane: Send {
    /// Reads back what the tables hold: every VIP, target and group that is not free, every server ID, and for each ring
    /// that a VIP or group names, its [`crate::plan::digest`] under the ring's first block. One whose `ring_slots` is 0 has
    /// no ring. Lists of prefixes may be told from memory, as they were written last.
    ///
    /// # Errors
    /// When a table cannot be read.
    fn observe(&mut self) -> Result<State, Error>;

    /// Carries out one op, and returns when it is done. What each op must guarantee:
    ///
    /// * `SetVip`, `RemoveVip`: a packet sees the old value or the new one, never a mix. Removing an absent key is an error.
    /// * `SetTarget`: each field is written whole. Nothing leads to a free place, so filling one may be torn; when a target
    ///   in force gets another way, a packet may at worst leave by half of each. `serves` must not be 0 in between: flows
    ///   would move.
    /// * `WriteRing`: may be torn, no VIP and no group names these blocks.
    /// * `SetGroup`: each 64-bit word is written whole. A plan changes one of them at a time where packets go by the group.
    /// * `SetList`: written prefix by prefix, in the order of [`crate::plan::prefixes::Changes`], so that at every moment
    ///   each source finds what it found in the old list or what it is to find in the new one.
    /// * `Grace`: returns when every packet has left that was in the program when the op began.
    /// * `SweepFlows`: an entry that a packet rewrites meanwhile keeps what the packet wrote (compare and swap), so that a
    ///   flow that just moved is not forgotten. `forget` wins over `renumber`; each entry is renumbered at most once.
    ///
    /// # Errors
    /// When the write fails; the tables are then as after the ops before, but for the blocks of a `WriteRing`, the entries
    /// that a `SweepFlows` had already met and prefixes that a `SetList` had already written, none of which a repetition
    /// minds.
    fn apply(&mut self, op: &Op) -> Result<(), Error>;

    /// Slots of the ring that a VIP of this value leads to; none when it has no ring, or one outside of the table.
    fn ring_in_force(&self, vip: &Vip) -> Vec<u16>;

    /// The same as far as new flows go by it: none while the VIP is closed.
    fn ring(&self, vip: &Vip) -> Vec<u16> {
        if vip.open_slots() > 0 { self.ring_in_force(vip) } else { Vec::new() }
    }

    /// The history of that ring, as [`crate::plan::history`] has it; none when no slot is tracked.
    fn history(&self, vip: &Vip) -> Vec<u16>;

    /// Writes single slots of a ring or a history that begins at this block, each whole: packets meet the old one or the
    /// new one.
    ///
    /// # Errors
    /// When one is outside of the table.
    fn write_slots(&mut self, base: u32, slots: &[(u32, u16)]) -> Result<(), Error>;

    /// Looks at all entries of the flow table that are not empty, and empties those that `keep` does not want. One that a
    /// packet rewrites meanwhile keeps what the packet wrote.
    fn walk_flows(&mut self, keep: &mut dyn FnMut(FlowEntry) -> bool);

    /// How often [`lb_common::layout::counter::PathEvent::StrayLost`] was counted.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn strays_lost(&mut self) -> Result<u64, Error>;

    /// Reads all counters, summed over CPUs.
    ///
    /// # Errors
    /// When a table cannot be read.
    fn counters(&mut self) -> Result<Counters, Error>;

    /// Reads the counters of these targets, summed over CPUs. Those that the table cannot have are absent.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn counted(&mut self, targets: &[u32]) -> Result<BTreeMap<u32, TargetCounters>, Error>;

    /// Counts the flow table's entries by state and by target; `rule` says which of them are flows that go on.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn flows(&mut self, rule: Liveness) -> Result<FlowCount, Error>;

    /// Empties the entries of flows that ended, in one of the flow table's [`flows::PARTS`] parts, and tells how many. An
    /// entry that a packet rewrites meanwhile keeps what the packet wrote.
    fn forget_ended(&mut self, rule: Liveness, part: u32) -> u64;
}

/// Counters of one moment, summed over CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By target number; free targets are absent.
    pub targets: BTreeMap<u32, TargetCounters>,
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
    pub by_target: BTreeMap<u32, u64>,
    /// Entries of flows that go on.
    pub live: u64,
    /// These by target number.
    pub live_by_target: BTreeMap<u32, u64>,
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
