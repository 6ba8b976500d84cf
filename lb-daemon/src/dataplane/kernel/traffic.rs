//! `TRAFFIC` in memory: packets and bytes of each target.

use std::{fs, io, sync::OnceLock};

use aya::maps::MapData;
use lb_common::{
    layout::traffic::{Rows, Traffic},
    maps,
};

use super::{copy::failed, error::OpenError, explain::system, mapping::Mapping};

/// Numbers that CPUs may have.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// The table.
pub(super) struct Table {
    words: Mapping,
    cpus: u32,
}

impl Table {
    /// Maps it, for writing too if `writable`.
    pub(super) fn of(data: &MapData, writable: bool) -> Result<Self, OpenError> {
        let info = data.info().map_err(failed("look at", maps::TRAFFIC))?;
        let bytes = info.max_entries() as usize * size_of::<Traffic>();
        let words = Mapping::new(data.fd(), bytes, writable)
            .map_err(|source| system(format!("map the table {}", maps::TRAFFIC), source))?;
        Ok(Self { words, cpus: cpus()? })
    }

    /// Its rows.
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows::new(self.words.words(), self.cpus)
    }
}

/// One more than the highest number that a CPU of this machine may have: so many rows there are.
pub(super) fn cpus() -> Result<u32, OpenError> {
    static CPUS: OnceLock<u32> = OnceLock::new();
    if let Some(cpus) = CPUS.get() {
        return Ok(*cpus);
    }
    let text = fs::read_to_string(POSSIBLE).map_err(|source| system(format!("read {POSSIBLE}"), source))?;
    let cpus = after_last(&text).ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidData, format!("no list of numbers: {}", text.trim()));
        system(format!("read {POSSIBLE}"), source)
    })?;
    Ok(*CPUS.get_or_init(|| cpus))
}

/// The number after the last one of a list such as `0-3,8-11`.
fn after_last(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse::<u32>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_reach_to_the_last_number() {
        let lists = ["0\n", "0-1\n", "0-3,8-11", "0,2", "", "0-", "4294967295"];
        assert_eq!(lists.map(after_last), [Some(1), Some(2), Some(12), Some(3), None, None, None]);
    }
}
