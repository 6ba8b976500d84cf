//! Whether there is memory for more tables. The kernel takes what it is asked for at once, even where others then starve.

use std::fs;

use super::error::OpenError;
use crate::{dataplane::cpus, plan::Room};

/// Refuses new tables, in place of those of `from`, that take more memory than is available.
pub(super) fn require(from: &Room, to: &Room) -> Result<(), OpenError> {
    let needs = cpus::growth(from, to).values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    let known = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    match known {
        Some(available) if needs > available => Err(OpenError::NoMemory { needs, available }),
        // Where the system does not tell, the kernel's answer will do.
        _ => Ok(()),
    }
}

/// Bytes that the system says could be had without swapping, from the text of `/proc/meminfo`.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Capacity;

    #[test]
    fn reads_what_is_available() {
        let text = "MemTotal:       24689712 kB\nMemFree:         2048 kB\nMemAvailable:    3145728 kB\n";
        assert_eq!(available(text), Some(3 << 30));
        assert_eq!(available("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn more_than_any_machine_has_is_refused_with_the_figures() {
        let from = Room { capacity: Capacity::default(), flow_entries: 4096 };
        let to = Room { capacity: Capacity { ring_blocks: u32::MAX, ..from.capacity }, ..from };
        let error = require(&from, &to).unwrap_err().to_string();
        assert!(error.contains("262144 MiB"), "{error}");
        assert!(require(&from, &Room { flow_entries: 8192, ..from }).is_ok());
    }
}
