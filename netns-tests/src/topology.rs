//! The namespaces of a lab, their links, addresses and routes.
//!
//! ```text
//!  client ──1500── router ──1600── lb          192.0.2.0/24, 2001:db8:10::/64: the VIPs' prefixes
//!  .7               │ │ └────1600── lb          (a second link, only if asked for)
//!                   │ └──1600── backend 1       10.1.1.2, fd00:1:1::2
//!                   └────1600── backend 2 …     10.1.2.2, fd00:1:2::2
//! ```
//!
//! The router routes the VIPs' prefixes to lb, and backends answer clients past lb. The client's link carries 1500 bytes
//! and the others 1600, so that a full packet fits with its outer header.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{balancer::log::Log, bpf::PassProgram, host::Backend, leftovers, netns::Namespace};

pub mod extras;
mod links;
pub mod vlans;

pub use links::quiet_offloads;
use links::{join_backend, join_balancer, join_client};

/// Address of the client.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// Address of the client.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7);
/// The balancer's own address.
pub const LB_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The balancer's own address.
pub const LB_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// A VIP; routed to the balancer, and an address of every backend's loopback.
pub const VIP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// A VIP; routed to the balancer, and an address of every backend's loopback.
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x10, 0, 0, 0, 0, 0x10);

/// [`VIP_V4`] and [`VIP_V6`] with a port.
pub fn vips(port: u16) -> [SocketAddr; 2] {
    [SocketAddr::new(VIP_V4.into(), port), SocketAddr::new(VIP_V6.into(), port)]
}

/// The balancer's interface towards the router.
pub const LB_INTERFACE: &str = "eth0";
/// The balancer's second interface, if the layout has one.
pub const LB_SECOND_INTERFACE: &str = "eth1";
/// The router's end of the balancer's second link.
pub const ROUTER_TO_LB_SECOND: &str = "lb1";
/// The router's end of the balancer's link: frames that lb sends are seen here.
pub const ROUTER_TO_LB: &str = "lb0";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What a lab should look like.
#[derive(Clone, Debug)]
pub struct Layout {
    /// First word of all names; one of [`leftovers::PREFIXES`].
    pub prefix: &'static str,
    /// Number of backends.
    pub backends: u8,
    /// Whether packets to backends leave the balancer by an interface of their own.
    pub second_link: bool,
    /// Whether the balancer's link carries VLANs, as [`vlans`] says. Not together with [`second_link`](Self::second_link).
    pub vlans: bool,
    /// Largest packet on the links behind the router, in bytes. Those with [`vlans`](Self::vlans) always carry 1,600.
    pub mtu: u32,
    /// Ports of HTTP on every backend.
    pub http_ports: Vec<u16>,
    /// Ports of the UDP echo on every backend.
    pub udp_ports: Vec<u16>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            prefix: "lbtest",
            backends: 3,
            second_link: false,
            vlans: false,
            mtu: links::INNER_MTU,
            http_ports: vec![80],
            udp_ports: vec![53],
        }
    }
}

impl Layout {
    /// A layout with that many backends.
    pub fn with_backends(backends: u8) -> Self {
        Self { backends, ..Self::default() }
    }
}

/// A laboratory; taken down when dropped.
#[derive(Debug)]
pub struct Lab {
    name: String,
    /// Sends requests.
    pub client: Namespace,
    /// Joins all the others.
    pub router: Namespace,
    /// Where the balancer runs.
    pub lb: Arc<Namespace>,
    /// Serve the VIPs.
    pub backends: Vec<Backend>,
    /// Address, port and protocol numbers that the layout asked for.
    pub layout: Layout,
    log: Log,
    passers: Vec<PassProgram>,
    folder: TempDir,
}

impl Lab {
    /// Builds the namespaces and starts the backends' servers; the balancer does not run yet.
    ///
    /// # Errors
    /// When the kernel refuses something, or `ip` or `ethtool` is missing.
    pub fn build(layout: &Layout) -> Result<Self> {
        leftovers::sweep();
        let name = format!("{}-{}-{}", layout.prefix, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder =
            tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().context("cannot make a temporary folder")?;
        let router = Namespace::create(&format!("{name}-router"))?;
        router.sysctl(&[
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
        ])?;
        let client = Namespace::create(&format!("{name}-client"))?;
        join_client(&router, &client)?;
        let lb = Namespace::create(&format!("{name}-lb"))?;
        if layout.vlans {
            vlans::join_balancer(&router, &lb)?;
        } else {
            join_balancer(&router, &lb, layout)?;
        }
        let mut lab = Self {
            name,
            client,
            router,
            lb: Arc::new(lb),
            backends: Vec::new(),
            layout: layout.clone(),
            log: Log::default(),
            passers: Vec::new(),
            folder,
        };
        for _ in 0..layout.backends {
            lab.add_backend()?;
        }
        lab.pass_frames_of_balancer()?;
        Ok(lab)
    }

    /// First words of the names of everything that belongs to this lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder for the balancer's files; removed with the lab.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the balancers of this lab say.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Where the balancer of this lab pins its tables.
    pub fn pin_path(&self) -> PathBuf {
        Path::new(leftovers::BPFFS).join(&self.name)
    }

    /// A further place for pins that is removed with the lab.
    pub fn other_pin_path(&self, word: &str) -> PathBuf {
        Path::new(leftovers::BPFFS).join(format!("{}-{word}", self.name))
    }

    /// The balancer's interfaces.
    pub fn lb_interfaces(&self) -> &'static [&'static str] {
        if self.layout.second_link { &[LB_INTERFACE, LB_SECOND_INTERFACE] } else { &[LB_INTERFACE] }
    }

    /// The backend of that name.
    pub fn backend(&mut self, name: &str) -> &mut Backend {
        let found = self.backends.iter_mut().find(|backend| backend.name() == name);
        found.unwrap_or_else(|| panic!("the lab has no backend {name}"))
    }

    /// Adds a backend, with its servers, beside those that are there.
    ///
    /// # Errors
    /// When the kernel refuses something.
    pub fn add_backend(&mut self) -> Result<()> {
        let number = u8::try_from(self.backends.len() + 1).context("a lab holds at most 255 backends")?;
        let namespace = Namespace::create(&format!("{}-backend{number}", self.name))?;
        let (v4, v6) = join_backend(&self.router, &namespace, number, self.layout.mtu)?;
        let mut backend = Backend::new(number, namespace, v4, v6);
        backend.prepare(&[VIP_V4.into(), VIP_V6.into()])?;
        backend.start_servers(&self.layout.http_ports, &self.layout.udp_ports)?;
        self.backends.push(backend);
        Ok(())
    }

    /// Switches off the merging of packets that attaching XDP to the balancer's interfaces switches on.
    ///
    /// # Errors
    /// When `ethtool` fails.
    pub fn quiet_offloads_of_balancer(&self) -> Result<()> {
        self.lb_interfaces().iter().try_for_each(|name| quiet_offloads(&self.lb, name))
    }

    fn pass_frames_of_balancer(&mut self) -> Result<()> {
        let ends: &[&str] =
            if self.layout.second_link { &[ROUTER_TO_LB, ROUTER_TO_LB_SECOND] } else { &[ROUTER_TO_LB] };
        for end in ends {
            self.passers.push(self.router.enter(|| PassProgram::attach(end))?);
            quiet_offloads(&self.router, end)?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        leftovers::remove_pins(&self.name);
    }
}
