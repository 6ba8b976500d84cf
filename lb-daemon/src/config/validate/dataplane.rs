//! `[dataplane]`

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    time::Duration,
};

use ipnet::{Ipv4Net, Ipv6Net};
use toml::de::DeValue;

use super::{
    Once, access::access, drops_unknown_port, duration, limits::source_limit, number, power_of_two, ring_size,
    tunnels::tunnels,
};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        lists::Lists,
        place::{At, Spanned},
        quantity::{self, Wrong, wrong},
        raw::Section,
        schema,
    },
    model::{AttachMode, DataplaneConfig, Interface, NextHopConfig},
};

/// 64 entries are eight buckets; 2^27 entries take 1 GiB.
const FLOW_ENTRIES: RangeInclusive<u64> = 64..=1 << 27;
const FLOW_ENTRY_BYTES: u64 = 8;
const DEFAULT_FLOW_ENTRIES: u32 = 1 << 20;
const DEFAULT_RING_SIZE: u32 = 65_537;
const DEFAULT_HASH_SEED: u64 = 0x5eed;
const DEFAULT_UDP_IDLE: Duration = Duration::from_secs(30);
/// The table's clock has 4.9 h.
const UDP_IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(4);
const DEFAULT_SOURCE_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 16);
const DEFAULT_SOURCE_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64);
/// The port that IANA assigned to GUE.
const DEFAULT_GUE_PORT: u16 = 6080;
/// RFC 791's least packet, and the longest that a length field can say.
const MTU: RangeInclusive<u64> = 576..=65_535;
/// Bytes of an interface's name: `IFNAMSIZ` less its final zero.
const MAX_INTERFACE_NAME: usize = 15;

const MODES: [(&str, AttachMode); 3] =
    [("native", AttachMode::Native), ("generic", AttachMode::Generic), ("auto", AttachMode::Auto)];

/// `[dataplane]` and what VIPs take from it.
pub(super) struct Dataplane {
    pub(super) config: DataplaneConfig,
    /// Slots of a ring whose VIP does not say.
    pub(super) ring_size: u32,
    /// Whether packets to unknown ports of a VIP that does not say are dropped.
    pub(super) drops_unknown_port: bool,
    /// Place of `next_hop`, if that is one gateway for all.
    pub(super) gateway: Option<At>,
    /// Addresses for tunnel packets, with their places.
    pub(super) tunnel_addresses: Vec<Spanned<IpAddr>>,
}

pub(super) fn dataplane(section: &Section<'_>, lists: &Lists<'_>) -> Dataplane {
    let (tunnels, tunnel_addresses) = tunnels(&section.child("tunnels", &schema::TUNNELS));
    let next_hop = section.parsed("next_hop", next_hop);
    let gateway = next_hop.as_ref().filter(|hop| *hop.get_ref() != NextHopConfig::Auto).map(Spanned::span);
    let udp_idle_timeout = duration(section, "udp_idle_timeout", &UDP_IDLE);
    Dataplane {
        config: DataplaneConfig {
            interfaces: interfaces(section),
            next_hop: next_hop.map_or(NextHopConfig::Auto, Spanned::into_inner),
            flow_table_entries: flow_table_entries(section).unwrap_or(DEFAULT_FLOW_ENTRIES),
            hash_seed: hash_seed(section).unwrap_or(DEFAULT_HASH_SEED),
            udp_idle_timeout: udp_idle_timeout.map_or(DEFAULT_UDP_IDLE, Spanned::into_inner),
            tunnel_source_v4: section
                .parsed("tunnel_source_v4", source_v4)
                .map_or(DEFAULT_SOURCE_V4, Spanned::into_inner),
            tunnel_source_v6: section
                .parsed("tunnel_source_v6", source_v6)
                .map_or(DEFAULT_SOURCE_V6, Spanned::into_inner),
            mtu: mtu(section),
            gue_port: number(section, "gue_port", &(1..=65_535)).unwrap_or(DEFAULT_GUE_PORT),
            access: access(section, lists),
            source_limit: source_limit(&section.child("source_limit", &schema::SOURCE_LIMIT)),
            tunnels,
        },
        ring_size: ring_size(section).unwrap_or(DEFAULT_RING_SIZE),
        drops_unknown_port: drops_unknown_port(section).unwrap_or(false),
        gateway,
        tunnel_addresses,
    }
}

/// `interfaces` and `[[dataplane.interface]]` together.
fn interfaces(section: &Section<'_>) -> Vec<Interface> {
    let mode = section.choice("mode", &MODES).unwrap_or_default();
    let simple = section.array("interfaces");
    let tables = section.children("interface", &schema::INTERFACE);
    let given = section
        .entry("interfaces")
        .is_some_and(|(_, value)| value.get_ref().as_array().is_none_or(|array| !array.is_empty()));
    if !given && section.entry("interface").is_none() {
        let complaint = Complaint::new(Code::NoInterface, section.span(), "no interface to attach to");
        let hint = "add `interfaces = [\"eth0\"]` to [dataplane]; without one only `lb load --no-attach` works";
        section.complain(complaint.hint(hint));
    }
    let simple = simple.into_iter().filter_map(|value| Some((section.string_of("interfaces", value)?, mode)));
    let tables = tables.iter().filter_map(|table| {
        table.require("name", "add `name = \"eth0\"`");
        let mode = table.choice("mode", &MODES).unwrap_or(mode);
        Some((table.string("name")?, mode))
    });
    let mut seen = Once::new();
    let mut found = Vec::new();
    for (name, mode) in simple.chain(tables) {
        if let Err(wrong) = interface_name(name.get_ref()) {
            section.invalid("interface", name.span(), wrong);
        }
        let what = format!("interface {}", name.get_ref());
        seen.note(section, &what, *name.get_ref(), name.span(), "name each interface once");
        found.push(Interface { name: (*name.get_ref()).to_owned(), mode });
    }
    found
}

