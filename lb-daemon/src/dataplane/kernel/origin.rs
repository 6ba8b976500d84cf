//! Layouts whose tables this daemon can take over: its own, and older ones that it knows how to read.

use lb_common::layout::flow::FlowEntry;

use super::{
    copy::{self, Ends},
    error::OpenError,
    flows::carry::Reading,
};

/// Where contents come from.
pub(super) struct Origin {
    /// Copies a table that packets don't write.
    pub(super) copy: fn(Ends) -> Result<(), OpenError>,
    /// What a word of `FLOWS` is here.
    pub(super) entry: Reading,
}

/// This layout.
pub(super) const OWN: Origin = Origin { copy: copy::same, entry: FlowEntry };
