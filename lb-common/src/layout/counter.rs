//! `TARGET_COUNTERS`, `VERDICT_COUNTERS`, `PATH_COUNTERS`: what happened, counted per CPU.
//!
//! A forwarded packet is counted once, at its target. Figures of VIPs and totals are sums that the daemon makes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of `TARGET_COUNTERS`, by target number. Packets and bytes are in `TRAFFIC` (see [`super::traffic`]); here they are
/// only those that a program of layout 2 counted.
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
    /// The bucket was full of flows that must not give way, or new flows are limited; the ring answers for this one.
    NotRemembered = 6,
    /// The first fragment of a datagram, remembered.
    FragmentFirst = 7,
    /// A later fragment that followed its first.
    FragmentFollowed = 8,
    /// A first fragment of a datagram of which later ones had come before, and were dropped.
    FragmentLate = 9,
    /// An ICMP error, steered by the packet that it quotes.
    IcmpSteered = 10,
    /// Routed by a server ID.
    ServerIdRouted = 11,
    /// A server ID that no backend has, or one that is down; steered as without.
    ServerIdUnknown = 12,
    /// QUIC without a server's connection ID yet (Initial, 0-RTT), or in an unknown layout; steered as without.
    ServerIdNone = 13,
    /// A new flow that a source route decided.
    SourceRouted = 14,
    /// Unwrapped from another lb's tunnel and steered anew.
    Resteered = 15,
    /// A flow of an adaptive VIP that is not at its slot's current target is not remembered for want of room, or its entry
    /// gave way.
    StrayLost = 16,
}

impl PathEvent {
    /// All events, by number.
    pub const ALL: [Self; 17] = [
        Self::MissSyn,
        Self::MissTcp,
        Self::MissUdp,
        Self::Expired,
        Self::Moved,
        Self::Evicted,
        Self::NotRemembered,
        Self::FragmentFirst,
        Self::FragmentFollowed,
        Self::FragmentLate,
        Self::IcmpSteered,
        Self::ServerIdRouted,
        Self::ServerIdUnknown,
        Self::ServerIdNone,
        Self::SourceRouted,
        Self::Resteered,
        Self::StrayLost,
    ];

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
            Self::FragmentFirst => "fragment_first",
            Self::FragmentFollowed => "fragment_followed",
            Self::FragmentLate => "fragment_late",
            Self::IcmpSteered => "icmp_steered",
            Self::ServerIdRouted => "server_id_routed",
            Self::ServerIdUnknown => "server_id_unknown",
            Self::ServerIdNone => "server_id_none",
            Self::SourceRouted => "source_routed",
            Self::Resteered => "resteered",
            Self::StrayLost => "stray_lost",
        }
    }
}
