//! What tables hold, from old ones to new ones, while packets go by the old ones and then by the new ones.
//!
//! What the daemon alone writes is copied once, since it does nothing else meanwhile. Flows and counters are written by
//! packets: [`CatchUp`] brings over what they did between the copy and the moment when the last of them left the old tables.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use lb_common::{
    layout::{
        prefix::Group,
        server::ServerKey,
        vip::{Vip, VipKey},
        vips::WAYS,
    },
    maps,
};
use lb_xdp::host::vips::{Cells, Writer};
use tracing::warn;

use super::{
    counted::{self, Rest, Sums},
    error::OpenError,
    explain::system,
    flows::carry::Carry,
    mapping::Mapping,
    origin::Origin,
    specs::map_error,
    tables, traffic,
};
use crate::dataplane::flows::Liveness;

/// Bytes of a trie's key after its length; the same in all tries.
const DATA: usize = 20;

/// The pins of old tables and of those that take their places, by name.
pub(super) type Pairs = BTreeMap<&'static str, (PathBuf, PathBuf)>;

/// A table and the one that takes its place, both open.
pub(super) struct Ends {
    pub(super) name: &'static str,
    from: MapData,
    to: MapData,
}

impl Ends {
    fn open(name: &'static str, from: &Path, to: &Path) -> Result<Self, OpenError> {
        let open = |path: &Path| MapData::from_pin(path).map_err(failed("open", name));
        Ok(Self { name, from: open(from)?, to: open(to)? })
    }

    /// Copies the entries of a hash table.
    pub(super) fn hash<K: Pod, Old: Pod, New: Pod>(self, new: impl Fn(Old) -> New) -> Result<(), OpenError> {
        let failed = |verb| failed(verb, self.name);
        let from: HashMap<_, K, Old> = Map::HashMap(self.from).try_into().map_err(failed("copy"))?;
        let mut to: HashMap<_, K, New> = Map::HashMap(self.to).try_into().map_err(failed("copy"))?;
        for entry in &from {
            let (key, value) = entry.map_err(failed("read"))?;
            to.insert(key, new(value), 0).map_err(failed("fill"))?;
        }
        Ok(())
    }

    /// Copies the entries of the table of VIPs, into one of whatever size.
    pub(super) fn vips(self, new: impl Fn(Vip) -> Vip) -> Result<(), OpenError> {
        let (from, to) = self.mappings(WAYS)?;
        let entries = Cells::new(from.words()).entries();
        fill_vips(&to, entries.into_iter().map(|(key, vip)| (key, new(vip))))
    }

    /// The same from a hash table of the kernel's.
    pub(super) fn vips_of_hash(self) -> Result<(), OpenError> {
        let failed = failed("read", self.name);
        let to = mapping(self.name, &self.to, WAYS)?;
        let from: HashMap<_, VipKey, Vip> = Map::HashMap(self.from).try_into().map_err(failed)?;
        let entries: BTreeMap<VipKey, Vip> = from.iter().collect::<Result<_, MapError>>().map_err(failed)?;
        fill_vips(&to, entries)
    }

    /// Copies the entries of a trie.
    pub(super) fn trie<Old: Pod, New: Pod>(self, new: impl Fn(Old) -> New) -> Result<(), OpenError> {
        let failed = |verb| failed(verb, self.name);
        let from: LpmTrie<_, [u8; DATA], Old> = Map::LpmTrie(self.from).try_into().map_err(failed("copy"))?;
        let mut to: LpmTrie<_, [u8; DATA], New> = Map::LpmTrie(self.to).try_into().map_err(failed("copy"))?;
        for entry in &from {
            let (key, value): (Key<[u8; DATA]>, Old) = entry.map_err(failed("read"))?;
            to.insert(&key, new(value), 0).map_err(failed("fill"))?;
        }
        Ok(())
    }

    /// Copies the values of an array that cannot be mapped.
    fn array<V: Pod>(self) -> Result<(), OpenError> {
        let failed = |verb| failed(verb, self.name);
        let from: Array<_, V> = Map::Array(self.from).try_into().map_err(failed("copy"))?;
        let mut to: Array<_, V> = Map::Array(self.to).try_into().map_err(failed("copy"))?;
        for (id, value) in (0..to.len()).zip(from.iter()) {
            to.set(id, value.map_err(failed("read"))?, 0).map_err(failed("fill"))?;
        }
        Ok(())
    }

    /// Copies the values of a mappable array, of `N` words each, as far as both reach.
    pub(super) fn words<const N: usize>(self, new: impl Fn([u64; N]) -> [u64; N]) -> Result<(), OpenError> {
        let (from, to) = self.mappings(N)?;
        for (old, place) in from.words().chunks_exact(N).zip(to.words().chunks_exact(N)) {
            let mut words = [0; N];
            words.iter_mut().zip(old).for_each(|(word, old)| *word = old.load(Ordering::Relaxed));
            // What is free has no page of its own yet, and need not get one.
            if words.iter().any(|word| *word != 0) {
                place.iter().zip(new(words)).for_each(|(place, word)| place.store(word, Ordering::Relaxed));
            }
        }
        Ok(())
    }

    /// Both tables in memory, whose values are of so many words.
    fn mappings(&self, words: usize) -> Result<(Mapping, Mapping), OpenError> {
        Ok((mapping(self.name, &self.from, words)?, mapping(self.name, &self.to, words)?))
    }
}

/// A table in memory, whose values are of so many words.
fn mapping(name: &'static str, data: &MapData, words: usize) -> Result<Mapping, OpenError> {
    let info = data.info().map_err(failed("look at", name))?;
    let mapped = Mapping::new(data.fd(), info.max_entries() as usize * words * 8, true);
    mapped.map_err(|source| system(format!("map the table {name}"), source))
}

