//! ICMP (RFC 792) and `ICMPv6` (RFC 4443): echo and errors.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// ICMP type of an echo request.
pub const ECHO_REQUEST_V4: u8 = 8;
/// ICMP type of an echo reply.
pub const ECHO_REPLY_V4: u8 = 0;
/// `ICMPv6` type of an echo request.
pub const ECHO_REQUEST_V6: u8 = 128;
/// `ICMPv6` type of an echo reply.
pub const ECHO_REPLY_V6: u8 = 129;

/// ICMP type: destination unreachable, fragmentation needed among its codes.
pub const UNREACHABLE_V4: u8 = 3;
/// ICMP code of [`UNREACHABLE_V4`]: fragmentation needed (RFC 1191).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// ICMP type: time exceeded.
pub const TIME_EXCEEDED_V4: u8 = 11;
/// ICMP type: parameter problem.
pub const PARAMETER_PROBLEM_V4: u8 = 12;
/// `ICMPv6` types of errors: destination unreachable, packet too big, time exceeded, parameter problem.
pub const ERRORS_V6: core::ops::RangeInclusive<u8> = 1..=4;
/// `ICMPv6` type: packet too big.
pub const TOO_BIG_V6: u8 = 2;

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
