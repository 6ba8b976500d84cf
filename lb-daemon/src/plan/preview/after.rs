//! The tables as they are before a plan and as its ops leave them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lb_common::layout::{prefix::Group, target::Target, vip::Vip};

use crate::plan::{Op, State, draft::target_range, target::address_of, wanted::Disposition};

/// Which backend each slot of a ring leads to; `None` is none that serves.
pub(super) type Slots = Vec<Option<IpAddr>>;

/// Reads the slots of a ring in force: its first block, and how many.
pub type ReadRing<'a> = &'a dyn Fn(u32, u32) -> Vec<u16>;

/// The tables at one of the two moments.
pub(super) struct Tables<'a> {
    pub(super) state: State,
    read: ReadRing<'a>,
    /// Rings that the plan wrote, by first block.
    written: BTreeMap<u32, Arc<[u16]>>,
    /// Targets whose flows the plan forgot.
    forgotten: BTreeSet<u32>,
    /// Targets that got another number.
    renumbered: BTreeMap<u32, u32>,
}

impl<'a> Tables<'a> {
    /// As they are.
    pub(super) fn before(state: &State, read: ReadRing<'a>) -> Self {
        let (written, forgotten, renumbered) = Default::default();
        Self { state: state.clone(), read, written, forgotten, renumbered }
    }

    /// As `ops` leave them.
    pub(super) fn after(state: &State, read: ReadRing<'a>, ops: &[Op]) -> Self {
        let mut tables = Self::before(state, read);
        for op in ops {
            tables.carry_out(op);
        }
        tables
    }

    fn carry_out(&mut self, op: &Op) {
        self.state.note(op);
        match op {
            Op::WriteRing { base, slots } => drop(self.written.insert(*base, Arc::clone(slots))),
            Op::SweepFlows { forget, renumber } => {
                // A second sweep is for what slipped through the first.
                self.forgotten.extend(forget);
                for (old, new) in renumber {
                    self.renumbered.entry(*old).or_insert(*new);
                }
            }
            _ => {}
        }
    }

    /// Whether the plan wrote the ring that begins there.
    pub(super) fn wrote(&self, base: u32) -> bool {
        self.written.contains_key(&base)
    }

    /// Where the slots of a VIP's ring lead new flows.
    pub(super) fn ring(&self, vip: &Vip) -> Slots {
        self.slots(vip, vip.ring_base, vip.open_slots())
    }

    /// Where the slots of a group of a VIP lead.
    pub(super) fn group_ring(&self, vip: &Vip, group: &Group) -> Slots {
        self.slots(vip, group.ring_base, group.ring_slots)
    }

    fn slots(&self, vip: &Vip, base: u32, count: u32) -> Slots {
        if count == 0 {
            return Slots::new();
        }
        let leads = self.leads(vip);
        let lead = |place: &u16| leads.get(&u32::from(*place)).copied();
        match self.written.get(&base) {
            Some(slots) => slots.iter().map(lead).collect(),
            None => (self.read)(base, count).iter().map(lead).collect(),
        }
    }

    /// Which backend each place of a VIP's range leads to; those that serve nobody are absent.
    pub(super) fn leads(&self, vip: &Vip) -> BTreeMap<u32, IpAddr> {
        let serving = self.targets(vip).filter(|(_, target)| target.serves == vip.id);
        serving.map(|(id, target)| (id - vip.target_base, address_of(target.outer_destination))).collect()
    }

    /// A VIP's targets that are not on their way out.
    fn targets(&self, vip: &Vip) -> impl Iterator<Item = (u32, &Target)> {
        let own = self.state.targets.range(target_range(vip)).map(|(id, target)| (*id, target));
        let number = vip.id;
        own.filter(move |(_, target)| target.vip == number && target.flags & Target::GONE == 0)
    }

    /// What each backend of a VIP takes.
    pub(super) fn backends(&self, vip: &Vip) -> BTreeMap<IpAddr, Disposition> {
        let backend = |(_, target): (u32, &Target)| (address_of(target.outer_destination), takes(target));
        self.targets(vip).map(backend).collect()
    }

    /// Whether flows of target `id`, which served before the plan, have their backend still.
    pub(super) fn keeps_flows(&self, id: u32) -> bool {
        if self.forgotten.contains(&id) {
            return false;
        }
        let now = self.renumbered.get(&id).unwrap_or(&id);
        self.state.targets.get(now).is_some_and(|target| target.serves != 0 && target.flags & Target::GONE == 0)
    }
}

/// What a target takes.
fn takes(target: &Target) -> Disposition {
    match target.serves {
        0 => Disposition::Down,
        _ if target.flags & Target::DRAINING != 0 => Disposition::Draining,
        _ => Disposition::Serving,
    }
}
