//! Sums of counters that survive their targets.
//!
//! A target's counters go when its number is freed. What they held is added here first, so that the figures of a VIP or a
//! backend never go backwards while the daemon lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        target::Encap,
        vip::{Vip, VipKey},
    },
    verdict::Verdict,
};

use crate::{
    dataplane::{Counters, FlowCount},
    model::Service,
    plan::{State, target::address_of, wanted::service},
};

/// Pairs of VIP and backend whose past is kept although they are not in the tables any more; with autoscaling, names come
/// and go for months. A pair takes some 200 bytes.
const REMEMBERED: usize = 65_536;

/// A backend of a VIP.
pub type Pair = (Service, IpAddr);

/// Counters of one moment, those of freed targets included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// All that was forwarded, without what was for this host.
    pub forwarded: TargetCounters,
    /// By VIP, with the backends that it has no longer.
    pub vips: BTreeMap<Service, TargetCounters>,
    /// By VIP and backend.
    pub backends: BTreeMap<Pair, TargetCounters>,
    /// Slots of a VIP's ring that came to lead to another backend.
    pub changed_slots: BTreeMap<Service, u64>,
    /// Times that a backend of a VIP was ejected.
    pub ejections: BTreeMap<Pair, u64>,
    /// Packets that met a flow which was known, since these figures were first read.
    pub hits: u64,
    /// By [`lb_common::verdict::Verdict`].
    pub verdicts: Vec<VerdictCounters>,
    /// By [`lb_common::layout::counter::PathEvent`].
    pub path: Vec<u64>,
}

/// Contents of the flow table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// Entries that the table can hold.
    pub capacity: u64,
    /// Entries by [`lb_common::layout::flow::FlowState`]; index 0 counts none.
    pub by_state: [u64; 7],
    /// Entries by VIP and backend.
    pub backends: BTreeMap<Pair, u64>,
    /// Entries of flows that go on.
    pub live: u64,
    /// These by VIP and backend.
    pub live_backends: BTreeMap<Pair, u64>,
    /// Backends of adaptive VIPs that may have flows besides, of which nobody has heard since they take no new ones. Told only
    /// while a backend drains.
    pub silent: BTreeSet<Pair>,
}

/// What the packets of a target have to do with beyond what is counted at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kind {
    /// It is this host: its packets leave under a verdict of their own.
    local: bool,
    /// Its VIP's flows are not remembered: its packets were not looked up.
    untracked: bool,
}

/// What freed targets counted, and whose the targets in use are.
#[derive(Debug, Default)]
pub struct Totals {
    /// Of all freed targets, as [`Figures::forwarded`].
    all: TargetCounters,
    /// Packets of freed targets that were this host.
    local: u64,
    /// Packets of freed targets whose flows were not remembered.
    untracked: u64,
    /// Of a VIP's freed targets.
    vips: BTreeMap<Service, TargetCounters>,
    /// Of a backend's freed targets.
    backends: BTreeMap<Pair, TargetCounters>,
    /// How many of these were kept when it was last looked which are in use.
    kept: usize,
    /// Whose each target is.
    owners: BTreeMap<u32, Pair>,
    /// Of what kind each target was when it was last counted.
    kinds: BTreeMap<u32, Kind>,
    /// Of what kind each target is.
    kinds_now: BTreeMap<u32, Kind>,
    /// What of a target's counters is in the sums already.
    taken: BTreeMap<u32, TargetCounters>,
    /// Slots that changed, by VIP.
    changed_slots: BTreeMap<Service, u64>,
    /// Ejections by VIP and backend.
    ejections: BTreeMap<Pair, u64>,
    /// What [`hits`] gave at the first reading: targets that were freed before then are missing in it.
    first_hits: Option<u64>,
    /// The most hits that were told of.
    hits: u64,
}

impl Totals {
    /// Learns whose the targets are. One whose VIP is gone keeps the owner that was known.
    pub fn learn(&mut self, observed: &State) {
        self.owners.retain(|id, _| observed.targets.contains_key(id));
        self.kinds_now.retain(|id, _| observed.targets.contains_key(id));
        self.learn_part(observed);
    }

