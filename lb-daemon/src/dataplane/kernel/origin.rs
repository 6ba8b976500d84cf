//! Layouts whose tables this daemon can take over: its own, and older ones that it knows how to read.

use lb_common::layout::flow::FlowEntry;

use super::{
    copy::{self, Ends},
    error::OpenError,
    flows::carry::Reading,
};

#[cfg(feature = "next-layout")]
mod v2;

/// Where contents come from.
pub(super) struct Origin {
    /// Tables whose values have another form or meaning there. All others are the same.
    pub(super) changed: &'static [&'static str],
    /// Copies a table that packets don't write.
    pub(super) copy: fn(Ends) -> Result<(), OpenError>,
    /// What a word of `FLOWS` is here.
    pub(super) entry: Reading,
}

/// This layout.
pub(super) const OWN: Origin = Origin { changed: &[], copy: copy::same, entry: FlowEntry };

/// Older layouts that can be read, by their version.
const OLDER: &[(u32, &Origin)] = &[
    #[cfg(feature = "next-layout")]
    (2, &v2::ORIGIN),
];

/// The layout of an older version, if it can be read.
pub(super) fn older(version: u32) -> Option<&'static Origin> {
    OLDER.iter().find_map(|(known, origin)| (*known == version).then_some(*origin))
}
