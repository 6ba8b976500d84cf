//! The balancer's TOML file, written from values. `Display` gives the text; tests change the values and reload.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
};

use crate::topology::{Lab, VIP_V4, VIP_V6};

/// Where the balancer serves metrics, inside its namespace.
const METRICS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9650));

/// Both ways in which flows of TCP VIPs are tracked: connections must stay with each.
pub const TRACKED: [&str; 2] = ["always", "adaptive"];

/// A whole file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[dataplane] interfaces`
    pub interfaces: Vec<String>,
    /// Further keys of `[dataplane]`, a line each.
    pub dataplane: Vec<String>,
    /// `[api] socket`
    pub socket: PathBuf,
    /// `[daemon] state_dir`
    pub state_dir: PathBuf,
    /// `[metrics] listen`
    pub metrics: SocketAddr,
    /// `[pool.NAME]`
    pub pools: Vec<Pool>,
    /// `[[vip]]`
    pub vips: Vec<Vip>,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its backends.
    pub backends: Vec<PoolBackend>,
    /// Its health check.
    pub health: Health,
    /// Further keys, a line each.
    pub keys: Vec<String>,
}

/// A backend in a pool.
#[derive(Clone, Debug)]
pub struct PoolBackend {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its weight.
    pub weight: u32,
    /// Further keys, such as `server_id = 1`.
    pub keys: Vec<String>,
}

impl PoolBackend {
    /// A backend of weight 100.
    pub fn new(name: &str, address: impl Into<IpAddr>) -> Self {
        Self { name: name.into(), address: address.into(), weight: 100, keys: Vec::new() }
    }
}

/// A pool's health check: quick, but never so quick that a busy machine looks like a dead backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Always up.
    None,
    /// A connection to this port.
    Tcp(u16),
    /// `GET /` on this port.
    Http(u16),
    /// Each a table's text.
    Checks(Vec<String>),
}

/// A VIP.
#[derive(Clone, Debug)]
pub struct Vip {
    /// Its name.
    pub name: String,
    /// Its address, or a prefix.
    pub address: String,
    /// Its port; 0 is any.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Its pool.
    pub pool: String,
    /// Further keys, a line each.
    pub keys: Vec<String>,
}

