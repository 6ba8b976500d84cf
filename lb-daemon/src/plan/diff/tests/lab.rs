//! Plans carried out op by op on tables in memory, with packets on their way at every moment.

use lb_common::layout::{flow::FlowEntry, ring::UNTRACKED};

use super::*;
use crate::{
    maglev,
    plan::{UNCOUNTED, patch::patch, target::address_bytes},
};

/// Tables that everything fits in.
pub(super) const ROOMY: Capacity = Capacity {
    vips: 64,
    targets: 320,
    ring_blocks: 96,
    groups: 64,
    servers: 64,
    prefixes: 64,
    tunnel_sources: 8,
    own: 4,
};
const BUCKETS: usize = 64;

/// Tables, flows through them, and what must not be forgotten about them.
#[derive(Clone)]
pub(super) struct Lab {
    pub(super) memory: Memory,
    /// What the tables hold by what was done to them.
    noted: State,
    rings: RingCache,
    /// Flow number `i`, the tag of its entry: its VIP's key and number, and the backend it was given.
    flows: Vec<(VipKey, u32, [u8; 16])>,
    /// Values of VIPs that a packet on its way may still hold: all since the last grace.
    held: Vec<(VipKey, Vip)>,
    /// The step of `selected` at which each of them came.
    since: Vec<u32>,
    /// The same of what packets go by before the ring.
    selected: selected::Held,
    /// By number: whom a target served last, while flows may remember that.
    served: BTreeMap<u32, (u32, [u8; 16])>,
    /// Targets that no flow names any more since the last grace.
    swept: BTreeSet<u32>,
    /// Targets that served at some time since the last grace.
    serving: BTreeSet<u32>,
}

