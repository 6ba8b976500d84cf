//! The tables in the kernel, made to hold what the tables in memory hold.

use std::{collections::BTreeMap, iter, sync::atomic::Ordering::Relaxed};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, lpm_trie::Key},
    util::online_cpus,
};
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::{Bucket, FRAGMENT_BUCKETS, WAYS},
        limit::TOO_BIG_WORDS,
        prefix::{Group, SourceKey},
        server::ServerKey,
        traffic::{Rows, Traffic, values},
        vip::{PrefixKey, Vip},
    },
    maps,
    verdict::Verdict,
};
use lb_xdp::host::{HostTables, vips};
use zerocopy::IntoBytes;

use super::mapped::Mapped;
use crate::scene::{BUCKETS, CELLS, PLACES};

/// A hash table, and what it holds.
struct Hash<K, V> {
    map: HashMap<MapData, K, V>,
    holds: BTreeMap<K, V>,
}

impl<K: Pod + Ord, V: Pod + PartialEq> Hash<K, V> {
    fn of(object: &mut Ebpf, name: &str) -> Self {
        Self { map: take(object, name).try_into().expect("a hash table"), holds: BTreeMap::new() }
    }

    fn fill(&mut self, wanted: BTreeMap<K, V>) {
        for key in self.holds.keys().filter(|key| !wanted.contains_key(key)) {
            self.map.remove(key).expect("to remove an entry");
        }
        for (key, value) in wanted.iter().filter(|(key, value)| self.holds.get(key) != Some(value)) {
            self.map.insert(key, value, 0).expect("to insert an entry");
        }
        self.holds = wanted;
    }
}

/// A key of a trie, as the kernel reads it.
type Prefix = [u8; 24];

/// A trie, and what it holds.
struct Trie<V> {
    map: LpmTrie<MapData, [u8; 20], V>,
    holds: BTreeMap<Prefix, V>,
}

impl<V: Pod + PartialEq> Trie<V> {
    fn of(object: &mut Ebpf, name: &str) -> Self {
        Self { map: take(object, name).try_into().expect("a trie"), holds: BTreeMap::new() }
    }

    fn fill(&mut self, wanted: BTreeMap<Prefix, V>) {
        for key in self.holds.keys().filter(|key| !wanted.contains_key(*key)) {
            self.map.remove(&split(key)).expect("to remove a prefix");
        }
        for (key, value) in wanted.iter().filter(|(key, value)| self.holds.get(*key) != Some(value)) {
            self.map.insert(&split(key), value, 0).expect("to insert a prefix");
        }
        self.holds = wanted;
    }
}

fn split(prefix: &Prefix) -> Key<[u8; 20]> {
    let (length, rest) = prefix.split_first_chunk().expect("24 bytes");
    Key::new(u32::from_ne_bytes(*length), *rest.first_chunk().expect("20 bytes"))
}

fn prefix(key: &SourceKey) -> Prefix {
    zerocopy::transmute!(*key)
}

fn take(object: &mut Ebpf, name: &str) -> Map {
    object.take_map(name).unwrap_or_else(|| panic!("the object has no {name}"))
}

fn mapped(object: &mut Ebpf, name: &str, words: usize) -> Mapped {
    let Map::Array(map) = take(object, name) else { panic!("{name} is no array") };
    Mapped::new(map.fd(), words)
}

/// All tables of an instance.
pub(super) struct Tables {
    prefix_vips: Trie<Vip>,
    acl: Trie<u32>,
    source_routes: Trie<u32>,
    groups: Array<MapData, Group>,
    holds_groups: Vec<Group>,
    servers: Hash<ServerKey, u32>,
    bonds: Hash<u32, u32>,
    tunnel_addresses: Hash<[u8; 16], u32>,
    tunnel_sources: Trie<u32>,
    /// By name, in the order of [`words`].
    mapped: Vec<(&'static str, Mapped)>,
    target_counters: PerCpuArray<MapData, TargetCounters>,
    traffic: Mapped,
    verdict_counters: PerCpuArray<MapData, VerdictCounters>,
    path_counters: PerCpuArray<MapData, u64>,
}

/// Words of the tables that are memory: flows, fragments, rings, targets, limits.
fn words(host: &HostTables) -> [Box<dyn Iterator<Item = u64> + '_>; 9] {
    let buckets = |buckets: &'_ [Bucket]| -> Vec<u64> {
        buckets.iter().flat_map(|bucket| &bucket.entries).map(|word| word.load(Relaxed)).collect()
    };
    let sources = host.sources.iter().flat_map(|line| &line.entries).flat_map(|entry| {
        [entry.tag.load(Relaxed), entry.packets.load(Relaxed), entry.flows.load(Relaxed), entry.reserved]
    });
    [
        Box::new(buckets(&host.flows).into_iter()),
        Box::new(buckets(&host.fragments).into_iter()),
        Box::new(host.rings.iter().flat_map(|block| in_words(block.as_bytes()))),
        Box::new(host.targets.iter().flat_map(|target| in_words(target.as_bytes()))),
        Box::new(host.vip_limits.iter().map(|word| word.load(Relaxed))),
        Box::new(sources),
        Box::new(host.too_big_limits.iter().map(|word| word.load(Relaxed))),
        Box::new(iter::once(host.heartbeat.load(Relaxed))),
        Box::new(vips::image(&host.vips, CELLS).expect("few VIPs").into_iter()),
    ]
}

fn in_words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(*word.first_chunk().expect("8 bytes")))
}

