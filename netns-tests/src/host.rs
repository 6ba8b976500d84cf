//! A backend: a host that owns the VIPs, unwraps tunnelled packets and answers with its own name.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use serde_json::Value;

use crate::{
    leftovers,
    netns::{self, Namespace},
    topology::quiet_offloads,
};

pub mod server;

use server::Server;

/// A backend's interface.
pub const INTERFACE: &str = "eth0";

/// A backend; its servers stop and its namespace goes when it is dropped.
#[derive(Debug)]
pub struct Backend {
    name: String,
    // Before the namespace, so that it is dropped first.
    server: Option<Server>,
    ports: Ports,
    vips: Vec<IpAddr>,
    /// The backend's namespace.
    pub namespace: Namespace,
    /// Its own IPv4 address.
    pub v4: IpAddr,
    /// Its own IPv6 address.
    pub v6: IpAddr,
}

#[derive(Clone, Debug, Default)]
struct Ports {
    http: Vec<u16>,
    udp: Vec<u16>,
}

impl Backend {
    /// Backend `web-NUMBER`.
    pub(crate) fn new(number: u8, namespace: Namespace, v4: IpAddr, v6: IpAddr) -> Self {
        let name = format!("web-{number}");
        Self { name, server: None, ports: Ports::default(), vips: Vec::new(), namespace, v4, v6 }
    }

    /// Its name, which its servers answer with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its `lb decap` pins.
    pub fn pin_path(&self) -> PathBuf {
        Path::new(leftovers::BPFFS).join(self.namespace.name())
    }

    /// Gives it the VIPs, as an operator would: on the loopback, never answered for by ARP, and without the check that
    /// a packet came in where the answer goes out.
    pub(crate) fn prepare(&mut self, vips: &[IpAddr]) -> Result<()> {
        self.namespace.sysctl(&[
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.eth0.rp_filter", "0"),
            ("net.ipv4.conf.all.arp_ignore", "1"),
            ("net.ipv4.conf.all.arp_announce", "2"),
        ])?;
        vips.iter().try_for_each(|vip| self.add_vip(*vip))
    }

    /// Gives it one more VIP. Servers that run do not hear it until they are started again.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn add_vip(&mut self, vip: IpAddr) -> Result<()> {
        self.vips.push(vip);
        match vip {
            IpAddr::V4(vip) => self.namespace.ip(&format!("addr add {vip}/32 dev lo")),
            IpAddr::V6(vip) => self.namespace.ip(&format!("addr add {vip}/128 dev lo nodad")),
        }
    }

    /// Attaches `lb decap`, so that tunnelled packets are unwrapped.
    ///
    /// # Errors
    /// When the command fails.
    pub fn attach_decap(&self, lb: &Path) -> Result<()> {
        self.attach_decap_with(lb, &[])
    }

    /// Attaches `lb decap` with these further arguments; if it is there, its settings are replaced.
    ///
    /// # Errors
    /// When the command fails.
    pub fn attach_decap_with(&self, lb: &Path, arguments: &[&str]) -> Result<()> {
        netns::output(self.decap(lb).args(arguments))?;
        // Attaching XDP to a veth switches the merging of packets on.
        quiet_offloads(&self.namespace, INTERFACE)
    }

    /// Takes `lb decap` off: what comes in tunnels is understood no more.
    ///
    /// # Errors
    /// When the command fails.
    pub fn detach_decap(&self, lb: &Path) -> Result<()> {
        netns::output(self.decap(lb).arg("--remove")).map(drop)
    }

    /// What `lb decap` did so far: frames by verdict.
    ///
    /// # Errors
    /// When the command fails.
    pub fn decap_counters(&self, lb: &Path) -> Result<BTreeMap<String, u64>> {
        let shown = netns::output(self.decap(lb).args(["--show", "-o", "json"]))?;
        let mut shown: Value = serde_json::from_str(&shown)?;
        Ok(serde_json::from_value(shown["counters"].take())?)
    }

    fn decap(&self, lb: &Path) -> Command {
        let mut command = self.namespace.command(lb);
        command.arg("--pin-path").arg(self.pin_path()).args(["decap", "--interface", INTERFACE]);
        command
    }

    /// Starts its servers on these ports of every address it has.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub fn start_servers(&mut self, http: &[u16], udp: &[u16]) -> Result<()> {
        self.ports = Ports { http: http.to_vec(), udp: udp.to_vec() };
        self.start()
    }

    /// Starts its servers again after [`Backend::stop`].
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub fn start(&mut self) -> Result<()> {
        self.stop();
        let addresses = [self.v4, self.v6].into_iter().chain(self.vips.iter().copied());
        // A datagram's answer must bear the address that was asked, so each address has its own socket.
        let udp: Vec<SocketAddr> = addresses
            .flat_map(|address| self.ports.udp.iter().map(move |port| SocketAddr::new(address, *port)))
            .collect();
        self.server = Some(Server::start(&self.namespace, &self.name, &self.ports.http, &udp)?);
        Ok(())
    }

    /// Stops its servers: their ports refuse connections, and open ones are closed.
    pub fn stop(&mut self) {
        self.server = None;
    }
}
