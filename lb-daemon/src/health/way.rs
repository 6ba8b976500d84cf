//! The ways by which backends are asked at the VIP's own address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::Member;

/// How a probe to the VIP comes to one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The backend is this host.
    Here,
    /// Through the program that wraps clients' packets.
    Carried {
        /// What the socket's mark has to be.
        mark: u32,
        /// Address of this host that answers can come to, for where the kernel would choose none.
        source: Option<IpAddr>,
    },
    /// Nothing carries probes here, and the daemon's state says why.
    Closed,
}

/// The ways that there are, as the tables were last written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// By backend; one that is absent cannot be asked so yet.
    pub of: BTreeMap<Member, Way>,
    /// Addresses of this host that are VIPs, and by which no answer comes here: the balancer's own program would take it for
    /// a client's packet.
    pub taken: BTreeSet<IpAddr>,
}
