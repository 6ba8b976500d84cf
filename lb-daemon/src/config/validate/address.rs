//! Addresses of VIPs and backends: how they are written, and which of them can work.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{
    diagnostic::{Code, Complaint},
    place::Spanned,
    prefix,
    quantity::{Wrong, wrong},
    raw::Section,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Vip,
    Backend,
    /// A backend that is this host.
    LocalBackend,
    /// Where other lbs send tunnel packets.
    Tunnel,
}

/// The address under `address`.
pub(super) fn address(section: &Section<'_>, role: Role) -> Option<Spanned<IpAddr>> {
    address_of(section, "address", &section.string("address")?, role)
}

/// `text`, a value of `key`, as an address.
pub(super) fn address_of(
    section: &Section<'_>,
    key: &str,
    text: &Spanned<&str>,
    role: Role,
) -> Option<Spanned<IpAddr>> {
    let address = match parse(text.get_ref()) {
        Ok(address) => Spanned::new(text.span(), address),
        Err(wrong) => {
            section.invalid(key, text.span(), wrong);
            return None;
        }
    };
    let complaint = |code, message: String| Complaint::new(code, address.span(), message);
    if let Some((label, hint)) = unusable(*address.get_ref(), role) {
        let whose = match role {
            Role::Vip => "of a VIP",
            Role::Backend | Role::LocalBackend => "of a backend",
            Role::Tunnel => "for tunnel packets",
        };
        let message = format!("{} cannot be the address {whose}", address.get_ref());
        section.complain(complaint(Code::UnusableAddress, message).label(label).hint(hint));
        return None;
    }
    if address.get_ref().is_loopback() && role != Role::LocalBackend {
        let complaint = complaint(Code::DoubtfulAddress, format!("{} never leaves this host", address.get_ref()));
        section.complain(complaint.label("a loopback address").hint("give an address that the network routes"));
    }
    Some(address)
}

/// The address of a VIP, or the prefix that it serves.
pub(super) fn served(section: &Section<'_>) -> Option<Spanned<IpNet>> {
    let text = section.string("address")?;
    if !text.get_ref().contains('/') {
        let address = address_of(section, "address", &text, Role::Vip)?;
        return Some(Spanned::new(text.span(), (*address.get_ref()).into()));
    }
    let net = match prefix::parse(text.get_ref()) {
        Ok(net) if net.prefix_len() == net.max_prefix_len() => {
            let alone = address_of(section, "address", &Spanned::new(text.span(), &net.addr().to_string()), Role::Vip);
            return alone.map(|_| Spanned::new(text.span(), net));
        }
        Ok(net) => net,
        Err(wrong) => {
            section.invalid("address", text.span(), wrong);
            return None;
        }
    };
    if let Some((what, holds)) = RESERVED.iter().find(|(_, other)| net.contains(other) || other.contains(&net)) {
        let message = format!("{net} cannot be the addresses of a VIP");
        let complaint = Complaint::new(Code::UnusableAddress, text.span(), message);
        let hint = format!("give a prefix that holds nothing of {holds}");
        section.complain(complaint.label(*what).hint(hint));
        return None;
    }
    Some(Spanned::new(text.span(), net))
}

/// What no prefix of a VIP may hold.
const RESERVED: [(&str, IpNet); 6] = [
    ("holds \"this network\" (RFC 791)", v4([0, 0, 0, 0], 8)),
    ("holds multicast addresses", v4([224, 0, 0, 0], 4)),
    ("holds the broadcast address", v4([255, 255, 255, 255], 32)),
    ("holds the unspecified address", v6([0, 0, 0], 128)),
    // In the tables IPv4 addresses lie there.
    ("holds the IPv4 addresses in IPv6 form", v6([0, 0xffff, 0], 96)),
    ("holds multicast addresses", v6([0xff00, 0, 0], 8)),
];

const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits))
}

/// By the first, the sixth and the last of an address's eight words.
const fn v6([first, sixth, last]: [u16; 3], bits: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, sixth, 0, last), bits))
}

fn parse(text: &str) -> Result<IpAddr, Wrong> {
    text.parse().map_err(|_| {
        if text.parse::<std::net::SocketAddr>().is_ok() {
            wrong("an address and a port", "give the address alone; a VIP's port has its own key, `port`")
        } else if text.contains('/') {
            wrong("a prefix, not an address", "leave out `/` and what follows")
        } else {
            wrong("not an IP address", "write it in digits, such as \"192.0.2.10\" or \"2001:db8::10\"")
        }
    })
}

/// Why an address cannot work, and what to do.
fn unusable(address: IpAddr, role: Role) -> Option<(&'static str, String)> {
    let other = || "give the address of one host".to_owned();
    match address {
        _ if address.is_unspecified() => Some(("the unspecified address", other())),
        _ if address.is_multicast() => Some(("a multicast address", other())),
        IpAddr::V4(v4) if v4.is_broadcast() => Some(("the broadcast address", other())),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Some(("an IPv4 address in IPv6 form", format!("write \"{v4}\""))),
            None if v6.is_unicast_link_local() && role == Role::Backend => {
                Some(("a link-local address: it names no host beyond one link", "give a routed address".into()))
            }
            None => None,
        },
        IpAddr::V4(_) => None,
    }
}
