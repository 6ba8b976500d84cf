//! What is remembered of a flow or a datagram, and what the packet would make of that.

use lb_common::layout::flow::FlowEntry;
use lb_xdp::{flow::tag, parse::Kind, path::Tables};

use super::{
    reading::Reading,
    recorder::{Held, Recorder, entries},
    tuple::Tuple,
};
use crate::dataplane::lookups::{Entries, Lookups};

/// A bucket as a packet found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Number of the bucket.
    pub bucket: u32,
    /// The entry that was there.
    pub before: Option<FlowEntry>,
    /// The entry that would be there afterwards.
    pub after: Option<FlowEntry>,
    /// The entry of another flow that would give way.
    pub displaced: Option<FlowEntry>,
    /// Entries that were in use.
    pub used: usize,
    /// The clock, in the table's units.
    pub now: u32,
}

fn entry(entries: &Entries, tag: u32) -> Option<(usize, FlowEntry)> {
    let entries = entries.iter().map(|entry| FlowEntry(*entry)).enumerate();
    entries.into_iter().find(|(_, entry)| !entry.is_empty() && entry.tag() == tag)
}

/// The flow table's entry of a tuple, and the clock by which its age is told.
pub fn find<L: Lookups>(tuple: &Tuple, tables: &L) -> (Option<FlowEntry>, u32) {
    let hash = tuple.hash(tables.tuning().hash_seed);
    let found = tables.flows(index(hash, tables.tuning().bucket_mask)).and_then(|entries| entry(&entries, tag(hash)));
    // The clock after the entry, as the way does.
    (found.map(|(_, entry)| entry), Recorder::new(tables).now())
}

#[expect(clippy::cast_possible_truncation, reason = "the lower bits tell the bucket")]
const fn index(hash: u64, mask: u32) -> u32 {
    hash as u32 & mask
}

/// What the packet found of its flow, if that was looked for.
pub(super) fn flow<L: Lookups>(reading: &Reading, tables: &Recorder<L>) -> Option<Remembered> {
    let (index, held) = tables.flows.iter().next()?;
    let hash = reading.flow()?.hash(tables.hash_seed());
    Some(compare(*index, held.as_ref()?, Some(tag(hash)), tables.now()))
}

/// What it found of its datagram.
pub(super) fn fragment<L: Lookups>(reading: &Reading, tables: &Recorder<L>) -> Option<Remembered> {
    let (index, held) = tables.fragments.iter().next()?;
    let packet = reading.packet()?;
    let tag = (packet.kind == Kind::LaterFragment).then(|| tag(packet.hash));
    Some(compare(*index, held.as_ref()?, tag, tables.now()))
}

/// Compares a bucket's entries. Without a tag, the one that was written is meant.
fn compare(
    bucket: u32,
    held: &Held<Entries, lb_common::layout::flow::Bucket>,
    tag: Option<u32>,
    now: u32,
) -> Remembered {
    let after = entries(&held.now);
    let written = held.before.iter().zip(&after).position(|(before, after)| before != after);
    let tag = tag.or_else(|| written.and_then(|way| after.get(way)).map(|entry| FlowEntry(*entry).tag()));
    let found = tag.and_then(|tag| entry(&held.before, tag));
    let kept = tag.and_then(|tag| entry(&after, tag));
    let displaced = match (found, kept) {
        (None, Some((way, _))) => held.before.get(way).map(|entry| FlowEntry(*entry)).filter(|entry| !entry.is_empty()),
        _ => None,
    };
    Remembered {
        bucket,
        before: found.map(|(_, entry)| entry),
        after: kept.map(|(_, entry)| entry),
        displaced,
        used: held.before.iter().filter(|entry| **entry != 0).count(),
        now,
    }
}
