//! How it is told which backends of a pool may take traffic: `[pool.NAME.health]` and what belongs to it.

use std::{fmt, sync::Arc, time::Duration};

mod http;

pub use self::http::{Body, Http, Method, Pattern};

/// All that a pool says of the health of its backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `[pool.NAME.health]`, or each of `[[pool.NAME.health]]`; names are unique. Empty: nothing is asked, and all are up.
    pub checks: Vec<Check>,
    /// `health_match`
    pub matching: Matching,
}

impl Health {
    /// Whether anything tells who is up; if not, all are.
    pub fn is_watched(&self) -> bool {
        !self.checks.is_empty()
    }
}

/// How many of a pool's checks a backend has to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// Every one.
    #[default]
    All,
    /// One of them.
    Any,
}

impl fmt::Display for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Any => "any",
        })
    }
}

/// A check of each backend of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name; that of its type unless the file says otherwise. What is known of a backend is kept under it.
    pub name: Arc<str>,
    /// What is asked.
    pub ask: Ask,
    /// By which way.
    pub route: Route,
    /// Port to ask; `None` is the VIP's own.
    pub port: Option<u16>,
    /// Time between the starts of two probes.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Successes in a row that take a backend up.
    pub rise: u32,
    /// Failures in a row that take a backend down.
    pub fall: u32,
}

/// The way of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// To the backend's own address, as the host's routes say.
    #[default]
    Direct,
    /// To the VIP's address, wrapped for that backend as clients' packets are.
    Vip,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Vip => "vip",
        })
    }
}

/// What a probe asks of a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// A TCP connection that opens.
    Tcp,
    /// An HTTP/1.1 request that is answered as expected.
    Http(Http),
}

impl Ask {
    /// `type`
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(_) => "http",
        }
    }

    /// Whether it is asked by TCP.
    pub fn is_tcp(&self) -> bool {
        match self {
            Self::Tcp | Self::Http(_) => true,
        }
    }
}
