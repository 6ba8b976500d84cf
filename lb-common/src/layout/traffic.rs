//! `TRAFFIC`: packets and bytes of each target, which each CPU counts in a row of its own.
//!
//! Every forwarded packet writes here, so it takes as few cache lines as it can: neighbouring targets share one, and no two
//! CPUs do. A per-CPU array of the kernel's has its values apart, behind pointers that take lines of their own.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Value of `TRAFFIC`: what one CPU forwarded to a target. There is a row of [`row`] of them, by target, for each number that
/// a CPU may have, and one more for what was counted in tables before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Their bytes, IP header and payload before encapsulation.
    pub bytes: u64,
}

/// Words of a value.
const WORDS: usize = size_of::<Traffic>() / 8;

/// Values of a row for so many targets: whole cache lines.
pub const fn row(targets: u32) -> u32 {
    targets.next_multiple_of(64 / size_of::<Traffic>() as u32)
}

/// Values of the table for so many targets and numbers of CPUs.
pub const fn values(targets: u32, cpus: u32) -> u32 {
    row(targets).saturating_mul(cpus.saturating_add(1))
}

/// The table in memory.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    words: &'a [AtomicU64],
    rows: usize,
}

impl<'a> Rows<'a> {
    /// The words of a table for so many numbers of CPUs.
    pub const fn new(words: &'a [AtomicU64], cpus: u32) -> Self {
        Self { words, rows: cpus as usize + 1 }
    }

    /// How many targets it has room for.
    pub const fn targets(&self) -> u32 {
        (self.words.len() / WORDS / self.rows) as u32
    }

    /// What was counted at a target; nothing outside of the table.
    pub fn sum(&self, target: u32) -> Traffic {
        self.of(target).fold(Traffic::default(), |sum, [packets, bytes]| Traffic {
            packets: sum.packets.wrapping_add(packets.load(Relaxed)),
            bytes: sum.bytes.wrapping_add(bytes.load(Relaxed)),
        })
    }

    /// A target to which no packet is sent counts from zero again.
    pub fn clear(&self, target: u32) {
        self.of(target).flatten().for_each(|word| word.store(0, Relaxed));
    }

    /// So much was counted at a target in tables before this one. Packets may count meanwhile.
    pub fn carry(&self, target: u32, before: Traffic) {
        if let Some([packets, bytes]) = self.of(target).last() {
            packets.store(before.packets, Relaxed);
            bytes.store(before.bytes, Relaxed);
        }
    }

    /// A target's words in each row.
    fn of(&self, target: u32) -> impl Iterator<Item = &'a [AtomicU64; WORDS]> {
        let row = (self.targets() as usize * WORDS).max(1);
        let rows = self.words.chunks_exact(row).take(self.rows);
        rows.filter_map(move |row| row.get(target as usize * WORDS..)?.first_chunk())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_has_a_row_of_all_targets_and_the_daemon_one() {
        assert_eq!([0, 1, 4, 5].map(row), [0, 4, 4, 8]);
        assert_eq!(values(5, 2), 3 * 8);
        let words: [AtomicU64; 3 * 8 * WORDS] = core::array::from_fn(|word| AtomicU64::new(1 << word));
        let rows = Rows::new(&words, 2);
        assert_eq!(rows.targets(), 8);
        assert_eq!(rows.sum(0), Traffic { packets: 1 << 32 | 1 << 16 | 1, bytes: 1 << 33 | 1 << 17 | 2 });
        let (packets, bytes) = (1 << 26 | 1 << 10, 1 << 27 | 1 << 11);
        assert_eq!(rows.sum(5), Traffic { packets: 1 << 42 | packets, bytes: 1 << 43 | bytes });
        let before = rows.sum(4);
        rows.carry(5, Traffic { packets: 1, bytes: 2 });
        rows.carry(5, Traffic { packets: 3, bytes: 4 });
        assert_eq!(rows.sum(5), Traffic { packets: packets + 3, bytes: bytes + 4 }, "what came last, once");
        rows.clear(5);
        assert_eq!((rows.sum(5), rows.sum(4)), (Traffic::default(), before));
    }

    #[test]
    fn nothing_is_outside() {
        let words: [AtomicU64; 8 * WORDS] = core::array::from_fn(|_| AtomicU64::new(1));
        for (cpus, target) in [(1, 4), (0, 8), (8, 0), (u32::MAX, 0)] {
            let rows = Rows::new(&words, cpus);
            rows.carry(target, Traffic { packets: 9, bytes: 9 });
            rows.clear(target);
            assert_eq!(rows.sum(target), Traffic::default(), "{cpus} CPUs, target {target}");
        }
        assert!(words.iter().all(|word| word.load(Relaxed) == 1));
    }
}
