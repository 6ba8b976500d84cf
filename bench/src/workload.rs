//! Which frames are replayed, and what must become of them.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;

use crate::{
    balancer::{FLOW_TABLE_ENTRIES, Scale, Wish},
    workload::frame::{Addresses, Frame, Transport},
};

pub mod frame;
mod large;
mod uncommon;

/// The VIP over IPv4 whose backends are reached over IPv4.
pub const VIP4: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
/// The VIP over IPv4 whose backends are reached over IPv6.
pub const VIP4_TO_6: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 1);
/// The VIP over IPv6 whose backends are reached over IPv6.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, 0, 1);
const OTHER4: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 1);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, 1);
/// What an outer IPv4 header adds to a packet.
pub const OUTER4: u32 = 20;
/// What an outer IPv6 header adds to a packet.
pub const OUTER6: u32 = 40;
/// More flows than packets that a program sees in a row of [`Case::SynNew`] with the usual rounds.
const NEW_FLOWS: u32 = 1 << 25;
/// Flows of [`Case::Scale`], where it is not one.
const SCALE_FLOWS: u32 = 1 << 17;
/// Flows of [`Case::Full`], and entries of the largest flow table: 128 MiB.
const FULL: u32 = 1 << 24;
/// Packets of many flows that are measured with any number of them.
const MOST_FLOWS: [&str; 4] = ["udp4", "tcp4-ack", "tcp4-adaptive", "tcp4-syn"];
/// The least frame on a wire, its check sequence aside, and one near the largest.
const SMALL: usize = 64;
const LARGE: usize = 1400;

/// What the traffic is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Case {
    /// One known flow
    Hit,
    /// Many known flows, each once before any comes again
    Rotate,
    /// TCP SYNs that come again, of one and of many flows
    Syn,
    /// TCP SYNs of flows never seen before, into a flow table that is full of such
    SynNew,
    /// Packets that are passed on untouched
    NotAVip,
    /// Echo requests to a VIP
    Echo,
    /// One known flow, of packets that are not plain
    Packets,
    /// One known flow, to VIPs that ask for more than plain ones
    Vips,
    /// One known flow and many, with many VIPs and backends
    Scale,
    /// As many flows as a flow table of 128 MiB has entries, and parts of that
    Full,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Hit,
        Self::Rotate,
        Self::Syn,
        Self::SynNew,
        Self::NotAVip,
        Self::Echo,
        Self::Packets,
        Self::Vips,
        Self::Scale,
        Self::Full,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Rotate => "rotate",
            Self::Syn => "syn",
            Self::SynNew => "syn-new",
            Self::NotAVip => "not-a-vip",
            Self::Echo => "echo",
            Self::Packets => "packets",
            Self::Vips => "vips",
            Self::Scale => "scale",
            Self::Full => "full",
        }
    }

    /// Whether its flows are known after the first of their packets, and looked up.
    pub fn keeps_flows(self) -> bool {
        matches!(self, Self::Rotate | Self::Scale | Self::Full)
    }

    /// The numbers of flows to run it with, if `many` are asked for.
    fn flows(self, many: &[u32]) -> Vec<u32> {
        match self {
            Self::Hit | Self::NotAVip | Self::Echo | Self::Packets | Self::Vips => vec![1],
            Self::Rotate => many.to_vec(),
            Self::Syn => [&[1], many].concat(),
            Self::SynNew => vec![NEW_FLOWS],
            Self::Scale => vec![1, SCALE_FLOWS],
            Self::Full => vec![FULL / 4, FULL / 2, FULL],
        }
    }

    /// The packets of this case.
    pub fn workloads(self) -> Vec<Workload> {
        let known = [
            ("udp4", Transport::Udp, four(VIP4), SMALL, OUTER4),
            ("tcp4-ack", Transport::TcpAck, four(VIP4), SMALL, OUTER4),
            ("udp6", Transport::Udp, six(VIP6), SMALL, OUTER6),
            ("tcp6-ack", Transport::TcpAck, six(VIP6), SMALL, OUTER6),
            ("udp4to6", Transport::Udp, four(VIP4_TO_6), SMALL, OUTER6),
            ("tcp4to6-ack", Transport::TcpAck, four(VIP4_TO_6), SMALL, OUTER6),
        ];
        let forwarded = |(packet, transport, addresses, length, outer)| Workload {
            case: self,
            packet,
            frame: Frame::build(addresses, transport, length),
            before: None,
            wish: Wish::default(),
            expected: Verdict { action: Action::Tx, grown: outer },
        };
        let kept = |(packet, transport, addresses), action| Workload {
            case: self,
            packet,
            frame: Frame::build(addresses, transport, SMALL),
            before: None,
            wish: Wish::default(),
            expected: Verdict { action, grown: 0 },
        };
        match self {
            Self::Hit => {
                let large = ("udp4-1400B", Transport::Udp, four(VIP4), LARGE, OUTER4);
                known.into_iter().chain([large]).map(forwarded).collect()
            }
            Self::Rotate => known.into_iter().map(forwarded).chain(uncommon::many_flows()).collect(),
            Self::Syn | Self::SynNew => [
                ("tcp4-syn", Transport::TcpSyn, Addresses::V4(Ipv4Addr::new(10, 2, 0, 1), VIP4), SMALL, OUTER4),
                ("tcp6-syn", Transport::TcpSyn, Addresses::V6(client6(2), VIP6), SMALL, OUTER6),
            ]
            .map(forwarded)
            .into(),
            Self::NotAVip => [
                ("nonvip-udp4", Transport::Udp, four(OTHER4)),
                ("nonvip-tcp4", Transport::TcpAck, four(OTHER4)),
                ("nonvip-tcp6", Transport::TcpAck, six(OTHER6)),
            ]
            .map(|packet| kept(packet, Action::Pass))
            .into(),
            Self::Echo => [("icmp4-echo", Transport::Echo, four(VIP4)), ("icmp6-echo", Transport::Echo, six(VIP6))]
                .map(|packet| kept(packet, Action::Tx))
                .into(),
            Self::Packets => uncommon::packets(),
            Self::Vips => uncommon::vips(),
            Self::Scale => large::many(),
            Self::Full => large::full(),
        }
    }
}