/// The kernel's `dev_valid_name`.
fn interface_name(name: &str) -> Result<(), Wrong> {
    let bad = |c: char| c == '/' || c == ':' || c == '\0' || c.is_ascii_whitespace();
    if name.is_empty() || name.len() > MAX_INTERFACE_NAME || matches!(name, "." | "..") || name.contains(bad) {
        let label = format!("no interface can have this name: 1 to {MAX_INTERFACE_NAME} bytes, no space, `/` or `:`");
        return Err(wrong(label, "`ip link` lists the interfaces"));
    }
    Ok(())
}

fn next_hop(text: &str) -> Result<NextHopConfig, Wrong> {
    if text == "auto" {
        return Ok(NextHopConfig::Auto);
    }
    let hint = "use \"auto\", or the gateway's MAC address such as \"02:00:00:00:00:01\"";
    match quantity::mac(text).map_err(|wrong| Wrong { hint: hint.into(), ..wrong })? {
        [0, 0, 0, 0, 0, 0] => Err(wrong("the unset MAC address", hint)),
        // The lowest bit of the first byte marks groups (IEEE 802).
        [first, ..] if first & 1 == 1 => Err(wrong("a group's MAC address, not a host's", hint)),
        mac => Ok(NextHopConfig::Gateway(mac)),
    }
}

/// A number of entries, or the memory that they may take.
fn flow_table_entries(section: &Section<'_>) -> Option<u32> {
    const KEY: &str = "flow_table_entries";
    let (_, value) = section.entry(KEY)?;
    let given = match value.get_ref() {
        DeValue::String(_) => {
            let size = section.parsed(KEY, quantity::bytes)?;
            Spanned::new(size.span(), size.into_inner() / FLOW_ENTRY_BYTES)
        }
        _ => section.integer(KEY, &(0..=u64::MAX))?,
    };
    power_of_two(section, KEY, &given, &FLOW_ENTRIES)
}

/// Bytes, or none for those of the way to the backend.
fn mtu(section: &Section<'_>) -> Option<u32> {
    let (_, value) = section.entry("mtu")?;
    let (low, high) = MTU.into_inner();
    let hint = format!("use \"auto\", or a number of bytes from {low} to {high} without quotes");
    match value.get_ref() {
        DeValue::Integer(_) => number(section, "mtu", &MTU),
        DeValue::String(text) if text == "auto" => None,
        DeValue::String(_) => {
            section.invalid("mtu", value.span(), wrong("not \"auto\"", hint));
            None
        }
        _ => {
            section.mistyped("mtu", value, "a number of bytes or \"auto\"", hint);
            None
        }
    }
}

/// An integer, or hexadecimal digits in a string.
fn hash_seed(section: &Section<'_>) -> Option<u64> {
    let (_, value) = section.entry("hash_seed")?;
    let seed = match value.get_ref() {
        DeValue::String(_) => section.parsed("hash_seed", quantity::hex_seed),
        _ => section.integer("hash_seed", &(0..=u64::MAX)),
    };
    seed.map(Spanned::into_inner)
}

fn source_v4(text: &str) -> Result<Ipv4Net, Wrong> {
    let hint = "write a prefix of 8 to 24 bits such as \"172.16.0.0/16\"";
    let net: Ipv4Net = text.parse().map_err(|_| wrong("not an IPv4 prefix", hint))?;
    if !(8..=24).contains(&net.prefix_len()) {
        Err(wrong("not 8 to 24 bits long: the rest tells flows apart", hint))
    } else if net != net.trunc() {
        Err(wrong("bits are set beyond the prefix; flows decide them", format!("write \"{}\"", net.trunc())))
    } else if net.addr().is_multicast() || net.addr().is_loopback() || net.addr().octets().first() == Some(&0) {
        Err(wrong("no source address can be of this prefix", hint))
    } else {
        Ok(net)
    }
}

fn source_v6(text: &str) -> Result<Ipv6Net, Wrong> {
    let hint = "write a prefix of 32 to 96 bits such as \"100::/64\"";
    let net: Ipv6Net = text.parse().map_err(|_| wrong("not an IPv6 prefix", hint))?;
    if !(32..=96).contains(&net.prefix_len()) {
        Err(wrong("not 32 to 96 bits long: the last 32 tell flows apart", hint))
    } else if net != net.trunc() {
        Err(wrong("bits are set beyond the prefix; flows decide them", format!("write \"{}\"", net.trunc())))
    } else if net.addr().is_multicast() || net.addr().is_unspecified() {
        Err(wrong("no source address can be of this prefix", hint))
    } else {
        Ok(net)
    }
}
