//! Server IDs: which backend does the packet itself name?
//!
//! In a QUIC connection ID ([`quic`]), in a TCP option, or in the header that some UDP services put before their payload.

use core::hint::black_box;

use lb_common::{
    layout::vip::{TCP, Vip},
    maps::feature,
};

use crate::{
    frame::Frame,
    parse::Packet,
    path::Tables,
    wire::l4::{TCP_LEN, Tcp, UDP_LEN},
};

pub mod quic;

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerId {
    /// Nothing.
    Absent,
    /// That its connection has no server yet, or in a way that cannot be read.
    NotYet,
    /// A number, its upper 64 bits first.
    Given([u64; 2]),
}

impl ServerId {
    /// A number of up to 64 bits; 0 names no server.
    #[inline(always)]
    const fn small(id: u64) -> Self {
        if id == 0 { Self::Absent } else { Self::Given([0, id]) }
    }
}

/// Option of a TCP header that carries a server ID, and its length.
const TCP_OPTION: [u8; 2] = [0xb7, 6];
/// Options that are looked at.
const TCP_OPTIONS: usize = 15;
/// Bytes of the longest TCP header.
const TCP_MAX_LEN: usize = 60;
/// First byte of a UDP payload with a stable-routing header.
const STABLE_ROUTING: u8 = 0x52;
/// Bytes of that header.
const STABLE_ROUTING_LEN: usize = 8;

/// Reads what the VIP asks for.
#[inline(always)]
pub fn read<F: Frame, T: Tables>(frame: &F, packet: &Packet, vip: &Vip, tables: &T) -> ServerId {
    let asks = |flag| vip.flags & flag != 0;
    if tables.has(feature::QUIC) && asks(Vip::QUIC_LB | Vip::QUIC_KATRAN) {
        return quic::read(frame, packet, vip);
    }
    if !tables.has(feature::SERVER_IDS) {
        return ServerId::Absent;
    }
    if packet.protocol == TCP {
        // A SYN opens a connection, which no server knows yet.
        if asks(Vip::TCP_SERVER_ID) && !packet.opens_flow() { tcp(frame, packet) } else { ServerId::Absent }
    } else if asks(Vip::UDP_SERVER_ID) {
        udp(frame, packet)
    } else {
        ServerId::Absent
    }
}

/// The ID in a TCP option: 32 bits, little-endian.
#[inline(always)]
fn tcp<F: Frame>(frame: &F, packet: &Packet) -> ServerId {
    let start = packet.l4();
    let Some(tcp) = frame.at::<Tcp>(start) else { return ServerId::Absent };
    // Hidden from the compiler, which knows that it is at most 60 and would leave out the mask below.
    let len = black_box((tcp.data_offset >> 4 << 2) as usize);
    let mut at = TCP_LEN;
    for _ in 0..TCP_OPTIONS {
        // Never more than 60: for the verifier, which then has but one range of offsets to go through.
        at &= 0x3f;
        if at + 1 >= len.min(TCP_MAX_LEN) {
            return ServerId::Absent;
        }
        let Some(&[kind, option_len]) = frame.at::<[u8; 2]>(start + at) else { return ServerId::Absent };
        match kind {
            0 => return ServerId::Absent,
            1 => at += 1,
            _ if [kind, option_len] == TCP_OPTION => {
                if at + 6 > len {
                    return ServerId::Absent;
                }
                let id = frame.at::<[u8; 4]>(start + at + 2);
                return id.map_or(ServerId::Absent, |id| ServerId::small(u32::from_le_bytes(*id).into()));
            }
            _ if kind == 0xb7 || option_len < 2 || at + option_len as usize > len => return ServerId::Absent,
            _ => at += option_len as usize,
        }
    }
    ServerId::Absent
}

/// The ID in a stable-routing header: 24 bits, big-endian.
#[inline(always)]
fn udp<F: Frame>(frame: &F, packet: &Packet) -> ServerId {
    let start = packet.l4() + UDP_LEN;
    if start + STABLE_ROUTING_LEN > packet.end() {
        return ServerId::Absent;
    }
    match frame.at::<[u8; 4]>(start) {
        Some(&[STABLE_ROUTING, a, b, c]) => ServerId::small(u32::from_be_bytes([0, a, b, c]).into()),
        _ => ServerId::Absent,
    }
}

#[cfg(test)]
mod tests;
