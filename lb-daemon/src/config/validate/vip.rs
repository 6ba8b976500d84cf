//! `[[vip]]`

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Once,
    access::access,
    address::served,
    dataplane::Dataplane,
    drops_unknown_port, health,
    limits::RATE,
    name, number,
    pool::{ReadPool, encap, find_pool},
    protection::{least, ring_change},
    ring_size,
    routes::source_routes,
    server_id::{Routing, routing},
    targets::{l2_by_gateway, small_ring, too_many_backends, too_many_targets, with_pool},
    tunnels::apart_from_vips,
};
use crate::{
    config::{
        diagnostic::{Code, Complaint},
        include::Documents,
        lists::Lists,
        place::Spanned,
        quantity,
        raw::Section,
        schema,
    },
    model::{Encap, FlowTracking, HashMode, Protocol, Service, Vip},
};

const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const HASHES: [(&str, HashMode); 4] = [
    ("5-tuple", HashMode::FiveTuple),
    ("source-ip", HashMode::SourceIp),
    ("source-ip-destination-port", HashMode::SourceIpDestinationPort),
    ("destination-port", HashMode::DestinationPort),
];

const TRACKING: [(&str, FlowTracking); 3] =
    [("always", FlowTracking::Always), ("adaptive", FlowTracking::Adaptive), ("off", FlowTracking::Off)];

/// What VIPs are read with, and what was seen of those before.
struct Reading<'p, 'l> {
    lists: &'p Lists<'l>,
    pools: &'p BTreeMap<String, ReadPool>,
    dataplane: &'p Dataplane,
    names: Once<String>,
    services: Once<Service>,
    /// Pools that a VIP uses.
    used: BTreeSet<&'p str>,
}

/// All VIPs, in the files' order.
pub(super) fn vips(
    documents: &Documents<'_>,
    lists: &Lists<'_>,
    pools: &BTreeMap<String, ReadPool>,
    dataplane: &Dataplane,
) -> Vec<Vip> {
    let (names, services, used) = (Once::new(), Once::new(), BTreeSet::new());
    let mut reading = Reading { lists, pools, dataplane, names, services, used };
    let root = &documents.main;
    let no_array = |root: &Section<'_>| root.entry("vip").is_some_and(|(_, vips)| vips.get_ref().as_array().is_none());
    let mut unknown = documents.all().any(no_array);
    let mut vips = Vec::new();
    for section in documents.all().flat_map(|root| root.children("vip", &schema::VIP)) {
        section.require("pool", "add `pool = \"NAME\"`, the name of a [pool.NAME]");
        let pool = section.string("pool");
        let pool = pool.and_then(|name| find_pool(&section, name.span(), name.get_ref(), pools));
        unknown |= pool.is_none();
        vips.extend(reading.vip(&section, pool));
    }
    // A VIP whose pool's name is mistyped is likely to mean one of the others.
    for (name, pool) in pools.iter().filter(|(name, _)| !unknown && !reading.used.contains(name.as_str())) {
        let complaint = Complaint::new(Code::UnusedPool, pool.span, format!("no VIP uses pool {name}"));
        root.complain(complaint.hint(format!("write `pool = \"{name}\"` in a [[vip]], or remove the pool")));
    }
    if !documents.have("vip") {
        let complaint = Complaint::new(Code::NoVip, root.span(), "no VIP: nothing is served");
        root.complain(complaint.hint("add a [[vip]] with name, address, port, protocol and pool"));
    }
    let services: Vec<_> = reading.services.0.into_iter().collect();
    apart_from_vips(root, &dataplane.tunnel_addresses, &services);
    too_many_targets(root, pools, &vips);
    health::udp_alone(root, pools, &vips);
    vips
}