impl Lab {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self {
            memory: Memory::new(capacity, BUCKETS),
            noted: State { capacity, ..State::default() },
            rings: RingCache::default(),
            flows: Vec::new(),
            held: Vec::new(),
            since: Vec::new(),
            selected: selected::Held::default(),
            served: BTreeMap::new(),
            swept: BTreeSet::new(),
            serving: BTreeSet::new(),
        }
    }

    /// Plans and applies until `wanted` is reached; the n-th attempt fails at the op that `faults` names, if it has so many.
    pub(super) fn reach(&mut self, wanted: &Wanted, faults: &[usize]) -> Result<(), PlanError> {
        let kept = self.flows_to_keep(wanted);
        for fault in faults.iter().copied().map(Some).chain([None]) {
            self.attempt(wanted, fault)?;
        }
        let remembered: BTreeSet<u32> = self.memory.remembered().map(FlowEntry::tag).collect();
        assert!(kept.is_subset(&remembered), "flows were forgotten: {kept:?}, but {remembered:?}");
        Ok(())
    }

    /// Plans and applies, up to the op that is to fail.
    pub(super) fn attempt(&mut self, wanted: &Wanted, fault: Option<usize>) -> Result<(), PlanError> {
        let observed = self.memory.observe().unwrap();
        let before: BTreeSet<VipKey> = observed.vips.keys().copied().collect();
        let ops = plan(&observed, wanted, &mut self.rings)?;
        for (number, op) in ops.iter().enumerate() {
            if fault == Some(number) {
                self.memory.fail_after(0);
                assert!(self.memory.apply(op).is_err());
                // Whoever plans again after a failure waits for a moment.
                self.settle();
                break;
            }
            let is_new = |key: &VipKey| !key.is_address() && !before.contains(key);
            if let Op::SetVip { key, vip } = op
                && is_new(key)
                && let Some(wanted) = wanted.vips.get(key)
            {
                selected::check_newcomer(&self.memory.observe().unwrap(), vip, wanted);
            }
            self.step(op);
        }
        Ok(())
    }

    /// Applies a plan for some VIPs alone, if there is one.
    pub(super) fn patch(&mut self, part: &Wanted) -> bool {
        let kept = self.flows_to_keep(part);
        let ops = patch(&self.memory.observe().unwrap(), part, &mut self.rings);
        for op in ops.iter().flatten() {
            self.step(op);
        }
        let remembered: BTreeSet<u32> = self.memory.remembered().map(FlowEntry::tag).collect();
        assert!(ops.is_none() || kept.is_subset(&remembered), "flows were forgotten: {kept:?}, but {remembered:?}");
        ops.is_some()
    }

    /// Flows to backends that are there and stay.
    fn flows_to_keep(&mut self, wanted: &Wanted) -> BTreeSet<u32> {
        let state = self.memory.observe().unwrap();
        let stays = |tag: &u32| {
            let (key, vip, backend) = self.flows[*tag as usize];
            let wanted = wanted.vips.get(&key).is_some_and(|vip| vip.backends.contains_key(&address_of(backend)));
            wanted && state.vips.get(&key).is_some_and(|now| now.id == vip)
        };
        self.memory.remembered().map(FlowEntry::tag).filter(stays).collect()
    }

    fn step(&mut self, op: &Op) {
        self.check_op(op);
        self.memory.apply(op).unwrap();
        self.noted.note(op);
        match op {
            Op::Grace => self.settle(),
            Op::SweepFlows { forget, renumber } => self.swept.extend(forget.iter().chain(renumber.keys())),
            _ => {}
        }
        let state = self.memory.observe().unwrap();
        let mut noted = self.noted.clone();
        noted.rings.retain(|base, _| state.rings.contains_key(base));
        noted.histories = histories_as_read(&noted.histories, &state.histories);
        assert_eq!(noted, state, "after {op:?}");
        let services = state.vips.iter().filter(|(key, _)| !key.is_address());
        let new: Vec<(VipKey, Vip)> =
            services.map(|(key, vip)| (*key, *vip)).filter(|vip| !self.held.contains(vip)).collect();
        let step = self.selected.note(&state);
        self.since.extend(new.iter().map(|_| step));
        self.held.extend(new);
        let serving = state.targets.iter().filter(|(_, target)| target.serves != 0);
        for (id, target) in serving {
            self.serving.insert(*id);
            self.served.insert(*id, (target.vip, target.outer_destination));
        }
        check_tables(&self.memory, &state);
        selected::check_flags(&state);
        for ((_, vip), since) in self.held.iter().zip(&self.since) {
            self.selected.check_servers(&state, vip.id, *since);
        }
        self.check_packets(&state);
        self.check_flows(&state);
    }

    /// What an op must not touch, because a packet may be using it or a flow may name it.
    fn check_op(&self, op: &Op) {
        match op {
            Op::WriteRing { base, slots } => self.check_written(*base, u32::try_from(slots.len()).unwrap(), op),
            Op::WriteHistory { after, .. } => self.check_written(after.history_base, after.ring_slots, op),
            Op::SetTarget { id, target } if !target.is_free() => {
                assert!(*id > 0);
                let same = |served: &(u32, [u8; 16])| *served == (target.vip, target.outer_destination);
                assert!(self.served.get(id).is_none_or(same), "{op:?} while flows may name the target");
            }
            Op::SweepFlows { forget, .. } => {
                // Else a packet may write the number into the table after the sweep.
                assert!(forget.is_disjoint(&self.serving), "{op:?} while packets may be sent to the targets");
            }
            _ => {}
        }
    }

    /// So many slots from this block on are no ring and no history that a packet may be reading.
    fn check_written(&self, base: u32, slots: u32, op: &Op) {
        let written = base..base + blocks(slots);
        let of_vips = self.held.iter().flat_map(|(_, vip)| [(vip.ring_base, vip.ring_slots), history(vip)]);
        let rings = of_vips.chain(self.selected.all_rings());
        for (base, slots) in rings.filter(|(_, slots)| *slots > 0) {
            let read = base..base + blocks(slots);
            assert!(read.end <= written.start || written.end <= read.start, "{op:?} over a ring in use");
        }
    }

    fn settle(&mut self) {
        for id in std::mem::take(&mut self.swept) {
            self.served.remove(&id);
        }
        let state = self.memory.observe().unwrap();
        self.held = state.vips.iter().filter(|(key, _)| !key.is_address()).map(|(key, vip)| (*key, *vip)).collect();
        self.selected = selected::Held::default();
        let step = self.selected.note(&state);
        self.since = self.held.iter().map(|_| step).collect();
        self.serving = state.targets.iter().filter(|(_, target)| target.serves != 0).map(|(id, _)| *id).collect();
    }

    /// Lets a packet of a new flow follow every slot of every VIP as it is or was since the last grace.
    fn check_packets(&mut self, state: &State) {
        let flow = |entry: FlowEntry| (self.flows[entry.tag() as usize], entry.target());
        let mut known: BTreeSet<_> = self.memory.remembered().map(flow).collect();
        for ((key, vip), since) in self.held.clone().into_iter().zip(self.since.clone()) {
            // A packet asks for routes only where the value that it holds says that there are some.
            let asks = vip.flags & Vip::SOURCE_ROUTES != 0;
            let routes = if asks { self.selected.rings_of(vip.id, since) } else { BTreeSet::new() };
            let rings = [(vip.ring_base, vip.ring_slots), history(&vip)].into_iter().chain(routes);
            let slots = rings.flat_map(|(base, slots)| self.memory.slots_at(base, slots));
            for place in slots.filter(|place| *place != UNTRACKED).collect::<BTreeSet<_>>() {
                let id = vip.target_base + u32::from(place);
                let target = state.targets.get(&id).copied().unwrap_or_default();
                // Such a VIP's packets are dropped unless the target serves it: who left may have another VIP's successor.
                if vip.flags & Vip::CLOSED != 0 && target.serves != vip.id {
                    continue;
                }
                assert_eq!(target.vip, vip.id, "a slot of VIP {} names target {id}: {target:?}", vip.id);
                let flow = (key, vip.id, target.outer_destination);
                if target.serves == vip.id && known.insert((flow, id)) {
                    let tag = u32::try_from(self.flows.len()).unwrap();
                    let entry = FlowEntry::new(tag, id, 0, FlowState::Established);
                    assert!(self.memory.remember(tag as usize % BUCKETS, entry));
                    self.flows.push(flow);
                }
            }
        }
    }

    /// A remembered flow that a packet would follow leads to the backend that it was given.
    fn check_flows(&self, state: &State) {
        for entry in self.memory.remembered() {
            let (_, vip, backend) = self.flows[entry.tag() as usize];
            let target = state.targets.get(&entry.target()).copied().unwrap_or_default();
            if target.serves == vip {
                assert_eq!(target.outer_destination, backend, "flow {} was misled", entry.tag());
            }
        }
    }
}

