//! `VIP_LIMITS`, `SOURCES`, `TOO_BIG_LIMITS`: is this one too many?
//!
//! Each limit is one word: the time at which it would have nothing left to forgive, in nanoseconds of the monotonic clock
//! (the generic cell rate algorithm). Something that happens moves it on by its price; more than [`BURST_NS`] ahead of now
//! is too many. Words are read and written without a lock: of two CPUs that do so at once one is not counted, so under a
//! flood on many CPUs a little more than the limit passes.

use super::flow::Word;

/// How much may come at once after a silence: as much as in one second.
pub const BURST_NS: u64 = 1_000_000_000;

/// Words of `TOO_BIG_LIMITS`, a power of two. Sources share them by their hash.
pub const TOO_BIG_WORDS: u32 = 4096;
/// Time between two packet-too-big messages to a source.
pub const TOO_BIG_NS: u64 = 100_000_000;

/// For how long the daemon may show no sign of life, in `HEARTBEAT`, until pings to VIPs are answered no more.
pub const SILENCE_NS: u64 = 5_000_000_000;

/// Entries of a [`SourceLine`].
pub const SOURCE_WAYS: usize = 2;

/// What one source prefix took.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SourceEntry {
    /// Hash of the prefix; 0 is free.
    pub tag: Word,
    /// Limit of its packets.
    pub packets: Word,
    /// Limit of its new flows.
    pub flows: Word,
    /// Zero.
    pub reserved: u64,
}

/// Value of `SOURCES`: a cache line.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct SourceLine {
    /// The ways, in no order.
    pub entries: [SourceEntry; SOURCE_WAYS],
}
const _: () = assert!(size_of::<SourceLine>() == 64);
