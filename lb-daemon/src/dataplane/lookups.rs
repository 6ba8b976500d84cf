//! The tables as a packet would find them at this moment, read by value: whoever holds such look-ups can change nothing.

use lb_common::{
    layout::{
        flow::WAYS,
        limit::SourceLine,
        prefix::{Group, SourceKey},
        ring::RingBlock,
        server::ServerKey,
        target::Target,
        vip::{PrefixKey, Vip, VipKey},
    },
    maps::Tuning,
};

use super::Error;
use crate::plan::ListTable;

/// Words of a line of limits by source.
pub const LINE_WORDS: usize = size_of::<SourceLine>() / size_of::<u64>();

/// A copy of a bucket's entries.
pub type Entries = [u64; WAYS];

/// Look-ups in tables that are in use. What is not there, or lies beyond a table's end, is `None`.
pub trait Lookups {
    /// Parameters of the program in force, masks and features as it was loaded with them.
    fn tuning(&self) -> &Tuning;

    /// The clock that the program reads, in nanoseconds.
    fn now_ns(&self) -> u64;

    /// A service or an address.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn vip(&self, key: &VipKey) -> Result<Option<Vip>, Error>;

    /// A service or an address of the longest prefix that matches.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn prefix_vip(&self, key: &PrefixKey) -> Result<Option<Vip>, Error>;

    /// A bucket of the flow table.
    fn flows(&self, index: u32) -> Option<Entries>;

    /// A bucket of the datagrams in fragments.
    fn fragments(&self, index: u32) -> Option<Entries>;

    /// A block of the rings.
    fn ring(&self, block: u32) -> Option<RingBlock>;

    /// A target by number; a free place is one too.
    fn target(&self, id: u32) -> Option<Target>;

    /// What a list of prefixes says of an address: its longest prefix that matches decides.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn listed(&self, list: ListTable, key: &SourceKey) -> Result<Option<u32>, Error>;

    /// Which prefix that is: its bits, of 128.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn listed_bits(&self, list: ListTable, key: &SourceKey) -> Result<Option<u8>, Error>;

    /// A group by number.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn group(&self, id: u32) -> Result<Option<Group>, Error>;

    /// The target that has a server ID.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn server(&self, key: &ServerKey) -> Result<Option<u32>, Error>;

    /// The limit of a VIP's new flows.
    fn vip_limit(&self, vip: u32) -> Option<u64>;

    /// A line of the limits by source.
    fn source_line(&self, index: u32) -> Option<[u64; LINE_WORDS]>;

    /// A limit of packet-too-big messages.
    fn too_big_limit(&self, index: u32) -> Option<u64>;

    /// The daemon's last sign of life; `None` where the program that is in force does not ask for it.
    fn heartbeat(&self) -> Option<u64>;

    /// The bond that an interface is a member of.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn bond(&self, ifindex: u32) -> Result<Option<u32>, Error>;

    /// Whether an address (IPv4 mapped) takes tunnel packets of other lbs.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn is_tunnel(&self, address: &[u8; 16]) -> Result<bool, Error>;
}