/// First block and slots of a VIP's history, none of one that has none.
fn history(vip: &Vip) -> (u32, u32) {
    (vip.history_base, vip.history_slots())
}

/// What was noted of these histories, with their counts as they were `read` where nobody counted.
fn histories_as_read(noted: &BTreeMap<u32, u32>, read: &BTreeMap<u32, u32>) -> BTreeMap<u32, u32> {
    let known = noted.iter().filter_map(|(base, count)| Some((*base, *count, *read.get(base)?)));
    known.map(|(base, noted, read)| (base, if noted == UNCOUNTED { read } else { noted })).collect()
}

/// What holds of the tables at every moment.
pub(crate) fn check_tables(memory: &Memory, state: &State) {
    let mut ids = BTreeSet::new();
    let mut ranges = Vec::new();
    for (key, vip) in state.vips.iter().filter(|(key, _)| !key.is_address()) {
        assert!(vip.id > 0 && ids.insert(vip.id), "two VIPs have number {}", vip.id);
        ranges.push((vip.target_base, vip.target_base + vip.target_count));
        for slot in 0..vip.ring_slots {
            let (id, target) = memory.route(key, slot).unwrap();
            assert!(target_range(vip).contains(&id));
            if vip.flags & Vip::CLOSED != 0 {
                // The last ring of those that did serve; who left it since is no target any more.
                assert!(target.vip == vip.id || target.is_free());
                continue;
            }
            // Stronger than what packets on their way may meet: the ring in force names none but serving targets.
            let state = target.flags & !Target::KEEPS_TAGS;
            assert_eq!((target.vip, target.serves, state), (vip.id, vip.id, 0));
        }
    }
    ranges.sort_unstable();
    assert!(ranges.iter().all(|range| range.0 > 0 && range.1 <= state.capacity.targets));
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "ranges overlap: {ranges:?}");
    assert!(state.targets.values().all(|target| target.serves == 0 || target.serves == target.vip));
}

