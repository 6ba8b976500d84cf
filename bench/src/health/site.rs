//! Two namespaces, one for the daemon and one for all that it checks, and the file that says so.

use std::{fmt::Write as _, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use netns_tests::{
    netns::{Namespace, output},
    topology::quiet_offloads,
};

use super::servers::Servers;
use crate::{
    daemon::head,
    lab::{self, Pins},
};

/// The daemon's interface, and that of the servers.
const INTERFACE: &str = "eth0";
/// Both ends of the link.
const DAEMON: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const SERVERS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Addresses of all backends, and of the VIPs.
const BACKENDS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
const BACKENDS_NET: &str = "10.64.0.0/16";
const VIPS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 0);
const VIPS_NET: &str = "192.0.2.0/24";
/// Backends of a pool: more would want larger rings than a VIP has by default.
const POOL: usize = 500;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A connection to the backend's own address.
    TcpDirect,
    /// A connection to the VIP's, carried to the backend as data is.
    TcpVip,
    /// A request and its answer.
    Http,
    /// The same over TLS 1.3.
    Https,
    /// A datagram that comes back.
    Udp,
    /// A fifth of each.
    Mixed,
}

impl Kind {
    /// What is measured if nothing else is asked for: not HTTPS alone, whose handshakes are beyond the goal for what
    /// checks may use.
    pub const USUAL: [Self; 5] = [Self::TcpDirect, Self::TcpVip, Self::Http, Self::Udp, Self::Mixed];
    /// All that are one kind of check.
    pub const PLAIN: [Self; 5] = [Self::TcpDirect, Self::TcpVip, Self::Http, Self::Https, Self::Udp];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcpDirect => "tcp-direct",
            Self::TcpVip => "tcp-vip",
            Self::Http => "http",
            Self::Https => "https",
            Self::Udp => "udp",
            Self::Mixed => "mixed",
        }
    }

    /// The kind of a pool.
    fn of_pool(self, number: usize) -> Self {
        if self == Self::Mixed { Self::PLAIN[number % Self::PLAIN.len()] } else { self }
    }

    /// The keys of a check, and the VIP's port.
    fn check(self) -> (&'static str, u16) {
        match self {
            Self::TcpDirect => ("type = \"tcp\"\nprobe = \"direct\"", 80),
            Self::TcpVip => ("type = \"tcp\"\nprobe = \"vip\"", 80),
            Self::Http | Self::Mixed => ("type = \"http\"\nprobe = \"direct\"", 80),
            Self::Https => {
                ("type = \"https\"\nprobe = \"direct\"\nca_file = \"ca.pem\"\nsni = \"www.example.org\"", 443)
            }
            Self::Udp => ("type = \"udp\"\nprobe = \"direct\"\nport = 7\nsend = \"ping\"\nexpect = \"ping\"", 80),
        }
    }
}

/// The namespaces with their servers.
#[derive(Debug)]
pub struct Site {
    /// How many backends there are, each with a check of its own.
    pub checks: usize,
    /// How often each is asked.
    pub interval: Duration,
    // Before the namespace, so that they end first.
    servers: Servers,
    #[expect(dead_code, reason = "removed when this is dropped")]
    far: Namespace,
    #[expect(dead_code, reason = "removed when this is dropped")]
    decap: Pins,
    /// Where the daemon runs.
    pub(super) daemon: Arc<Namespace>,
}

impl Site {
    /// Makes the namespaces, and starts the servers. `lb` unwraps what is sent to VIPs.
    ///
    /// # Errors
    /// If the kernel refuses something.
    pub fn build(checks: usize, interval: Duration, lb: &Path) -> Result<Self> {
        let pins = Pins::new("decap");
        let [near, far] = ["health-lb", "health-far"].map(|word| Namespace::create(&lab::name(word)));
        let (near, far) = (near?, far?);
        for (namespace, address) in [(&near, DAEMON), (&far, SERVERS)] {
            namespace.sysctl(&[("net.ipv4.conf.all.rp_filter", "0"), ("net.ipv4.conf.default.rp_filter", "0")])?;
            if address == DAEMON {
                namespace.ip(&format!(
                    "link add {INTERFACE} mtu 1600 numtxqueues 1 numrxqueues 1 type veth peer name {INTERFACE} mtu 1600 \
                     numtxqueues 1 numrxqueues 1 netns {}\n",
                    far.name()
                ))?;
            }
            quiet_offloads(namespace, INTERFACE)?;
            namespace.ip(&format!("addr add {address}/24 dev {INTERFACE}\nlink set {INTERFACE} up\n"))?;
        }
        near.ip(&format!("route add default via {SERVERS}\n"))?;
        far.ip(&format!("route add local {BACKENDS_NET} dev lo\nroute add local {VIPS_NET} dev lo\n"))?;
        let mut decap = far.command(lb);
        decap.arg("--pin-path").arg(pins.path());
        decap.args(["decap", "--interface", INTERFACE]);
        for nth in 0..POOL {
            decap.args(["--address", &backend(nth).to_string()]);
        }
        output(&mut decap).context("lb decap for the servers")?;
        let servers = Servers::start(&far, (0..checks).map(backend))?;
        Ok(Self { checks, interval, servers, far, decap: pins, daemon: Arc::new(near) })
    }

    /// The daemon's file; the authority of the servers' certificates is put beside it.
    pub(super) fn text(&self, kind: Kind, folder: &Path) -> Result<String> {
        std::fs::write(folder.join("ca.pem"), self.servers.authority())?;
        let mut text = head(folder, &format!("interfaces = [\"{INTERFACE}\"]"));
        for (number, first) in (0..self.checks).step_by(POOL).enumerate() {
            let kind = kind.of_pool(number);
            let (check, port) = kind.check();
            writeln!(text, "[pool.p{number}]\nbackends = [")?;
            for nth in first..self.checks.min(first + POOL) {
                // What is unwrapped is told apart by the VIP that it is for, and no more addresses can be unwrapped for.
                let address = backend(if kind == Kind::TcpVip { nth % POOL } else { nth });
                writeln!(text, "  {{ name = \"b{nth}\", address = \"{address}\" }},")?;
            }
            let vip = Ipv4Addr::from_bits(VIPS.to_bits() + u32::try_from(number + 1)?);
            writeln!(text, "]\n[pool.p{number}.health]\n{check}\ninterval = \"{}ms\"", self.interval.as_millis())?;
            writeln!(text, "[[vip]]\nname = \"v{number}\"\naddress = \"{vip}\"\nport = {port}\nprotocol = \"tcp\"")?;
            writeln!(text, "pool = \"p{number}\"")?;
        }
        Ok(text)
    }
}

fn backend(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(BACKENDS.to_bits() + u32::try_from(number + 1).unwrap_or(u32::MAX))
}
