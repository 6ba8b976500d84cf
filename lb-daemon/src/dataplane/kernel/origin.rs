//! Layouts whose tables this daemon can take over: its own, and older ones that it knows how to read.

use lb_common::layout::flow::FlowEntry;

use super::{
    copy::{self, Ends},
    error::OpenError,
    flows::carry::Reading,
};

mod v2;
#[cfg(feature = "next-layout")]
mod v3;

/// Where contents come from.
pub(super) struct Origin {
    /// Tables whose values have another form or meaning there. All others are the same.
    pub(super) changed: &'static [&'static str],
    /// Entries of a changed table here for one of so many there.
    pub(super) size: fn(&'static str, u32) -> u32,
    /// Copies a table that packets don't write.
    pub(super) copy: fn(Ends) -> Result<(), OpenError>,
    /// What a word of `FLOWS` is here.
    pub(super) entry: Reading,
}

/// This layout.
pub(super) const OWN: Origin = Origin { changed: &[], size: same_size, copy: copy::same, entry: FlowEntry };

/// Older layouts that can be read, by their version.
const OLDER: &[(u32, &Origin)] = &[
    (2, &v2::ORIGIN),
    #[cfg(feature = "next-layout")]
    (3, &v3::ORIGIN),
];

/// The size of a table whose entries are as many as before.
fn same_size(_: &'static str, entries: u32) -> u32 {
    entries
}

/// The layout of an older version, if it can be read.
pub(super) fn older(version: u32) -> Option<&'static Origin> {
    OLDER.iter().find_map(|(known, origin)| (*known == version).then_some(*origin))
}
