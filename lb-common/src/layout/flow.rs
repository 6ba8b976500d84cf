//! `FLOWS`: which target has this flow?
//!
//! One array shared by all CPUs, of buckets that fill a cache line. An entry is one aligned word, read and written whole,
//! so two CPUs that race for a bucket can only lose an insert, and that flow falls back to the ring, or in a tracked slot to the
//! target before.

#[cfg(not(target_arch = "bpf"))]
pub use core::sync::atomic::AtomicU64 as Word;

#[cfg(target_arch = "bpf")]
pub use bpf::Word;

/// Entries of a bucket.
pub const WAYS: usize = 8;

/// Buckets of `FRAGMENTS`, a power of two. It has the same form as the flow table: an entry's tag and bucket are of the
/// hash of a datagram's addresses, protocol and identification, its target is the one that the first fragment went to (0 is this host), and
/// its state is [`FlowState::Datagram`], or [`FlowState::Empty`] if a later fragment came before the first.
pub const FRAGMENT_BUCKETS: u32 = 4096;

/// One cache line of entries, each a [`FlowEntry`] in its raw form; 0 is empty.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Bucket {
    /// The ways, in no order.
    pub entries: [Word; WAYS],
}
const _: () = assert!(size_of::<Bucket>() == 64);

/// What is known of a flow's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum FlowState {
    /// No entry.
    Empty = 0,
    /// TCP, only SYNs seen so far.
    HalfOpen = 1,
    /// TCP, taken up in mid-flow by its first packet without SYN; not yet trusted.
    PickedUp = 2,
    /// TCP, the handshake or a second packet was seen.
    Established = 3,
    /// TCP, a FIN or RST was seen.
    Closing = 4,
    /// UDP, one datagram seen.
    FirstDatagram = 5,
    /// UDP, more than one datagram seen.
    Datagram = 6,
}

impl FlowState {
    /// All states, by number.
    pub const ALL: [Self; 7] = [
        Self::Empty,
        Self::HalfOpen,
        Self::PickedUp,
        Self::Established,
        Self::Closing,
        Self::FirstDatagram,
        Self::Datagram,
    ];

    /// Name in listings and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::HalfOpen => "half_open",
            Self::PickedUp => "picked_up",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::FirstDatagram => "first_datagram",
            Self::Datagram => "datagram",
        }
    }
}

impl TryFrom<u32> for FlowState {
    type Error = u32;

    #[inline(always)]
    fn try_from(number: u32) -> Result<Self, u32> {
        // No look-up in a table: of three bits, LLVM tells what is none by `!= 7`, of which older verifiers learn nothing.
        Ok(match number {
            0 => Self::Empty,
            1 => Self::HalfOpen,
            2 => Self::PickedUp,
            3 => Self::Established,
            4 => Self::Closing,
            5 => Self::FirstDatagram,
            6 => Self::Datagram,
            _ => return Err(number),
        })
    }
}

/// Bits of [`FlowEntry`] that hold the state: its number, and above it whether the flow is [`FlowEntry::is_stray`].
pub const STATE_BITS: u32 = 4;
/// The one of these bits that tells of a stray.
const STRAY: u64 = 1 << (STATE_BITS - 1);
/// Bits of [`FlowEntry`] that hold the time.
pub const TIME_BITS: u32 = 12;
/// Bits of [`FlowEntry`] that hold the target.
pub const TARGET_BITS: u32 = 20;
/// Bits of [`FlowEntry`] that hold the tag.
pub const TAG_BITS: u32 = 28;
const _: () = assert!(STATE_BITS + TIME_BITS + TARGET_BITS + TAG_BITS == u64::BITS);

/// Targets that an entry can name: numbers below this.
pub const MAX_TARGETS: u32 = 1 << TARGET_BITS;

/// `nanoseconds >> TIME_SHIFT` is the table's unit of time: 4.295 s.
pub const TIME_SHIFT: u32 = 32;
/// Units after which [`FlowEntry::time`] repeats: 4.9 h.
pub const TIME_MASK: u32 = (1 << TIME_BITS) - 1;
/// An entry that seems to be as old as the clock's turn but for these units was used after the clock was read.
pub const AHEAD: u32 = 16;

/// Where in an entry the state and the time begin. The next layout has them the other way round.
const STATE_AT: u32 = if cfg!(feature = "next-layout") { TIME_BITS } else { 0 };
const TIME_AT: u32 = if cfg!(feature = "next-layout") { 0 } else { STATE_BITS };

