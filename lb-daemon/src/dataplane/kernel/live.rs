//! The tables in use, opened so that nothing can be written; see `elements`.
//!
//! It works beside a daemon and without one. Each opening meets the tables as they are pinned then.

use std::{path::Path, sync::atomic::Ordering};

use aya::{maps::MapData, programs::ProgramInfo};
use aya_obj::Object;
use lb_common::{
    layout::{
        flow::{Bucket, Word},
        limit::SourceLine,
        prefix::{Group, SourceKey},
        ring::RingBlock,
        server::ServerKey,
        target::Target,
        vip::{PrefixKey, Vip, VipKey},
        vips::IndexCell,
    },
    maps::{self, Tuning},
};
use lb_xdp::host::vips::Cells;
use zerocopy::FromBytes;

use super::{
    elements::{self, Elements},
    error::OpenError,
    explain::system,
    load::{OBJECT, lacks, program_error},
    mapping::Mapping,
    pins::Pins,
    specs::{self, map_error},
};
use crate::{
    dataplane::{
        Error,
        flows::now_ns,
        lookups::{Entries, LINE_WORDS, Lookups},
    },
    plan::ListTable,
};

/// Bits of an address in a table.
const ADDRESS_BITS: u32 = 128;

/// All tables that a packet may meet, to be read.
pub struct Live {
    tuning: Tuning,
    vips: Mapping,
    prefix_vips: Elements<PrefixKey, Vip>,
    access: Elements<SourceKey, u32>,
    routes: Elements<SourceKey, u32>,
    tunnel_sources: Elements<SourceKey, u32>,
    groups: Elements<u32, Group>,
    servers: Elements<ServerKey, u32>,
    bonds: Elements<u32, u32>,
    tunnels: Elements<[u8; 16], u32>,
    flows: Mapping,
    fragments: Mapping,
    rings: Mapping,
    targets: Mapping,
    vip_limits: Mapping,
    sources: Mapping,
    too_big_limits: Mapping,
    heartbeat: Option<Mapping>,
}

impl Live {
    /// Opens what is pinned there. `tuning` are the parameters of the program in force, where they are known; its masks
    /// follow from the tables. Else the program itself is asked, which takes `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// [`OpenError::NothingPinned`], or when what is there does not fit or cannot be read.
    pub fn open(pin_path: &Path, tuning: Option<&Tuning>) -> Result<Self, OpenError> {
        let pins = Pins::new(pin_path);
        if pin_path.exists() {
            pins.check_version()?;
        }
        // Says what is missing or of another form.
        specs::pinned(&pins)?;
        let flows = elements::array::<Bucket>(&pins.table(maps::FLOWS), maps::FLOWS)?;
        let vips = elements::array::<IndexCell>(&pins.table(maps::VIPS), maps::VIPS)?;
        let sources = elements::array::<SourceLine>(&pins.table(maps::SOURCES), maps::SOURCES)?;
        // An lb before this one may have made the tables, without it.
        let beats = pins.table(maps::HEARTBEAT);
        let heartbeat = beats.exists().then(|| elements::array::<Word>(&beats, maps::HEARTBEAT)).transpose()?;
        let tuning = match tuning {
            Some(tuning) => Tuning {
                bucket_mask: mask(&flows, size_of::<Bucket>()),
                source_line_mask: mask(&sources, size_of::<SourceLine>()),
                vip_mask: mask(&vips, 2 * size_of::<IndexCell>()),
                ..*tuning
            },
            None => loaded_with(&pins)?,
        };
        Ok(Self {
            tuning,
            vips,
            prefix_vips: keyed(&pins, maps::PREFIX_VIPS)?,
            access: keyed(&pins, maps::ACL)?,
            routes: keyed(&pins, maps::SOURCE_ROUTES)?,
            tunnel_sources: keyed(&pins, maps::TUNNEL_SOURCES)?,
            groups: keyed(&pins, maps::GROUPS)?,
            servers: keyed(&pins, maps::SERVER_IDS)?,
            bonds: keyed(&pins, maps::BONDS)?,
            tunnels: keyed(&pins, maps::TUNNEL_ADDRESSES)?,
            flows,
            fragments: elements::array::<Bucket>(&pins.table(maps::FRAGMENTS), maps::FRAGMENTS)?,
            rings: elements::array::<RingBlock>(&pins.table(maps::RINGS), maps::RINGS)?,
            targets: elements::array::<Target>(&pins.table(maps::TARGETS), maps::TARGETS)?,
            vip_limits: elements::array::<Word>(&pins.table(maps::VIP_LIMITS), maps::VIP_LIMITS)?,
            sources,
            too_big_limits: elements::array::<Word>(&pins.table(maps::TOO_BIG_LIMITS), maps::TOO_BIG_LIMITS)?,
            heartbeat,
        })
    }

