//! `RINGS`: which slot takes a new flow?
//!
//! A VIP's ring is a run of blocks. Slots are packed because the kernel rounds an array's values up to 8 bytes: one slot a
//! value would take 524 KiB a ring of 65,537, packed it takes 131 KiB and fits a second-level cache.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// In the history of a ring: the slot's target did not change, and its flows are not looked for in the flow table.
///
/// The history of an adaptive VIP's ring is as long as the ring and lies behind it. A slot that is tracked says there, in the
/// same numbers as the ring, which target it had when it was last untracked.
pub const UNTRACKED: u16 = u16::MAX;

/// Slots of one block.
pub const SLOTS_PER_BLOCK: usize = 32;

/// One cache line of a ring: each slot is the target's number within the VIP's range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct RingBlock {
    /// Slot `i` of the ring is `slots[i % 32]` of block `i / 32`.
    pub slots: [u16; SLOTS_PER_BLOCK],
}
const _: () = assert!(size_of::<RingBlock>() == 64);

/// Blocks that a ring of `slots` slots takes.
pub const fn blocks(slots: u32) -> u32 {
    slots.div_ceil(SLOTS_PER_BLOCK as u32)
}