/// Which of a backend's addresses packets are tunnelled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Settings {
    /// A file for this lab's balancer, without pools and VIPs.
    pub fn empty(lab: &Lab) -> Self {
        Self {
            interfaces: lab.lb_interfaces().iter().map(ToString::to_string).collect(),
            dataplane: Vec::new(),
            socket: lab.folder().join("lb.sock"),
            state_dir: lab.folder().join("state"),
            metrics: METRICS,
            pools: Vec::new(),
            vips: Vec::new(),
        }
    }

    /// A file for a second balancer beside the lab's own, without pools and VIPs.
    pub fn empty_for_other(lab: &Lab) -> Self {
        Self { socket: lab.folder().join("other.sock"), state_dir: lab.folder().join("other"), ..Self::empty(lab) }
    }

    /// The usual file: one pool `web` of all backends, and VIPs for HTTP on port 80 over both families.
    pub fn web(lab: &Lab, health: Health) -> Self {
        Self::empty(lab).pool("web", lab, Family::V4, health).vip("web-v4", (VIP_V4, 80, "tcp"), "web").vip(
            "web-v6",
            (VIP_V6, 80, "tcp"),
            "web",
        )
    }

    /// A pool with all backends of the lab by their addresses of that family, each with weight 100.
    #[must_use]
    pub fn pool(mut self, name: &str, lab: &Lab, family: Family, health: Health) -> Self {
        let backends = lab.backends.iter().map(|backend| {
            PoolBackend::new(backend.name(), if family == Family::V4 { backend.v4 } else { backend.v6 })
        });
        self.pools.push(Pool { name: name.into(), backends: backends.collect(), health, keys: Vec::new() });
        self
    }

    /// A pool of these backends that are always up.
    #[must_use]
    pub fn pool_of(mut self, name: &str, backends: Vec<PoolBackend>) -> Self {
        self.pools.push(Pool { name: name.into(), backends, health: Health::None, keys: Vec::new() });
        self
    }

    /// One more VIP, of pool `pool`. `service` is (address, port, protocol).
    #[must_use]
    pub fn vip(mut self, name: &str, service: (impl ToString, u16, &'static str), pool: &str) -> Self {
        let (address, port, protocol) = service;
        let (name, address, pool) = (name.into(), address.to_string(), pool.into());
        self.vips.push(Vip { name, address, port, protocol, pool, keys: Vec::new() });
        self
    }

    /// One more line of `[dataplane]`.
    #[must_use]
    pub fn dataplane(mut self, line: &str) -> Self {
        self.dataplane.push(line.into());
        self
    }

    /// One more line for every VIP so far.
    #[must_use]
    pub fn each_vip(mut self, line: &str) -> Self {
        self.vips.iter_mut().for_each(|vip| vip.keys.push(line.into()));
        self
    }

    /// Has flows of every VIP so far tracked in this way, of [`TRACKED`].
    #[must_use]
    pub fn tracked(self, tracking: &str) -> Self {
        self.each_vip(&format!("flow_tracking = \"{tracking}\""))
    }

    /// Keeps only these backends in every pool.
    #[must_use]
    pub fn only(mut self, names: &[&str]) -> Self {
        for pool in &mut self.pools {
            pool.backends.retain(|backend| names.contains(&backend.name.as_str()));
        }
        self
    }

    /// Weights of the first pool's backends.
    pub fn weights(&self) -> BTreeMap<String, u32> {
        let backends = self.pools.iter().take(1).flat_map(|pool| &pool.backends);
        backends.map(|backend| (backend.name.clone(), backend.weight)).collect()
    }

    /// The backend of that name in the first pool.
    pub fn backend(&mut self, name: &str) -> &mut PoolBackend {
        let found = self.pools[0].backends.iter_mut().find(|backend| backend.name == name);
        found.unwrap_or_else(|| panic!("no backend {name} in the file"))
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interfaces: Vec<String> = self.interfaces.iter().map(|name| format!("{name:?}")).collect();
        writeln!(f, "version = 1\n")?;
        writeln!(f, "[dataplane]\ninterfaces = [{}]\nmode = \"native\"", interfaces.join(", "))?;
        // Small, so that many labs fit beside each other.
        writeln!(f, "flow_table_entries = 131_072")?;
        writeln!(f, "{}\n", self.dataplane.join("\n"))?;
        writeln!(f, "[daemon]\nstate_dir = \"{}\"\n", self.state_dir.display())?;
        writeln!(f, "[api]\nsocket = \"{}\"\n", self.socket.display())?;
        writeln!(f, "[metrics]\nlisten = \"{}\"\n", self.metrics)?;
        for pool in &self.pools {
            writeln!(f, "{pool}")?;
        }
        for (number, vip) in self.vips.iter().enumerate() {
            let Vip { name, address, port, protocol, pool, keys } = vip;
            let gap = if number == 0 { "" } else { "\n" };
            writeln!(f, "{gap}[[vip]]\nname = {name:?}\naddress = \"{address}\"\nport = {port}")?;
            writeln!(f, "protocol = \"{protocol}\"\npool = {pool:?}")?;
            keys.iter().try_for_each(|key| writeln!(f, "{key}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[pool.{}]\nbackends = [", self.name)?;
        for PoolBackend { name, address, weight, keys } in &self.backends {
            write!(f, "  {{ name = {name:?}, address = \"{address}\", weight = {weight}")?;
            keys.iter().try_for_each(|key| write!(f, ", {key}"))?;
            writeln!(f, " }},")?;
        }
        writeln!(f, "]\n{}", self.keys.join("\n"))?;
        if let Health::Checks(checks) = &self.health {
            return writeln!(f, "health = [\n  {},\n]", checks.join(",\n  "));
        }
        writeln!(f, "\n[pool.{}.health]", self.name)?;
        let mut check = |kind, port| {
            writeln!(f, "type = {kind:?}\nport = {port}")?;
            f.write_str("interval = \"500ms\"\ntimeout = \"500ms\"\nrise = 2\nfall = 2\n")
        };
        match self.health {
            Health::None | Health::Checks(_) => f.write_str("type = \"none\"\n"),
            Health::Tcp(port) => check("tcp", port),
            Health::Http(port) => {
                check("http", port)?;
                f.write_str("path = \"/\"\n")
            }
        }
    }
}
