//! `[[vip]]`

use std::collections::{BTreeMap, BTreeSet};

use lb_common::layout::flow::MAX_TARGETS;
use toml::Spanned;

use super::{
    Once,
    address::{Role, address},
    name,
    pool::ReadPool,
    ring_size,
};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        quantity,
        raw::Section,
        schema::{self, nearest},
    },
    model::{Check, Protocol, Service, Vip},
};

const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
/// Slots for each backend that keep every share within about 1 % of what the weights say.
const SLOTS_PER_BACKEND: usize = 100;

/// All VIPs, in the file's order.
pub(super) fn vips(root: &Section<'_>, pools: &BTreeMap<String, ReadPool>, default_ring: u32) -> Vec<Vip> {
    let mut names = Once::new();
    let mut services = Once::new();
    let mut used = BTreeSet::new();
    let mut unknown = root.entry("vip").is_some_and(|(_, vips)| vips.get_ref().as_array().is_none());
    let mut vips = Vec::new();
    for section in root.children("vip", &schema::VIP) {
        let pool = pool(&section, pools);
        used.extend(pool.map(|pool| pool.pool.name.as_str()));
        unknown |= pool.is_none();
        vips.extend(vip(&section, pool, default_ring, &mut names, &mut services));
    }
    // A VIP whose pool's name is mistyped is likely to mean one of the others.
    for (name, pool) in pools.iter().filter(|(name, _)| !unknown && !used.contains(name.as_str())) {
        let complaint = Complaint::new(Code::UnusedPool, pool.span.clone(), format!("no VIP uses pool {name}"));
        root.complain(complaint.hint(format!("write `pool = \"{name}\"` in a [[vip]], or remove the pool")));
    }
    if root.entry("vip").is_none() {
        let complaint = Complaint::new(Code::NoVip, root.span(), "no VIP: nothing is served");
        root.complain(complaint.hint("add a [[vip]] with name, address, port, protocol and pool"));
    }
    too_many_targets(root, pools, &vips);
    vips
}

fn vip(
    section: &Section<'_>,
    pool: Option<&ReadPool>,
    default_ring: u32,
    names: &mut Once<String>,
    services: &mut Once<Service>,
) -> Option<Vip> {
    section.require("name", "add `name = \"web\"`");
    let name = section.parsed("name", name);
    if let Some(name) = &name {
        let what = format!("VIP name {}", name.get_ref());
        names.note(section, &what, name.get_ref().clone(), name.span(), "give each VIP its own name");
    }
    let service = service(section);
    if let Some(service) = &service {
        let what = format!("VIP {}", service.get_ref());
        let hint = "address, port and protocol together must differ from every other VIP's";
        services.note(section, &what, *service.get_ref(), service.span(), hint);
    }
    section.choice("encap", &[("ipip", ())], &["gue", "l2"]);
    section.choice("hash", &[("5-tuple", ())], &["source-ip", "source-ip-destination-port", "destination-port"]);
    section.choice("flow_tracking", &[("always", ())], &["off", "adaptive"]);
    section.choice("quic", &[("off", ())], &["quic-lb", "katran"]);
    let panic_threshold = section.quantity("panic_threshold", "%", quantity::percent).map_or(0, Spanned::into_inner);
    let ring_size = ring_size(section).unwrap_or(default_ring);
    if let Some(pool) = pool {
        small_ring(section, pool, ring_size);
        if let Some(service) = &service {
            with_pool(section, service, pool);
        }
    }
    let (name, service, pool) = (name?.into_inner(), service?.into_inner(), pool?.pool.name.clone());
    Some(Vip { panic_threshold, ..Vip::plain(&name, service, &pool, ring_size) })
}

