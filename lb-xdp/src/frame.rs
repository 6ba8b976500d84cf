//! A frame as the packet's way sees it: bytes behind bounds checks.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A header that can be read and written in place at any offset: made of bytes alone.
pub trait Header: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned> Header for T {}

/// There is no room before the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeadroom;

/// Bytes of one frame, from the Ethernet header on. Offsets and lengths are in bytes.
pub trait Frame {
    /// Length of the frame.
    fn len(&self) -> usize;

    /// Whether the frame is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `offset`, if the frame holds all of it. `offset` is below 65,536.
    fn at<H: Header>(&self, offset: usize) -> Option<&H>;

    /// The same, to write.
    fn at_mut<H: Header>(&mut self, offset: usize) -> Option<&mut H>;

    /// Makes the frame longer by `bytes` in front; what they hold is undefined. It takes `&mut self`, so no header can be
    /// held across it.
    ///
    /// # Errors
    /// When there is no room.
    fn grow_head(&mut self, bytes: usize) -> Result<(), NoHeadroom>;

    /// Cuts `bytes` off the front.
    ///
    /// # Errors
    /// When the frame is not longer than that by an Ethernet header at least.
    fn shrink_head(&mut self, bytes: usize) -> Result<(), NoHeadroom>;

    /// Number of the interface that the frame came in by.
    fn ingress(&self) -> u32;
}
