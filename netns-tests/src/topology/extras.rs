//! What some tests need beside the usual lab: more clients, backends on the balancer's own network, a second balancer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use anyhow::Result;

use super::{
    LB_INTERFACE, Lab,
    links::{Link, balancer_link, quiet_offloads},
};
use crate::{bpf::PassProgram, netns::Namespace};

/// A backend's interface on a network that it shares with the balancer.
pub const DIRECT_INTERFACE: &str = "lan";
/// The router's end of the second balancer's link.
pub const ROUTER_TO_OTHER_LB: &str = "other0";
/// Number of the network between router and second balancer.
const OTHER_NETWORK: u8 = 7;

/// A second balancer's host.
#[derive(Debug)]
pub struct OtherHost {
    /// Where it runs.
    pub namespace: Arc<Namespace>,
    /// Addresses for tunnel packets to it, IPv4 and IPv6.
    pub tunnels: [IpAddr; 2],
}

impl Lab {
    /// Gives the client one more address of each family, whose last number is `host`.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn add_client_address(&self, host: u8) -> Result<[IpAddr; 2]> {
        let v4 = Ipv4Addr::new(198, 51, 100, host);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, host.into());
        self.client.ip(&format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n"))?;
        Ok([v4.into(), v6.into()])
    }

    /// Joins a backend to the balancer by a network of their own, beside its link to the router; its addresses there. The
    /// backend's answers leave by the router.
    ///
    /// # Errors
    /// When the kernel refuses something.
    pub fn join_directly(&mut self, number: u8) -> Result<[IpAddr; 2]> {
        let backend = &self.backends[usize::from(number) - 1].namespace;
        let v4 = |side| Ipv4Addr::new(10, 2, number, side);
        let v6 = |side| Ipv6Addr::new(0xfd00, 2, number.into(), 0, 0, 0, 0, side);
        let (lb_end, mtu) = (format!("{DIRECT_INTERFACE}{number}"), 1500);
        // In the shape of a link to the router, with the balancer in its place.
        let link = Link {
            router: &self.lb,
            router_end: &lb_end,
            host: backend,
            host_end: DIRECT_INTERFACE,
            mtu,
            v4: [v4(1), v4(2)],
            v6: [v6(1), v6(2)],
        };
        link.create()?;
        backend.sysctl(&[("net.ipv4.conf.lan.rp_filter", "0")])?;
        self.passers.push(backend.enter(|| PassProgram::attach(DIRECT_INTERFACE))?);
        quiet_offloads(backend, DIRECT_INTERFACE)?;
        Ok([v4(2).into(), v6(2).into()])
    }

    /// Adds a host for a second balancer to which the router leads no VIP.
    ///
    /// # Errors
    /// When the kernel refuses something.
    pub fn add_other_balancer(&mut self) -> Result<OtherHost> {
        let namespace = Namespace::create(&format!("{}-other", self.name))?;
        let ends = ((&self.router, ROUTER_TO_OTHER_LB), (&namespace, LB_INTERFACE));
        let link = balancer_link(ends.0, ends.1, OTHER_NETWORK, self.layout.mtu);
        link.create()?;
        link.default_routes()?;
        let v4 = Ipv4Addr::new(10, 0, OTHER_NETWORK, 9);
        let v6 = Ipv6Addr::new(0xfd00, 0, 0, OTHER_NETWORK.into(), 0, 0, 0, 9);
        namespace.ip(&format!("addr add {v4}/24 dev {LB_INTERFACE}\naddr add {v6}/64 dev {LB_INTERFACE} nodad\n"))?;
        self.passers.push(self.router.enter(|| PassProgram::attach(ROUTER_TO_OTHER_LB))?);
        quiet_offloads(&self.router, ROUTER_TO_OTHER_LB)?;
        Ok(OtherHost { namespace: Arc::new(namespace), tunnels: [v4.into(), v6.into()] })
    }

    /// Gives every backend all addresses of a prefix of VIPs. Datagrams to them find no server.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn add_vip_prefix(&self, prefix: &str) -> Result<()> {
        self.backends.iter().try_for_each(|backend| backend.namespace.ip(&format!("route add local {prefix} dev lo")))
    }

    /// Makes the client's link narrower at the router's end, where packets to the client leave.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn narrow_client_link(&self, mtu: u32) -> Result<()> {
        self.router.ip(&format!("link set client0 mtu {mtu}"))
    }

    /// What a backend knows of how long packets from a VIP to the client may be; `None` without anything learnt.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn learnt_mtu(&self, at: &Namespace, from: IpAddr, to: IpAddr) -> Result<Option<u32>> {
        let shown = at.run("ip", &["route", "get", &to.to_string(), "from", &from.to_string()])?;
        // Learnt routes expire; those that an operator gave an MTU do not.
        let mut words = shown.split_whitespace();
        let learnt = shown.contains("expires").then(|| words.find(|word| *word == "mtu").and(words.next())).flatten();
        Ok(learnt.and_then(|mtu| mtu.parse().ok()))
    }
}