impl Tables {
    /// Takes the tables of a loaded object.
    pub(super) fn of(object: &mut Ebpf) -> Self {
        let traffic = mapped(object, maps::TRAFFIC, traffic_values() as usize * size_of::<Traffic>() / 8);
        let lines = PLACES as usize * WAYS;
        let mapped = [
            (maps::FLOWS, BUCKETS as usize * WAYS),
            (maps::FRAGMENTS, FRAGMENT_BUCKETS as usize * WAYS),
            (maps::RINGS, lines),
            (maps::TARGETS, lines),
            (maps::VIP_LIMITS, PLACES as usize),
            (maps::SOURCES, lines),
            (maps::TOO_BIG_LIMITS, TOO_BIG_WORDS as usize),
            (maps::HEARTBEAT, 1),
            (maps::VIPS, CELLS as usize * WAYS),
        ]
        .map(|(name, words)| (name, mapped(object, name, words)));
        Self {
            prefix_vips: Trie::of(object, maps::PREFIX_VIPS),
            acl: Trie::of(object, maps::ACL),
            source_routes: Trie::of(object, maps::SOURCE_ROUTES),
            groups: take(object, maps::GROUPS).try_into().expect("an array"),
            holds_groups: vec![Group::default(); PLACES as usize],
            servers: Hash::of(object, maps::SERVER_IDS),
            bonds: Hash::of(object, maps::BONDS),
            tunnel_addresses: Hash::of(object, maps::TUNNEL_ADDRESSES),
            tunnel_sources: Trie::of(object, maps::TUNNEL_SOURCES),
            mapped: mapped.into(),
            traffic,
            target_counters: take(object, maps::TARGET_COUNTERS).try_into().expect("counters"),
            verdict_counters: take(object, maps::VERDICT_COUNTERS).try_into().expect("counters"),
            path_counters: take(object, maps::PATH_COUNTERS).try_into().expect("counters"),
        }
    }

    /// Makes them hold what these hold.
    pub(super) fn fill(&mut self, host: &HostTables) {
        let prefixes = host.prefix_vips.iter().map(|(key, vip)| (zerocopy::transmute!(PrefixKey::of(key)), *vip));
        self.prefix_vips.fill(prefixes.collect());
        self.acl.fill(host.acl.iter().map(|(key, rule)| (prefix(key), *rule as u32)).collect());
        self.source_routes.fill(host.source_routes.iter().map(|(key, group)| (prefix(key), *group)).collect());
        for (place, (group, holds)) in (0..).zip(host.groups.iter().zip(&mut self.holds_groups)) {
            if group != holds {
                self.groups.set(place, group, 0).expect("to write a group");
                *holds = *group;
            }
        }
        self.servers.fill(host.servers.clone());
        self.bonds.fill(host.bonds.clone());
        self.tunnel_addresses.fill(host.tunnel_addresses.iter().map(|address| (*address, 1)).collect());
        self.tunnel_sources.fill(host.tunnel_sources.iter().map(|(key, allowed)| (prefix(key), *allowed)).collect());
        for ((_, mapped), words) in self.mapped.iter().zip(words(host)) {
            mapped.fill(words);
        }
    }

    /// Where the tables that packets write differ from these.
    pub(super) fn difference(&self, host: &HostTables) -> Option<String> {
        self.mapped.iter().zip(words(host)).find_map(|((name, mapped), words)| {
            let (place, kernels, hosts) = mapped.difference(words)?;
            Some(format!("word {place} of {name}: {kernels:#018x} in the kernel, {hosts:#018x} on the host"))
        })
    }

    /// All counters, summed over CPUs.
    pub(super) fn counters(&self) -> Counters {
        let zero = TargetCounters::default();
        let target = |id| {
            let Traffic { packets, bytes } = Rows::new(self.traffic.words(), cpus()).sum(id);
            let each = self.target_counters.get(&id, 0).expect("counters");
            each.iter().fold(TargetCounters { packets, bytes, ..zero }, |sum, one| add(&sum, one))
        };
        let verdict = |place| {
            let each = self.verdict_counters.get(&place, 0).expect("counters");
            let sum = |of: fn(&VerdictCounters) -> u64| each.iter().map(of).sum();
            VerdictCounters { packets: sum(|one| one.packets), bytes: sum(|one| one.bytes) }
        };
        let event = |place| self.path_counters.get(&place, 0).expect("counters").iter().sum();
        Counters {
            targets: (0..PLACES).map(target).collect(),
            verdicts: (0..).take(Verdict::ALL.len()).map(verdict).collect(),
            events: (0..).take(PathEvent::ALL.len()).map(event).collect(),
        }
    }
}

/// Values of `TRAFFIC`.
pub(super) fn traffic_values() -> u32 {
    values(PLACES, cpus())
}

fn cpus() -> u32 {
    // Others get no packets.
    1 + online_cpus().expect("the CPUs").into_iter().max().expect("one of them")
}

/// Counters of one moment.
pub(super) struct Counters {
    pub(super) targets: Vec<TargetCounters>,
    pub(super) verdicts: Vec<VerdictCounters>,
    pub(super) events: Vec<u64>,
}

fn add(one: &TargetCounters, other: &TargetCounters) -> TargetCounters {
    each(one, other, u64::wrapping_add)
}

/// What was counted from one moment to another.
pub(super) fn difference(later: &TargetCounters, earlier: &TargetCounters) -> TargetCounters {
    each(later, earlier, u64::wrapping_sub)
}

fn each(one: &TargetCounters, other: &TargetCounters, with: impl Fn(u64, u64) -> u64) -> TargetCounters {
    const FIELDS: usize = size_of::<TargetCounters>() / size_of::<u64>();
    let (one, other): ([u64; FIELDS], [u64; FIELDS]) = (zerocopy::transmute!(*one), zerocopy::transmute!(*other));
    let all: [u64; FIELDS] = std::array::from_fn(|field| with(one[field], other[field]));
    zerocopy::transmute!(all)
}
