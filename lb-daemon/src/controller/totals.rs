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
        vip::VipKey,
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
    /// All that was forwarded.
    pub forwarded: TargetCounters,
    /// By VIP, with the backends that it has no longer.
    pub vips: BTreeMap<Service, TargetCounters>,
    /// By VIP and backend.
    pub backends: BTreeMap<Pair, TargetCounters>,
    /// Slots of a VIP's ring that came to lead to another backend.
    pub changed_slots: BTreeMap<Service, u64>,
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
}

/// What freed targets counted, and whose the targets in use are.
#[derive(Debug, Default)]
pub struct Totals {
    /// Of all freed targets.
    all: TargetCounters,
    /// Of a VIP's freed targets.
    vips: BTreeMap<Service, TargetCounters>,
    /// Of a backend's freed targets.
    backends: BTreeMap<Pair, TargetCounters>,
    /// Whose each target is.
    owners: BTreeMap<u32, Pair>,
    /// What of a target's counters is in the sums already.
    taken: BTreeMap<u32, TargetCounters>,
    /// Slots that changed, by VIP.
    changed_slots: BTreeMap<Service, u64>,
    /// What [`hits`] gave at the first reading: targets that were freed before then are missing in it.
    first_hits: Option<u64>,
    /// The most hits that were told of.
    hits: u64,
}

impl Totals {
    /// Learns whose the targets are. One whose VIP is gone keeps the owner that was known.
    pub fn learn(&mut self, observed: &State) {
        let services: BTreeMap<u32, Service> =
            observed.vips.iter().filter_map(|(key, vip)| Some((vip.id, service(key)?))).collect();
        self.owners.retain(|id, _| observed.targets.contains_key(id));
        for (id, target) in &observed.targets {
            if let Some(service) = services.get(&target.vip) {
                self.owners.insert(*id, (*service, address_of(target.outer_destination)));
            }
        }
    }

    /// Takes what target `id` counted into the sums; what was taken before is not taken twice.
    pub fn take(&mut self, id: u32, counted: &TargetCounters) {
        let fresh = less(counted, self.taken.get(&id));
        self.taken.insert(id, *counted);
        add(&mut self.all, &fresh);
        let Some(pair) = self.owners.get(&id).copied() else { return };
        add(self.vips.entry(pair.0).or_default(), &fresh);
        add(self.backends.entry(pair).or_default(), &fresh);
        if self.backends.len() > REMEMBERED {
            let in_use: BTreeSet<&Pair> = self.owners.values().collect();
            self.backends.retain(|pair, _| in_use.contains(pair));
        }
    }

    /// Target `id` counts from zero again.
    pub fn cleared(&mut self, id: u32) {
        self.taken.remove(&id);
    }

    /// So many slots of a VIP's ring lead to another backend than before.
    pub fn ring_changed(&mut self, vip: &VipKey, slots: u64) {
        if let Some(service) = service(vip) {
            *self.changed_slots.entry(service).or_default() += slots;
        }
    }

    /// Sums of what was taken and what the targets count now.
    pub fn figures(&mut self, counters: Counters) -> Figures {
        let Counters { targets, verdicts, path } = counters;
        let mut figures = Figures {
            forwarded: self.all,
            vips: self.vips.clone(),
            backends: self.backends.clone(),
            changed_slots: self.changed_slots.clone(),
            hits: 0,
            verdicts,
            path,
        };
        for (id, counted) in targets {
            let fresh = less(&counted, self.taken.get(&id));
            add(&mut figures.forwarded, &fresh);
            if let Some(pair) = self.owners.get(&id) {
                add(figures.vips.entry(pair.0).or_default(), &fresh);
                add(figures.backends.entry(*pair).or_default(), &fresh);
            }
        }
        let now = hits(&figures);
        let fresh = now.wrapping_sub(*self.first_hits.get_or_insert(now)).cast_signed();
        // Counters are read one after the other while packets go on, so a difference of them may fall by a little.
        self.hits = self.hits.max(u64::try_from(fresh).unwrap_or(0));
        figures.hits = self.hits;
        figures
    }

    /// Names the flows' targets.
    pub fn flows(&self, count: &FlowCount) -> Flows {
        let mut backends = BTreeMap::new();
        for (id, flows) in &count.by_target {
            if let Some(pair) = self.owners.get(id) {
                *backends.entry(*pair).or_default() += flows;
            }
        }
        Flows { capacity: count.capacity, by_state: count.by_state, backends }
    }
}

