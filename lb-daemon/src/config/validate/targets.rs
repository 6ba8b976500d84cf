//! What a VIP and the pools that it uses cannot be together.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::pool::{MAX_BACKENDS, ReadPool};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        place::{At, Spanned},
        raw::Section,
    },
    model::{Service, Vip},
};
use lb_common::layout::flow::MAX_TARGETS;

/// Slots for each backend that keep every share within about 1 % of what the weights say.
const SLOTS_PER_BACKEND: usize = 100;

/// Complains about what VIP and pool cannot be together.
pub(super) fn with_pool(section: &Section<'_>, service: &Spanned<Service>, pool: &ReadPool) {
    let Service { port, protocol, .. } = *service.get_ref();
    own_backend(section, service, pool);
    let name = &pool.pool.name;
    for (check, place) in pool.pool.health.checks.iter().zip(&pool.health).filter(|(check, _)| check.port.is_none()) {
        // A program may need no port.
        let Some(by) = check.ask.protocol() else { continue };
        let hint = format!("add `port` to [pool.{name}.health], or to its template");
        if port == 0 {
            let message = format!("the health check of pool {name} has no port to ask");
            let complaint = Complaint::new(Code::Conflict, service.span(), message).label("this VIP serves every port");
            section.complain(complaint.also(*place, "this check asks the VIP's port").hint(hint));
        } else if protocol != by {
            let [asked, served] = [by, protocol].map(|one| one.to_string().to_uppercase());
            let message = format!("the health check of pool {name} asks port {port} of {asked}");
            let complaint = Complaint::new(Code::NoEffect, service.span(), message);
            let complaint = complaint.label(format!("this VIP serves {served}"));
            section.complain(complaint.also(*place, format!("this check asks by {asked}")).hint(hint));
        }
    }
}

/// Complains about a backend whose address the VIP serves. The backend that is this host may have it.
fn own_backend(section: &Section<'_>, service: &Spanned<Service>, pool: &ReadPool) {
    let net = service.get_ref().prefix();
    let local =
        |address: &IpAddr| pool.pool.backends.iter().any(|backend| backend.local && backend.address == *address);
    let inside = pool.addresses.range(net.network()..=net.broadcast()).find(|(address, _)| !local(address));
    if let Some((address, place)) = inside {
        let message = if service.get_ref().wildcard_bits == 0 {
            format!("{address} is a VIP and one of its own backends")
        } else {
            format!("VIP {net} holds one of its own backends, {address}")
        };
        let complaint = Complaint::new(Code::Conflict, service.span(), message).label("the VIP");
        let hint = "give the backend's own address: packets to the VIP's would come back here";
        section.complain(complaint.also(*place, "the backend").hint(hint));
    }
}

/// Warns of frames that are for their backends' MAC addresses and all go to the gateway's: right only if that is the one
/// backend, or knows them apart. The backend that is this host gets its packets anyway.
pub(super) fn l2_by_gateway(section: &Section<'_>, pools: &[&ReadPool], gateway: Option<&At>) {
    let sent = pools.iter().any(|pool| pool.pool.backends.iter().any(|backend| !backend.local));
    if let Some(gateway) = gateway.filter(|_| sent) {
        let message = "`encap = \"l2\"` with one gateway as `next_hop`: no backend is told from another";
        let own = section.entry("encap").map(|(_, value)| value.span());
        let label = if own.is_some() { "here" } else { "this VIP has it from its pool" };
        let complaint =
            Complaint::new(Code::DoubtfulAddress, own.unwrap_or_else(|| section.span()), message).label(label);
        let hint = "write `next_hop = \"auto\"`, or give the VIP `encap = \"ipip\"` or `encap = \"gue\"`";
        section.complain(complaint.also(*gateway, "every frame goes to this MAC address").hint(hint));
    }
}

/// Warns of a ring that is small for one of the pools, each of which has one.
pub(super) fn small_ring(section: &Section<'_>, pools: &[&ReadPool], ring_size: u32) {
    let backends = pools.iter().map(|pool| pool.pool.backends.len()).max().unwrap_or_default();
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND);
    if usize::try_from(ring_size).is_ok_and(|slots| slots < wanted) {
        let message = format!("a ring of {ring_size} slots is small for {backends} backends");
        let complaint = Complaint::new(Code::SmallRing, section.span(), message).label("shares will not be exact");
        section.complain(complaint.hint(format!("give `ring_size` a prime of at least {wanted}")));
    }
}

/// Complains about more backends of the pools together than a VIP can have. One pool alone was looked at before.
pub(super) fn too_many_backends(section: &Section<'_>, pools: &[&ReadPool]) {
    let backends = targets(pools);
    if pools.len() > 1 && backends > MAX_BACKENDS {
        let message = format!("the VIP has {backends} backends, with those of its source routes");
        let complaint = Complaint::new(Code::TooMany, section.span(), message);
        section.complain(complaint.hint(format!("a VIP may have {MAX_BACKENDS}; name smaller pools")));
    }
}

/// Backends of the pools, each address once.
fn targets(pools: &[&ReadPool]) -> usize {
    match pools {
        [pool] => pool.addresses.len(),
        pools => pools.iter().flat_map(|pool| pool.addresses.keys()).collect::<BTreeSet<_>>().len(),
    }
}

/// Every backend of every VIP takes a place in the table of targets, of which the first is never used.
pub(super) fn too_many_targets(root: &Section<'_>, pools: &BTreeMap<String, ReadPool>, vips: &[Vip]) {
    let backends = |vip: &Vip| targets(&vip.pools().filter_map(|name| pools.get(name)).collect::<Vec<_>>());
    let targets: usize = vips.iter().map(backends).sum();
    let places = MAX_TARGETS as usize - 1;
    if targets > places {
        let message = format!("{targets} backends of VIPs, counted once for each VIP");
        let complaint = Complaint::new(Code::TooMany, root.span(), message);
        root.complain(complaint.hint(format!("lb serves {places}; share them out among several machines")));
    }
}
