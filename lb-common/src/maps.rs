//! Names of the program, its tables and its parameters: the one place where either side spells them.

/// The XDP program of the balancer.
pub const PROGRAM: &str = "lb";
/// The same, for frames in several buffers too (kernel 5.18).
pub const PROGRAM_FRAGS: &str = "lb_frags";

/// Cells of [`crate::layout::vips`].
pub const VIPS: &str = "VIPS";
/// [`crate::layout::flow::Bucket`]s.
pub const FLOWS: &str = "FLOWS";
/// [`crate::layout::ring::RingBlock`]s.
pub const RINGS: &str = "RINGS";
/// [`crate::layout::target::Target`]s.
pub const TARGETS: &str = "TARGETS";
/// [`crate::layout::counter::TargetCounters`], per CPU, by target.
pub const TARGET_COUNTERS: &str = "TARGET_COUNTERS";
/// [`crate::layout::traffic::Traffic`], rows by target: one for each CPU, and one of the daemon's.
pub const TRAFFIC: &str = "TRAFFIC";
/// [`crate::layout::counter::VerdictCounters`], per CPU, by verdict.
pub const VERDICT_COUNTERS: &str = "VERDICT_COUNTERS";
/// `u64`, per CPU, by [`crate::layout::counter::PathEvent`].
pub const PATH_COUNTERS: &str = "PATH_COUNTERS";

/// [`crate::layout::vip::PrefixKey`] to [`crate::layout::vip::Vip`], longest prefix first.
pub const PREFIX_VIPS: &str = "PREFIX_VIPS";
/// [`crate::layout::flow::Bucket`]s of datagrams in fragments.
pub const FRAGMENTS: &str = "FRAGMENTS";
/// [`crate::layout::prefix::SourceKey`] to [`crate::layout::prefix::AclRule`], longest prefix first.
pub const ACL: &str = "ACL";
/// [`crate::layout::prefix::SourceKey`] to the number of a group, longest prefix first.
pub const SOURCE_ROUTES: &str = "SOURCE_ROUTES";
/// [`crate::layout::prefix::Group`]s.
pub const GROUPS: &str = "GROUPS";
/// [`crate::layout::server::ServerKey`] to the number of a target.
pub const SERVER_IDS: &str = "SERVER_IDS";
/// Limits of new flows, by VIP; see [`crate::layout::limit`].
pub const VIP_LIMITS: &str = "VIP_LIMITS";
/// [`crate::layout::limit::SourceLine`]s, by hash of the source.
pub const SOURCES: &str = "SOURCES";
/// Limits of packet-too-big messages, by hash of the source; see [`crate::layout::limit`].
pub const TOO_BIG_LIMITS: &str = "TOO_BIG_LIMITS";
/// Number of an interface to that of the bond that it is a member of, both `u32`.
pub const BONDS: &str = "BONDS";
/// Addresses at which this lb takes tunnel packets of others, `[u8; 16]` (IPv4 mapped) to `u32` 1.
pub const TUNNEL_ADDRESSES: &str = "TUNNEL_ADDRESSES";
/// [`crate::layout::prefix::SourceKey`], its VIP 0, to `u32` 1: such packets may come from there; or 0: they may not, though
/// a shorter prefix says so.
pub const TUNNEL_SOURCES: &str = "TUNNEL_SOURCES";
/// When the daemon last showed that it is alive, a [`crate::layout::flow::Word`]; see [`crate::layout::limit::SILENCE_NS`].
pub const HEARTBEAT: &str = "HEARTBEAT";

/// All tables of the balancer; each is pinned under its name.
pub const ALL: [&str; 21] = [
    VIPS,
    FLOWS,
    RINGS,
    TARGETS,
    TARGET_COUNTERS,
    TRAFFIC,
    VERDICT_COUNTERS,
    PATH_COUNTERS,
    PREFIX_VIPS,
    FRAGMENTS,
    ACL,
    SOURCE_ROUTES,
    GROUPS,
    SERVER_IDS,
    VIP_LIMITS,
    SOURCES,
    TOO_BIG_LIMITS,
    BONDS,
    TUNNEL_ADDRESSES,
    TUNNEL_SOURCES,
    HEARTBEAT,
];

/// Parameter, [`Tuning`]: what is fixed while one instance of the program is loaded.
pub const TUNING: &str = "TUNING";

