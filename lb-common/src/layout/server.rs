//! `SERVER_IDS`: which backend gave itself this number?

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of `SERVER_IDS`; the value is the `u32` number of a target.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C, align(8))]
pub struct ServerKey {
    /// Number of the VIP.
    pub vip: u32,
    /// Zero.
    pub pad: u32,
    /// The server ID as one number, its upper 64 bits first; native. A server ID of several bytes is read as big-endian.
    pub id: [u64; 2],
}
const _: () = assert!(size_of::<ServerKey>() == 24);

impl ServerKey {
    /// Bytes of the longest server ID (draft-ietf-quic-load-balancers section 5.1).
    pub const MAX_LEN: usize = 15;

    /// Key of a server ID.
    #[inline(always)]
    pub const fn new(vip: u32, id: u128) -> Self {
        Self { vip, pad: 0, id: [(id >> 64) as u64, id as u64] }
    }

    /// The server ID.
    pub const fn id(&self) -> u128 {
        let [high, low] = self.id;
        (high as u128) << 64 | low as u128
    }
}
