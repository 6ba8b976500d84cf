//! The sign of life that the program goes by, where pings to VIPs are answered only while the daemon lives.

use std::sync::atomic::Ordering;

use aya::maps::MapData;
use lb_common::{layout::flow::Word, maps};

use super::{mapping::Mapping, pins::Pins, tables::table};
use crate::dataplane::{Error, flows::now_ns};

/// Shows a sign of life. The table is opened for that, as it may be made anew with a program.
pub(super) fn beat(pins: &Pins) -> Result<(), Error> {
    let what = || "write the table HEARTBEAT".to_owned();
    let data = MapData::from_pin(pins.table(maps::HEARTBEAT)).map_err(|error| table(&what(), error))?;
    let mapping =
        Mapping::new(data.fd(), size_of::<Word>(), true).map_err(|source| Error::Table { what: what(), source })?;
    if let [word, ..] = mapping.words() {
        word.store(now_ns(), Ordering::Relaxed);
    }
    Ok(())
}