    fn list(&self, list: ListTable) -> &Elements<SourceKey, u32> {
        match list {
            ListTable::Access => &self.access,
            ListTable::Routes => &self.routes,
            ListTable::TunnelSources => &self.tunnel_sources,
        }
    }
}

fn keyed<K, V>(pins: &Pins, name: &'static str) -> Result<Elements<K, V>, OpenError>
where
    K: zerocopy::IntoBytes + FromBytes + zerocopy::Immutable,
    V: zerocopy::IntoBytes + FromBytes,
{
    Elements::open(&pins.table(name), name)
}

/// Places of a table less one.
fn mask(table: &Mapping, bytes: usize) -> u32 {
    specs::count(table.words().len() * size_of::<u64>() / bytes).wrapping_sub(1)
}

/// The parameters that the pinned program was loaded with, from its own read-only data.
fn loaded_with(pins: &Pins) -> Result<Tuning, OpenError> {
    const WHAT: &str = "read the parameters of the program in force";
    let failed = |error| program_error(WHAT.to_owned(), error);
    let program = ProgramInfo::from_pin(pins.program()).map_err(failed)?;
    let (offset, length) = place_of_tuning().ok_or_else(|| lacks(maps::TUNING))?;
    for id in program.map_ids().map_err(failed)?.unwrap_or_default() {
        let data = MapData::from_id(id).map_err(|error| map_error(WHAT, error))?;
        let info = data.info().map_err(|error| map_error(WHAT, error))?;
        if !info.name_as_str().is_some_and(|name| name.ends_with(RODATA)) {
            continue;
        }
        let bytes = elements::only_value(&data, length).map_err(|source| system(WHAT, source))?;
        let tuning = bytes.get(offset..).and_then(|bytes| Raw::read_from_prefix(bytes).ok());
        return tuning.map(|(raw, _)| raw.into()).ok_or_else(|| lacks(maps::TUNING));
    }
    Err(lacks(RODATA))
}

/// The program's read-only data.
const RODATA: &str = ".rodata";

/// Where `TUNING` lies in the object's read-only data, and how long that is.
fn place_of_tuning() -> Option<(usize, usize)> {
    // The object's symbols are private to its reader: a pattern that is put in their place shows where they point.
    const PATTERN: u8 = 0xa5;
    let pattern = [PATTERN; size_of::<Tuning>()];
    let mut object = Object::parse(OBJECT).ok()?;
    object.patch_map_data([(maps::TUNING, (&pattern[..], true))].into_iter().collect()).ok()?;
    let data = object.maps.get(RODATA)?.data();
    let offset = data.windows(pattern.len()).position(|window| window == pattern)?;
    Some((offset, data.len()))
}

/// [`Tuning`] as it lies in memory.
#[derive(FromBytes)]
#[repr(C)]
struct Raw {
    numbers: [u64; 4],
    small: [u32; 7],
    source_v4: [[u8; 4]; 2],
    limited_v4_mask: [u8; 4],
    source_v6: [u8; 16],
    limited_v6_mask: [u8; 16],
    gue_port: [u8; 2],
    pad: [u8; 6],
}
const _: () = assert!(size_of::<Raw>() == size_of::<Tuning>());

impl From<Raw> for Tuning {
    fn from(raw: Raw) -> Self {
        let [hash_seed, source_packet_ns, source_flow_ns, first_tick_ns] = raw.numbers;
        let [features, bucket_mask, source_line_mask, udp_idle, vip_mask, tick_ns, traffic_row] = raw.small;
        let [source_v4, source_v4_mask] = raw.source_v4;
        let Raw { limited_v4_mask, source_v6, limited_v6_mask, gue_port, pad, .. } = raw;
        Self {
            hash_seed,
            source_packet_ns,
            source_flow_ns,
            first_tick_ns,
            features,
            bucket_mask,
            source_line_mask,
            udp_idle,
            vip_mask,
            tick_ns,
            traffic_row,
            source_v4,
            source_v4_mask,
            limited_v4_mask,
            source_v6,
            limited_v6_mask,
            gue_port,
            pad,
        }
    }
}

/// A copy of the words of an array's element.
fn element<const WORDS: usize>(table: &Mapping, index: u32) -> Option<[u64; WORDS]> {
    let first = (index as usize).checked_mul(WORDS)?;
    let words = table.words().get(first..first.checked_add(WORDS)?)?;
    let mut copy = [0; WORDS];
    copy.iter_mut().zip(words).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
    Some(copy)
}

impl Lookups for Live {
    fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    fn now_ns(&self) -> u64 {
        now_ns()
    }

    fn vip(&self, key: &VipKey) -> Result<Option<Vip>, Error> {
        Ok(Cells::new(self.vips.words()).get(key))
    }

    fn prefix_vip(&self, key: &PrefixKey) -> Result<Option<Vip>, Error> {
        self.prefix_vips.get(key)
    }

    fn flows(&self, index: u32) -> Option<Entries> {
        element(&self.flows, index)
    }

    fn fragments(&self, index: u32) -> Option<Entries> {
        element(&self.fragments, index)
    }

    fn ring(&self, block: u32) -> Option<RingBlock> {
        element::<{ size_of::<RingBlock>() / 8 }>(&self.rings, block).map(|words| zerocopy::transmute!(words))
    }

    fn target(&self, id: u32) -> Option<Target> {
        element::<{ size_of::<Target>() / 8 }>(&self.targets, id).map(|words| zerocopy::transmute!(words))
    }

    fn listed(&self, list: ListTable, key: &SourceKey) -> Result<Option<u32>, Error> {
        self.list(list).get(key)
    }

    fn listed_bits(&self, list: ListTable, key: &SourceKey) -> Result<Option<u8>, Error> {
        let trie = self.list(list);
        // A look-up tells what the prefix says, and not which it is. The key that comes after one that is not there is the
        // first of all; kernels before 6.13 may take another prefix of the same length for it.
        let Some(first) = trie.next(&SourceKey { prefix_len: u32::MAX, ..*key })? else { return Ok(None) };
        let address = u128::from_be_bytes(key.address);
        for bits in (0..=ADDRESS_BITS).rev() {
            let free = u128::MAX.checked_shr(bits).unwrap_or(0);
            let prefix = SourceKey::new(key.vip, (address & !free).to_be_bytes(), bits);
            if trie.get(&prefix)?.is_none() {
                // Shorter prefixes don't match either.
                return Ok(None);
            }
            if trie.next(&prefix)? != Some(first) {
                return Ok(u8::try_from(bits).ok());
            }
        }
        Ok(None)
    }

    fn group(&self, id: u32) -> Result<Option<Group>, Error> {
        self.groups.get(&id)
    }

    fn server(&self, key: &ServerKey) -> Result<Option<u32>, Error> {
        self.servers.get(key)
    }

    fn vip_limit(&self, vip: u32) -> Option<u64> {
        element(&self.vip_limits, vip).map(|[word]| word)
    }

    fn source_line(&self, index: u32) -> Option<[u64; LINE_WORDS]> {
        element(&self.sources, index)
    }

    fn too_big_limit(&self, index: u32) -> Option<u64> {
        element(&self.too_big_limits, index).map(|[word]| word)
    }

    fn heartbeat(&self) -> Option<u64> {
        element(self.heartbeat.as_ref()?, 0).map(|[word]| word)
    }

    fn bond(&self, ifindex: u32) -> Result<Option<u32>, Error> {
        self.bonds.get(&ifindex)
    }

    fn is_tunnel(&self, address: &[u8; 16]) -> Result<bool, Error> {
        Ok(self.tunnels.get(address)?.is_some())
    }
}