/// Bits of [`Tuning::features`]: parts of the way that an instance of the program has. The verifier removes the others, so
/// a feature that no configuration asks for costs nothing.
pub mod feature {
    /// VIPs that serve prefixes.
    pub const PREFIX_VIPS: u32 = 1;
    /// Packets to unknown ports of a VIP's address are dropped.
    pub const UNKNOWN_PORT: u32 = 1 << 1;
    /// Another hash than of the 5-tuple, and flows that are not remembered.
    pub const HASHES: u32 = 1 << 2;
    /// Routing by QUIC connection IDs.
    pub const QUIC: u32 = 1 << 3;
    /// Routing by server IDs in a TCP option or a UDP header.
    pub const SERVER_IDS: u32 = 1 << 4;
    /// Routing by source prefixes.
    pub const SOURCE_ROUTES: u32 = 1 << 5;
    /// Access lists.
    pub const ACL: u32 = 1 << 6;
    /// Limits of new flows by VIP.
    pub const NEW_FLOW_LIMIT: u32 = 1 << 7;
    /// Limits by source.
    pub const SOURCE_LIMIT: u32 = 1 << 8;
    /// Encapsulation by GUE.
    pub const GUE: u32 = 1 << 9;
    /// Backends reached by their MAC address, or on this host.
    pub const UNWRAPPED: u32 = 1 << 10;
    /// Tunnel packets of other lbs.
    pub const TUNNELS: u32 = 1 << 11;
    /// Interfaces that are members of bonds.
    pub const BONDS: u32 = 1 << 12;
    /// Frames in several buffers (kernel 5.18).
    pub const MULTI_BUFFER: u32 = 1 << 13;
    /// Pings to VIPs are answered only while the daemon lives.
    pub const WITHDRAW: u32 = 1 << 14;
    /// Flows that are remembered only where the ring changed.
    pub const ADAPTIVE: u32 = 1 << 15;
    /// VIPs that serve every port of their address.
    pub const ANY_PORT: u32 = 1 << 16;
    /// All of them.
    pub const ALL: u32 = (1 << 17) - 1;
}

/// Values of the `TUNING` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Tuning {
    /// Secret of the flow hash, the same on every lb of a fleet.
    pub hash_seed: u64,
    /// Nanoseconds between packets of one source; 0 is no limit.
    pub source_packet_ns: u64,
    /// Nanoseconds between new flows of one source; 0 is no limit.
    pub source_flow_ns: u64,
    /// What the kernel's tick counter (`jiffies_64`) said when the monotonic clock began, in nanoseconds: times
    /// [`Tuning::tick_ns`].
    pub first_tick_ns: u64,
    /// Bits of [`feature`].
    pub features: u32,
    /// Buckets of `FLOWS` less one; buckets are a power of two.
    pub bucket_mask: u32,
    /// Lines of `SOURCES` less one; a power of two of them.
    pub source_line_mask: u32,
    /// UDP flows idle for longer than this many units of 2^32 ns are forgotten.
    pub udp_idle: u32,
    /// Cells of the index of `VIPS` less one; a power of two of them.
    pub vip_mask: u32,
    /// Nanoseconds of one of the kernel's ticks.
    pub tick_ns: u32,
    /// Values of a row of `TRAFFIC`: [`crate::layout::traffic::row`] of its targets.
    pub traffic_row: u32,
    /// Prefix of the outer IPv4 source, network order; the bits below [`Tuning::source_v4_mask`] are zero.
    pub source_v4: [u8; 4],
    /// Bits of the outer IPv4 source that the flow decides, network order.
    pub source_v4_mask: [u8; 4],
    /// Bits of an IPv4 source address that tell sources apart for their limits, network order.
    pub limited_v4_mask: [u8; 4],
    /// Prefix of the outer IPv6 source, network order; its last 32 bits are the flow's.
    pub source_v6: [u8; 16],
    /// Bits of an IPv6 source address that tell sources apart for their limits, network order.
    pub limited_v6_mask: [u8; 16],
    /// Outer UDP port of GUE, network order.
    pub gue_port: [u8; 2],
    /// Zero.
    pub pad: [u8; 6],
}
const _: () = assert!(size_of::<Tuning>() == 112);

impl Default for Tuning {
    fn default() -> Self {
        Self {
            hash_seed: 0x5eed,
            source_packet_ns: 0,
            source_flow_ns: 0,
            first_tick_ns: 0,
            features: 0,
            bucket_mask: 0,
            source_line_mask: 0,
            udp_idle: 7,
            vip_mask: 0,
            tick_ns: 0,
            traffic_row: 0,
            source_v4: [172, 16, 0, 0],
            source_v4_mask: [0, 0, 0xff, 0xff],
            limited_v4_mask: [0xff; 4],
            source_v6: [0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            limited_v6_mask: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
            gue_port: 6080_u16.to_be_bytes(),
            pad: [0; 6],
        }
    }
}

impl Tuning {
    /// [`Tuning::first_tick_ns`], given the lower half of the tick counter at a moment `now_ns` of the monotonic clock.
    pub const fn first_tick_ns(ticks: u32, tick_ns: u32, now_ns: u64) -> u64 {
        // The counter starts 5 minutes before its lower half overflows (`INITIAL_JIFFIES`), at about the clock's zero.
        let tick = tick_ns as u64;
        let about = (1_u64 << 32).wrapping_sub(300_000_000_000 / tick).wrapping_add(now_ns / tick);
        let ahead = ticks.wrapping_sub(about as u32).cast_signed() as i64;
        let all = about.wrapping_add_signed(ahead);
        all.wrapping_mul(tick).wrapping_sub(now_ns)
    }
}

/// The program that returns the lower half of the kernel's tick counter; run by `BPF_PROG_TEST_RUN` only.
pub const TICKS_PROGRAM: &str = "lb_ticks";

/// The tc program that carries health probes of this host to one target each.
pub const PROBE_PROGRAM: &str = "lb_probe";
/// Parameter, [`ProbeTuning`].
pub const PROBE_TUNING: &str = "PROBE_TUNING";

/// Values of the `PROBE_TUNING` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct ProbeTuning {
    /// Upper 12 bits of the socket mark of probes, the other bits zero.
    pub tag: u32,
    /// Interface to leave by where the target names none.
    pub ifindex: u32,
    /// That interface's MAC address.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
}