/// Look-ups that found a flow, by subtraction, so that the fast path need not count them: every look-up ends in a packet
/// that is forwarded, or dropped for want of a backend. Only differences between two readings mean something.
fn hits(figures: &Figures) -> u64 {
    let dropped = figures.verdicts.get(Verdict::NoBackend as usize).map_or(0, |counters| counters.packets);
    let others =
        [PathEvent::MissSyn, PathEvent::MissTcp, PathEvent::MissUdp, PathEvent::Expired, PathEvent::Moved].into_iter();
    let others =
        others.filter_map(|event| figures.path.get(event as usize)).fold(0, |sum: u64, n| sum.wrapping_add(*n));
    figures.forwarded.packets.wrapping_add(dropped).wrapping_sub(others)
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
mod tests {
    use lb_common::layout::{target::Target, vip::Vip};

    use super::*;
    use crate::{
        model::Protocol,
        plan::{target::address_bytes, wanted::key},
    };

    fn web() -> Service {
        Service::of("192.0.2.1".parse().unwrap(), 80, Protocol::Tcp)
    }

    fn state(target_ids: &[u32]) -> State {
        let vip = Vip { id: 1, ..Vip::default() };
        let outer_destination = address_bytes("10.0.0.1".parse().unwrap());
        let target = Target { vip: 1, serves: 1, outer_destination, ..Target::default() };
        State {
            vips: [(key(&web()), vip)].into(),
            targets: target_ids.iter().map(|id| (*id, target)).collect(),
            ..State::default()
        }
    }

    fn counted(id: u32, packets: u64) -> Counters {
        let counters = TargetCounters { packets, ..TargetCounters::default() };
        Counters { targets: [(id, counters)].into(), ..Counters::default() }
    }

    fn packets(totals: &mut Totals, counters: Counters) -> [u64; 3] {
        let figures = totals.figures(counters);
        let pair = (web(), "10.0.0.1".parse().unwrap());
        [figures.forwarded.packets, figures.vips[&web()].packets, figures.backends[&pair].packets]
    }

    #[test]
    fn a_freed_target_stays_in_the_sums_in_whichever_order_it_is_freed_and_cleared() {
        let mut totals = Totals::default();
        totals.learn(&state(&[7]));
        assert_eq!(packets(&mut totals, counted(7, 10)), [10; 3]);
        totals.take(7, &counted(7, 12).targets[&7]);
        assert_eq!(packets(&mut totals, counted(7, 12)), [12; 3], "taken, not cleared yet");
        totals.take(7, &counted(7, 13).targets[&7]);
        assert_eq!(packets(&mut totals, counted(7, 13)), [13; 3], "taken twice");
        totals.cleared(7);
        assert_eq!(packets(&mut totals, Counters::default()), [13; 3], "cleared");
        totals.learn(&state(&[7]));
        assert_eq!(packets(&mut totals, counted(7, 4)), [17; 3], "counting again");
    }

    #[test]
    fn flows_and_packets_of_a_backend_that_moves_to_another_number_are_added_up() {
        let mut totals = Totals::default();
        totals.learn(&state(&[7, 9]));
        let by_target = [(7, 3), (9, 4), (100, 5)].into();
        let flows = totals.flows(&FlowCount { capacity: 64, by_state: [0; 7], by_target });
        assert_eq!(flows.backends.into_values().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn what_nobody_owns_still_counts_as_forwarded() {
        let mut totals = Totals::default();
        assert_eq!(totals.figures(counted(3, 5)).forwarded.packets, 5);
    }

    #[test]
    fn hits_are_what_is_left_of_all_look_ups_and_never_fall() {
        let mut totals = Totals::default();
        let mut hits = |forwarded, no_backend, misses| {
            let mut counters = counted(3, forwarded);
            counters.verdicts = vec![VerdictCounters::default(); Verdict::ALL.len()];
            counters.verdicts[Verdict::NoBackend as usize].packets = no_backend;
            counters.path = vec![0; PathEvent::ALL.len()];
            counters.path[PathEvent::MissUdp as usize] = misses;
            counters.path[PathEvent::Evicted as usize] = 1000;
            totals.figures(counters).hits
        };
        assert_eq!(hits(50, 0, 80), 0, "targets that were freed before this daemon began are missing");
        assert_eq!(hits(60, 0, 83), 7);
        assert_eq!(hits(60, 10, 93), 7, "all of them misses, and no backend");
        assert_eq!(hits(60, 10, 95), 7, "read a little later than the targets");
        assert_eq!(hits(70, 10, 95), 15);
    }
}
