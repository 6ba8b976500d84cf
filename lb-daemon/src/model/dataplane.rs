//! What is set for all VIPs: `[dataplane]`.

use std::{fmt, net::IpAddr, time::Duration};

use ipnet::IpNet;

/// `[dataplane]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataplaneConfig {
    /// Interfaces to attach to, each with its mode; no interface twice. May be empty, which only a load that attaches to
    /// nothing can do with: whoever attaches refuses it.
    pub interfaces: Vec<Interface>,
    /// Where packets to backends go.
    pub next_hop: NextHopConfig,
    /// Entries of the flow table; a power of two, at least 64.
    pub flow_table_entries: u32,
    /// Secret of the flow hash.
    pub hash_seed: u64,
    /// A UDP flow idle for longer is forgotten.
    pub udp_idle_timeout: Duration,
    /// Prefix of outer IPv4 sources; the flow fills the host bits. At most 32 - 8 bits long.
    pub tunnel_source_v4: ipnet::Ipv4Net,
    /// Prefix of outer IPv6 sources; the flow fills the last 32 bits. At most 96 bits long.
    pub tunnel_source_v6: ipnet::Ipv6Net,
    /// Largest packet to a backend, outer header included; `None` is that of the way to it.
    pub mtu: Option<u32>,
    /// Outer UDP port of GUE.
    pub gue_port: u16,
    /// Who may send to any VIP.
    pub access: Access,
    /// `[dataplane.source_limit]`
    pub source_limit: Option<SourceLimit>,
    /// `[dataplane.tunnels]`: tunnel packets of other lbs that are unwrapped and steered here. No addresses: none.
    pub tunnels: Tunnels,
}

/// `allow` and `deny`, of a VIP or of all. The longest prefix that a source is in decides; a source in none is let in
/// unless there is an `allow`. No prefix is in both, none has bits set beyond its length, and none is an IPv4 prefix in
/// IPv6 form. An IPv6 prefix holds no IPv4 source, however short it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Prefixes that are let in.
    pub allow: Vec<IpNet>,
    /// Prefixes that are kept out.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether it decides nothing.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// `[dataplane.source_limit]`: what one source may send to all VIPs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimit {
    /// Packets per second; `None` is no limit.
    pub packets_per_second: Option<u32>,
    /// New flows per second; `None` is no limit.
    pub new_flows_per_second: Option<u32>,
    /// IPv4 sources with so many bits in common are one.
    pub prefix_v4: u8,
    /// IPv6 sources with so many bits in common are one.
    pub prefix_v6: u8,
    /// Sources remembered, 32 bytes each; a power of two, at least 2.
    pub entries: u32,
}

/// `[dataplane.tunnels]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// Addresses of this host to which other lbs send tunnel packets.
    pub addresses: Vec<IpAddr>,
    /// Where these may come from; empty is anywhere.
    pub sources: Vec<IpNet>,
}

/// An interface to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name, as in `ip link`.
    pub name: String,
    /// How to attach.
    pub mode: AttachMode,
}

/// How the program is bound to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver; fail where it cannot.
    Native,
    /// In the kernel's generic hook, slow.
    Generic,
    /// Native, else generic with a warning.
    #[default]
    Auto,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Auto => "auto",
        })
    }
}

/// `next_hop`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopConfig {
    /// Ask the kernel's routes and neighbours, for each backend.
    Auto,
    /// One gateway for all, by MAC address; packets leave by the interface they came in by.
    Gateway([u8; 6]),
}
