//! ICMP (RFC 792) and `ICMPv6` (RFC 4443): echo.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// ICMP type of an echo request.
pub const ECHO_REQUEST_V4: u8 = 8;
/// ICMP type of an echo reply.
pub const ECHO_REPLY_V4: u8 = 0;
/// `ICMPv6` type of an echo request.
pub const ECHO_REQUEST_V6: u8 = 128;
/// `ICMPv6` type of an echo reply.
pub const ECHO_REPLY_V6: u8 = 129;

/// Length of the header.
pub const LEN: usize = size_of::<Icmp>();

/// First 8 bytes of any ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: [u8; 2],
    /// Depends on the type; identifier and sequence number in an echo.
    pub rest: [u8; 4],
}
