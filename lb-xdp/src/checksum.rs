//! The Internet checksum (RFC 1071), in pieces.
//!
//! The one's-complement sum does not depend on byte order as long as all words are loaded alike (RFC 1071 section 2), so
//! 16-bit words are summed as they lie in memory and nothing is swapped.

/// Adds carries back until 16 bits remain. The sum of up to 65,536 words fits its `u32`.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    twice as u16
}

/// The two words of 4 bytes, summed.
#[inline(always)]
pub const fn words(bytes: [u8; 4]) -> u32 {
    let both = u32::from_ne_bytes(bytes);
    (both & 0xffff) + (both >> 16)
}

/// The four words of 8 bytes, given as they lie in memory, summed.
#[inline(always)]
pub const fn double_words(bytes: u64) -> u32 {
    let pairs = (bytes & 0x0000_ffff_0000_ffff) + (bytes >> 16 & 0x0000_ffff_0000_ffff);
    (pairs >> 32) as u32 + pairs as u32
}

/// One word.
#[inline(always)]
pub const fn word(bytes: [u8; 2]) -> u32 {
    u16::from_ne_bytes(bytes) as u32
}

/// A checksum after one of its words changed from `old` to `new` (RFC 1624, equation 3, whose order of operations never
/// turns a right sum into the other zero, unless nothing but zeros remain).
#[inline(always)]
pub const fn updated(checksum: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    let sum = (!u16::from_ne_bytes(checksum)) as u32 + (!u16::from_ne_bytes(old)) as u32 + word(new);
    (!fold(sum)).to_ne_bytes()
}

#[cfg(test)]
mod tests;
