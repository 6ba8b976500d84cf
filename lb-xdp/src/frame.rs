//! A frame as the packet's way sees it: bytes behind bounds checks.

use crate::path::{Exit, Tables, whole};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A header that can be read and written in place at any offset: made of bytes alone.
pub trait Header: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned> Header for T {}

/// There is no room before the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeadroom;

/// Bytes of one frame, from the Ethernet header on. Offsets and lengths are in bytes.
pub trait Frame {
    /// Length of the frame, or of its first buffer where it lies in several (multi-buffer XDP). Headers are read there.
    fn len(&self) -> usize;

    /// Whether the frame has `len` bytes, in all its buffers.
    fn holds(&self, len: usize) -> bool {
        len <= self.len()
    }

    /// Whether the frame is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `offset`, if the frame holds all of it. `offset` is below 65,536.
    fn at<H: Header>(&self, offset: usize) -> Option<&H>;

    /// The same, to write.
    fn at_mut<H: Header>(&mut self, offset: usize) -> Option<&mut H>;

    /// The byte at `offset`, which is not the first of the frame.
    ///
    /// It is read with the one before it: of a check that just one byte is there the compiler makes `pointer < end`, of
    /// which the verifier learns nothing.
    #[inline(always)]
    fn byte(&self, offset: usize) -> Option<u8> {
        let [_, byte] = *self.at::<[u8; 2]>(offset.wrapping_sub(1))?;
        Some(byte)
    }

    /// Puts `new` bytes in the place of the first `old` ones; what they hold is undefined. It takes `&mut self`, so no
    /// header can be held across it.
    ///
    /// # Errors
    /// When there is no room, or the frame would be shorter than an Ethernet header.
    fn replace_head(&mut self, old: usize, new: usize) -> Result<(), NoHeadroom>;

    /// Makes the frame longer by `bytes` in front; what they hold is undefined.
    ///
    /// # Errors
    /// When there is no room.
    #[inline(always)]
    fn grow_head(&mut self, bytes: usize) -> Result<(), NoHeadroom> {
        self.replace_head(0, bytes)
    }

    /// Cuts bytes off the end, so that `len` remain. As [`Frame::replace_head`] it ends every borrow.
    ///
    /// # Errors
    /// When the frame is shorter, or that cannot be.
    fn truncate(&mut self, len: usize) -> Result<(), NoHeadroom>;

    /// One's-complement sum of the 16-bit words of `len` bytes from `offset` on, as they lie in memory; an odd last byte
    /// is filled up with zero. Not folded; `None` if the frame doesn't hold them.
    fn sum(&self, offset: usize, len: usize) -> Option<u32>;

    /// The same of `N` bytes in the first buffer; a multiple of 4, at most 512. In 16 bits.
    fn sum_of<const N: usize>(&self, offset: usize) -> Option<u32>;

    /// Number of the interface that the frame came in by.
    fn ingress(&self) -> u32;

    /// Walks [`whole::walk`]; the kernel's frame does so in a function of its own.
    #[inline(always)]
    fn walk_whole<T: Tables>(&mut self, tables: &T) -> Exit
    where
        Self: Sized,
    {
        whole::walk(self, tables)
    }

    /// Walks [`whole::send`], likewise.
    #[inline(always)]
    fn send_whole<T: Tables>(&mut self, id: u32, tables: &T) -> Exit
    where
        Self: Sized,
    {
        whole::send(self, id, tables)
    }
}
