//! From one flow table to another of another size, while packets go by the first and then by the second.
//!
//! [`Carry::copy`] fills the new table before any packet uses it; [`Carry::catch_up`] brings over what packets changed in
//! the old one between then and the moment when the last of them left it. See `docs/adr/0015-tables-that-grow.md`, which
//! argues why no flow goes elsewhere meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::layout::flow::{FlowEntry, FlowState, WAYS};

/// What an entry of the old table is in the new one.
pub(in super::super) type Reading = fn(u64) -> FlowEntry;

/// An old table, and the one that takes its place; their buckets are powers of two.
#[derive(Clone, Copy)]
pub(in super::super) struct Carry<'a> {
    /// Words of the old table.
    pub(in super::super) from: &'a [AtomicU64],
    /// Words of the new one.
    pub(in super::super) to: &'a [AtomicU64],
    /// How the old one's words are read.
    pub(in super::super) reading: Reading,
}

impl Carry<'_> {
    /// Fills the new table, which is empty and which no packet uses. `now` tells the program's clock, in units.
    ///
    /// An entry that was used in the present unit is written as one of the unit before: so whatever packets write to either
    /// table from here on is younger than its copy.
    pub(in super::super) fn copy(self, now: impl Fn() -> u32) {
        for (number, place) in self.to.chunks_exact(WAYS).enumerate() {
            let now = now();
            let mut entries = self.sources(number);
            entries.sort_by_key(|entry| (!is_in_use(*entry), entry.silence(now)));
            let mut ways = place.iter();
            let mut tags = Vec::with_capacity(WAYS);
            for entry in entries {
                // Copies of one entry in several buckets of a table that once grew meet again when it shrinks.
                if tags.contains(&entry.tag()) {
                    continue;
                }
                let Some(way) = ways.next() else { break };
                tags.push(entry.tag());
                way.store(past(entry, now).0, Ordering::Relaxed);
            }
        }
    }

    /// Brings over what is newer in the old table, to which packets write no more. What packets have written to the new one
    /// meanwhile stays.
    pub(in super::super) fn catch_up(self, now: u32) {
        for (number, place) in self.to.chunks_exact(WAYS).enumerate() {
            let sources = self.sources(number);
            for entry in &sources {
                bring(place, *entry, &sources, now);
            }
        }
    }

    /// Entries of the old table that belong to, or may belong to, this bucket of the new one.
    ///
    /// A flow's bucket is said by the lowest bits of its hash, and an entry knows its highest only. So in a larger table each
    /// entry goes to all buckets that its own becomes; the copies that no packet meets age.
    fn sources(self, number: usize) -> Vec<FlowEntry> {
        let (old, new) = ((self.from.len() / WAYS).max(1), (self.to.len() / WAYS).max(1));
        let buckets = (number % old..old).step_by(new.min(old));
        let words = buckets.flat_map(|bucket| self.from.iter().skip(bucket * WAYS).take(WAYS));
        let entries = words.map(|word| (self.reading)(word.load(Ordering::Relaxed)));
        entries.filter(|entry| !entry.is_empty()).collect()
    }
}

/// Brings one entry to its bucket in the new table, if what is there of its flow is older or nothing.
fn bring(place: &[AtomicU64], entry: FlowEntry, sources: &[FlowEntry], now: u32) {
    let known = |way: &&AtomicU64| load(way).tag() == entry.tag() && !load(way).is_empty();
    // The copy of an entry that gave way in the old table, which no packet has met in the new one.
    let left = |way: &&AtomicU64| {
        let held = load(way);
        !sources.iter().any(|source| source.tag() == held.tag()) && held.silence(now) > entry.silence(now)
    };
    let ways = || place.iter();
    let way = match ways().find(known) {
        Some(way) => Some(way).filter(|way| load(way).silence(now) > entry.silence(now)),
        None => ways().find(|way| load(way).is_empty()).or_else(|| ways().find(left)),
    };
    let Some(way) = way else { return };
    let before = load(way);
    // A packet that writes at the same time goes before: what it writes is newer, and of a flow's own target.
    if before.is_empty() || before.silence(now) > entry.silence(now) {
        let _ = way.compare_exchange(before.0, entry.0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn load(way: &AtomicU64) -> FlowEntry {
    FlowEntry(way.load(Ordering::Relaxed))
}

/// Whether more than one packet of the flow was seen and it was not closed: such a flow stays before others.
fn is_in_use(entry: FlowEntry) -> bool {
    entry.state() == FlowState::Established as u32 || entry.state() == FlowState::Datagram as u32
}

/// The entry as if it had not been used in this unit.
fn past(entry: FlowEntry, now: u32) -> FlowEntry {
    if entry.silence(now) == 0 {
        entry.touched(now.wrapping_sub(1), entry.state()).stray(entry.is_stray())
    } else {
        entry
    }
}

#[cfg(test)]
mod tests;
