//! The pinned tables: found, checked, opened, read and written.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::atomic::{Ordering, fence},
    thread::sleep,
    time::Duration,
};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues},
};
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::{Bucket, FlowEntry, WAYS},
        ring::{RingBlock, SLOTS_PER_BLOCK, blocks},
        target::Target,
        traffic::Traffic,
        vip::Vip,
    },
    maps,
    verdict::Verdict,
};
use rustix::thread::{MembarrierCommand, membarrier};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    OpenError, flows,
    lists::Lists,
    mapping::Mapping,
    pins::Pins,
    selectors::Selectors,
    specs::{self, Sizes},
    traffic,
    vips::Vips,
};
use crate::{
    dataplane::{Counters, Error, FlowCount, flows::Liveness},
    plan::{self, Capacity, State},
};

mod history;

/// Words of a target.
const TARGET_WORDS: usize = size_of::<Target>() / 8;
/// Words of a block of a ring, and slots of a word.
const BLOCK_WORDS: usize = size_of::<RingBlock>() / 8;
const WORD_SLOTS: usize = SLOTS_PER_BLOCK / BLOCK_WORDS;
/// Longer than any packet is under way, for kernels that don't let us wait for exactly that.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// Sweeps the datagrams in fragments, which name targets too: the rest of one must not go to the next user of a number. Their
/// table is opened for that, as it may be made anew with a program.
pub(super) fn sweep_fragments(pins: &Pins, forget: &BTreeSet<u32>, renumber: &BTreeMap<u32, u32>) -> Result<(), Error> {
    const WHAT: &str = "sweep the table FRAGMENTS";
    let data = MapData::from_pin(pins.table(maps::FRAGMENTS)).map_err(|error| table(WHAT, error))?;
    let entries = data.info().map_err(|error| table(WHAT, error))?.max_entries();
    let mapping = Mapping::new(data.fd(), entries as usize * size_of::<Bucket>(), true)
        .map_err(|source| Error::Table { what: WHAT.to_owned(), source })?;
    flows::sweep(mapping.words(), forget, renumber);
    Ok(())
}

/// Opens pinned tables, all of which must be there and of the right form.
pub(super) struct Opener<'a> {
    pins: &'a Pins,
    sizes: Sizes,
    writable: bool,
}

impl Opener<'_> {
    pub(super) fn hash<K: Pod, V: Pod>(&self, name: &'static str) -> Result<HashMap<MapData, K, V>, OpenError> {
        Map::HashMap(self.data(name)?).try_into().map_err(failed(name))
    }

    pub(super) fn trie<K: Pod, V: Pod>(&self, name: &'static str) -> Result<LpmTrie<MapData, K, V>, OpenError> {
        Map::LpmTrie(self.data(name)?).try_into().map_err(failed(name))
    }

    pub(super) fn array<V: Pod>(&self, name: &'static str) -> Result<Array<MapData, V>, OpenError> {
        Map::Array(self.data(name)?).try_into().map_err(failed(name))
    }

    fn counters<V: Pod>(&self, name: &'static str) -> Result<PerCpuArray<MapData, V>, OpenError> {
        Map::PerCpuArray(self.data(name)?).try_into().map_err(failed(name))
    }

    /// Maps an array of `T`.
    pub(super) fn mapping<T>(&self, name: &'static str) -> Result<Mapping, OpenError> {
        let data = self.data(name)?;
        Mapping::new(data.fd(), self.sizes.of(name) as usize * size_of::<T>(), self.writable)
            .map_err(|source| super::explain::system(format!("map the table {name}"), source))
    }

    fn data(&self, name: &'static str) -> Result<MapData, OpenError> {
        MapData::from_pin(self.pins.table(name)).map_err(failed(name))
    }
}

fn failed(name: &'static str) -> impl FnOnce(MapError) -> OpenError {
    move |error| specs::map_error(&format!("open the table {name}"), error)
}

/// All tables, open.
pub(super) struct Tables {
    pub(super) vips: Vips,
    pub(super) selectors: Selectors,
    pub(super) lists: Lists,
    targets: Mapping,
    rings: Mapping,
    flows: Mapping,
    target_counters: PerCpuArray<MapData, TargetCounters>,
    traffic: traffic::Table,
    verdict_counters: PerCpuArray<MapData, VerdictCounters>,
    path_counters: PerCpuArray<MapData, u64>,
    capacity: Capacity,
    /// CPUs that the machine may have: values of per-CPU arrays.
    cpus: usize,
}

