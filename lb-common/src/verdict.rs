//! Every way a frame can leave the program.

/// What the kernel does with the frame. Values are the kernel's `enum xdp_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Action {
    /// Our own fault; the frame is dropped and the kernel's `xdp_exception` tracepoint fires.
    Aborted = 0,
    /// Dropped.
    Drop = 1,
    /// On to the host.
    Pass = 2,
    /// Out of the interface it came in by.
    Transmit = 3,
    /// Out of another interface.
    Redirect = 4,
}

impl Action {
    /// Name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Drop => "drop",
            Self::Pass => "pass",
            Self::Transmit => "tx",
            Self::Redirect => "redirect",
        }
    }
}

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal, $label:literal, $action:ident;)*) => {
        /// Why a frame leaves. Not ours is passed; ours but broken is dropped under its own verdict.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Verdict {
            $($(#[doc = $doc])* $name = $number,)*
        }

        impl Verdict {
            /// All verdicts, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The verdict with this number; [`Verdict::Inconsistent`] if there is none.
            #[inline(always)]
            pub const fn from_number(number: u32) -> Self {
                match number { $($number => Self::$name,)* _ => Self::Inconsistent }
            }

            /// Label in metrics and tables.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What becomes of the frame. A forwarded one is redirected instead if it leaves by another interface.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$name => Action::$action,)* }
            }
        }
    };
}

verdicts! {
    /// Sent to a backend.
    Forwarded = 0, "forwarded", Transmit;
    /// An echo request to a VIP, answered.
    EchoReplied = 1, "echo_replied", Transmit;
    /// Neither IPv4 nor IPv6.
    NotIp = 2, "not_ip", Pass;
    /// An IP protocol that is not balanced.
    NotBalanced = 3, "not_balanced", Pass;
    /// TCP or UDP, to no VIP.
    NotVip = 4, "not_vip", Pass;
    /// A fragment, to no VIP.
    Fragment = 5, "fragment", Pass;
    /// ICMP that is neither an echo request to a VIP nor an error about a VIP's packet.
    Icmp = 6, "icmp", Pass;
    /// Too short or inconsistent to be read, and not known to be for a VIP.
    Unreadable = 7, "unreadable", Pass;
    /// To a VIP's address: shorter than its headers, or than its IP header says.
    Truncated = 8, "truncated", Drop;
    /// To a VIP's address: a length in an IP, TCP or UDP header that cannot be.
    BadHeader = 9, "bad_header", Drop;
    /// To a VIP without a backend that may take it.
    NoBackend = 10, "no_backend", Drop;
    /// No room before the frame for the outer header.
    NoHeadroom = 11, "no_headroom", Drop;
    /// A table lacked what the daemon should have put there: our own fault.
    Inconsistent = 12, "inconsistent", Aborted;
    /// To a VIP's address: more IPv6 extension headers than are walked.
    ExtensionHeaders = 13, "extension_headers", Drop;
    /// To a VIP's address: a later fragment of a datagram whose first is not known.
    FragmentUnknown = 14, "fragment_unknown", Drop;
    /// To a VIP's address: an ICMP error that quotes too little of a packet to tell its flow.
    BadQuote = 15, "bad_quote", Drop;
    /// To a VIP's address at a port that no VIP serves, where the configuration says so.
    UnknownPort = 16, "unknown_port", Drop;
    /// Larger than the way to the backend: the sender was told.
    TooBigAnswered = 17, "too_big_answered", Transmit;
    /// Larger than the way to the backend, and the sender allowed fragmentation, which is not done here.
    TooBig = 18, "too_big", Drop;
    /// Larger than the way to the backend, and the sender was told just before.
    TooBigLimited = 19, "too_big_limited", Drop;
    /// The access lists keep the source out.
    Denied = 20, "denied", Drop;
    /// A new flow beyond the VIP's limit.
    NewFlowLimit = 21, "new_flow_limit", Drop;
    /// A packet or new flow beyond its source's limit.
    SourceLimit = 22, "source_limit", Drop;
    /// To a backend that is this host.
    Local = 23, "local", Pass;
    /// A tunnel packet to this lb that does not come from one of the sources allowed.
    TunnelSource = 24, "tunnel_source", Drop;
    /// A tunnel packet that has been from lb to lb for too long.
    TunnelLoop = 25, "tunnel_loop", Drop;
    /// The tunnel's header reports congestion and the packet inside cannot carry it (RFC 6040 section 4.2).
    CongestionLost = 26, "congestion_lost", Drop;
    /// An echo request to a VIP that is not answered, as the daemon has been silent for too long.
    Withdrawn = 27, "withdrawn", Drop;
}
