//! What goes over the socket, as the server writes it and the command line reads it. Fields are only ever added.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process; absent without a daemon.
    pub pid: Option<u32>,
    /// Seconds since it started; absent without a daemon.
    pub uptime_seconds: Option<u64>,
    /// How it is, in a word.
    pub state: Condition,
    /// What an operator should look at.
    pub problems: Vec<String>,
    /// Number of the applied state, 0 before the first; absent without a daemon.
    pub generation: Option<u64>,
    /// The configuration file; absent without a daemon.
    pub config: Option<String>,
    /// Where tables, program and links are pinned.
    pub pin_path: String,
    /// Where the program is attached.
    pub interfaces: Vec<Interface>,
    /// What the program in force can do beyond the plain way; absent without a daemon.
    #[serde(default)]
    pub features: Option<Vec<String>>,
    /// Configured VIPs.
    pub vips: usize,
    /// VIPs without a backend that takes new flows.
    pub vips_without_backend: Vec<String>,
    /// Configured backends, counted once for each VIP.
    pub backends: usize,
    /// Those of them that take new flows.
    pub backends_serving: usize,
    /// The last change of configuration; absent without a daemon.
    pub last_reload: Option<LastReload>,
    /// Places of the tables, by table.
    pub tables: BTreeMap<String, Places>,
}

/// How the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// First results of checks are waited for.
    Starting,
    /// All is well.
    Serving,
    /// An operator should look.
    Degraded,
    /// No daemon runs; the tables forward as it left them.
    Unmanaged,
}

impl Condition {
    /// Name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Degraded => "degraded",
            Self::Unmanaged => "unmanaged",
        }
    }
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
}

/// The last change of configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// Whether it is in force.
    pub ok: bool,
    /// When it was tried, in seconds since 1970.
    pub at: u64,
    /// When one last succeeded, in seconds since 1970.
    pub succeeded_at: u64,
    /// Why it was refused.
    pub reason: Option<String>,
}

/// Places of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// In use.
    pub used: u32,
    /// All.
    pub capacity: u32,
}

/// An element of `GET /v1/vips`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vip {
    /// Its name.
    pub name: String,
    /// Its address, or the first of its prefix.
    pub address: IpAddr,
    /// Bits of its address that count: all of them, unless it serves a prefix.
    #[serde(default)]
    pub prefix_length: u8,
    /// Its port; 0 is any.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Its pool.
    pub pool: String,
    /// How it is configured; absent without a daemon.
    #[serde(default)]
    pub settings: Option<VipSettings>,
    /// Its backends, with those that its source routes lead to.
    pub backends: usize,
    /// Those of them that take new flows.
    pub backends_serving: usize,
    /// Slots of its ring; 0 while no backend takes new flows.
    pub ring_slots: u32,
    /// Digest of its ring, in hexadecimal: equal on lbs that steer alike.
    pub ring_digest: Option<String>,
    /// What it forwarded, its former backends included.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// How a VIP is configured, defaults included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipSettings {
    /// How packets to its backends are wrapped: `ipip`, `gue` or `l2`.
    pub encap: String,
    /// What decides the backend of a new flow: `5-tuple`, ...
    pub hash: String,
    /// `always` or `off`.
    pub flow_tracking: String,
    /// What becomes of packets to ports that no VIP serves: `pass` or `drop`.
    pub unknown_port: String,
    /// Share of healthy backends, in percent, below which all are used; 0 is never.
    pub panic_threshold: u8,
    /// Routing by QUIC connection IDs: `off`, `quic-lb` or `katran`.
    pub quic: String,
    /// Of `quic-lb`: bytes of the server ID by number of the configuration; 0 where there is none.
    pub quic_lb: Vec<u8>,
    /// Routing by the server ID in a TCP option.
    pub tcp_server_id: bool,
    /// Routing by the server ID in a UDP stable-routing header.
    pub udp_stable: bool,
    /// Limit of new flows.
    pub max_new_flows_per_second: Option<u32>,
    /// Number of prefixes that it lets in; 0 is all others too.
    pub allow: usize,
    /// Number of prefixes that it keeps out.
    pub deny: usize,
    /// Number of its source routes.
    pub source_routes: usize,
}

