//! A balancer whose one link carries VLANs, as a switch's trunk port does.
//!
//! ```text
//!  router lb0 ══════ eth0 lb        XDP on eth0 sees every tag
//!    lb0.100 ─ VLAN 100 ─ eth0.100    clients' packets, the default route, and backends that no other network leads to
//!    lb0.200 ─ VLAN 200 ─ eth0.200    backend 1
//!    lb0 ───── untagged ──── eth0     backend 2
//!    lb0.300.5 ─ 300, 5 ─ eth0.300.5  backend 4: two tags, the outer one of 802.1ad
//! ```

use std::sync::atomic::Ordering;

use anyhow::Result;

use super::{
    LB_INTERFACE, Lab, NEXT, ROUTER_TO_LB,
    links::{INNER_MTU, balancer_link, route_vips},
};
use crate::{bpf::TaggingPort, netns::Namespace};

/// The router's end of the VLAN by which clients' packets come.
pub const ROUTER_TO_CLIENTS_VLAN: &str = "lb0.100";
/// The router's end of the VLAN that leads to backend 1.
pub const ROUTER_TO_BACKENDS_VLAN: &str = "lb0.200";
/// The router's end of the VLAN within a VLAN that leads to backend 4.
pub const ROUTER_TO_STACKED_VLAN: &str = "lb0.300.5";

/// Makes the balancer's plain link one on which the router's frames bear tag 100 and lb's bear `leaving` (0 is none), also
/// where the kernel has no VLAN devices. The hosts themselves see no tags, only XDP does. Lasts as long as what is returned.
///
/// # Errors
/// When the kernel has no tcx (Linux 6.6), or `ethtool` fails.
pub fn tag_plain_link(lab: &Lab, leaving: u16) -> Result<[TaggingPort; 2]> {
    show_tags_to_xdp(&lab.router, &lab.lb)?;
    Ok([
        lab.router.enter(|| TaggingPort::attach(ROUTER_TO_LB, 100, leaving))?,
        lab.lb.enter(|| TaggingPort::attach(LB_INTERFACE, leaving, 100))?,
    ])
}

/// Whether this kernel has VLAN devices; says so on stderr if not.
///
/// # Errors
/// When it cannot be found out.
pub fn are_possible() -> Result<bool> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let scratch = Namespace::create(&format!("lbtest-{}-{number}-probe", std::process::id()))?;
    scratch.ip("link add below type veth peer name above")?;
    match scratch.ip("link add link below name probe type vlan id 1") {
        Err(error) if format!("{error:#}").contains("Unknown device type") => {
            eprintln!("skipped: this kernel has no VLAN devices");
            Ok(false)
        }
        made => made.map(|()| true),
    }
}

/// Makes the VLAN that leads to backend 1 anew at both ends, under another number.
///
/// # Errors
/// When `ip` fails.
pub fn renumber_backends_vlan(lab: &Lab, number: u16) -> Result<()> {
    lab.router.ip(&format!("link del {ROUTER_TO_BACKENDS_VLAN}"))?;
    lab.lb.ip("link del eth0.200")?;
    backends_vlan(&lab.router, &lab.lb, number)
}

/// The VLAN that leads to backend 1, and the route.
fn backends_vlan(router: &Namespace, lb: &Namespace, number: u16) -> Result<()> {
    let link = balancer_link((router, ROUTER_TO_BACKENDS_VLAN), (lb, "eth0.200"), 9, INNER_MTU);
    link.create_vlan([ROUTER_TO_LB, LB_INTERFACE], &format!("id {number}"))?;
    route_backend(lb, 1, 9)
}

fn route_backend(lb: &Namespace, backend: u8, network: u8) -> Result<()> {
    lb.ip(&format!(
        "route add 10.1.{backend}.0/24 via 10.0.{network}.1\n\
         route add fd00:1:{backend}::/64 via fd00:0:0:{network:x}::1\n"
    ))
}

pub(super) fn join_balancer(router: &Namespace, lb: &Namespace) -> Result<()> {
    let link = |ends: [&'static str; 2], network| balancer_link((router, ends[0]), (lb, ends[1]), network, INNER_MTU);
    let trunk = [ROUTER_TO_LB, LB_INTERFACE];
    link(trunk, 8).create()?;
    show_tags_to_xdp(router, lb)?;
    let clients = link([ROUTER_TO_CLIENTS_VLAN, "eth0.100"], 0);
    clients.create_vlan(trunk, "id 100")?;
    route_vips(&clients)?;
    backends_vlan(router, lb, 200)?;
    let outer = ["lb0.300", "eth0.300"];
    link(outer, 10).create_vlan(trunk, "protocol 802.1ad id 300")?;
    link([ROUTER_TO_STACKED_VLAN, "eth0.300.5"], 11).create_vlan(outer, "id 5")?;
    route_backend(lb, 2, 8)?;
    route_backend(lb, 4, 11)
}

/// Has tags written into frames: else a veth hands them on beside the frame, where XDP does not see them.
fn show_tags_to_xdp(router: &Namespace, lb: &Namespace) -> Result<()> {
    const OFFLOADS: [&str; 8] =
        ["rxvlan", "off", "txvlan", "off", "tx-vlan-stag-hw-insert", "off", "rx-vlan-stag-hw-parse", "off"];
    for (namespace, end) in [(router, ROUTER_TO_LB), (lb, LB_INTERFACE)] {
        let arguments: Vec<&str> = ["-K", end].into_iter().chain(OFFLOADS).collect();
        namespace.run("ethtool", &arguments)?;
    }
    Ok(())
}
