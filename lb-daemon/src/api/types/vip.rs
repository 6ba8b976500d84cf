//! What is served.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Override, Traffic};

/// An element of `GET /v1/vips`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Vip {
    /// Its name.
    pub name: String,
    /// Its address, or the first of its prefix.
    #[schema(value_type = String)]
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
    /// What an operator wants beyond the file, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#override: Option<Override>,
    /// Its backends, with those that its source routes lead to.
    pub backends: usize,
    /// Those of them that take new flows.
    pub backends_serving: usize,
    /// Those of its own pool's backends that are healthy and can be reached, of those that are to take new flows; absent without
    /// a daemon.
    #[serde(default)]
    pub backends_healthy: Option<usize>,
    /// Whether it is served as it should be: some backend takes new flows, no fewer are healthy than `min_healthy` says, and no
    /// operator disabled it; absent without a daemon.
    #[serde(default)]
    pub up: Option<bool>,
    /// What is wrong with it, if `up` is false though it may forward, or if backends serve that are not healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Slots of its ring; 0 while no backend takes new flows.
    pub ring_slots: u32,
    /// Slots of an adaptive VIP's ring whose flows are remembered; absent of other VIPs. While no backend takes new flows, of
    /// the last ring of those that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracked_slots: Option<u32>,
    /// Digest of its ring's slots, in hexadecimal: it tells when the ring changes. To compare lbs there is `GET /v1/rings`.
    pub ring_digest: Option<String>,
    /// What it forwarded, its former backends included.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// How a VIP is configured, defaults included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VipSettings {
    /// How packets to its backends are wrapped: `ipip`, `gue` or `l2`.
    pub encap: String,
    /// What decides the backend of a new flow: `5-tuple`, ...
    pub hash: String,
    /// `always`, `adaptive` or `off`.
    pub flow_tracking: String,
    /// What becomes of packets to ports that no VIP serves: `pass` or `drop`.
    pub unknown_port: String,
    /// Share of healthy backends, in percent, below which all are used; 0 is never.
    pub panic_threshold: u8,
    /// Below so many healthy backends, or below this share, it is told to be down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_healthy: Option<String>,
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