/// The tables hold what is wanted and nothing else, and a further plan has nothing to do.
pub(super) fn check_reached(lab: &mut Lab, wanted: &Wanted) {
    // What came of a history is known only once it was written; one that names nothing is given up then.
    if lab.memory.observe().unwrap().histories.values().any(|slots| *slots == 0) {
        lab.attempt(wanted, None).unwrap();
    }
    let state = lab.memory.observe().unwrap();
    assert_eq!(plan(&state, wanted, &mut RingCache::default()), Ok(vec![]));
    let keys: BTreeSet<VipKey> = wanted.vips.keys().copied().chain(addresses(wanted).into_keys()).collect();
    assert_eq!(state.vips.keys().copied().collect::<BTreeSet<_>>(), keys);
    let addresses = addresses(wanted);
    assert!(state.vips.iter().all(|(key, vip)| !key.is_address() || addresses[key] == *vip));
    selected::check_reached(lab, &state, wanted);
    let targets: usize = wanted.vips.values().map(|vip| vip.backends.len()).sum();
    assert_eq!(state.targets.len(), targets, "targets are left over");
    for (key, wanted) in &wanted.vips {
        check_vip(&lab.memory, &state, &state.vips[key], wanted);
    }
    for entry in lab.memory.remembered() {
        let (key, vip, backend) = lab.flows[entry.tag() as usize];
        assert_eq!(state.vips[&key].id, vip);
        assert_eq!(state.targets[&entry.target()].outer_destination, backend);
    }
}

fn check_vip(memory: &Memory, state: &State, vip: &Vip, wanted: &WantedVip) {
    let places = places(state, vip);
    assert!(places.keys().eq(wanted.backends.keys()));
    for (backend, wanted) in &wanted.backends {
        let target = state.targets[&(vip.target_base + u32::from(places[backend]))];
        let (serves, flags) = match wanted.disposition {
            Disposition::Serving => (vip.id, 0),
            Disposition::Draining => (vip.id, Target::DRAINING),
            Disposition::Down => (0, 0),
        };
        assert_eq!((target.vip, target.serves, target.flags), (vip.id, serves, flags));
        assert_eq!(target.outer_destination, address_bytes(*backend));
        if let Some(hop) = wanted.next_hop {
            let header = if backend.is_ipv4() { 20 } else { 40 };
            assert_eq!((target.next_hop, target.mtu), (hop.mac, hop.mtu - header));
        }
    }
    let serving = wanted.backends.iter().filter(|(_, wanted)| wanted.disposition == Disposition::Serving);
    let weights: Vec<(IpAddr, u32)> = serving.map(|(backend, wanted)| (*backend, wanted.weight)).collect();
    let ring = maglev::ring(&weights, wanted.ring_size);
    let expected: Vec<u16> = ring.into_iter().map(|index| places[&weights[usize::from(index)].0]).collect();
    assert_eq!(memory.ring(vip), expected);
}

/// VIPs and backends that stayed have their numbers still; a VIP moved only if it had to, and its backends kept their places.
pub(super) fn kept_numbers(before: &State, after: &State) {
    for (key, old) in before.vips.iter().filter(|(key, _)| !key.is_address()) {
        let Some(new) = after.vips.get(key) else { continue };
        assert_eq!(old.id, new.id);
        let (old_places, new_places) = (places(before, old), places(after, new));
        for (backend, place) in &old_places {
            assert!(new_places.get(backend).is_none_or(|new| new == place), "{backend} has another place");
        }
        let joined = new_places.keys().filter(|backend| !old_places.contains_key(backend)).count();
        let full = old_places.len() + joined > old.target_count as usize;
        assert_eq!(old.target_base != new.target_base, full, "a VIP moved without need");
    }
}
