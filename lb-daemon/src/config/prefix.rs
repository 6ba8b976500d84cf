//! How prefixes of addresses are written. Pure: text in, a prefix or a reason out.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::quantity::{Wrong, wrong};

/// Bits of an IPv6 address before the IPv4 address that it may hold (RFC 4291 section 2.5.5.2).
const MAPPED: u8 = 96;

/// `"203.0.113.0/24"`, `"2001:db8::/32"`, or an address alone, which is a prefix of its full length. No bit is set beyond
/// the length, and an IPv4 prefix is not in IPv6 form.
pub(super) fn parse(text: &str) -> Result<IpNet, Wrong> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => text.parse::<IpAddr>().map_err(|_| unreadable(text))?.into(),
    };
    if net != net.trunc() {
        return Err(wrong("bits are set beyond the prefix", format!("write \"{}\"", net.trunc())));
    }
    match of_mapped(&net) {
        Some(v4) => Err(wrong("an IPv4 prefix in IPv6 form", format!("write \"{v4}\""))),
        None => Ok(net),
    }
}

/// The IPv4 prefix that an IPv6 prefix stands for.
fn of_mapped(net: &IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(net) = net else { return None };
    Ipv4Net::new(net.addr().to_ipv4_mapped()?, net.prefix_len().checked_sub(MAPPED)?).ok()
}

fn unreadable(text: &str) -> Wrong {
    let hint = "write an address, or an address, `/` and a length, such as \"203.0.113.0/24\" or \"2001:db8::/32\"";
    if text.parse::<SocketAddr>().is_ok() {
        return wrong("an address and a port", "leave out the port");
    }
    match text.split_once('/') {
        Some((address, length)) => match address.parse::<IpAddr>() {
            Ok(address) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                wrong(format!("`{length}` is not a length from 0 to {bits}"), hint)
            }
            Err(_) => wrong("not a prefix", hint),
        },
        None => wrong("not a prefix", hint),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_prefixes_and_addresses() {
        for (text, net) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("203.0.113.9", "203.0.113.9/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), net, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_prefix_and_says_what_is_meant() {
        for (text, hint) in [
            ("203.0.113.9/24", "write \"203.0.113.0/24\""),
            ("2001:db8::1/64", "write \"2001:db8::/64\""),
            ("::ffff:203.0.113.0/120", "write \"203.0.113.0/24\""),
            ("::ffff:203.0.113.9", "write \"203.0.113.9/32\""),
            ("203.0.113.9:80", "leave out the port"),
            ("203.0.113.0/33", "such as \"203.0.113.0/24\""),
            ("203.0.113.0/", "such as"),
            ("203.0.113", "such as"),
            ("203.0.113/24", "such as"),
            ("", "such as"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.hint.contains(hint), "{text}: {wrong:?}");
        }
        assert!(parse("::/129").unwrap_err().label.contains("0 to 128"));
    }
}
