//! Addresses of VIPs and backends: how they are written, and which of them can work.

use std::net::IpAddr;

use toml::Spanned;

use crate::config::{
    diagnostic::{Code, Complaint},
    quantity::{Wrong, wrong},
    raw::Section,
};

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Vip,
    Backend,
}

/// The address under `address`.
pub(super) fn address(section: &Section<'_>, role: Role) -> Option<Spanned<IpAddr>> {
    let text = section.string("address")?;
    if role == Role::Vip && text.get_ref().parse::<ipnet::IpNet>().is_ok() {
        section.not_built("a prefix as VIP", text.span(), "give one address, without `/` and length");
        return None;
    }
    let address = match parse(text.get_ref()) {
        Ok(address) => Spanned::new(text.span(), address),
        Err(wrong) => {
            section.invalid("address", text.span(), wrong);
            return None;
        }
    };
    let complaint = |code, message: String| Complaint::new(code, address.span(), message);
    if let Some((label, hint)) = unusable(*address.get_ref(), role) {
        let whose = if role == Role::Vip { "VIP" } else { "backend" };
        let message = format!("{} cannot be the address of a {whose}", address.get_ref());
        section.complain(complaint(Code::UnusableAddress, message).label(label).hint(hint));
        return None;
    }
    if address.get_ref().is_loopback() {
        let complaint = complaint(Code::DoubtfulAddress, format!("{} never leaves this host", address.get_ref()));
        section.complain(complaint.label("a loopback address").hint("give an address that the network routes"));
    }
    Some(address)
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