/// An entry: from the top `tag:28 | target:20 | time:12 | stray:1 | state:3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEntry(pub u64);

impl FlowEntry {
    /// Packs an entry; each part is cut to its width.
    #[inline(always)]
    pub const fn new(tag: u32, target: u32, time: u32, state: FlowState) -> Self {
        Self(
            (tag as u64) << (STATE_BITS + TIME_BITS + TARGET_BITS)
                | ((target & (MAX_TARGETS - 1)) as u64) << (STATE_BITS + TIME_BITS)
                | ((time & TIME_MASK) as u64) << TIME_AT
                | (state as u64) << STATE_AT,
        )
    }

    /// Upper bits of the flow's hash: [`TAG_BITS`] of them.
    #[inline(always)]
    pub const fn tag(self) -> u32 {
        (self.0 >> (STATE_BITS + TIME_BITS + TARGET_BITS)) as u32
    }

    /// Number in `TARGETS`, of any VIP; the reader checks that the target serves his VIP.
    #[inline(always)]
    pub const fn target(self) -> u32 {
        (self.0 >> (STATE_BITS + TIME_BITS)) as u32 & (MAX_TARGETS - 1)
    }

    /// When the entry was last used, in units of 2^[`TIME_SHIFT`] ns, modulo 2^[`TIME_BITS`].
    #[inline(always)]
    pub const fn time(self) -> u32 {
        (self.0 >> TIME_AT) as u32 & TIME_MASK
    }

    /// Number of the state; see [`FlowState`].
    #[inline(always)]
    pub const fn state(self) -> u32 {
        (self.0 >> STATE_AT) as u32 & (STRAY as u32 - 1)
    }

    /// Whether the flow, when the entry was written last, was at another target than the current one of its slot in the ring
    /// of an adaptive VIP. Such an entry is all that tells where the flow goes.
    #[inline(always)]
    pub const fn is_stray(self) -> bool {
        self.0 >> STATE_AT & STRAY != 0
    }

    /// The same entry, of a flow that is a stray or not.
    #[inline(always)]
    #[must_use]
    pub const fn stray(self, is_stray: bool) -> Self {
        Self(self.0 & !(STRAY << STATE_AT) | (is_stray as u64 * STRAY) << STATE_AT)
    }

    /// Whether the way is free.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The same entry, last used at `time` and in `state`, and of no stray.
    #[inline(always)]
    #[must_use]
    pub const fn touched(self, time: u32, state: u32) -> Self {
        let kept = self.0 & !((1 << (STATE_BITS + TIME_BITS)) - 1);
        Self(kept | ((time & TIME_MASK) as u64) << TIME_AT | (state as u64) << STATE_AT)
    }

    /// The same entry, naming another target.
    #[inline(always)]
    #[must_use]
    pub const fn with_target(self, target: u32) -> Self {
        let mask = ((MAX_TARGETS - 1) as u64) << (STATE_BITS + TIME_BITS);
        Self(self.0 & !mask | ((target & (MAX_TARGETS - 1)) as u64) << (STATE_BITS + TIME_BITS))
    }

    /// Units since the last use, right for up to 4.9 h.
    #[inline(always)]
    pub const fn age(self, now: u32) -> u32 {
        now.wrapping_sub(self.time()) & TIME_MASK
    }

    /// The same where packets may have used the entry since the clock was read: it is young then, and not as old as the
    /// clock's turn.
    pub const fn silence(self, now: u32) -> u32 {
        let age = self.age(now);
        if age > TIME_MASK - AHEAD { 0 } else { age }
    }
}

#[cfg(target_arch = "bpf")]
mod bpf {
    use core::{cell::UnsafeCell, sync::atomic::Ordering};

    /// Stands in for `AtomicU64`, whose relaxed load and store LLVM cannot select for BPF below `-mcpu=v4`. An aligned
    /// volatile access is one instruction, which the machine does whole.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub struct Word(UnsafeCell<u64>);

    impl Word {
        /// A relaxed load.
        #[inline(always)]
        pub fn load(&self, _: Ordering) -> u64 {
            // SAFETY: valid and aligned; other CPUs write it whole.
            unsafe { self.0.get().read_volatile() }
        }

        /// A relaxed store.
        #[inline(always)]
        pub fn store(&self, value: u64, _: Ordering) {
            // SAFETY: as for `load`.
            unsafe { self.0.get().write_volatile(value) }
        }
    }
}
