//! VIPs: those of single addresses in a hash table, those of prefixes in a trie.

use std::collections::BTreeMap;

use aya::maps::{HashMap, LpmTrie, MapData, lpm_trie::Key};
use lb_common::{
    layout::vip::{PrefixKey, Vip, VipKey},
    maps,
};
use zerocopy::IntoBytes;

use super::{
    OpenError,
    tables::{Opener, table},
};
use crate::dataplane::Error;

/// Bytes of a [`PrefixKey`] after its length.
const DATA: usize = size_of::<PrefixKey>() - size_of::<u32>();

/// Both tables.
pub(super) struct Vips {
    exact: HashMap<MapData, VipKey, Vip>,
    prefixes: LpmTrie<MapData, [u8; DATA], Vip>,
}

impl Vips {
    pub(super) fn open(opener: &Opener) -> Result<Self, OpenError> {
        Ok(Self { exact: opener.hash(maps::VIPS)?, prefixes: opener.trie(maps::PREFIX_VIPS)? })
    }

    pub(super) fn observe(&self) -> Result<BTreeMap<VipKey, Vip>, Error> {
        let mut vips = BTreeMap::new();
        for entry in &self.exact {
            let (key, vip) = entry.map_err(|error| table("read VIPS", error))?;
            vips.insert(key, vip);
        }
        for entry in &self.prefixes {
            let (key, vip) = entry.map_err(|error| table("read PREFIX_VIPS", error))?;
            let [a, b, protocol, pad, address @ ..] = key.data();
            let key = PrefixKey { prefix_len: key.prefix_len(), port: [a, b], protocol, pad, address };
            vips.insert(key.key(), vip);
        }
        Ok(vips)
    }

    pub(super) fn set(&mut self, key: &VipKey, vip: &Vip) -> Result<(), Error> {
        if key.is_prefix() {
            return self.prefixes.insert(&place(key), vip, 0).map_err(|error| table("write PREFIX_VIPS", error));
        }
        self.exact.insert(*key, *vip, 0).map_err(|error| table("write VIPS", error))
    }

    pub(super) fn remove(&mut self, key: &VipKey) -> Result<(), Error> {
        if key.is_prefix() {
            return self.prefixes.remove(&place(key)).map_err(|error| table("remove from PREFIX_VIPS", error));
        }
        self.exact.remove(key).map_err(|error| table("remove from VIPS", error))
    }
}

/// A key's place in the trie.
fn place(key: &VipKey) -> Key<[u8; DATA]> {
    let place = PrefixKey::of(key);
    let mut data = [0; DATA];
    data.copy_from_slice(&place.as_bytes()[size_of::<u32>()..]);
    Key::new(place.prefix_len, data)
}
