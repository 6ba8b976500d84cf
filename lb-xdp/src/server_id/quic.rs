//! Server IDs in QUIC connection IDs (RFC 9000, RFC 9369).
//!
//! The client copies the connection ID that its server chose into each packet once it knows it; Initial and 0-RTT packets
//! bear one that the client made up, and go by flow and ring.

use lb_common::layout::{server::ServerKey, vip::Vip};

use super::ServerId;
use crate::{frame::Frame, parse::Packet, wire::l4::UDP_LEN};

/// Bit of the first byte: a long header (RFC 8999 section 5.1).
const LONG: u8 = 0x80;
/// Bytes of a long header before the connection ID, the last of which is its length.
const LONG_LEN: usize = 6;
/// Version 2 (RFC 9369), whose packet types are numbered otherwise.
const VERSION_2: [u8; 4] = [0x6b, 0x33, 0x43, 0xcf];
/// Bytes of a connection ID's first byte and the longest server ID.
const MOST: usize = 1 + ServerKey::MAX_LEN;

/// The server ID of a packet to a QUIC VIP.
#[inline(always)]
pub fn read<F: Frame>(frame: &F, packet: &Packet, vip: &Vip) -> ServerId {
    let start = packet.l4 as usize + UDP_LEN;
    let Some(first) = frame.byte(start) else { return ServerId::NotYet };
    let (at, len) = if first & LONG == 0 {
        // How long it is only its server knows: as long as is needed, if the packet is.
        let at = start + 1;
        (at, packet.end().saturating_sub(at))
    } else {
        match long(frame, start, first) {
            Some(len) => (start + LONG_LEN, len.min(packet.end().saturating_sub(start + LONG_LEN))),
            None => return ServerId::NotYet,
        }
    };
    let Some(first) = frame.byte(at) else { return ServerId::NotYet };
    if len == 0 {
        return ServerId::NotYet;
    }
    if vip.flags & Vip::QUIC_LB != 0 { quic_lb(frame, at, len, first, vip) } else { katran(frame, at, len, first) }
}

/// Length of the connection ID in a long header; `None` if it is not a server's.
#[inline(always)]
fn long<F: Frame>(frame: &F, start: usize, first: u8) -> Option<usize> {
    let &[_, v0, v1, v2, v3, len] = frame.at::<[u8; LONG_LEN]>(start)?;
    let version = [v0, v1, v2, v3];
    let kind = first >> 4 & 3;
    // Numbered as in version 1: Initial, 0-RTT, Handshake, Retry.
    let kind = if version == VERSION_2 { kind.wrapping_sub(1) & 3 } else { kind };
    (version != [0; 4] && kind >= 2).then_some(len as usize)
}

/// draft-ietf-quic-load-balancers section 5.2, plaintext: three bits of configuration, then the server ID from the second
/// byte on.
#[inline(always)]
fn quic_lb<F: Frame>(frame: &F, at: usize, len: usize, first: u8, vip: &Vip) -> ServerId {
    let configuration = u32::from(first >> 5);
    if configuration == 7 {
        // "Unroutable": the server had no configuration when it made the connection ID.
        return ServerId::NotYet;
    }
    let id_len = (vip.quic_lengths >> (configuration * 4) & 0xf) as usize;
    if id_len == 0 || 1 + id_len > len {
        return ServerId::NotYet;
    }
    number(frame, at, 1 + id_len)
}

/// The layouts that Katran reads, by the first two bits: 16, 24 or 32 bits of server ID.
#[inline(always)]
fn katran<F: Frame>(frame: &F, at: usize, len: usize, first: u8) -> ServerId {
    let byte = |index: usize| if index < len { frame.byte(at + index).map(u32::from) } else { None };
    let id = match first >> 6 {
        1 => byte(1).zip(byte(2)).map(|(b, c)| u32::from(first & 0x3f) << 10 | b << 2 | c >> 6),
        2 => byte(1).zip(byte(2)).zip(byte(3)).map(|((b, c), d)| b << 16 | c << 8 | d),
        3 => byte(1).zip(byte(2)).zip(byte(3)).zip(byte(4)).map(|(((b, c), d), e)| b << 24 | c << 16 | d << 8 | e),
        _ => None,
    };
    match id {
        None | Some(0) => ServerId::NotYet,
        Some(id) => ServerId::Given([0, id.into()]),
    }
}

/// The bytes from the second to number `end` of those at `at`, as one number.
#[inline(always)]
fn number<F: Frame>(frame: &F, at: usize, end: usize) -> ServerId {
    let (mut high, mut low) = (0_u64, 0_u64);
    for index in 1..MOST {
        if index >= end {
            break;
        }
        let Some(byte) = frame.byte(at + index) else { return ServerId::NotYet };
        high = high << 8 | low >> 56;
        low = low << 8 | u64::from(byte);
    }
    ServerId::Given([high, low])
}
