//! What each table must be like to be adopted: its type, its sizes, its flags.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    io,
    path::Path,
};

use aya::maps::{MapData, MapError, MapInfo, MapType};
use aya_obj::generated::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use lb_common::{
    layout::{
        counter::{PathEvent, TargetCounters, VerdictCounters},
        flow::{Bucket, FRAGMENT_BUCKETS, WAYS, Word},
        limit::{SourceLine, TOO_BIG_WORDS},
        prefix::{Group, SourceKey},
        ring::RingBlock,
        server::ServerKey,
        target::Target,
        traffic::{self, Traffic},
        vip::Vip,
        vips::{self, IndexCell},
    },
    maps,
    verdict::Verdict,
};

use super::{error::OpenError, explain::system, pins::Pins, traffic::numbers};
use crate::plan::Capacity;

/// Form of a table.
#[derive(Clone, Copy)]
struct Spec {
    name: &'static str,
    kind: MapType,
    key_bytes: usize,
    value_bytes: usize,
    flags: u32,
    /// Of what happened a moment ago, read by the program alone. One that does not fit is made anew.
    ephemeral: bool,
}

const fn ephemeral(spec: Spec) -> Spec {
    Spec { ephemeral: true, ..spec }
}

const fn spec<K, V>(name: &'static str, kind: MapType, flags: u32) -> Spec {
    Spec { name, kind, key_bytes: size_of::<K>(), value_bytes: size_of::<V>(), flags, ephemeral: false }
}

const fn trie<V>(name: &'static str) -> Spec {
    spec::<SourceKey, V>(name, MapType::LpmTrie, BPF_F_NO_PREALLOC)
}

const fn hash<K, V>(name: &'static str, flags: u32) -> Spec {
    spec::<K, V>(name, MapType::Hash, flags)
}

const fn array<T>(name: &'static str) -> Spec {
    spec::<u32, T>(name, MapType::Array, BPF_F_MMAPABLE)
}

const fn counters<T>(name: &'static str) -> Spec {
    spec::<u32, T>(name, MapType::PerCpuArray, 0)
}

const SPECS: [Spec; maps::ALL.len()] = [
    array::<IndexCell>(maps::VIPS),
    array::<Bucket>(maps::FLOWS),
    array::<RingBlock>(maps::RINGS),
    array::<Target>(maps::TARGETS),
    counters::<TargetCounters>(maps::TARGET_COUNTERS),
    array::<Traffic>(maps::TRAFFIC),
    counters::<VerdictCounters>(maps::VERDICT_COUNTERS),
    counters::<u64>(maps::PATH_COUNTERS),
    trie::<Vip>(maps::PREFIX_VIPS),
    ephemeral(array::<Bucket>(maps::FRAGMENTS)),
    trie::<u32>(maps::ACL),
    trie::<u32>(maps::SOURCE_ROUTES),
    spec::<u32, Group>(maps::GROUPS, MapType::Array, 0),
    hash::<ServerKey, u32>(maps::SERVER_IDS, BPF_F_NO_PREALLOC),
    ephemeral(array::<Word>(maps::VIP_LIMITS)),
    ephemeral(array::<SourceLine>(maps::SOURCES)),
    ephemeral(array::<Word>(maps::TOO_BIG_LIMITS)),
    hash::<u32, u32>(maps::BONDS, 0),
    hash::<[u8; 16], u32>(maps::TUNNEL_ADDRESSES, 0),
    trie::<u32>(maps::TUNNEL_SOURCES),
    ephemeral(array::<Word>(maps::HEARTBEAT)),
];

/// Counters by target, which reach as far as what they count.
const BY_TARGET: [&str; 2] = [maps::TARGET_COUNTERS, maps::TRAFFIC];

/// Entries of each table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    entries: BTreeMap<&'static str, u32>,
    /// Numbers of CPUs, for which `TRAFFIC` has rows.
    cpus: u32,
}

