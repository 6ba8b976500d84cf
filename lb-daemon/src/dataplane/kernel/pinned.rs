//! Pinned tables, for who only looks.

use lb_common::layout::vip::Vip;

use super::{AttachError, Attached, attach, links::Links, pins::Pins, tables::Tables};
use crate::{
    dataplane::{Counters, Error, FlowCount, flows::Liveness},
    plan::State,
};

/// Tables that are pinned, read without holding them.
pub struct Pinned {
    pub(super) pins: Pins,
    pub(super) tables: Tables,
}

impl Pinned {
    /// Reads back what the tables hold, but for lists of prefixes: reading a million would take seconds.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn observe(&self) -> Result<State, Error> {
        self.tables.observe()
    }

    /// The same with lists of prefixes.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn observe_lists(&mut self) -> Result<State, Error> {
        let lists = self.tables.lists.contents()?.clone();
        Ok(State { lists, ..self.tables.observe()? })
    }

    /// Slots of the ring that new flows of a VIP of this value go by; none when it has no such ring, or one outside of the table.
    pub fn ring(&self, vip: &Vip) -> Vec<u16> {
        if vip.open_slots() > 0 { self.tables.ring(vip) } else { Vec::new() }
    }

    /// Reads all counters, summed over CPUs.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn counters(&self) -> Result<Counters, Error> {
        self.tables.counters()
    }

    /// Counts the flow table's entries.
    pub fn flows(&self, rule: Liveness) -> FlowCount {
        self.tables.count_flows(rule)
    }

    /// The interfaces of this network namespace that the program is bound to.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn attached(&self) -> Result<Vec<Attached>, AttachError> {
        attach::in_force(&Links::pinned(&self.pins))
    }
}
