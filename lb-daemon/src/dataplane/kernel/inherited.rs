//! What tables that an earlier daemon left ask of the program, until their contents change: they may have been written for
//! another configuration.

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use lb_common::maps::{self, feature};

use super::{error::OpenError, pins::Pins, specs::map_error, tables::Tables};
use crate::dataplane::needs;

/// Bits of [`feature`] that the pinned tables need.
pub(super) fn features(pins: &Pins, tables: &Tables) -> Result<u32, OpenError> {
    let state = tables.observe().map_err(|source| OpenError::Read { source })?;
    let mut features = needs::features(&state);
    for (name, used, feature) in [
        (maps::BONDS, in_use::<u32>(pins, maps::BONDS), feature::BONDS),
        (maps::TUNNEL_ADDRESSES, in_use::<[u8; 16]>(pins, maps::TUNNEL_ADDRESSES), feature::TUNNELS),
    ] {
        if used.map_err(|error| map_error(&format!("read the table {name}"), error))? {
            features |= feature;
        }
    }
    Ok(features)
}

/// Whether a table has an entry.
fn in_use<K: Pod>(pins: &Pins, name: &str) -> Result<bool, MapError> {
    let table: HashMap<_, K, u32> = Map::HashMap(MapData::from_pin(pins.table(name))?).try_into()?;
    table.keys().next().transpose().map(|key| key.is_some())
}