/// An element of `GET /v1/backends`: a backend of a VIP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Its pool; not the VIP's if a source route leads to it.
    pub pool: String,
    /// The VIP.
    pub vip: String,
    /// Its name, unique in its pool.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// What it takes.
    pub state: Effect,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// What the operator wants: `active`, `drain` or `disabled`; absent without a daemon.
    pub admin_state: Option<String>,
    /// Its weight; absent without a daemon.
    pub weight: Option<u32>,
    /// Its share of the VIP's new flows, 0 to 1; absent without a daemon.
    pub share: Option<f64>,
    /// Whether it passes its check; absent before the first result.
    pub up: Option<bool>,
    /// Last result of its check.
    pub last_check: String,
    /// MAC address that its packets are sent to.
    pub next_hop: Option<String>,
    /// Interface that its packets leave by; 0 is the one they came in by.
    pub ifindex: u32,
    /// Its number in the tables.
    pub target: Option<u32>,
    /// Flows that the flow table remembers for it.
    pub flows: u64,
    /// What was forwarded to it.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What a backend takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// New and known flows.
    Serving,
    /// Known flows.
    Draining,
    /// Nothing.
    Down,
}

impl Effect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Serving, Self::Draining, Self::Down];

    /// Name in tables and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

/// What was forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Their bytes, from the IP header on, before encapsulation.
    pub bytes: u64,
    /// Flows that the ring gave away.
    pub flows_created: u64,
    /// Flows that came from a backend that went down.
    pub flows_moved: u64,
    /// TCP openings.
    pub syns: u64,
    /// TCP openings that were sent again.
    pub syn_retransmits: u64,
    /// TCP openings that the backend answered.
    pub handshakes: u64,
    /// TCP flows ended by the client's FIN.
    pub fins: u64,
    /// TCP flows ended by the client's RST.
    pub rsts: u64,
}

/// `GET /v1/flows/count`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// Entries that the flow table can hold.
    pub capacity: u64,
    /// Entries in use, expired ones included.
    pub entries: u64,
    /// Entries by state.
    pub states: BTreeMap<String, u64>,
    /// Entries by VIP and backend; backends without flows are left out.
    pub backends: Vec<BackendFlows>,
}

/// Flows of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendFlows {
    /// The VIP.
    pub vip: String,
    /// The backend's pool.
    #[serde(default)]
    pub pool: String,
    /// The backend.
    pub backend: String,
    /// Entries of the flow table.
    pub flows: u64,
}

/// `GET /v1/stats`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Why frames left, in the order of the verdicts' numbers.
    pub verdicts: Vec<VerdictCount>,
    /// What the slow part of the way met, by event.
    pub path: BTreeMap<String, u64>,
    /// The flow table.
    pub flows: Flows,
}

/// Frames that left for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCount {
    /// The reason.
    pub verdict: String,
    /// What became of them: `tx`, `pass`, `drop` or `aborted`.
    pub action: String,
    /// Frames.
    pub packets: u64,
    /// Their bytes: as received, but from the IP header on for those forwarded.
    pub bytes: u64,
}

/// Answer to `POST /v1/reload`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation that was reached.
    pub generation: u64,
    /// Writes that it took; 0 when nothing differed.
    pub ops: usize,
    /// What could not be written yet and is tried again.
    pub pending: Option<String>,
}

/// Body of `POST /v1/reload`: nothing to choose so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {}

/// Every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong.
    pub error: String,
    /// For a refused file: its complaints, as `lb check` prints them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<String>,
}

impl Problem {
    /// One that is said in a sentence.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), diagnostics: None }
    }
}
