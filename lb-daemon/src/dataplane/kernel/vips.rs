//! VIPs: those of single addresses in cells of our own making, those of prefixes in a trie.

use std::{collections::BTreeMap, io};

use aya::maps::{LpmTrie, MapData, lpm_trie::Key};
use lb_common::{
    layout::{
        vip::{PrefixKey, Vip, VipKey},
        vips::IndexCell,
    },
    maps,
};
use lb_xdp::host::vips::{Cells, Full, Writer};
use zerocopy::IntoBytes;

use super::{
    OpenError,
    mapping::Mapping,
    tables::{Opener, grace, table},
};
use crate::dataplane::Error;

/// Bytes of a [`PrefixKey`] after its length.
const DATA: usize = size_of::<PrefixKey>() - size_of::<u32>();

/// Both tables.
pub(super) struct Vips {
    exact: Mapping,
    writer: Writer,
    prefixes: LpmTrie<MapData, [u8; DATA], Vip>,
}

impl Vips {
    pub(super) fn open(opener: &Opener) -> Result<Self, OpenError> {
        let exact = opener.mapping::<IndexCell>(maps::VIPS)?;
        let writer = Writer::of(Cells::new(exact.words()));
        Ok(Self { exact, writer, prefixes: opener.trie(maps::PREFIX_VIPS)? })
    }

    pub(super) fn observe(&self) -> Result<BTreeMap<VipKey, Vip>, Error> {
        let mut vips = Cells::new(self.exact.words()).entries();
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
        self.writer.set(Cells::new(self.exact.words()), key, vip, grace).map_err(no_place)
    }

    pub(super) fn remove(&mut self, key: &VipKey) -> Result<(), Error> {
        if key.is_prefix() {
            return self.prefixes.remove(&place(key)).map_err(|error| table("remove from PREFIX_VIPS", error));
        }
        if self.writer.remove(Cells::new(self.exact.words()), key) {
            return Ok(());
        }
        Err(Error::Table { what: "remove from VIPS".to_owned(), source: io::ErrorKind::NotFound.into() })
    }

    /// No packet is on its way any more that read the tables before.
    pub(super) fn graced(&mut self) {
        self.writer.graced();
    }
}

fn no_place(full: Full) -> Error {
    Error::Table { what: "write VIPS".to_owned(), source: io::Error::other(full) }
}

/// A key's place in the trie.
fn place(key: &VipKey) -> Key<[u8; DATA]> {
    let place = PrefixKey::of(key);
    let mut data = [0; DATA];
    data.copy_from_slice(&place.as_bytes()[size_of::<u32>()..]);
    Key::new(place.prefix_len, data)
}
