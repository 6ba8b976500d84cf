//! The sign of life that the program goes by, where pings to VIPs are answered only while the daemon lives.

use std::sync::atomic::Ordering;

use aya::maps::MapData;
use lb_common::{layout::flow::Word, maps};
use rustix::time::{ClockId, clock_gettime};

use super::{mapping::Mapping, pins::Pins, tables::table};
use crate::dataplane::Error;

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

/// The clock that the program reads, in nanoseconds.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
