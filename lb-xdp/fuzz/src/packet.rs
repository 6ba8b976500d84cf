//! From the bytes of a step to a frame: a good one of some kind, with what the bytes ask for besides, then damaged.

mod content;
mod ip;
mod link;

use crate::{
    input::STEP_BYTES,
    site::{CLIENTS_V4, CLIENTS_V6, DESTINATIONS, readable},
};

/// The shortest and the longest frame that the kernel takes for a test run (a page less the room on both sides).
pub const MIN_FRAME: usize = 14;
/// See [`MIN_FRAME`].
pub const MAX_FRAME: usize = 3520;

/// The bytes of a step, by name. Values choose among what there is.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// What the packet is: see [`content`].
    pub kind: u8,
    /// TCP flags.
    pub flags: u8,
    /// How much payload follows the 12 bytes of [`Recipe::content`].
    pub length: u8,
    /// DSCP and ECN.
    pub class: u8,
    /// VLAN tags.
    pub tags: u8,
    /// IPv4 options or IPv6 extension headers.
    pub extensions: u8,
    /// Which fragment.
    pub fragment: u8,
    /// Identification.
    pub id: u8,
    /// In whose tunnel.
    pub tunnel: u8,
    /// Time to live.
    pub ttl: u8,
    /// TCP options.
    pub options: u8,
    /// ICMP type and code.
    pub icmp: [u8; 2],
    /// Bytes behind the packet.
    pub padding: u8,
    /// How much of the end is missing.
    pub cut: u8,
    /// How much an ICMP error quotes.
    pub quote: u8,
    /// Which sums are wrong or absent.
    pub sums: u8,
    /// What the payload begins with.
    pub content: [u8; 12],
    /// Offsets behind the MAC addresses, and what is changed there.
    pub damage: [[u8; 2]; 4],
    /// Source address, IPv4 mapped.
    pub source: [u8; 16],
    /// Destination address, IPv4 mapped.
    pub destination: [u8; 16],
    /// Source and destination port.
    pub ports: [u16; 2],
    /// Whether it is an IPv4 packet.
    pub v4: bool,
}

impl Recipe {
    /// Names the bytes.
    pub fn new(bytes: [u8; STEP_BYTES]) -> Self {
        let [
            kind,
            to,
            from,
            port,
            flags,
            length,
            class,
            tags,
            extensions,
            fragment,
            id,
            tunnel,
            ttl,
            options,
            rest @ ..,
        ] = bytes;
        let [icmp_type, icmp_code, padding, cut, quote, sums, rest @ ..] = rest;
        let (content, damage) = rest.split_at(12);
        let change = |place: usize| [damage[2 * place], damage[2 * place + 1]];
        let (destination, to_port) = DESTINATIONS[usize::from(to) % DESTINATIONS.len()];
        let v4 = readable(destination).is_ipv4();
        let client = usize::from(from & 3);
        let source = if v4 { lb_common::layout::vip::mapped(CLIENTS_V4[client]) } else { CLIENTS_V6[client] };
        Self {
            kind,
            flags,
            length,
            class,
            tags,
            extensions,
            fragment,
            id,
            tunnel,
            ttl,
            options,
            icmp: [icmp_type, icmp_code],
            padding,
            cut,
            quote,
            sums,
            content: *content.first_chunk().expect("12 bytes"),
            damage: std::array::from_fn(change),
            source,
            destination,
            ports: [1024 + u16::from(port), to_port],
            v4,
        }
    }
}

/// The frame.
pub fn build(recipe: &Recipe) -> Vec<u8> {
    let (protocol, content) = content::build(recipe);
    let packet = ip::build(recipe, protocol, &content);
    let packet = ip::in_tunnel(recipe, packet);
    let mut frame = link::build(recipe, &packet);
    damage(recipe, &mut frame);
    frame.resize(frame.len().clamp(MIN_FRAME, MAX_FRAME), 0);
    frame
}

fn damage(recipe: &Recipe, frame: &mut Vec<u8>) {
    for [at, change] in recipe.damage {
        if let Some(place) = frame.get_mut(12 + usize::from(at)) {
            *place ^= change;
        }
    }
    let cut = match recipe.cut {
        short @ 0..128 => usize::from(short),
        long => frame.len().saturating_sub(usize::from(long - 128) + MIN_FRAME),
    };
    frame.truncate(frame.len().saturating_sub(cut));
}

/// The Internet checksum (RFC 1071) of bytes, after `start`.
pub(crate) fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum = start + bytes.chunks(2).map(word).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// The sum of a pseudo-header (RFC 9293, RFC 8200 section 8.1), not folded.
pub(crate) fn pseudo_header(source: &[u8], destination: &[u8], protocol: u8, len: usize) -> u32 {
    let addresses = source.chunks(2).chain(destination.chunks(2));
    let sum: u32 = addresses.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    sum + u32::from(protocol) + u32::try_from(len).expect("short")
}
