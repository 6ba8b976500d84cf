//! A validated configuration: complete, consistent, without text positions. Nothing here does I/O.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

mod dataplane;
mod health;
pub mod overrides;
mod pool;
mod protection;
mod vip;

pub use self::{
    dataplane::{Access, AttachMode, DataplaneConfig, Interface, NextHopConfig, SourceLimit, Tunnels},
    health::{
        Ask, Authorities, Body, Check, Damping, Dns, Exec, Grpc, Health, Http, Initial, Matching, Method, Passive,
        Pattern, Payload, Rcode, RecordType, Route, Tls, Transport, Trust, Udp,
    },
    overrides::Overrides,
    pool::{AdminState, Backend, MAX_WEIGHT, Pool, ServerId},
    protection::{Least, RingChange},
    vip::{Encap, FlowTracking, HashMode, Protocol, Quic, RouteTo, Service, SourceRoute, Vip},
};

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[dataplane]`
    pub dataplane: DataplaneConfig,
    /// `[daemon]`
    pub daemon: DaemonConfig,
    /// `[api] socket`
    pub api_socket: PathBuf,
    /// `[api] read_only_socket`, another path than `api_socket`; `None` is no such socket.
    pub api_read_only_socket: Option<PathBuf>,
    /// `[metrics] listen`; `None` when the section says `listen = "off"`.
    pub metrics_listen: Option<SocketAddr>,
    /// `[pool.NAME]`, by name.
    pub pools: BTreeMap<String, Pool>,
    /// `[[vip]]`, in the order of the file.
    pub vips: Vec<Vip>,
}

impl Config {
    /// The setting for which it takes a process that runs programs and posts to webhooks, if there is one. That process
    /// has to be there from the start.
    pub fn needs_runner(&self) -> Option<&'static str> {
        let mut checks = self.pools.values().flat_map(|pool| &pool.health.checks);
        if checks.any(|check| matches!(check.ask, Ask::Exec(_))) {
            return Some("health.type = \"exec\"");
        }
        self.daemon.on_change.as_ref().map(|_| "daemon.on_change")
    }
}

/// `[daemon]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// Apply the file whenever it is written.
    pub watch: bool,
    /// Where the daemon keeps what must outlive it.
    pub state_dir: PathBuf,
    /// What becomes of packets when the daemon is gone.
    pub on_loss: DaemonLoss,
    /// Upper 12 bits of the socket mark of probes to VIPs, the other bits zero.
    pub probe_mark: u32,
    /// Who is told of changes, if anybody.
    pub on_change: Option<Arc<OnChange>>,
}

/// `[daemon.on_change]`: who is told that a backend or a VIP changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnChange {
    /// A program, by its absolute path, and its arguments; it gets the events on its standard input. Empty: none.
    pub exec: Vec<String>,
    /// A URL that the events are posted to.
    pub webhook: Option<String>,
    /// A delivery that takes longer has failed.
    pub timeout: Duration,
    /// How often a failed delivery is tried again.
    pub retries: u32,
}

/// `on_daemon_loss`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DaemonLoss {
    /// Forwarding goes on.
    #[default]
    Keep,
    /// The program lets go of the interfaces, and packets pass to this host.
    Pass,
    /// Forwarding goes on, but pings to VIPs are not answered once the daemon has been silent for a while.
    Withdraw,
}
