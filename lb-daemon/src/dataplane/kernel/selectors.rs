//! Groups, server IDs, tunnel addresses and bonds.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
};

use aya::{
    Pod,
    maps::{Array, HashMap, MapData},
};
use lb_common::{
    layout::{prefix::Group, server::ServerKey},
    maps,
};

use super::{
    OpenError,
    tables::{Opener, outside, table},
};
use crate::dataplane::Error;

/// Small tables that are read and written by system calls.
pub(super) struct Selectors {
    groups: Array<MapData, Group>,
    pub(super) servers: Small<ServerKey>,
    pub(super) tunnels: Small<[u8; 16]>,
    pub(super) bonds: Small<u32>,
}

impl Selectors {
    pub(super) fn open(opener: &Opener) -> Result<Self, OpenError> {
        Ok(Self {
            groups: opener.array(maps::GROUPS)?,
            servers: Small::open(opener, maps::SERVER_IDS)?,
            tunnels: Small::open(opener, maps::TUNNEL_ADDRESSES)?,
            bonds: Small::open(opener, maps::BONDS)?,
        })
    }

    /// Groups that are not free.
    pub(super) fn groups(&self) -> Result<BTreeMap<u32, Group>, Error> {
        let mut groups = BTreeMap::new();
        for (id, group) in (0..).zip(self.groups.iter()) {
            let group = group.map_err(|error| table("read GROUPS", error))?;
            if group.vip != 0 {
                groups.insert(id, group);
            }
        }
        Ok(groups)
    }

    pub(super) fn set_group(&mut self, id: u32, group: &Group) -> Result<(), Error> {
        if id >= self.groups.len() {
            return Err(outside("write group", id));
        }
        self.groups.set(id, group, 0).map_err(|error| table(&format!("write group {id}"), error))
    }

    /// Addresses that take tunnel packets.
    pub(super) fn tunnels(&self) -> Result<BTreeSet<[u8; 16]>, Error> {
        Ok(self.tunnels.all()?.into_keys().collect())
    }
}

/// A hash table with numbers as values.
pub(super) struct Small<K> {
    name: &'static str,
    map: HashMap<MapData, K, u32>,
}

impl<K: Pod + Ord + Hash> Small<K> {
    fn open(opener: &Opener, name: &'static str) -> Result<Self, OpenError> {
        Ok(Self { name, map: opener.hash(name)? })
    }

    /// All entries.
    pub(super) fn all(&self) -> Result<BTreeMap<K, u32>, Error> {
        let entries: Result<BTreeMap<K, u32>, _> = self.map.iter().collect();
        entries.map_err(|error| table(&format!("read {}", self.name), error))
    }

    pub(super) fn set(&mut self, key: &K, value: u32) -> Result<(), Error> {
        self.map.insert(key, value, 0).map_err(|error| table(&format!("write {}", self.name), error))
    }

    pub(super) fn remove(&mut self, key: &K) -> Result<(), Error> {
        self.map.remove(key).map_err(|error| table(&format!("remove from {}", self.name), error))
    }
}