/// The pool that the VIP names.
fn pool<'p>(section: &Section<'_>, pools: &'p BTreeMap<String, ReadPool>) -> Option<&'p ReadPool> {
    section.require("pool", "add `pool = \"NAME\"`, the name of a [pool.NAME]");
    let name = section.string("pool")?;
    let found = pools.get(*name.get_ref());
    if found.is_none() {
        let complaint = Complaint::new(Code::UnknownPool, name.span(), format!("there is no pool {}", name.get_ref()));
        let hint = match nearest(name.get_ref(), pools.keys().map(String::as_str)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("add a [pool.{}], or name one that is there", name.get_ref()),
        };
        section.complain(complaint.label("no such pool").hint(hint));
    }
    found
}

/// What clients connect to; its place is the address's.
fn service(section: &Section<'_>) -> Option<Spanned<Service>> {
    section.require("address", "add `address = \"192.0.2.10\"`");
    section.require("port", "add `port = 443`, or `port = 0` for every port");
    section.require("protocol", "add `protocol = \"tcp\"` or `protocol = \"udp\"`");
    let address = address(section, Role::Vip);
    let port = section.integer("port", &(0..=65_535)).and_then(|port| u16::try_from(port.into_inner()).ok());
    let protocol = section.choice("protocol", &PROTOCOLS, &[]);
    let address = address?;
    let service = Service::of(*address.get_ref(), port?, protocol?);
    Some(Spanned::new(address.span(), service))
}

/// What VIP and pool cannot be together.
fn with_pool(section: &Section<'_>, service: &Spanned<Service>, pool: &ReadPool) {
    let Service { address, port, protocol, .. } = *service.get_ref();
    let name = &pool.pool.name;
    if let Some(backend) = pool.addresses.get(&address) {
        let message = format!("{address} is a VIP and one of its own backends");
        let complaint = Complaint::new(Code::Conflict, service.span(), message).label("the VIP");
        let hint = "give the backend's own address: packets to the VIP's would come back here";
        section.complain(complaint.also(backend.clone(), "the backend").hint(hint));
    }
    let health = &pool.pool.health;
    if health.check == Check::None || health.port.is_some() {
        return;
    }
    let hint = format!("add `port` to [pool.{name}.health]");
    if port == 0 {
        let message = format!("the health check of pool {name} has no port to ask");
        let complaint = Complaint::new(Code::Conflict, service.span(), message).label("this VIP serves every port");
        section.complain(complaint.also(pool.health.clone(), "this check asks the VIP's port").hint(hint));
    } else if protocol == Protocol::Udp {
        let message = format!("the health check of pool {name} asks port {port} of TCP");
        let complaint = Complaint::new(Code::NoEffect, service.span(), message).label("this VIP serves UDP");
        section.complain(complaint.also(pool.health.clone(), "this check asks by TCP").hint(hint));
    }
}

fn small_ring(section: &Section<'_>, pool: &ReadPool, ring_size: u32) {
    let backends = pool.pool.backends.len();
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND);
    if usize::try_from(ring_size).is_ok_and(|slots| slots < wanted) {
        let message = format!("a ring of {ring_size} slots is small for {backends} backends");
        let complaint = Complaint::new(Code::SmallRing, section.span(), message).label("shares will not be exact");
        section.complain(complaint.hint(format!("give `ring_size` a prime of at least {wanted}")));
    }
}

/// Every backend of every VIP takes a place in the table of targets, of which the first is never used.
fn too_many_targets(root: &Section<'_>, pools: &BTreeMap<String, ReadPool>, vips: &[Vip]) {
    let backends = |vip: &Vip| pools.get(&vip.pool).map_or(0, |pool| pool.pool.backends.len());
    let targets: usize = vips.iter().map(backends).sum();
    let places = MAX_TARGETS as usize - 1;
    if targets > places {
        let message = format!("{targets} backends of VIPs, counted once for each VIP");
        let complaint = Complaint::new(Code::TooMany, root.span(), message);
        root.complain(complaint.hint(format!("lb serves {places}; share them out among several machines")));
    }
}