impl Tables {
    /// Opens the tables that are pinned, all of which must be there. Without `writable` no op can be applied.
    ///
    /// # Errors
    /// When one is missing or is not what this program expects.
    pub(super) fn open(pins: &Pins, writable: bool) -> Result<Self, OpenError> {
        let opener = Opener { pins, sizes: specs::pinned(pins)?, writable };
        Ok(Self {
            vips: Vips::open(&opener)?,
            selectors: Selectors::open(&opener)?,
            lists: Lists::open(&opener)?,
            targets: opener.mapping::<Target>(maps::TARGETS)?,
            rings: opener.mapping::<RingBlock>(maps::RINGS)?,
            flows: opener.mapping::<Bucket>(maps::FLOWS)?,
            target_counters: opener.counters(maps::TARGET_COUNTERS)?,
            traffic: traffic::Table::of(opener.mapping::<Traffic>(maps::TRAFFIC)?)?,
            verdict_counters: opener.counters(maps::VERDICT_COUNTERS)?,
            path_counters: opener.counters(maps::PATH_COUNTERS)?,
            capacity: opener.sizes.capacity(),
            cpus: aya::util::nr_cpus()
                .map_err(|(what, source)| super::explain::system(format!("read {what}"), source))?,
        })
    }

    /// What the tables hold, without lists of prefixes, which are long: [`Lists::contents`] has these.
    pub(super) fn observe(&self) -> Result<State, Error> {
        let vips = self.vips.observe()?;
        let groups = self.selectors.groups()?;
        let of_groups = groups.values().map(|group| (group.ring_base, group.ring_slots));
        let rings = vips.values().map(|vip| (vip.ring_base, vip.ring_slots)).chain(of_groups);
        let rings = rings.map(|(base, slots)| (base, self.slots(base, slots))).filter(|(_, slots)| !slots.is_empty());
        Ok(State {
            histories: plan::history::counts(vips.values(), |vip| self.history(vip)),
            rings: rings.map(|(base, slots)| (base, plan::digest(&slots))).collect(),
            targets: self.targets(),
            servers: self.selectors.servers.all()?,
            tunnels: self.selectors.tunnels()?,
            bonds: self.selectors.bonds.all()?,
            capacity: self.capacity,
            lists: BTreeMap::new(),
            vips,
            groups,
        })
    }

    /// The same with the lists.
    pub(super) fn observe_all(&mut self) -> Result<State, Error> {
        let lists = self.lists.contents()?.clone();
        Ok(State { lists, ..self.observe()? })
    }

    /// Slots of a VIP's ring; none when it has no ring, or one outside of the table.
    pub(super) fn ring(&self, vip: &Vip) -> Vec<u16> {
        self.slots(vip.ring_base, vip.ring_slots)
    }

    /// So many slots from a block on; none outside of the table.
    fn slots(&self, base: u32, count: u32) -> Vec<u16> {
        let first = base as usize * BLOCK_WORDS;
        let words = self.rings.words().get(first..first + blocks(count) as usize * BLOCK_WORDS);
        let slots = words.unwrap_or_default().iter().flat_map(|word| {
            let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            <[u16; WORD_SLOTS]>::read_from_bytes(&bytes).unwrap_or_default()
        });
        slots.take(count as usize).collect()
    }

    /// Targets that are not free.
    fn targets(&self) -> BTreeMap<u32, Target> {
        (0..)
            .zip(self.targets.words().chunks_exact(TARGET_WORDS))
            .filter_map(|(id, words)| Some((id, read_target(words)?)))
            .collect()
    }

    /// Writes a target so that a packet meets the old one, none, or the new one.
    pub(super) fn set_target(&self, id: u32, target: &Target) -> Result<(), Error> {
        let first = id as usize * TARGET_WORDS;
        let place = self.targets.words().get(first..first + TARGET_WORDS).ok_or_else(|| outside("write target", id))?;
        let mut words = [0; TARGET_WORDS];
        words.as_mut_bytes().copy_from_slice(target.as_bytes());
        let ([owner, rest @ ..], [new_owner, new_rest @ ..]) = (place, words) else { return Ok(()) };
        // The first word holds `serves`, which is what the program compares. A place that changes owner is taken down
        // first; the next hop, which changes in place, lies within one word.
        if owner.load(Ordering::Relaxed) != new_owner {
            owner.store(0, Ordering::Relaxed);
            fence(Ordering::Release);
        }
        for (word, new) in rest.iter().zip(new_rest) {
            word.store(new, Ordering::Relaxed);
        }
        owner.store(new_owner, Ordering::Release);
        Ok(())
    }

    pub(super) fn clear_counters(&mut self, id: u32) -> Result<(), Error> {
        let zero = PerCpuValues::try_from(vec![TargetCounters::default(); self.cpus]);
        let zero =
            zero.map_err(|source| Error::Table { what: format!("clear the counters of target {id}"), source })?;
        self.target_counters
            .set(id, zero, 0)
            .map_err(|error| table(&format!("clear the counters of target {id}"), error))?;
        self.traffic.rows().clear(id);
        Ok(())
    }

