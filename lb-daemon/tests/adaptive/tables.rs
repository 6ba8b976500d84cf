//! The tables as the daemon sees them, while packets go on.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use lb_common::layout::{
    counter::{PathEvent, TargetCounters},
    flow::{FlowEntry, WAYS},
    target::Target,
    vip::Vip,
};
use lb_daemon::{
    dataplane::{Counters, Dataplane, Error, FlowCount, flows::Liveness},
    plan::{Op, State},
};

use super::{CAPACITY, Lab};

impl Lab {
    /// Shows the daemon the flow table and the counters.
    pub(super) fn lend(&mut self) {
        for (bucket, words) in self.memory.buckets().iter_mut().zip(&self.host.flows) {
            *bucket = std::array::from_fn::<_, WAYS, _>(|way| FlowEntry(words.entries[way].load(Relaxed)));
        }
        let lost = self.host.path_counters.borrow()[PathEvent::StrayLost as usize];
        *self.memory.path_counter(PathEvent::StrayLost).expect("a counter") = lost;
    }

    /// Gives packets what the daemon made of the tables.
    pub(super) fn take_back(&mut self) {
        let state = self.memory.observe().expect("tables");
        self.host.vips = state.vips;
        self.host.targets = vec![Target::default(); CAPACITY.targets as usize];
        for (id, target) in state.targets {
            self.host.targets[id as usize] = target;
        }
        let slots: Vec<u16> = self.memory.slots_at(0, CAPACITY.ring_blocks * 32).collect();
        self.host.write_ring(0, &slots);
        self.take_back_flows();
    }

    fn take_back_flows(&mut self) {
        for (bucket, words) in self.memory.buckets().iter().zip(&self.host.flows) {
            bucket.iter().zip(&words.entries).for_each(|(entry, word)| word.store(entry.0, Relaxed));
        }
    }
}

/// What `lb_daemon::dataplane::settle` works on: packets come at each of its steps.
impl Dataplane for Lab {
    fn apply(&mut self, op: &Op) -> Result<(), Error> {
        if matches!(op, Op::Grace) {
            self.is_untracking = true;
            // First those that read a history before it was written.
            self.take_back_flows();
            self.traffic(false);
            self.lend();
            self.take_back();
            self.traffic(false);
            self.lend();
        }
        self.memory.apply(op)
    }

    fn walk_flows(&mut self, keep: &mut dyn FnMut(FlowEntry) -> bool) {
        self.traffic(!self.is_untracking);
        self.lend();
        self.memory.walk_flows(keep);
    }

    fn observe(&mut self) -> Result<State, Error> {
        self.memory.observe()
    }

    fn ring_in_force(&self, vip: &Vip) -> Vec<u16> {
        self.memory.ring_in_force(vip)
    }

    fn history(&self, vip: &Vip) -> Vec<u16> {
        self.memory.history(vip)
    }

    fn write_slots(&mut self, base: u32, slots: &[(u32, u16)]) -> Result<(), Error> {
        self.memory.write_slots(base, slots)
    }

    fn strays_lost(&mut self) -> Result<u64, Error> {
        self.memory.strays_lost()
    }

    fn counters(&mut self) -> Result<Counters, Error> {
        self.memory.counters()
    }

    fn counted(&mut self, targets: &[u32]) -> Result<BTreeMap<u32, TargetCounters>, Error> {
        self.memory.counted(targets)
    }

    fn flows(&mut self, rule: Liveness) -> Result<FlowCount, Error> {
        self.memory.flows(rule)
    }

    fn forget_ended(&mut self, rule: Liveness, part: u32) -> u64 {
        self.memory.forget_ended(rule, part)
    }
}