/// Puts entries into a new table of VIPs.
fn fill_vips(to: &Mapping, entries: impl IntoIterator<Item = (VipKey, Vip)>) -> Result<(), OpenError> {
    let to = Cells::new(to.words());
    let mut writer = Writer::of(to);
    // No packet goes by a new table, so there is none to wait for.
    let mut set = |(key, vip): (VipKey, Vip)| writer.set(to, &key, &vip, || {});
    entries.into_iter().try_for_each(&mut set).map_err(|full| system("fill the table VIPS", io::Error::other(full)))
}

/// Copies a table of this layout.
pub(super) fn same(ends: Ends) -> Result<(), OpenError> {
    match ends.name {
        maps::VIPS => ends.vips(|vip| vip),
        maps::PREFIX_VIPS => ends.trie::<Vip, Vip>(|vip| vip),
        maps::SERVER_IDS => ends.hash::<ServerKey, u32, u32>(|target| target),
        maps::BONDS => ends.hash::<u32, u32, u32>(|bond| bond),
        maps::TUNNEL_ADDRESSES => ends.hash::<[u8; 16], u32, u32>(|taken| taken),
        maps::ACL | maps::SOURCE_ROUTES | maps::TUNNEL_SOURCES => ends.trie::<u32, u32>(|number| number),
        maps::GROUPS => ends.array::<Group>(),
        maps::RINGS | maps::TARGETS => ends.words::<8>(|words| words),
        name => {
            let source = io::Error::other("nobody knows what it holds");
            Err(system(format!("copy the table {name}"), source))
        }
    }
}

/// What remains to be brought over when no packet uses the old tables any more.
pub(super) struct CatchUp {
    flows: Option<(Mapping, Mapping)>,
    traffic: Option<(traffic::Table, traffic::Table)>,
    counters: Vec<(Ends, Sums)>,
    origin: &'static Origin,
}

impl CatchUp {
    /// For tables that were copied before, by a daemon that was ended before it could do this. What they counted since is
    /// not known.
    pub(super) fn resumed(pairs: &Pairs, origin: &'static Origin) -> Result<Self, OpenError> {
        Ok(Self { flows: flows(pairs)?, traffic: None, counters: Vec::new(), origin })
    }

    /// Waits until no packet uses the old tables, and brings it over. Returns what was counted in the old tables since they
    /// were copied. Packets go by the new ones already, so counts that cannot be read are lost, and nothing else is.
    pub(super) fn finish(self) -> Rest {
        if self.flows.is_some() || self.traffic.is_some() || !self.counters.is_empty() {
            tables::grace();
        }
        if let Some((from, to)) = &self.traffic {
            to.carry(from);
        }
        if let Some((from, to)) = &self.flows {
            let carry = Carry { from: from.words(), to: to.words(), reading: self.origin.entry };
            carry.catch_up(now());
        }
        let mut rest = Rest::default();
        for (Ends { name, from, .. }, copied) in self.counters {
            match counted::since(name, from, &copied) {
                Ok(counts) => rest.add(name, counts),
                Err(error) => warn!(%error, "what was counted while tables were replaced is lost"),
            }
        }
        rest
    }
}

/// Copies tables; counters and flows last, as packets write them.
pub(super) fn all(pairs: &Pairs, origin: &'static Origin) -> Result<CatchUp, OpenError> {
    let by_packets = |name: &str| [maps::FLOWS, maps::TRAFFIC].contains(&name) || counted::are_in(name);
    for (name, (from, to)) in pairs.iter().filter(|(name, _)| !by_packets(name)) {
        (origin.copy)(Ends::open(name, from, to)?)?;
    }
    let mut counters = Vec::new();
    for (name, (from, to)) in pairs.iter().filter(|(name, _)| counted::are_in(name)) {
        let Ends { from: old, to: new, .. } = Ends::open(name, from, to)?;
        let copied = counted::copy(name, old, new)?;
        counters.push((Ends::open(name, from, to)?, copied));
    }
    let traffic = traffic(pairs)?;
    if let Some((from, to)) = &traffic {
        to.carry(from);
    }
    let flows = flows(pairs)?;
    if let Some((from, to)) = &flows {
        Carry { from: from.words(), to: to.words(), reading: origin.entry }.copy(now);
    }
    Ok(CatchUp { flows, traffic, counters, origin })
}

/// Both flow tables, if there is another one.
fn flows(pairs: &Pairs) -> Result<Option<(Mapping, Mapping)>, OpenError> {
    let Some((from, to)) = pairs.get(maps::FLOWS) else { return Ok(None) };
    Ends::open(maps::FLOWS, from, to)?.mappings(8).map(Some)
}

/// Both tables of traffic, if there is another one.
fn traffic(pairs: &Pairs) -> Result<Option<(traffic::Table, traffic::Table)>, OpenError> {
    let Some((from, to)) = pairs.get(maps::TRAFFIC) else { return Ok(None) };
    let (from, to) = Ends::open(maps::TRAFFIC, from, to)?.mappings(traffic::WORDS)?;
    Ok(Some((traffic::Table::of(from)?, traffic::Table::of(to)?)))
}

/// The program's clock, in units.
fn now() -> u32 {
    Liveness::now(0).now
}

/// An error of a map call on a table.
pub(super) fn failed(verb: &'static str, name: &'static str) -> impl Fn(MapError) -> OpenError + Copy {
    move |error| map_error(&format!("{verb} the table {name}"), error)
}
