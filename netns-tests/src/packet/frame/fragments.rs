//! Fragments, as routers and hosts cut them from a datagram.

use super::{Content, Frame, Hashed};

impl Frame {
    /// A fragment at this offset, in units of 8 bytes.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
        self
    }

    /// Identification of the datagram that a fragment is part of.
    #[must_use]
    pub fn identification(mut self, identification: u32) -> Self {
        self.identification = identification;
        self
    }

    /// Cuts what the IP packet carries into fragments of `size` bytes, a multiple of 8; the last one takes the rest.
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        assert!(size.is_multiple_of(8), "{size} is no multiple of 8");
        let content = self.content();
        let pieces = content.chunks(size).count();
        let piece = |(number, bytes): (usize, &[u8])| {
            let offset = u16::try_from(number * size / 8).expect("a short datagram");
            let hashed = if number == 0 { Hashed::Itself } else { Hashed::Datagram };
            let content = Content::Raw(self.protocol());
            let piece = Self { content, payload: bytes.to_vec(), hashed, ..self.clone() };
            piece.fragment(offset, number + 1 < pieces)
        };
        content.chunks(size).enumerate().map(piece).collect()
    }
}
