//! Version 2: `VIPS` was a hash table of the kernel's, with the same keys and values.

use lb_common::{layout::vips, maps};

use super::{Ends, OWN, OpenError, Origin, copy};

pub(super) const ORIGIN: Origin = Origin { changed: &[maps::VIPS], size, copy: copy_changed, entry: OWN.entry };

fn size(name: &'static str, entries: u32) -> u32 {
    if name == maps::VIPS { vips::cells(entries) } else { entries }
}

fn copy_changed(ends: Ends) -> Result<(), OpenError> {
    if ends.name == maps::VIPS { ends.vips_of_hash() } else { copy::same(ends) }
}
