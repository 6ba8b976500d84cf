//! Lists of source prefixes, in tries that may hold a million entries.
//!
//! A trie is read by two system calls an entry, seconds for a million. So it is read once, and what it holds is known from
//! then on by what was written; after a write that failed it is read again.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use aya::maps::{LpmTrie, MapData, lpm_trie::Key};
use lb_common::{layout::prefix::SourceKey, maps};
use zerocopy::IntoBytes;

use super::{
    OpenError,
    tables::{Opener, table},
};
use crate::{
    dataplane::Error,
    plan::{
        ListId, ListTable,
        prefixes::{Changes, Prefix, Prefixes},
    },
};

/// Bytes of a [`SourceKey`] after its length.
const DATA: usize = size_of::<SourceKey>() - size_of::<u32>();

type Trie = LpmTrie<MapData, [u8; DATA], u32>;
type Known = BTreeMap<ListId, Arc<Prefixes>>;

/// The tables of lists.
pub(super) struct Lists {
    access: Trie,
    routes: Trie,
    tunnel_sources: Trie,
    /// What they hold; `None` before they were read, and after a write that failed.
    known: Option<Known>,
}

impl Lists {
    /// Opens the tables; reads nothing.
    pub(super) fn open(opener: &Opener) -> Result<Self, OpenError> {
        Ok(Self {
            access: opener.trie(maps::ACL)?,
            routes: opener.trie(maps::SOURCE_ROUTES)?,
            tunnel_sources: opener.trie(maps::TUNNEL_SOURCES)?,
            known: None,
        })
    }

    /// What the tables hold, read if that is not known.
    pub(super) fn contents(&mut self) -> Result<&mut Known, Error> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.read()?,
        };
        Ok(self.known.insert(known))
    }

    /// Makes a list hold these prefixes.
    pub(super) fn set(&mut self, list: ListId, to: &Arc<Prefixes>) -> Result<(), Error> {
        let changes = match self.contents()?.get(&list) {
            Some(held) => held.changes(to),
            None => Prefixes::default().changes(to),
        };
        if let Err(error) = self.write(list, &changes) {
            self.known = None;
            return Err(error);
        }
        match self.contents()?.entry(list) {
            Entry::Occupied(held) if to.is_empty() => drop(held.remove()),
            Entry::Vacant(_) if to.is_empty() => {}
            entry => drop(entry.insert_entry(Arc::clone(to))),
        }
        Ok(())
    }

    fn write(&mut self, list: ListId, Changes { write, remove }: &Changes) -> Result<(), Error> {
        let name = list.table.name();
        let trie = self.trie(list.table);
        for (prefix, number) in write {
            trie.insert(&place(list.vip, prefix), number, 0).map_err(|error| table(&format!("write {name}"), error))?;
        }
        for prefix in remove {
            trie.remove(&place(list.vip, prefix)).map_err(|error| table(&format!("remove from {name}"), error))?;
        }
        Ok(())
    }

    fn trie(&mut self, table: ListTable) -> &mut Trie {
        match table {
            ListTable::Access => &mut self.access,
            ListTable::Routes => &mut self.routes,
            ListTable::TunnelSources => &mut self.tunnel_sources,
        }
    }

    fn read(&self) -> Result<Known, Error> {
        let tries = [
            (ListTable::Access, &self.access),
            (ListTable::Routes, &self.routes),
            (ListTable::TunnelSources, &self.tunnel_sources),
        ];
        let mut found: BTreeMap<ListId, Vec<(Prefix, u32)>> = BTreeMap::new();
        for (kind, trie) in tries {
            for entry in trie {
                let (key, number) = entry.map_err(|error| table(&format!("read {}", kind.name()), error))?;
                let (vip, prefix) = listed(&key);
                found.entry(ListId { table: kind, vip }).or_default().push((prefix, number));
            }
        }
        Ok(found.into_iter().map(|(list, entries)| (list, Arc::new(Prefixes::new(entries)))).collect())
    }
}

/// A prefix's place in a trie.
fn place(vip: u32, prefix: &Prefix) -> Key<[u8; DATA]> {
    let place = SourceKey::new(vip, prefix.address, prefix.bits.into());
    let mut data = [0; DATA];
    data.copy_from_slice(&place.as_bytes()[size_of::<u32>()..]);
    Key::new(place.prefix_len, data)
}

/// What lies at a place, and for which VIP.
fn listed(key: &Key<[u8; DATA]>) -> (u32, Prefix) {
    let [a, b, c, d, address @ ..] = key.data();
    let bits = key.prefix_len().saturating_sub(SourceKey::FIXED_BITS);
    // At most 128: the kernel takes no longer prefix.
    let bits = u8::try_from(bits).unwrap_or(u8::MAX);
    (u32::from_ne_bytes([a, b, c, d]), Prefix { address, bits })
}
