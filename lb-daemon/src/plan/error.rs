//! Why there is no plan.

/// Why there is no plan in tables of this size; the state in force goes on serving. Larger tables mend it unless they are as
/// large as can be: [`super::room`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// `VIPS` is too small.
    #[error("the configuration takes {needed} entries for VIPs and their addresses, the table holds {places}")]
    TooManyVips {
        /// Entries of all services and addresses.
        needed: u32,
        /// Entries that the table can hold.
        places: u32,
    },
    /// A pool has more backends than a ring can name.
    #[error("{service} has {backends} backends, the limit is {limit}; spread them over several VIPs")]
    TooManyBackends {
        /// The VIP.
        service: String,
        /// Its backends.
        backends: u32,
        /// Most backends of a VIP.
        limit: u32,
    },
    /// `TARGETS` is too small, or too fragmented.
    #[error(
        "{service} needs {needed} places in a row for its targets; of the table's {places}, {free} are free, {longest} in a row at most"
    )]
    TooManyTargets {
        /// The VIP.
        service: String,
        /// Places that it needs, one beside the other.
        needed: u32,
        /// The longest free run of places.
        longest: u32,
        /// All free places.
        free: u32,
        /// Places of the table.
        places: u32,
    },
    /// `RINGS` is too small, or too fragmented: an old ring must stay until its successor is in force.
    #[error(
        "the new ring of {service} needs {needed} blocks in a row; of the table's {places}, {free} are free, {longest} in a row at most"
    )]
    RingSpace {
        /// The VIP.
        service: String,
        /// Blocks that its ring needs, one beside the other.
        needed: u32,
        /// The longest free run of blocks.
        longest: u32,
        /// All free blocks.
        free: u32,
        /// Blocks of the table.
        places: u32,
    },
    /// `RINGS` is too small for the history of some ring, as it may one day be.
    #[error(
        "all rings, with the histories of adaptive VIPs such as {service} and the largest one twice, need {needed} blocks, the table has {places}"
    )]
    HistorySpace {
        /// An adaptive VIP.
        service: String,
        /// Blocks of all rings.
        needed: u32,
        /// Blocks of the table.
        places: u32,
    },
    /// `GROUPS` is too small.
    #[error("{service} needs places for {needed} groups of source routes, of the table's {places}, {free} are free")]
    TooManyGroups {
        /// The VIP.
        service: String,
        /// Places that it needs.
        needed: u32,
        /// Places that are free.
        free: u32,
        /// Places of the table.
        places: u32,
    },
    /// `SERVER_IDS` is too small.
    #[error("the configuration has {needed} server IDs, the table holds {places}")]
    TooManyServers {
        /// Server IDs of all VIPs.
        needed: u32,
        /// Entries that the table can hold.
        places: u32,
    },
    /// A table of source prefixes is too small for all lists in it, the old and the new version of one among them: both
    /// must be there while it changes.
    #[error("{table} would have to hold {needed} prefixes, it holds {places}")]
    TooManyPrefixes {
        /// The table.
        table: &'static str,
        /// Prefixes at the worst moment.
        needed: u32,
        /// Entries that the table can hold.
        places: u32,
    },
    /// `TUNNEL_ADDRESSES` is too small.
    #[error("the configuration has {needed} tunnel addresses, the table holds {places}")]
    TooManyTunnels {
        /// Addresses.
        needed: u32,
        /// Entries that the table can hold.
        places: u32,
    },
}
