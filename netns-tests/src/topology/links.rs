//! The router's links to the other hosts: veth pairs with their addresses and routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::{
    CLIENT_V4, CLIENT_V6, LB_INTERFACE, LB_SECOND_INTERFACE, LB_V4, LB_V6, Layout, ROUTER_TO_LB, ROUTER_TO_LB_SECOND,
};
use crate::netns::Namespace;

const CLIENT_MTU: u32 = 1500;
/// Of the links behind the router, unless a layout says otherwise: a full packet fits with its outer header.
pub(super) const INNER_MTU: u32 = 1600;
/// On a veth these would leave checksums undone and packets unsplit.
const OFFLOADS: [&str; 8] = ["tx", "off", "gso", "off", "tso", "off", "gro", "off"];

/// Switches off everything that leaves packets unfinished on a veth.
///
/// # Errors
/// When `ethtool` is missing or fails.
pub fn quiet_offloads(namespace: &Namespace, interface: &str) -> Result<()> {
    let arguments: Vec<&str> = ["-K", interface].into_iter().chain(OFFLOADS).collect();
    namespace.run("ethtool", &arguments).map(drop)
}

/// A link between the router and another host: a veth pair, or VLAN devices at both ends of one.
pub(super) struct Link<'a> {
    pub(super) router: &'a Namespace,
    pub(super) router_end: &'a str,
    pub(super) host: &'a Namespace,
    pub(super) host_end: &'a str,
    pub(super) mtu: u32,
    pub(super) v4: [Ipv4Addr; 2],
    pub(super) v6: [Ipv6Addr; 2],
}

impl Link<'_> {
    /// Makes the veth pair, and brings it up.
    pub(super) fn create(&self) -> Result<()> {
        let Self { router_end, host_end, mtu, .. } = self;
        let host = self.host.name();
        // One queue each: XDP needs as many on the receiving end as the sender has.
        self.router.ip(&format!(
            "link add {router_end} mtu {mtu} numtxqueues 1 numrxqueues 1 type veth \
             peer name {host_end} mtu {mtu} numtxqueues 1 numrxqueues 1 netns {host}"
        ))?;
        self.bring_up()
    }

    /// Makes VLAN devices of that kind over devices that both ends have, and brings them up.
    pub(super) fn create_vlan(&self, below: [&str; 2], kind: &str) -> Result<()> {
        let Self { router_end, host_end, mtu, .. } = self;
        let ends = [(self.router, router_end), (self.host, host_end)];
        for ((namespace, end), below) in ends.into_iter().zip(below) {
            namespace.ip(&format!("link add link {below} name {end} mtu {mtu} type vlan {kind}"))?;
        }
        self.bring_up()
    }

    fn bring_up(&self) -> Result<()> {
        for (namespace, end, side) in [(self.router, self.router_end, 0), (self.host, self.host_end, 1)] {
            quiet_offloads(namespace, end)?;
            namespace.ip(&format!(
                "addr add {}/24 dev {end}\naddr add {}/64 dev {end} nodad\nlink set {end} up\n",
                self.v4[side], self.v6[side],
            ))?;
        }
        Ok(())
    }

    pub(super) fn default_routes(&self) -> Result<()> {
        self.host.ip(&format!("route add default via {}\nroute add default via {}\n", self.v4[0], self.v6[0]))
    }

    /// Routes to the client with its link's MTU: what is longer would have to find that out first (RFC 8201), and a
    /// datagram is lost by it.
    pub(super) fn client_routes(&self) -> Result<()> {
        self.host.ip(&format!(
            "route add 198.51.100.0/24 via {} mtu {CLIENT_MTU}\nroute add 2001:db8:c::/64 via {} mtu {CLIENT_MTU}\n",
            self.v4[0], self.v6[0]
        ))
    }
}

pub(super) fn join_client(router: &Namespace, client: &Namespace) -> Result<()> {
    let link = Link {
        router,
        router_end: "client0",
        host: client,
        host_end: "eth0",
        mtu: CLIENT_MTU,
        v4: [Ipv4Addr::new(198, 51, 100, 1), CLIENT_V4],
        v6: [Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1), CLIENT_V6],
    };
    link.create()?;
    link.default_routes()
}

/// A link to the balancer: network 0 is the one by which clients' packets come.
pub(super) fn balancer_link<'a>(
    (router, router_end): (&'a Namespace, &'a str),
    (host, host_end): (&'a Namespace, &'a str),
    network: u8,
    mtu: u32,
) -> Link<'a> {
    let v4 = |side| Ipv4Addr::new(10, 0, network, side);
    let v6 = |side| Ipv6Addr::new(0xfd00, 0, 0, network.into(), 0, 0, 0, side);
    Link { router, router_end, host, host_end, mtu, v4: [v4(1), v4(2)], v6: [v6(1), v6(2)] }
}

/// Routes over the link by which clients' packets come to lb.
pub(super) fn route_vips(first: &Link<'_>) -> Result<()> {
    first.default_routes()?;
    first.client_routes()?;
    first.router.ip(&format!("route add 192.0.2.0/24 via {LB_V4}\nroute add 2001:db8:10::/64 via {LB_V6}\n"))
}

pub(super) fn join_balancer(router: &Namespace, lb: &Namespace, layout: &Layout) -> Result<()> {
    let first = balancer_link((router, ROUTER_TO_LB), (lb, LB_INTERFACE), 0, layout.mtu);
    first.create()?;
    route_vips(&first)?;
    if !layout.second_link {
        return Ok(());
    }
    balancer_link((router, ROUTER_TO_LB_SECOND), (lb, LB_SECOND_INTERFACE), 9, layout.mtu).create()?;
    lb.ip("route add 10.1.0.0/16 via 10.0.9.1\nroute add fd00:1::/32 via fd00:0:0:9::1\n")
}

pub(super) fn join_backend(router: &Namespace, backend: &Namespace, number: u8, mtu: u32) -> Result<(IpAddr, IpAddr)> {
    let v4 = |host| Ipv4Addr::new(10, 1, number, host);
    let v6 = |host| Ipv6Addr::new(0xfd00, 1, number.into(), 0, 0, 0, 0, host);
    let link = Link {
        router,
        router_end: &format!("backend{number}"),
        host: backend,
        host_end: "eth0",
        mtu,
        v4: [v4(1), v4(2)],
        v6: [v6(1), v6(2)],
    };
    link.create()?;
    link.default_routes()?;
    link.client_routes()?;
    Ok((v4(2).into(), v6(2).into()))
}