fn four(destination: Ipv4Addr) -> Addresses {
    Addresses::V4(Ipv4Addr::new(10, 1, 0, 1), destination)
}

fn six(destination: Ipv6Addr) -> Addresses {
    Addresses::V6(client6(1), destination)
}

fn client6(subnet: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, subnet, 0, 0, 0, 0, 0, 1)
}

/// One kind of packet, and what must become of it.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The case it belongs to.
    pub case: Case,
    /// Its name.
    pub packet: &'static str,
    /// The packet of flow 0.
    pub frame: Frame,
    /// What comes before each run of them.
    pub before: Option<Frame>,
    /// What the balancer's config has beside the plain VIPs, whatever the flows.
    wish: Wish,
    /// What a balancer does with it.
    pub expected: Verdict,
}

impl Workload {
    /// The numbers of flows to run it with, if `many` are asked for. More than a million are for a few packets only: they take
    /// long, and others do not differ.
    pub fn flows(&self, many: &[u32]) -> Vec<u32> {
        let largest = [Case::Rotate, Case::Syn].contains(&self.case) && !MOST_FLOWS.contains(&self.packet);
        self.case.flows(many).into_iter().filter(|flows| !largest || *flows <= 1 << 20).collect()
    }

    /// What the balancer's config has beside the plain VIPs with so many flows. Those of [`Case::Rotate`] and [`Case::Syn`] are
    /// to be known ones, and buckets overflow long before the flow table is full: it has room for four times as many.
    pub fn wish(&self, flows: u32) -> Wish {
        let room = flows.saturating_mul(4).min(FULL);
        let more = [Case::Rotate, Case::Syn].contains(&self.case) && room > FLOW_TABLE_ENTRIES;
        let flow_table = if more { Some(room) } else { self.wish.scale.flow_table };
        Wish { scale: Scale { flow_table, ..self.wish.scale }, ..self.wish }
    }

    /// Whether the floor for this packet is IPv6: as the outer header where there is one, else as the packet.
    pub fn floor_is_v6(&self) -> bool {
        match self.expected.grown {
            0 => self.frame.is_v6(),
            grown => grown >= OUTER6,
        }
    }
}

/// How an XDP program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Failed.
    Aborted,
    /// Dropped.
    Drop,
    /// Given to the network stack.
    Pass,
    /// Sent back out of the interface.
    Tx,
    /// Sent out of another one.
    Redirect,
}

impl Action {
    /// From the program's return value.
    pub fn from_code(code: u32) -> Option<Self> {
        [Self::Aborted, Self::Drop, Self::Pass, Self::Tx, Self::Redirect].get(code as usize).copied()
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The XDP action.
    pub action: Action,
    /// Bytes that were put before it.
    pub grown: u32,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let action = match self.action {
            Action::Aborted => "aborted",
            Action::Drop => "drop",
            Action::Pass => "pass",
            Action::Tx => "tx",
            Action::Redirect => "redirect",
        };
        write!(f, "{action}+{}", self.grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_are_to_be_known_have_room_for_four_times_as_many() {
        let table = |case: Case, flows: u32| case.workloads()[0].wish(flows).scale.flow_table;
        assert_eq!(table(Case::Rotate, FLOW_TABLE_ENTRIES / 4), None, "the usual one");
        assert_eq!(table(Case::Rotate, FLOW_TABLE_ENTRIES), Some(4 * FLOW_TABLE_ENTRIES));
        assert_eq!(table(Case::Syn, FULL), Some(FULL), "no larger one");
        assert_eq!((table(Case::SynNew, NEW_FLOWS), table(Case::Full, FULL / 4)), (None, Some(FULL)));
    }
}