impl Sizes {
    /// Those of new tables. `source_lines` are of `SOURCES`.
    pub(super) fn fresh(capacity: &Capacity, flow_entries: u32, source_lines: u32) -> Result<Self, OpenError> {
        let entries = BTreeMap::from([
            (maps::VIPS, vips::cells(capacity.vips)),
            (maps::FLOWS, (flow_entries / count(WAYS)).max(1)),
            (maps::RINGS, capacity.ring_blocks.max(1)),
            (maps::TARGETS, capacity.targets.max(1)),
            (maps::VERDICT_COUNTERS, count(Verdict::ALL.len())),
            (maps::PATH_COUNTERS, count(PathEvent::ALL.len())),
            (maps::PREFIX_VIPS, capacity.vips.max(1)),
            (maps::FRAGMENTS, FRAGMENT_BUCKETS),
            (maps::ACL, capacity.prefixes.max(1)),
            (maps::SOURCE_ROUTES, capacity.prefixes.max(1)),
            (maps::GROUPS, capacity.groups.max(1)),
            (maps::SERVER_IDS, capacity.servers.max(1)),
            // Numbers of VIPs start at 1.
            (maps::VIP_LIMITS, capacity.vips.saturating_add(1)),
            (maps::SOURCES, source_lines),
            (maps::TOO_BIG_LIMITS, TOO_BIG_WORDS),
            (maps::BONDS, capacity.own.max(1)),
            (maps::TUNNEL_ADDRESSES, capacity.own.max(1)),
            (maps::TUNNEL_SOURCES, capacity.tunnel_sources.max(1)),
            (maps::HEARTBEAT, 1),
        ]);
        let mut sizes = Self { entries, cpus: numbers()? };
        for name in BY_TARGET {
            sizes.follow_targets(name);
        }
        Ok(sizes)
    }

    /// Has counters by target reach as far as the targets.
    fn follow_targets(&mut self, name: &'static str) {
        let entries = self.for_targets(name);
        self.entries.insert(name, entries);
    }

    /// The size that does.
    fn for_targets(&self, name: &str) -> u32 {
        let targets = self.of(maps::TARGETS);
        if name == maps::TRAFFIC { traffic::values(targets, self.cpus) } else { targets }
    }

    /// Values of a row of `TRAFFIC`.
    pub(super) fn traffic_row(&self) -> u32 {
        self.of(maps::TRAFFIC) / self.cpus.saturating_add(1)
    }

    /// The same, with another size of `SOURCES`.
    pub(super) fn with_source_lines(&self, lines: u32) -> Self {
        let mut sizes = self.clone();
        sizes.entries.insert(maps::SOURCES, lines);
        sizes
    }

    /// The same, with those counters that are of one size in `fresh`.
    fn with_counters(&self, fresh: &Self) -> Self {
        let mut sizes = self.clone();
        for name in [maps::VERDICT_COUNTERS, maps::PATH_COUNTERS] {
            sizes.entries.insert(name, fresh.of(name));
        }
        sizes
    }

    /// Entries of `VIP_LIMITS`: numbers of VIPs start at 1.
    fn limits(&self) -> u32 {
        vips::entries(self.of(maps::VIPS)).max(self.of(maps::PREFIX_VIPS)).saturating_add(1)
    }

    /// Another number of entries.
    pub(super) fn set(&mut self, name: &'static str, entries: u32) {
        self.entries.insert(name, entries);
        if name == maps::TARGETS {
            for name in BY_TARGET {
                if self.of(name) < self.for_targets(name) {
                    self.follow_targets(name);
                }
            }
        }
        let limits = self.limits();
        self.entries.insert(maps::VIP_LIMITS, limits);
    }

    /// Entries of the flow table.
    pub(super) fn flow_entries(&self) -> u32 {
        self.of(maps::FLOWS).saturating_mul(count(WAYS))
    }

    /// Entries of a table; 0 for an unknown one.
    pub(super) fn of(&self, name: &str) -> u32 {
        self.entries.get(name).copied().unwrap_or_default()
    }

