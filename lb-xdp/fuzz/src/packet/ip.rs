//! The IP header, with what may lie between it and what it carries, and the tunnels of other lbs.

use super::{Recipe, checksum, pseudo_header};
use crate::site::{LBS, TUNNELS};

/// Next headers (RFC 8200, RFC 4302).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const OPTIONS: u8 = 60;

/// UDP port of GUE.
const GUE: u16 = 6080;

/// An address as it lies in a packet.
pub(super) fn octets(address: &[u8; 16], v4: bool) -> &[u8] {
    if v4 { &address[12..] } else { address }
}

/// The packet.
pub(super) fn build(recipe: &Recipe, protocol: u8, content: &[u8]) -> Vec<u8> {
    if recipe.v4 { v4(recipe, protocol, content) } else { v6(recipe, protocol, content) }
}

/// Offset in units of 8 bytes, and whether more fragments follow. Of a later fragment the content is what would be there:
/// anything.
fn fragment(recipe: &Recipe) -> (u16, bool) {
    match recipe.fragment & 7 {
        0..=2 => (0, false),
        3 => (0, true),
        4 => (1, true),
        5 => (185, false),
        6 => (185, true),
        _ => (0x1fff, false),
    }
}

fn v4(recipe: &Recipe, protocol: u8, content: &[u8]) -> Vec<u8> {
    let options = vec![1; 4 * usize::from(recipe.extensions % 11)];
    let (offset, more) = fragment(recipe);
    let dont_fragment = recipe.fragment & 0x80 == 0 && !more;
    let fragment = offset | u16::from(more) << 13 | u16::from(dont_fragment) << 14;
    let words = 5 + u8::try_from(options.len() / 4).expect("few");
    let length = u16::try_from(20 + options.len() + content.len()).expect("short");
    let mut header = [&[0x40 | words, recipe.class], &length.to_be_bytes()[..], &[0, recipe.id]].concat();
    header.extend(fragment.to_be_bytes());
    header.extend([recipe.ttl.wrapping_sub(1), protocol, 0, 0]);
    header.extend(octets(&recipe.source, true));
    header.extend(octets(&recipe.destination, true));
    header.extend(options);
    let sum = checksum(0, &header) ^ u16::from(recipe.sums & 4 != 0);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header, content].concat()
}

/// Extension headers, as pairs of bits ask for them.
fn extensions(recipe: &Recipe) -> Vec<(u8, Vec<u8>)> {
    let all = recipe.extensions;
    let mut headers = Vec::new();
    if all & 1 != 0 {
        headers.push((HOP_BY_HOP, vec![0, 0, 1, 4, 0, 0, 0, 0]));
    }
    for _ in 0..all >> 1 & 3 {
        headers.push((OPTIONS, [&[0, 1, 1, 12], &[0; 12][..]].concat()));
    }
    if all & 8 != 0 {
        headers.push((ROUTING, vec![0, 0, 253, 0, 0, 0, 0, 0]));
    }
    let (offset, more) = fragment(recipe);
    if offset > 0 || more || all & 0x10 != 0 {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        headers.push((FRAGMENT, vec![0, 0, high, low, 0, 0, 0, recipe.id]));
    }
    if all & 0x20 != 0 {
        headers.push((AUTHENTICATION, [&[0, 4], &[0; 22][..]].concat()));
    }
    for _ in 0..all >> 6 {
        headers.push((OPTIONS, vec![0, 0, 1, 4, 0, 0, 0, 0]));
    }
    headers
}

fn v6(recipe: &Recipe, protocol: u8, content: &[u8]) -> Vec<u8> {
    let headers = extensions(recipe);
    let mut next: Vec<u8> = headers.iter().map(|(kind, _)| *kind).collect();
    next.push(protocol);
    let mut body = Vec::new();
    for ((_, header), follows) in headers.iter().zip(&next[1..]) {
        let at = body.len();
        body.extend(header);
        body[at] = *follows;
    }
    body.extend(content);
    let mut packet = vec![0x60 | recipe.class >> 4, recipe.class << 4 | 1, 2, 3];
    packet.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    packet.extend([next[0], recipe.ttl.wrapping_sub(1)]);
    packet.extend([recipe.source, recipe.destination].concat());
    packet.extend(body);
    packet
}

/// The packet as another lb sends it here, if it does: 4 bits say how, 2 to which address and from where.
pub(super) fn in_tunnel(recipe: &Recipe, packet: Vec<u8>) -> Vec<u8> {
    let allowed = recipe.tunnel & 0x20 == 0;
    let (v4, gue) = match recipe.tunnel & 0xf {
        1 => (true, false),
        2 => (false, false),
        3 => (true, true),
        4 => (false, true),
        _ => return packet,
    };
    let place = usize::from(!v4);
    let inner = if recipe.v4 { 4 } else { 41 };
    let outer = Recipe {
        v4,
        source: LBS[2 * place + usize::from(!allowed)],
        destination: TUNNELS[place],
        extensions: 0,
        fragment: if recipe.tunnel & 0x40 == 0 { 0 } else { recipe.fragment },
        class: recipe.class.rotate_left(u32::from(recipe.tunnel >> 7)),
        ttl: if recipe.tunnel & 0x10 == 0 { 65 } else { recipe.ttl },
        ..*recipe
    };
    if !gue {
        return build(&outer, inner, &packet);
    }
    let ports = [(50_000 + u16::from(recipe.id)).to_be_bytes(), GUE.to_be_bytes()].concat();
    let length = u16::try_from(8 + packet.len()).expect("short");
    let mut datagram = [&ports, &length.to_be_bytes()[..], &[0, 0], &packet].concat();
    if !v4 || recipe.sums & 8 != 0 {
        let start = pseudo_header(octets(&outer.source, v4), octets(&outer.destination, v4), 17, datagram.len());
        let sum = match checksum(start, &datagram) {
            0 => 0xffff,
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    build(&outer, 17, &datagram)
}
