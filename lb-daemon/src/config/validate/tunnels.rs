//! `[dataplane.tunnels]`

use std::net::IpAddr;

use super::{
    Once,
    access::{prefixes, twice},
    address::{Role, address_of},
};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::{At, Spanned},
        raw::Section,
    },
    model::{Service, Tunnels},
};

/// The tunnels, and the places of their addresses.
pub(super) fn tunnels(section: &Section<'_>) -> (Tunnels, Vec<Spanned<IpAddr>>) {
    const KEY: &str = "addresses";
    if section.is_present() {
        section.require(KEY, "add `addresses = [\"192.0.2.1\"]`, an address of this host");
    }
    let values = section.array(KEY);
    if let Some((_, value)) = section.entry(KEY)
        && value.get_ref().as_array().is_some_and(|array| array.is_empty())
    {
        let complaint = Complaint::new(Code::InvalidValue, value.span(), "`addresses` is empty");
        let hint = "give an address of this host, or remove [dataplane.tunnels]";
        section.complain(complaint.label("nothing would be unwrapped").hint(hint));
    }
    let mut seen = Once::new();
    let mut addresses = Vec::new();
    for value in values {
        let text = section.string_of(KEY, value);
        let Some(address) = text.and_then(|text| address_of(section, KEY, &text, Role::Tunnel)) else { continue };
        let what = format!("tunnel address {}", address.get_ref());
        seen.note(section, &what, *address.get_ref(), address.span(), "give each address once");
        addresses.push(address);
    }
    let sources = prefixes(section, "sources");
    for (net, _, [first, again]) in twice(sources.iter().map(|(net, at)| (*net, (), at))) {
        let message = format!("prefix {net} is given twice in `sources`");
        let complaint = Complaint::new(Code::Duplicate, *again, message).label("again here");
        section.complain(complaint.also(*first, "first here").hint("give each prefix once"));
    }
    let tunnels = Tunnels {
        addresses: addresses.iter().map(|address| *address.get_ref()).collect(),
        sources: sources.into_iter().map(|(net, _)| net).collect(),
    };
    (tunnels, addresses)
}

/// Complains about tunnel addresses that VIPs serve: whose packets are those?
pub(super) fn apart_from_vips(root: &Section<'_>, addresses: &[Spanned<IpAddr>], vips: &[(Service, At)]) {
    for address in addresses {
        let serves = |(service, _): &&(Service, At)| service.prefix().contains(address.get_ref());
        if let Some((service, place)) = vips.iter().find(serves) {
            let message = format!("{} takes tunnel packets and belongs to VIP {service}", address.get_ref());
            let complaint = Complaint::new(Code::Conflict, address.span(), message).label("the tunnel address");
            let hint = "give this host an address for tunnel packets that no VIP has";
            root.complain(complaint.also(*place, "the VIP").hint(hint));
        }
    }
}
