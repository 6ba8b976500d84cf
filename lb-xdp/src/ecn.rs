//! Explicit congestion notification through tunnels (RFC 6040).

/// Bits of the traffic class that are the ECN field.
pub const MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// The inner ECN field when the outer header is taken off: section 4.2, figure 4. `None`: the packet must be dropped.
#[inline(always)]
pub const fn merged(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        _ => Some(inner),
    }
}