    /// The same from a part of what is in the tables: what it does not hold stays as it was.
    pub fn learn_part(&mut self, observed: &State) {
        let vips = observed.vips.iter().filter_map(|(key, vip)| Some((vip.id, (service(key)?, vip))));
        let vips: BTreeMap<u32, (Service, &Vip)> = vips.collect();
        for (id, target) in &observed.targets {
            if let Some((service, vip)) = vips.get(&target.vip) {
                self.owners.insert(*id, (*service, address_of(target.outer_destination)));
                let untracked = vip.flags & Vip::UNTRACKED != 0;
                self.kinds_now.insert(*id, Kind { local: target.encap == Encap::Local as u32, untracked });
            }
        }
    }

    /// Takes what target `id` counted into the sums; what was taken before is not taken twice.
    pub fn take(&mut self, id: u32, counted: &TargetCounters) {
        let fresh = less(counted, self.taken.get(&id));
        self.taken.insert(id, *counted);
        let kind = self.kind(id);
        if kind.local {
            self.local += fresh.packets;
        } else {
            add(&mut self.all, &fresh);
        }
        if kind.untracked {
            self.untracked += fresh.packets;
        }
        let Some(pair) = self.owners.get(&id).copied() else { return };
        add(self.vips.entry(pair.0).or_default(), &fresh);
        add(self.backends.entry(pair).or_default(), &fresh);
        // Where more are in use than are remembered, not for each one again.
        if self.backends.len() > REMEMBERED.max(self.kept.saturating_mul(2)) {
            let in_use: BTreeSet<&Pair> = self.owners.values().collect();
            self.backends.retain(|pair, _| in_use.contains(pair));
            self.kept = self.backends.len();
        }
    }

    /// Target `id` counts from zero again.
    pub fn cleared(&mut self, id: u32) {
        self.taken.remove(&id);
        // The number may come to be another target's, of another kind.
        self.kinds.remove(&id);
    }

    /// So many slots of a VIP's ring lead to another backend than before.
    pub fn ring_changed(&mut self, vip: &VipKey, slots: u64) {
        if let Some(service) = service(vip) {
            *self.changed_slots.entry(service).or_default() += slots;
        }
    }

    /// A backend was ejected.
    pub fn ejected(&mut self, pair: Pair) {
        *self.ejections.entry(pair).or_default() += 1;
        if self.ejections.len() > REMEMBERED {
            let in_use: BTreeSet<&Pair> = self.owners.values().collect();
            self.ejections.retain(|pair, _| in_use.contains(pair));
        }
    }

    /// Sums of what was taken and what the targets count now.
    pub fn figures(&mut self, counters: Counters) -> Figures {
        let Counters { targets, verdicts, path } = counters;
        self.settle_kinds(&targets);
        let (mut local, mut untracked) = (self.local, self.untracked);
        let mut figures = Figures {
            forwarded: self.all,
            vips: self.vips.clone(),
            backends: self.backends.clone(),
            changed_slots: self.changed_slots.clone(),
            ejections: self.ejections.clone(),
            hits: 0,
            verdicts,
            path,
        };
        for (id, counted) in targets {
            let fresh = less(&counted, self.taken.get(&id));
            let kind = self.kind(id);
            if kind.local {
                local += fresh.packets;
            } else {
                add(&mut figures.forwarded, &fresh);
            }
            if kind.untracked {
                untracked += fresh.packets;
            }
            if let Some(pair) = self.owners.get(&id) {
                add(figures.vips.entry(pair.0).or_default(), &fresh);
                add(figures.backends.entry(*pair).or_default(), &fresh);
            }
        }
        let steered = figures.forwarded.packets.wrapping_add(local).wrapping_sub(untracked);
        let now = hits(steered, &figures);
        let fresh = now.wrapping_sub(*self.first_hits.get_or_insert(now)).cast_signed();
        // Counters are read one after the other while packets go on, so a difference of them may fall by a little.
        self.hits = self.hits.max(u64::try_from(fresh).unwrap_or(0));
        figures.hits = self.hits;
        figures
    }

