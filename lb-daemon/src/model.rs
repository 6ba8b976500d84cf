//! A validated configuration: complete, consistent, without text positions. Nothing here does I/O.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

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
    vip::{Encap, HashMode, Protocol, Quic, RouteTo, Service, SourceRoute, Vip},
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
    /// Whether it names programs to run, which takes a process that is there from the start.
    pub fn runs_programs(&self) -> bool {
        let checks = self.pools.values().flat_map(|pool| &pool.health.checks);
        checks.into_iter().any(|check| matches!(check.ask, Ask::Exec(_)))
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