    /// Each table with its entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.entries.iter().map(|(name, entries)| (*name, *entries))
    }

    /// The sizes that planning knows.
    pub(super) fn capacity(&self) -> Capacity {
        Capacity {
            vips: vips::entries(self.of(maps::VIPS)).min(self.of(maps::PREFIX_VIPS)),
            targets: self.of(maps::TARGETS),
            ring_blocks: self.of(maps::RINGS),
            groups: self.of(maps::GROUPS),
            servers: self.of(maps::SERVER_IDS),
            prefixes: self.of(maps::ACL).min(self.of(maps::SOURCE_ROUTES)),
            tunnel_sources: self.of(maps::TUNNEL_SOURCES),
            own: self.of(maps::TUNNEL_ADDRESSES).min(self.of(maps::BONDS)),
        }
    }
}

/// Sizes of the pinned tables that the daemon knows, which must all be there and of the right form.
pub(super) fn pinned(pins: &Pins) -> Result<Sizes, OpenError> {
    let mut sizes = BTreeMap::new();
    for spec in SPECS.iter().filter(|spec| !spec.ephemeral) {
        let info = find(pins, spec)?.ok_or_else(|| OpenError::NothingPinned { path: pins.dir().to_owned() })?;
        sizes.insert(spec.name, info.max_entries());
    }
    Ok(Sizes { entries: sizes, cpus: numbers()? })
}

/// Tables that hold more than what packets did a moment ago.
pub(super) fn lasting() -> impl Iterator<Item = &'static str> {
    SPECS.iter().filter(|spec| !spec.ephemeral).map(|spec| spec.name)
}

/// Entries of a pinned table, of whatever form.
pub(super) fn entries(name: &'static str, path: &Path) -> Result<u32, OpenError> {
    let info = MapData::from_pin(path).and_then(|map| map.info());
    let info = info.map_err(|error| map_error(&format!("open the table {name}"), error))?;
    Ok(info.max_entries())
}

/// What to load a program with.
#[derive(Clone, Debug)]
pub(super) struct Adopted {
    /// Entries of each table.
    pub(super) sizes: Sizes,
    /// Tables that are pinned already.
    pub(super) present: BTreeSet<&'static str>,
    /// Tables that are pinned and of no use: new ones take their places together with the new program.
    pub(super) replaced: BTreeSet<&'static str>,
    /// Tables that are pinned and too small, or a flow table of another size than asked for: so do new ones with the same
    /// contents.
    pub(super) resized: BTreeSet<&'static str>,
}

impl Adopted {
    /// Tables that are not there at all.
    pub(super) fn missing(&self) -> impl Iterator<Item = &'static str> {
        let there = [&self.present, &self.replaced, &self.resized];
        maps::ALL.into_iter().filter(move |name| !there.iter().any(|tables| tables.contains(name)))
    }

    /// Asks for tables that are as large as in `wanted`, and for a flow table of just that size.
    pub(super) fn resize(&mut self, wanted: &Sizes) {
        for spec in SPECS.iter().filter(|spec| !spec.ephemeral) {
            let counts = BY_TARGET.contains(&spec.name);
            let needs = if counts { self.sizes.for_targets(spec.name) } else { wanted.of(spec.name) };
            let has = self.sizes.of(spec.name);
            if has < needs || has != needs && spec.name == maps::FLOWS {
                self.sizes.entries.insert(spec.name, needs);
                if self.present.remove(spec.name) {
                    self.resized.insert(spec.name);
                }
            }
        }
        let limits = self.sizes.limits();
        if self.sizes.entries.insert(maps::VIP_LIMITS, limits) != Some(limits) && self.present.remove(maps::VIP_LIMITS)
        {
            self.replaced.insert(maps::VIP_LIMITS);
        }
    }

    /// Whether all tables were there that hold more than what packets did a moment ago.
    pub(super) fn is_whole(&self) -> bool {
        let there = |name| self.present.contains(name) || self.resized.contains(name);
        SPECS.iter().all(|spec| spec.ephemeral || there(spec.name))
    }
}