impl<'p> Reading<'p, '_> {
    fn vip(&mut self, section: &Section<'_>, pool: Option<&'p ReadPool>) -> Option<Vip> {
        section.require("name", "add `name = \"web\"`");
        let name = section.parsed("name", name);
        if let Some(name) = &name {
            let what = format!("VIP name {}", name.get_ref());
            self.names.note(section, &what, name.get_ref().clone(), name.span(), "give each VIP its own name");
        }
        section.require("protocol", "add `protocol = \"tcp\"` or `protocol = \"udp\"`");
        let protocol = section.choice("protocol", &PROTOCOLS);
        let service = service(section, protocol);
        if let Some(service) = &service {
            let what = format!("VIP {}", service.get_ref());
            let hint = "address, port and protocol together must differ from every other VIP's";
            self.services.note(section, &what, *service.get_ref(), service.span(), hint);
        }
        let (source_routes, others) = source_routes(section, self.lists, self.pools, pool);
        let others = others.into_iter().filter(|other| pool.is_none_or(|own| own.pool.name != other.pool.name));
        let pools: Vec<&ReadPool> = pool.into_iter().chain(others).collect();
        self.used.extend(pools.iter().map(|pool| pool.pool.name.as_str()));
        let ring_size = ring_size(section).unwrap_or(self.dataplane.ring_size);
        with_pools(section, service.as_ref(), &pools, ring_size);
        let Routing { quic, tcp_server_id, udp_stable } = routing(section, protocol, &pools);
        let options = options(section, self.lists, pool, ring_size);
        let drops_unknown_port = drops_unknown_port(section).unwrap_or(self.dataplane.drops_unknown_port);
        let encap = encap(section).or(pool.and_then(|pool| pool.encap)).unwrap_or_default();
        if encap == Encap::L2 {
            l2_by_gateway(section, &pools, self.dataplane.gateway.as_ref());
        }
        let (name, service, pool) = (name?.into_inner(), service?.into_inner(), pool?.pool.name.as_str());
        let plain = Vip::plain(&name, service, pool, ring_size);
        let routed = Vip { encap, quic, tcp_server_id, udp_stable, source_routes, drops_unknown_port, ..plain };
        let vip = options(routed);
        adaptive_alone(section, &vip);
        health::unseen(section, &vip, &pools);
        Some(vip)
    }
}

/// Complains about what a VIP and its pools cannot be together.
fn with_pools(section: &Section<'_>, service: Option<&Spanned<Service>>, pools: &[&ReadPool], ring_size: u32) {
    small_ring(section, pools, ring_size);
    too_many_backends(section, pools);
    for (service, pool) in service.into_iter().flat_map(|service| pools.iter().map(move |pool| (service, pool))) {
        with_pool(section, service, pool);
    }
}

/// Reads what depends on nothing else, to be put into the VIP.
fn options(
    section: &Section<'_>,
    lists: &Lists<'_>,
    pool: Option<&ReadPool>,
    ring_size: u32,
) -> impl FnOnce(Vip) -> Vip + use<> {
    let panic_threshold = section.quantity("panic_threshold", "%", quantity::percent).map_or(0, Spanned::into_inner);
    let (min_healthy, max_ring_change) = (least(section, pool), ring_change(section, ring_size));
    let hash = section.choice("hash", &HASHES).unwrap_or_default();
    let flow_tracking = section.choice("flow_tracking", &TRACKING).unwrap_or_default();
    let access = access(section, lists);
    let max_new_flows_per_second = number(section, "max_new_flows_per_second", &RATE);
    if flow_tracking == FlowTracking::Off
        && let Some((key, _)) = section.entry("max_new_flows_per_second")
    {
        let message = "`max_new_flows_per_second` has no effect with `flow_tracking = \"off\"`";
        let complaint =
            Complaint::new(Code::NoEffect, key.span(), message).label("no flow is remembered, so none is new");
        section.complain(complaint.hint("remove one of them"));
    }
    move |vip| Vip {
        panic_threshold,
        min_healthy,
        max_ring_change,
        hash,
        flow_tracking,
        access,
        max_new_flows_per_second,
        ..vip
    }
}

/// Refuses what an adaptive VIP cannot have: its flows are looked for in the slot that the 5-tuple gives.
fn adaptive_alone(section: &Section<'_>, vip: &Vip) {
    let Some((_, tracking)) = section.entry("flow_tracking").filter(|_| vip.is_adaptive()) else { return };
    let others = [
        (vip.hash != HashMode::FiveTuple, "hash"),
        (!vip.source_routes.is_empty(), "source_routes"),
        (vip.tcp_server_id, "tcp_server_id"),
    ];
    for key in others.into_iter().filter(|(asked, _)| *asked).map(|(_, key)| key) {
        let message = format!("`flow_tracking = \"adaptive\"` and `{key}` cannot both hold");
        let complaint = Complaint::new(Code::Conflict, tracking.span(), message).label("goes by the 5-tuple alone");
        let complaint = match section.entry(key) {
            Some((name, _)) => complaint.also(name.span(), "leads flows elsewhere"),
            None => complaint,
        };
        section.complain(complaint.hint(format!("write `flow_tracking = \"always\"`, or remove `{key}`")));
    }
}

/// What clients connect to; its place is the address's.
fn service(section: &Section<'_>, protocol: Option<Protocol>) -> Option<Spanned<Service>> {
    section.require("address", "add `address = \"192.0.2.10\"`");
    section.require("port", "add `port = 443`, or `port = 0` for every port");
    let net = served(section);
    let port = number(section, "port", &(0..=65_535));
    let net = net?;
    Some(Spanned::new(net.span(), Service::of_prefix(*net.get_ref(), port?, protocol?)))
}
