//! How the daemon is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Generation, ListedOverride};

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Number of the configuration in force; absent without a daemon.
    pub generation: Option<u64>,
    /// What there is to say about it; absent without a daemon.
    #[serde(default)]
    pub in_force: Option<Generation>,
    /// Whether the configuration file said something else when it was last read; absent without a daemon.
    #[serde(default)]
    pub differs_from_file: Option<bool>,
    /// Plans that changed the tables since the daemon started; absent without one.
    #[serde(default)]
    pub applied: Option<u64>,
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
    /// What operators want beyond the file; absent without a daemon.
    #[serde(default)]
    pub overrides: Option<Vec<ListedOverride>>,
    /// What the daemon gave up; absent without a daemon.
    #[serde(default)]
    pub confinement: Option<Confinement>,
}

/// What the daemon gave up when it had started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Confinement {
    /// Capabilities that all its threads have.
    pub capabilities: Vec<String>,
    /// Those that one thread has besides, while it loads a program.
    pub while_loading: Vec<String>,
    /// Whether other files than its own are closed to it (Landlock): `whole`, `partial` on an older kernel, or why not.
    pub files: String,
    /// Whether other system calls than its own are closed to it (seccomp): `whole`, or why not.
    pub calls: String,
}

/// How the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
}

/// The last change of configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Places {
    /// In use.
    pub used: u32,
    /// All.
    pub capacity: u32,
}
