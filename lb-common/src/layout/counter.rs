//! `TARGET_COUNTERS`, `VERDICT_COUNTERS`, `PATH_COUNTERS`: what happened, counted per CPU.
//!
//! A forwarded packet is counted once, at its target. Figures of VIPs and totals are sums that the daemon makes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of `TARGET_COUNTERS`, by target number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct TargetCounters {
    /// Packets forwarded.
    pub packets: u64,
    /// Their bytes, IP header and payload before encapsulation.
    pub bytes: u64,
    /// Flows that the ring gave to this target.
    pub flows_created: u64,
    /// Flows that came from a target which is down or gone.
    pub flows_moved: u64,
    /// TCP packets with SYN and without ACK that opened a flow.
    pub syns: u64,
    /// Such packets of a flow that was half-open already.
    pub syn_retransmits: u64,
    /// Half-open flows that went on without SYN: the backend had answered.
    pub handshakes: u64,
    /// Flows closed by the client's FIN.
    pub fins: u64,
    /// Flows closed by the client's RST.
    pub rsts: u64,
}
const _: () = assert!(size_of::<TargetCounters>() == 72);

/// Value of `VERDICT_COUNTERS`, by [`crate::verdict::Verdict`]. `Forwarded` stays 0: those are counted at their targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct VerdictCounters {
    /// Frames.
    pub packets: u64,
    /// Their bytes as received, Ethernet header included.
    pub bytes: u64,
}

/// What the slow part of the way counts: index of `PATH_COUNTERS`, whose values are `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum PathEvent {
    /// Looked up, not known: a SYN.
    MissSyn = 0,
    /// Looked up, not known: TCP without SYN.
    MissTcp = 1,
    /// Looked up, not known: UDP.
    MissUdp = 2,
    /// Known, but a UDP flow idle for too long; steered anew.
    Expired = 3,
    /// Known, but its target is down or gone; steered anew.
    Moved = 4,
    /// An entry gave way to another flow.
    Evicted = 5,
    /// The bucket was full of flows that must not give way; the ring answers for the new one.
    NotRemembered = 6,
}

impl PathEvent {
    /// All events, by number.
    pub const ALL: [Self; 7] =
        [Self::MissSyn, Self::MissTcp, Self::MissUdp, Self::Expired, Self::Moved, Self::Evicted, Self::NotRemembered];

    /// Label in metrics and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MissSyn => "miss_syn",
            Self::MissTcp => "miss_tcp",
            Self::MissUdp => "miss_udp",
            Self::Expired => "expired",
            Self::Moved => "moved",
            Self::Evicted => "evicted",
            Self::NotRemembered => "not_remembered",
        }
    }
}