    /// Of what kind a target was when it was last counted; one that was not yet counted is what it is now.
    fn kind(&self, id: u32) -> Kind {
        self.kinds.get(&id).or_else(|| self.kinds_now.get(&id)).copied().unwrap_or_default()
    }

    /// Takes what targets counted before they became of another kind.
    fn settle_kinds(&mut self, targets: &BTreeMap<u32, TargetCounters>) {
        for (id, counted) in targets {
            if self.kinds_now.get(id).is_some_and(|now| *now != self.kind(*id)) {
                self.take(*id, counted);
            }
        }
        self.kinds.clone_from(&self.kinds_now);
    }

    /// Whose each target is.
    pub(super) fn owners(&self) -> &BTreeMap<u32, Pair> {
        &self.owners
    }

    /// Names the flows' targets.
    pub fn flows(&self, count: &FlowCount) -> Flows {
        let named = |by_target: &BTreeMap<u32, u64>| {
            let mut backends = BTreeMap::new();
            for (id, flows) in by_target {
                if let Some(pair) = self.owners.get(id) {
                    *backends.entry(*pair).or_default() += flows;
                }
            }
            backends
        };
        Flows {
            capacity: count.capacity,
            by_state: count.by_state,
            backends: named(&count.by_target),
            live: count.live,
            live_backends: named(&count.live_by_target),
            silent: BTreeSet::new(),
        }
    }
}

/// What becomes of packets between their look-up and the count at a target.
const LOOKED_UP: [Verdict; 7] = [
    Verdict::NoBackend,
    Verdict::NewFlowLimit,
    Verdict::NoHeadroom,
    Verdict::TooBigAnswered,
    Verdict::TooBig,
    Verdict::TooBigLimited,
    Verdict::CongestionLost,
];
/// Packets that found no flow that they could go on by, and packets that are steered by another's.
const NO_HITS: [PathEvent; 7] = [
    PathEvent::MissSyn,
    PathEvent::MissTcp,
    PathEvent::MissUdp,
    PathEvent::Expired,
    PathEvent::Moved,
    PathEvent::IcmpSteered,
    PathEvent::FragmentFollowed,
];

/// Look-ups that found a flow, by subtraction, so that the fast path need not count them: of the packets that were
/// `steered` to a target, or dropped on their way there, those that are no hits are counted. Only differences between two
/// readings mean something. [`Verdict::SourceLimit`] is left out, under which most packets are dropped before a look-up:
/// new flows that it drops are missing in the hits.
fn hits(steered: u64, figures: &Figures) -> u64 {
    let dropped = LOOKED_UP.into_iter().filter_map(|verdict| figures.verdicts.get(verdict as usize));
    let dropped = dropped.fold(0, |sum: u64, counters| sum.wrapping_add(counters.packets));
    let others = NO_HITS.into_iter().filter_map(|event| figures.path.get(event as usize));
    let others = others.fold(0, |sum: u64, n| sum.wrapping_add(*n));
    steered.wrapping_add(dropped).wrapping_sub(others)
}

/// Adds `more` to `sum`, field by field.
fn add(sum: &mut TargetCounters, more: &TargetCounters) {
    *sum = combine(sum, more, u64::saturating_add);
}

/// What of `counted` is beyond `taken`.
fn less(counted: &TargetCounters, taken: Option<&TargetCounters>) -> TargetCounters {
    taken.map_or(*counted, |taken| combine(counted, taken, u64::saturating_sub))
}

fn combine(a: &TargetCounters, b: &TargetCounters, with: impl Fn(u64, u64) -> u64) -> TargetCounters {
    TargetCounters {
        packets: with(a.packets, b.packets),
        bytes: with(a.bytes, b.bytes),
        flows_created: with(a.flows_created, b.flows_created),
        flows_moved: with(a.flows_moved, b.flows_moved),
        syns: with(a.syns, b.syns),
        syn_retransmits: with(a.syn_retransmits, b.syn_retransmits),
        handshakes: with(a.handshakes, b.handshakes),
        fins: with(a.fins, b.fins),
        rsts: with(a.rsts, b.rsts),
    }
}

#[cfg(test)]
mod tests;
