//! `[dataplane.source_limit]`, and what else is a rate.

use std::ops::RangeInclusive;

use super::{number, power_of_two};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        raw::Section,
    },
    model::SourceLimit,
};

/// A limit is kept as the nanoseconds between two of what it limits.
pub(super) const RATE: RangeInclusive<u64> = 1..=1_000_000_000;
/// The table takes 32 bytes an entry; the largest is 512 MiB.
const ENTRIES: RangeInclusive<u64> = 2..=1 << 24;
const DEFAULT_ENTRIES: u32 = 1 << 16;
const PREFIX_V4: RangeInclusive<u64> = 8..=32;
const DEFAULT_PREFIX_V4: u8 = 32;
const PREFIX_V6: RangeInclusive<u64> = 16..=128;
const DEFAULT_PREFIX_V6: u8 = 64;
const RATES: [&str; 2] = ["packets_per_second", "new_flows_per_second"];

/// The limit, if the section is there.
pub(super) fn source_limit(section: &Section<'_>) -> Option<SourceLimit> {
    if section.is_present() && RATES.iter().all(|key| section.entry(key).is_none()) {
        let complaint = Complaint::new(Code::MissingKey, section.span(), "the limit of sources has no rate");
        let hint = "add `packets_per_second = 100_000` or `new_flows_per_second = 1_000`, or remove the section";
        section.complain(complaint.label("limits nothing").hint(hint));
    }
    let [packets_per_second, new_flows_per_second] = RATES.map(|key| number(section, key, &RATE));
    let entries = section.integer("entries", &(0..=u64::MAX));
    let limit = SourceLimit {
        packets_per_second,
        new_flows_per_second,
        prefix_v4: number(section, "prefix_v4", &PREFIX_V4).unwrap_or(DEFAULT_PREFIX_V4),
        prefix_v6: number(section, "prefix_v6", &PREFIX_V6).unwrap_or(DEFAULT_PREFIX_V6),
        entries: entries
            .and_then(|entries| power_of_two(section, "entries", &entries, &ENTRIES))
            .unwrap_or(DEFAULT_ENTRIES),
    };
    section.is_present().then_some(limit)
}