/// Sees which tables are there already, given the sizes of new ones.
///
/// Tables that are there keep their size, as the plan goes by what it finds, but for counters, which must reach as far as
/// what they count. Ephemeral tables get the size that the new program needs; the old one keeps its own until it is replaced.
pub(super) fn adopt(pins: &Pins, fresh: &Sizes) -> Result<Adopted, OpenError> {
    let mut adopted =
        Adopted { sizes: fresh.clone(), present: BTreeSet::new(), replaced: BTreeSet::new(), resized: BTreeSet::new() };
    for spec in SPECS.iter().filter(|spec| !spec.ephemeral) {
        let Some(info) = find(pins, spec)? else { continue };
        adopted.sizes.entries.insert(spec.name, info.max_entries());
        adopted.present.insert(spec.name);
    }
    for name in BY_TARGET.into_iter().filter(|name| !adopted.present.contains(name)) {
        adopted.sizes.follow_targets(name);
    }
    // Of the VIPs that are there already, in tables larger than asked for.
    let limits = adopted.sizes.limits();
    adopted.sizes.entries.insert(maps::VIP_LIMITS, limits);
    for spec in SPECS.iter().filter(|spec| spec.ephemeral) {
        let name = spec.name;
        match find(pins, spec) {
            Ok(None) => {}
            Ok(Some(info)) if info.max_entries() == adopted.sizes.of(name) => drop(adopted.present.insert(name)),
            Ok(Some(_)) | Err(OpenError::Incompatible { .. }) => drop(adopted.replaced.insert(name)),
            Err(error) => return Err(error),
        }
    }
    let counters = adopted.sizes.with_counters(fresh);
    adopted.resize(&counters);
    Ok(adopted)
}

/// What is pinned for a table, if anything, after checking its form.
fn find(pins: &Pins, spec: &Spec) -> Result<Option<MapInfo>, OpenError> {
    let what = || format!("open the table {}", spec.name);
    let info = match MapData::from_pin(pins.table(spec.name)).and_then(|map| map.info()) {
        Ok(info) => info,
        Err(error) => {
            let source = io_error(error);
            return if source.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(system(what(), source)) };
        }
    };
    let kind = info.map_type().map_err(|error| map_error(&what(), error))?;
    if kind != spec.kind {
        return Err(unfit(spec, "the type", &format_args!("{kind:?}"), &format_args!("{:?}", spec.kind)));
    }
    if info.key_size() as usize != spec.key_bytes {
        return Err(unfit(spec, "a key size of", &info.key_size(), &spec.key_bytes));
    }
    if info.value_size() as usize != spec.value_bytes {
        return Err(unfit(spec, "a value size of", &info.value_size(), &spec.value_bytes));
    }
    let (has, needs) = (info.map_flags(), spec.flags);
    if has & needs != needs {
        return Err(unfit(spec, "the flags", &format_args!("{has:#x}"), &format_args!("{needs:#x}")));
    }
    Ok(Some(info))
}

fn unfit(spec: &Spec, what: &'static str, has: &dyn Display, needs: &dyn Display) -> OpenError {
    OpenError::Incompatible { table: spec.name.to_owned(), what, has: has.to_string(), needs: needs.to_string() }
}

/// A small number of constants, as sizes of tables are given.
#[allow(clippy::cast_possible_truncation, reason = "variants of an enum, ways of a bucket, bytes of a struct")]
pub(super) const fn count(number: usize) -> u32 {
    number as u32
}

/// The system's error within aya's, or aya's in its place.
pub(super) fn io_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        MapError::IoError(error) | MapError::CreateError { io_error: error, .. } => error,
        other => io::Error::other(other),
    }
}

/// A failure of a map call, explained.
pub(super) fn map_error(what: &str, error: MapError) -> OpenError {
    system(what, io_error(error))
}
