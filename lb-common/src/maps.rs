//! Names of the program, its tables and its parameters: the one place where either side spells them.

/// The XDP program of the balancer.
pub const PROGRAM: &str = "lb";

/// [`crate::layout::vip::VipKey`] to [`crate::layout::vip::Vip`].
pub const VIPS: &str = "VIPS";
/// [`crate::layout::flow::Bucket`]s.
pub const FLOWS: &str = "FLOWS";
/// [`crate::layout::ring::RingBlock`]s.
pub const RINGS: &str = "RINGS";
/// [`crate::layout::target::Target`]s.
pub const TARGETS: &str = "TARGETS";
/// [`crate::layout::counter::TargetCounters`], per CPU, by target.
pub const TARGET_COUNTERS: &str = "TARGET_COUNTERS";
/// [`crate::layout::counter::VerdictCounters`], per CPU, by verdict.
pub const VERDICT_COUNTERS: &str = "VERDICT_COUNTERS";
/// `u64`, per CPU, by [`crate::layout::counter::PathEvent`].
pub const PATH_COUNTERS: &str = "PATH_COUNTERS";

/// All tables of the balancer; each is pinned under its name.
pub const ALL: [&str; 7] = [VIPS, FLOWS, RINGS, TARGETS, TARGET_COUNTERS, VERDICT_COUNTERS, PATH_COUNTERS];

/// Parameter, [`Tuning`]: what is fixed while one instance of the program is loaded.
pub const TUNING: &str = "TUNING";

/// Values of the `TUNING` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Tuning {
    /// Secret of the flow hash, the same on every lb of a fleet.
    pub hash_seed: u64,
    /// Buckets of `FLOWS` less one; buckets are a power of two.
    pub bucket_mask: u32,
    /// UDP flows idle for longer than this many units of 2^32 ns are forgotten.
    pub udp_idle: u32,
    /// Prefix of the outer IPv4 source, network order; the bits below [`Tuning::source_v4_mask`] are zero.
    pub source_v4: [u8; 4],
    /// Bits of the outer IPv4 source that the flow decides, network order.
    pub source_v4_mask: [u8; 4],
    /// Prefix of the outer IPv6 source, network order; its last 32 bits are the flow's.
    pub source_v6: [u8; 16],
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            hash_seed: 0x5eed,
            bucket_mask: 0,
            udp_idle: 7,
            source_v4: [172, 16, 0, 0],
            source_v4_mask: [0, 0, 0xff, 0xff],
            source_v6: [0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// The XDP program of a backend that unwraps tunnelled packets.
pub const DECAP_PROGRAM: &str = "lb_decap";
/// Tunnel addresses of the host, `[u8; 16]` (IPv4 mapped) to `u32` 1.
pub const DECAP_ADDRESSES: &str = "DECAP_ADDRESSES";
/// `u64`, per CPU, by [`DecapVerdict`].
pub const DECAP_COUNTERS: &str = "DECAP_COUNTERS";

/// What `lb decap` did with a frame; index of [`DECAP_COUNTERS`]. All but `Malformed` and `CongestionLost` pass it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum DecapVerdict {
    /// Not a tunnel packet to one of the host's tunnel addresses; untouched.
    Untouched = 0,
    /// Unwrapped, an IPv4 packet was inside.
    UnwrappedV4 = 1,
    /// Unwrapped, an IPv6 packet was inside.
    UnwrappedV6 = 2,
    /// To a tunnel address, but what it says is inside is not there; dropped.
    Malformed = 3,
    /// The outer header reports congestion and the inner one cannot carry it: dropped (RFC 6040 section 4.2).
    CongestionLost = 4,
}

impl DecapVerdict {
    /// All of them, by number.
    pub const ALL: [Self; 5] =
        [Self::Untouched, Self::UnwrappedV4, Self::UnwrappedV6, Self::Malformed, Self::CongestionLost];

    /// Name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::UnwrappedV4 => "unwrapped_v4",
            Self::UnwrappedV6 => "unwrapped_v6",
            Self::Malformed => "malformed",
            Self::CongestionLost => "congestion_lost",
        }
    }
}