    pub(super) fn write_ring(&self, base: u32, slots: &[u16]) -> Result<(), Error> {
        let first = base as usize * BLOCK_WORDS;
        let length = slots.len().div_ceil(SLOTS_PER_BLOCK) * BLOCK_WORDS;
        let place =
            self.rings.words().get(first..first + length).ok_or_else(|| outside("write the ring at block", base))?;
        let mut chunks = slots.chunks(WORD_SLOTS);
        for word in place {
            let mut packed = [0_u16; WORD_SLOTS];
            let chunk = chunks.next().unwrap_or_default();
            packed.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            word.store(zerocopy::transmute!(packed), Ordering::Relaxed);
        }
        // Before the VIP or group that names this ring.
        fence(Ordering::Release);
        Ok(())
    }

    pub(super) fn sweep(&self, forget: &BTreeSet<u32>, renumber: &BTreeMap<u32, u32>) {
        flows::sweep(self.flows.words(), forget, renumber);
    }

    pub(super) fn count_flows(&self, rule: Liveness) -> FlowCount {
        flows::count(self.flows.words(), rule)
    }

    pub(super) fn walk_flows(&self, keep: &mut dyn FnMut(FlowEntry) -> bool) {
        flows::retain(self.flows.words(), keep);
    }

    pub(super) fn forget_ended(&self, rule: Liveness, part: u32) -> u64 {
        flows::forget_ended(self.flows.words(), rule, part)
    }

    pub(super) fn counted(&self, ids: impl Iterator<Item = u32>) -> Result<BTreeMap<u32, TargetCounters>, Error> {
        let read = |id| {
            let values = self.target_counters.get(&id, 0).map_err(|error| table("read TARGET_COUNTERS", error))?;
            let sum = values.iter().fold(TargetCounters::default(), add_target);
            let Traffic { packets, bytes } = self.traffic.rows().sum(id);
            Ok((id, add_target(sum, &TargetCounters { packets, bytes, ..TargetCounters::default() })))
        };
        ids.filter(|id| *id < self.target_counters.len()).map(read).collect()
    }

    /// How often an event was counted.
    pub(super) fn event(&self, event: PathEvent) -> Result<u64, Error> {
        let values = self.path_counters.get(&(event as u32), 0);
        let values = values.map_err(|error| table("read PATH_COUNTERS", error))?;
        Ok(values.iter().fold(0, |sum: u64, one| sum.wrapping_add(*one)))
    }

    pub(super) fn counters(&self) -> Result<Counters, Error> {
        let targets = self.counted(self.targets().into_keys())?;
        let mut verdicts = Vec::new();
        for verdict in Verdict::ALL {
            let values = self.verdict_counters.get(&(*verdict as u32), 0);
            let values = values.map_err(|error| table("read VERDICT_COUNTERS", error))?;
            verdicts.push(values.iter().fold(VerdictCounters::default(), |sum, one| VerdictCounters {
                packets: sum.packets.wrapping_add(one.packets),
                bytes: sum.bytes.wrapping_add(one.bytes),
            }));
        }
        let path = PathEvent::ALL.into_iter().map(|event| self.event(event)).collect::<Result<_, _>>()?;
        Ok(Counters { targets, verdicts, path })
    }
}

/// Waits until no packet is on its way that read the tables before.
pub(super) fn grace() {
    // `MEMBARRIER_CMD_GLOBAL` is synchronize_rcu(), and XDP programs run inside RCU read sections. The kernel refuses it
    // where CPUs run without a tick (nohz_full).
    if membarrier(MembarrierCommand::Global).is_err() {
        sleep(LONG_ENOUGH);
    }
}

/// A target that is not free.
fn read_target(words: &[std::sync::atomic::AtomicU64]) -> Option<Target> {
    let mut copy = [0_u64; TARGET_WORDS];
    copy.iter_mut().zip(words).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
    let target: Target = zerocopy::transmute!(copy);
    (!target.is_free()).then_some(target)
}

fn add_target(sum: TargetCounters, one: &TargetCounters) -> TargetCounters {
    TargetCounters {
        packets: sum.packets.wrapping_add(one.packets),
        bytes: sum.bytes.wrapping_add(one.bytes),
        flows_created: sum.flows_created.wrapping_add(one.flows_created),
        flows_moved: sum.flows_moved.wrapping_add(one.flows_moved),
        syns: sum.syns.wrapping_add(one.syns),
        syn_retransmits: sum.syn_retransmits.wrapping_add(one.syn_retransmits),
        handshakes: sum.handshakes.wrapping_add(one.handshakes),
        fins: sum.fins.wrapping_add(one.fins),
        rsts: sum.rsts.wrapping_add(one.rsts),
    }
}

/// An index beyond the end of a table.
pub(super) fn outside(what: &str, number: u32) -> Error {
    let source = io::Error::new(io::ErrorKind::InvalidInput, "the table is not that large");
    Error::Table { what: format!("{what} {number}"), source }
}

/// A failure of a map call.
pub(super) fn table(what: &str, error: MapError) -> Error {
    Error::Table { what: what.to_owned(), source: specs::io_error(error) }
}

const _: () = assert!(WAYS * 8 == size_of::<Bucket>() && WORD_SLOTS * 2 == 8);