impl ProbeTuning {
    /// Bits of a socket mark that tell probes from other traffic. The others are the target's number.
    pub const TAG: u32 = 0xfff0_0000;
}

/// The XDP program of a backend that unwraps tunnelled packets.
pub const DECAP_PROGRAM: &str = "lb_decap";
/// Tunnel addresses of the host, `[u8; 16]` (IPv4 mapped) to `u32` 1.
pub const DECAP_ADDRESSES: &str = "DECAP_ADDRESSES";
/// [`crate::layout::prefix::SourceKey`], its VIP 0, to `u32` 1: where tunnel packets may come from. Empty is anywhere.
pub const DECAP_SOURCES: &str = "DECAP_SOURCES";
/// Parameter, [`DecapTuning`].
pub const DECAP_TUNING: &str = "DECAP_TUNING";

/// Values of the `DECAP_TUNING` parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct DecapTuning {
    /// UDP port of GUE, network order.
    pub gue_port: [u8; 2],
    /// Whether only the sources in `DECAP_SOURCES` may send: 0 or 1.
    pub only_sources: u16,
}

/// `u64`, per CPU, by [`DecapVerdict`].
pub const DECAP_COUNTERS: &str = "DECAP_COUNTERS";

/// What `lb decap` did with a frame; index of [`DECAP_COUNTERS`]. See [`DecapVerdict::passes`].
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
    /// To a tunnel address, but not from one of the sources allowed: dropped.
    ForeignSource = 5,
    /// Unwrapped from GUE, an IPv4 packet was inside.
    GueUnwrappedV4 = 6,
    /// Unwrapped from GUE, an IPv6 packet was inside.
    GueUnwrappedV6 = 7,
}

impl DecapVerdict {
    /// All of them, by number.
    pub const ALL: [Self; 8] = [
        Self::Untouched,
        Self::UnwrappedV4,
        Self::UnwrappedV6,
        Self::Malformed,
        Self::CongestionLost,
        Self::ForeignSource,
        Self::GueUnwrappedV4,
        Self::GueUnwrappedV6,
    ];

    /// Whether the frame goes on to the host; else it is dropped.
    pub const fn passes(self) -> bool {
        !matches!(self, Self::Malformed | Self::CongestionLost | Self::ForeignSource)
    }

    /// Name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::UnwrappedV4 => "unwrapped_v4",
            Self::UnwrappedV6 => "unwrapped_v6",
            Self::Malformed => "malformed",
            Self::CongestionLost => "congestion_lost",
            Self::ForeignSource => "foreign_source",
            Self::GueUnwrappedV4 => "gue_unwrapped_v4",
            Self::GueUnwrappedV6 => "gue_unwrapped_v6",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tuning;

    #[test]
    fn the_clock_of_ticks_goes_with_the_monotonic_one() {
        for (hz, tick) in [(100, 10_000_000_u32), (250, 4_000_000), (300, 3_333_333), (1000, 1_000_000)] {
            let start = (1_u64 << 32) - 300 * hz;
            // A moment, and how far the counter is behind it or before it.
            for (seconds, off) in [(0, 0_i64), (1, 250), (299, 1), (301, -2), (90_000, 63), (1 << 30, 5000)] {
                let ns = seconds * 1_000_000_000;
                let ticks = (start + ns / u64::from(tick)).wrapping_add_signed(-off);
                let first = Tuning::first_tick_ns(ticks as u32, tick, ns);
                let clock = |ticks: u64| ticks.wrapping_mul(tick.into()).wrapping_sub(first);
                assert_eq!(clock(ticks), ns, "{hz} Hz after {seconds} s");
                assert_eq!(clock(ticks + 7 * hz), ns + 7 * hz * u64::from(tick));
            }
        }
    }
}
