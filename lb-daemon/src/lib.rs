//! The daemon and the command line, as a library for tests, benchmarks and the netns lab.
//!
//! A config's way, each arrow but the last a pure function:
//! text → [`config`] raw (spans kept) → [`model`] (validated) → [`plan::wanted`] (with health and next hops) →
//! [`plan::diff`] against what the kernel holds → ordered [`plan::Op`]s → [`dataplane`].

pub mod api;
pub mod cli;
pub(crate) mod client;
pub mod config;
pub mod controller;
pub mod dataplane;
pub(crate) mod dice;
pub mod explain;
pub mod health;
pub mod hook;
pub(crate) mod http;
pub(crate) mod latch;
pub mod maglev;
pub mod metrics;
pub mod model;
pub mod nexthop;
pub mod notify;
pub(crate) mod plain;
pub mod plan;
pub mod privileges;
pub mod runner;
pub mod state;
pub mod telemetry;
