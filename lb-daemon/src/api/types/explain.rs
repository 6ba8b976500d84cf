//! What would become of packets.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The interface that the packets come in by; else the first that the program is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The packets, at most [`ExplainRequest::MOST`].
    pub packets: Vec<AskedPacket>,
}

impl ExplainRequest {
    /// Packets of one request.
    pub const MOST: usize = 256;
}

/// A packet to explain: a `tuple` or a `frame`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskedPacket {
    /// Protocol, client and VIP, as `tcp 198.51.100.7:51000 192.0.2.10:443`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuple: Option<String>,
    /// TCP flags of the tuple's packet, as `S` or `SA`; `A` where they are not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<String>,
    /// VLANs of the tuple's packet, the outer one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<u16>,
    /// An Ethernet frame in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
}

/// Answer to `POST /v1/explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// What would become of each packet, in the order of the request.
    pub packets: Vec<Explanation>,
}

/// What would become of a packet, on the tables as they are. Nothing was counted or remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The packet's protocol, addresses and ports, if it could be read.
    pub tuple: Option<String>,
    /// Why the frame leaves.
    pub verdict: String,
    /// The same in words.
    pub meaning: String,
    /// What becomes of it: `tx`, `redirect`, `pass`, `drop` or `aborted`.
    pub action: String,
    /// Interface that it leaves by, if it is sent.
    pub leaves_by: Option<String>,
    /// The VIP that it is for.
    pub vip: Option<String>,
    /// Pool of the backend.
    pub pool: Option<String>,
    /// The backend that it is sent to.
    pub backend: Option<String>,
    /// Address of the backend.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// What decided, in one sentence.
    pub why: String,
    /// Each step of its way.
    pub stages: Stages,
    /// The frame as it came, in hexadecimal.
    pub frame: String,
    /// The frame as it leaves, in hexadecimal.
    pub frame_out: String,
}

/// The steps of a packet's way; those that it did not take are absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stages {
    /// How the packet was read.
    pub packet: PacketStage,
    /// What is served at its destination.
    pub vip: VipStage,
    /// What each access list that was asked said.
    pub access: Vec<AccessStage>,
    /// Limits that are for it.
    pub limits: Vec<LimitStage>,
    /// The server ID that it bears.
    pub server_id: Option<ServerIdStage>,
    /// The flow table.
    pub flow: Option<FlowStage>,
    /// The table of datagrams in fragments.
    pub fragment: Option<FlowStage>,
    /// The ring.
    pub ring: Option<RingStage>,
    /// The target, a backend of a VIP.
    pub target: Option<TargetStage>,
    /// Who gets the frame next.
    pub next_hop: Option<NextHopStage>,
    /// What is put in front of the packet.
    pub outer: Option<OuterStage>,
    /// What would be counted on the way.
    pub events: Vec<String>,
}

/// How a packet was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PacketStage {
    /// `ipv4` or `ipv6`; absent of what is neither.
    pub family: Option<String>,
    /// Bytes of the frame.
    pub frame_length: usize,
    /// Bytes of the IP packet.
    pub length: Option<u16>,
    /// TCP flags, as `SA`.
    pub flags: Option<String>,
    /// VLANs of its frame, the outer one first.
    pub vlans: Vec<u16>,
    /// `first` or `later`, of a fragment.
    pub fragment: Option<String>,
    /// The lb that wrapped it and the address of this one, if it came through a tunnel.
    #[schema(value_type = Option<Vec<String>>)]
    pub tunnel: Option<[IpAddr; 2]>,
    /// The flow that it is about, an ICMP error.
    pub quoted: Option<String>,
    /// The verdict on it, if it could not be read or is of no protocol that is balanced.
    pub unread: Option<String>,
}

