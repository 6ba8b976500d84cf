//! How many CPUs tables have room for.

use std::{collections::BTreeMap, fs, io, sync::OnceLock};

use crate::plan::{Room, room};

/// Numbers that CPUs may have.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// One more than the highest number that a CPU of this machine may have (the kernel's `nr_cpu_ids`).
///
/// # Errors
/// When the system does not tell.
pub fn numbers() -> io::Result<u32> {
    static NUMBERS: OnceLock<u32> = OnceLock::new();
    if let Some(numbers) = NUMBERS.get() {
        return Ok(*numbers);
    }
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{POSSIBLE}: {error}"));
    let list = fs::read_to_string(POSSIBLE).map_err(named)?;
    let numbers = after_last(&list).ok_or_else(|| named(io::Error::new(io::ErrorKind::InvalidData, list)))?;
    Ok(*NUMBERS.get_or_init(|| numbers))
}

/// Bytes that new tables take on this machine; see [`room::growth`].
pub fn growth(from: &Room, to: &Room) -> BTreeMap<&'static str, u64> {
    room::growth(from, to, numbers().unwrap_or(1))
}

/// The number after the last one of a list such as `0-3,8-11`.
fn after_last(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse::<u32>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_counts_not_how_many_there_are() {
        let lists = ["0\n", "0-1\n", "0-3,8-11", "0,2", "", "0-", "4294967295"];
        assert_eq!(lists.map(after_last), [Some(1), Some(2), Some(12), Some(3), None, None, None]);
        assert!(numbers().unwrap() as usize >= std::thread::available_parallelism().unwrap().get());
    }
}
