//! The program's tables: filled from tables in memory, and read back.

use std::{
    iter,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, lpm_trie::Key},
};
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::{Bucket, FRAGMENT_BUCKETS, WAYS},
        limit::{SOURCE_WAYS, SourceLine, TOO_BIG_WORDS},
        prefix::{Group, SourceKey},
        ring::RingBlock,
        server::ServerKey,
        target::Target,
        traffic::{Rows, Traffic, values},
        vip::{PrefixKey, Vip},
    },
    maps,
    verdict::Verdict,
};
use lb_daemon::dataplane::Counters;
use lb_xdp::host::{HostTables, vips};
use zerocopy::IntoBytes as _;

use super::words::Words;
use crate::packet::given::{BUCKETS, CELLS, ENTRIES};

type Trie<V> = LpmTrie<MapData, [u8; 20], V>;

/// Handles of all tables that a packet may meet.
pub(super) struct Tables {
    vips: Words,
    prefix_vips: Trie<Vip>,
    rings: Array<MapData, RingBlock>,
    targets: Array<MapData, Target>,
    acl: Trie<u32>,
    source_routes: Trie<u32>,
    groups: Array<MapData, Group>,
    servers: HashMap<MapData, ServerKey, u32>,
    bonds: HashMap<MapData, u32, u32>,
    tunnel_addresses: HashMap<MapData, [u8; 16], u32>,
    tunnel_sources: Trie<u32>,
    target_counters: PerCpuArray<MapData, TargetCounters>,
    traffic: Words,
    verdict_counters: PerCpuArray<MapData, VerdictCounters>,
    path_counters: PerCpuArray<MapData, u64>,
    pub(super) flows: Words,
    pub(super) fragments: Words,
    pub(super) vip_limits: Words,
    pub(super) sources: Words,
    pub(super) too_big_limits: Words,
    pub(super) heartbeat: Words,
}

/// Takes a table out of a loaded object.
macro_rules! take {
    ($object:ident, $name:ident) => {
        $object.take_map(maps::$name).context(maps::$name)?.try_into().context(maps::$name)?
    };
}

impl Tables {
    /// The tables of a loaded object.
    pub(super) fn of(object: &mut Ebpf) -> Result<Self> {
        let words = |object: &mut Ebpf, name: &str, words: usize| {
            let Some(Map::Array(data)) = object.take_map(name) else { anyhow::bail!("{name} is no array") };
            Words::map(data.fd(), words).with_context(|| format!("cannot map {name}"))
        };
        let entries = ENTRIES as usize;
        Ok(Self {
            vips: words(object, maps::VIPS, CELLS as usize * WAYS)?,
            prefix_vips: take!(object, PREFIX_VIPS),
            rings: take!(object, RINGS),
            targets: take!(object, TARGETS),
            acl: take!(object, ACL),
            source_routes: take!(object, SOURCE_ROUTES),
            groups: take!(object, GROUPS),
            servers: take!(object, SERVER_IDS),
            bonds: take!(object, BONDS),
            tunnel_addresses: take!(object, TUNNEL_ADDRESSES),
            tunnel_sources: take!(object, TUNNEL_SOURCES),
            target_counters: take!(object, TARGET_COUNTERS),
            traffic: words(object, maps::TRAFFIC, traffic_values()? as usize * size_of::<Traffic>() / 8)?,
            verdict_counters: take!(object, VERDICT_COUNTERS),
            path_counters: take!(object, PATH_COUNTERS),
            flows: words(object, maps::FLOWS, BUCKETS as usize * WAYS)?,
            fragments: words(object, maps::FRAGMENTS, FRAGMENT_BUCKETS as usize * WAYS)?,
            vip_limits: words(object, maps::VIP_LIMITS, entries)?,
            sources: words(object, maps::SOURCES, entries * (size_of::<SourceLine>() / size_of::<u64>()))?,
            too_big_limits: words(object, maps::TOO_BIG_LIMITS, TOO_BIG_WORDS as usize)?,
            heartbeat: words(object, maps::HEARTBEAT, 1)?,
        })
    }

    /// Makes them hold exactly what these hold.
    pub(super) fn fill(&mut self, from: &HostTables) -> Result<()> {
        for (index, target) in (0..).zip(&from.targets) {
            self.targets.set(index, target, 0).context("a target")?;
        }
        for (index, block) in (0..).zip(&from.rings) {
            self.rings.set(index, block, 0).context("a ring")?;
        }
        for (index, group) in (0..).zip(&from.groups) {
            self.groups.set(index, group, 0).context("a group")?;
        }
        let image = vips::image(&from.vips, CELLS).context("VIPs")?;
        self.vips.all().iter().zip(image).for_each(|(place, word)| place.store(word, Relaxed));
        replace(&mut self.servers, from.servers.iter()).context("server IDs")?;
        replace(&mut self.bonds, from.bonds.iter()).context("bonds")?;
        let addresses = from.tunnel_addresses.iter().map(|address| (address, &1));
        replace(&mut self.tunnel_addresses, addresses).context("tunnel addresses")?;
        let prefixes = from.prefix_vips.iter().map(|(key, vip)| (PrefixKey::of(key), *vip));
        replace_prefixes(&mut self.prefix_vips, prefixes.map(|(key, vip)| (lpm(key.prefix_len, key.as_bytes()), vip)))
            .context("prefix VIPs")?;
        let rules = from.acl.iter().map(|(key, rule)| (of_source(key), *rule as u32));
        replace_prefixes(&mut self.acl, rules).context("access lists")?;
        let routes = from.source_routes.iter().map(|(key, group)| (of_source(key), *group));
        replace_prefixes(&mut self.source_routes, routes).context("source routes")?;
        let sources = from.tunnel_sources.iter().map(|(key, allowed)| (of_source(key), *allowed));
        replace_prefixes(&mut self.tunnel_sources, sources).context("tunnel sources")?;
        self.fill_words(from);
        Ok(())
    }

