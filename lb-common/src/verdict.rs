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

            /// Label in metrics and tables.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What becomes of the frame. A forwarded one is redirected instead if it leaves by another interface.
            pub const fn action(self) -> Action {
                match self { $(Self::$name => Action::$action,)* }
            }
        }
    };
}

verdicts! {
    /// Encapsulated and sent to a backend.
    Forwarded = 0, "forwarded", Transmit;
    /// An echo request to a VIP, answered.
    EchoReplied = 1, "echo_replied", Transmit;
    /// Neither IPv4 nor IPv6.
    NotIp = 2, "not_ip", Pass;
    /// An IP protocol that is not balanced.
    NotBalanced = 3, "not_balanced", Pass;
    /// TCP or UDP, to no VIP.
    NotVip = 4, "not_vip", Pass;
    /// A fragment.
    Fragment = 5, "fragment", Pass;
    /// ICMP that is not an echo request to a VIP.
    Icmp = 6, "icmp", Pass;
    /// Too short or inconsistent to be read, and not known to be for a VIP.
    Unreadable = 7, "unreadable", Pass;
    /// To a VIP's address: shorter than its headers, or than its IP header says.
    Truncated = 8, "truncated", Drop;
    /// To a VIP's address: an IP or TCP header length that cannot be.
    BadHeader = 9, "bad_header", Drop;
    /// To a VIP without a backend that may take it.
    NoBackend = 10, "no_backend", Drop;
    /// No room before the frame for the outer header.
    NoHeadroom = 11, "no_headroom", Drop;
    /// A table lacked what the daemon should have put there: our own fault.
    Inconsistent = 12, "inconsistent", Aborted;
}