/// What is served at a packet's destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VipStage {
    /// Name of the VIP.
    pub name: Option<String>,
    /// What it serves, as `192.0.2.10:443 tcp`.
    pub service: Option<String>,
    /// Whether the address is a VIP's.
    pub address_is_ours: bool,
    /// Whether its flows are remembered.
    pub tracked: Option<bool>,
    /// Whether an operator disabled it.
    #[serde(default)]
    pub disabled: bool,
}

/// What an access list said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessStage {
    /// `all vips` or `vip`.
    pub list: String,
    /// `allow` or `deny`; absent if no prefix of the list has the source.
    pub rule: Option<String>,
    /// The prefix that decided.
    pub prefix: Option<String>,
}

/// A limit as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitStage {
    /// `source_packets`, `source_flows`, `vip_flows` or `too_big`.
    pub limit: String,
    /// How many a second it lets pass.
    pub per_second: u64,
    /// Of the burst of one second, what is used up, in milliseconds.
    pub used_ms: u64,
    /// Whether one more passes.
    pub passes: bool,
}

/// A server ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerIdStage {
    /// The ID in hexadecimal; absent if the connection has no server yet.
    pub id: Option<String>,
    /// The backend that has it.
    pub backend: Option<String>,
    /// Whether it decided.
    pub used: bool,
}

/// What is remembered, and what would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowStage {
    /// `hit`, `miss`, `expired`, `moved` (its backend is down or gone) or `reopened`.
    pub result: String,
    /// What is remembered.
    pub entry: Option<EntryStage>,
    /// What would be remembered afterwards, where that differs.
    pub becomes: Option<EntryStage>,
    /// Whether it would be remembered.
    pub remembered: bool,
    /// The entry of another flow that would give way.
    pub gives_way: Option<EntryStage>,
    /// Number of the bucket.
    pub bucket: u32,
    /// Entries of the bucket in use, of 8.
    pub used: usize,
}

/// An entry of the flow table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryStage {
    /// What is known of the flow's life.
    pub state: String,
    /// Seconds since its last packet, as far as the table's clock tells, which has units of 4.3 s.
    pub age_seconds: u64,
    /// Number of its target.
    pub target: u32,
    /// Name of its backend.
    pub backend: Option<String>,
}

/// The slot of a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RingStage {
    /// The slot; absent of an empty ring.
    pub slot: Option<u32>,
    /// How many there are.
    pub slots: u32,
    /// Name of the backend that it leads to.
    pub backend: Option<String>,
    /// Whether flows of the slot are looked for in the flow table; absent unless the VIP is adaptive.
    #[serde(default)]
    pub tracked: Option<bool>,
    /// Of a slot that is tracked, name of the backend that it led to before, where its flows are that are not remembered.
    #[serde(default)]
    pub previous: Option<String>,
    /// The source route whose ring it is; absent of the VIP's own.
    pub source_route: Option<String>,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetStage {
    /// Its number.
    pub number: u32,
    /// Pool of the backend.
    pub pool: Option<String>,
    /// The backend.
    pub backend: Option<String>,
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// `serving`, `draining`, `down` or `gone`.
    pub state: String,
    /// `ipip`, `gue`, `l2` or `local`.
    pub encap: String,
}

/// Who gets the frame next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NextHopStage {
    /// MAC address.
    pub mac: String,
    /// Interface to leave by; absent for the one that the packet came in by.
    pub interface: Option<String>,
    /// VLANs that the frame bears, the outer one first; absent if it keeps those that it came with.
    pub vlans: Option<Vec<u16>>,
    /// Bytes of the longest packet that fits; absent if there is no limit.
    pub largest_packet: Option<u32>,
    /// Whether this one fits.
    pub fits: bool,
}

/// The outer header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OuterStage {
    /// Its bytes in hexadecimal, from the IP header on.
    pub bytes: String,
    /// Outer source.
    #[schema(value_type = String)]
    pub source: IpAddr,
    /// Outer destination: the backend.
    #[schema(value_type = String)]
    pub destination: IpAddr,
    /// UDP ports, of GUE.
    pub ports: Option<[u16; 2]>,
}