    /// The same of those tables that depend on the time.
    pub(super) fn fill_words(&self, from: &HostTables) {
        write(&self.flows, bucket_words(&from.flows));
        write(&self.fragments, bucket_words(&from.fragments));
        write(&self.vip_limits, from.vip_limits.iter());
        write(&self.sources, source_words(&from.sources));
        write(&self.too_big_limits, from.too_big_limits.iter());
        write(&self.heartbeat, iter::once(&from.heartbeat));
    }

    /// Reads the counters, summed over CPUs.
    pub(super) fn counters(&self) -> Result<Counters> {
        let target = |id: u32| {
            let sum = self.target_counters.get(&id, 0)?.iter().fold(TargetCounters::default(), add);
            let Traffic { packets, bytes } = Rows::new(self.traffic.all(), cpus()?).sum(id);
            Ok((id, add(sum, &TargetCounters { packets, bytes, ..TargetCounters::default() })))
        };
        let verdict = |number: u32| {
            let zero = VerdictCounters::default();
            let sum = self.verdict_counters.get(&number, 0)?.iter().fold(zero, |sum, one| VerdictCounters {
                packets: sum.packets + one.packets,
                bytes: sum.bytes + one.bytes,
            });
            Ok(sum)
        };
        let event = |number: u32| Ok(self.path_counters.get(&number, 0)?.iter().sum());
        Ok(Counters {
            targets: (0..ENTRIES).map(target).collect::<Result<_>>()?,
            verdicts: Verdict::ALL.iter().map(|one| verdict(*one as u32)).collect::<Result<_>>()?,
            path: PathEvent::ALL.iter().map(|one| event(*one as u32)).collect::<Result<_>>()?,
        })
    }
}

/// Values of `TRAFFIC`.
pub(super) fn traffic_values() -> Result<u32> {
    Ok(values(ENTRIES, cpus()?))
}

fn cpus() -> Result<u32> {
    Ok(lb_daemon::dataplane::cpus::numbers()?)
}

fn add(sum: TargetCounters, one: &TargetCounters) -> TargetCounters {
    TargetCounters {
        packets: sum.packets + one.packets,
        bytes: sum.bytes + one.bytes,
        flows_created: sum.flows_created + one.flows_created,
        flows_moved: sum.flows_moved + one.flows_moved,
        syns: sum.syns + one.syns,
        syn_retransmits: sum.syn_retransmits + one.syn_retransmits,
        handshakes: sum.handshakes + one.handshakes,
        fins: sum.fins + one.fins,
        rsts: sum.rsts + one.rsts,
    }
}

fn replace<'a, K: Pod, V: Pod>(
    table: &mut HashMap<MapData, K, V>,
    entries: impl Iterator<Item = (&'a K, &'a V)>,
) -> Result<()> {
    let old: Vec<K> = table.keys().collect::<Result<_, _>>()?;
    for key in old {
        table.remove(&key)?;
    }
    for (key, value) in entries {
        table.insert(key, value, 0)?;
    }
    Ok(())
}

fn replace_prefixes<V: Pod>(table: &mut Trie<V>, entries: impl Iterator<Item = (Key<[u8; 20]>, V)>) -> Result<()> {
    let old: Vec<Key<[u8; 20]>> = table.keys().collect::<Result<_, _>>()?;
    for key in old {
        table.remove(&key)?;
    }
    for (key, value) in entries {
        table.insert(&key, value, 0)?;
    }
    Ok(())
}

fn of_source(key: &SourceKey) -> Key<[u8; 20]> {
    lpm(key.prefix_len, key.as_bytes())
}

/// A key as aya has it: the prefix length, and what comes behind it.
fn lpm(prefix_len: u32, key: &[u8]) -> Key<[u8; 20]> {
    Key::new(prefix_len, key[4..].try_into().expect("20 bytes"))
}

fn write<'a>(words: &Words, values: impl Iterator<Item = &'a AtomicU64>) {
    for (word, value) in words.all().iter().zip(values) {
        word.store(value.load(Relaxed), Relaxed);
    }
}

/// All words of a flow or fragment table.
pub(super) fn bucket_words(buckets: &[Bucket]) -> impl Iterator<Item = &AtomicU64> {
    buckets.iter().flat_map(|bucket| &bucket.entries)
}

/// All words of the limits by source, in the order in which they lie in memory.
pub(super) fn source_words(lines: &[SourceLine]) -> impl Iterator<Item = &AtomicU64> {
    static ZERO: AtomicU64 = AtomicU64::new(0);
    let entries = lines.iter().flat_map(|line| line.entries.iter().take(SOURCE_WAYS));
    entries.flat_map(|entry| [&entry.tag, &entry.packets, &entry.flows, &ZERO])
}
