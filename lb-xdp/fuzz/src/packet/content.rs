//! What an IP packet carries.

use super::{Recipe, checksum, ip, pseudo_header};

/// IP protocols.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Protocol and bytes behind the IP header.
pub(super) fn build(recipe: &Recipe) -> (u8, Vec<u8>) {
    let icmp = if recipe.v4 { ICMP } else { ICMPV6 };
    let (protocol, mut bytes, sum_at) = match recipe.kind & 0x1f {
        0..=4 => (TCP, tcp(recipe), 16),
        5..=8 => (UDP, udp(recipe, &payload(recipe)), 6),
        9..=11 => (UDP, udp(recipe, &quic_long(recipe)), 6),
        12..=14 => (UDP, udp(recipe, &quic_short(recipe)), 6),
        15..=17 => (icmp, echo(recipe), 2),
        18..=23 => (icmp, error(recipe), 2),
        24 => (icmp, [recipe.icmp.to_vec(), vec![0; 2], payload(recipe)].concat(), 2),
        _ => (recipe.icmp[0], payload(recipe), usize::MAX),
    };
    let pseudo = if protocol == ICMP { 0 } else { pseudo(recipe, protocol, bytes.len()) };
    let sum = match recipe.sums & 3 {
        // A datagram without a sum.
        1 => 0,
        2 => 0xdead,
        _ => checksum(pseudo, &bytes),
    };
    if let Some(place) = sum_at.checked_add(2).and_then(|end| bytes.get_mut(sum_at..end)) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    (protocol, bytes)
}

fn pseudo(recipe: &Recipe, protocol: u8, len: usize) -> u32 {
    let (source, destination) = (ip::octets(&recipe.source, recipe.v4), ip::octets(&recipe.destination, recipe.v4));
    pseudo_header(source, destination, protocol, len)
}

/// The content, then as many bytes as the length asks for.
fn payload(recipe: &Recipe) -> Vec<u8> {
    let length = match recipe.length {
        short @ 0..64 => usize::from(short),
        middle @ 64..192 => 64 + 12 * usize::from(middle - 64),
        long => 1200 + 8 * usize::from(long - 192),
    };
    let mut bytes = recipe.content.to_vec();
    bytes.resize(length, 0x5a);
    bytes
}

fn tcp(recipe: &Recipe) -> Vec<u8> {
    let mut options = match recipe.options & 7 {
        0..=2 => Vec::new(),
        // The server ID's option, 0xb7, where it can lie.
        3 => [&[0xb7, 6], &recipe.content[..4]].concat(),
        4 => [&[2, 4, 5, 0xb4, 1, 3, 3, 7, 0xb7, 6], &recipe.content[..4], &[0, 0]].concat(),
        5 => [&[8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 0xb7, 6], &recipe.content[..4]].concat(),
        6 => recipe.content.to_vec(),
        _ => [&[1; 28], &recipe.content[..]].concat(),
    };
    options.resize(options.len().next_multiple_of(4), 1);
    let words = match recipe.options >> 4 {
        wrong @ 1..=4 => wrong - 1,
        15 => 15,
        _ => 5 + u8::try_from(options.len() / 4).expect("few options"),
    };
    let [source, destination] = recipe.ports.map(u16::to_be_bytes);
    let sequence = [0, 0, 3, 0xe8, 0, 0, 0, 1];
    let flags = if recipe.flags & 0x40 == 0 { recipe.flags & 0x3f } else { 2 };
    let rest = [words << 4, flags, 0x10, 0, 0, 0, 0, 0];
    [&source[..], &destination, &sequence, &rest, &options, &payload(recipe)].concat()
}

fn udp(recipe: &Recipe, payload: &[u8]) -> Vec<u8> {
    let [source, destination] = recipe.ports.map(u16::to_be_bytes);
    let length = u16::try_from(8 + payload.len()).expect("short");
    // A length that is wrong, now and then.
    let length = match recipe.sums >> 4 {
        1 => length + 1,
        2 => 7,
        3 => length.saturating_sub(3),
        4 => 0,
        _ => length,
    };
    [&source[..], &destination, &length.to_be_bytes(), &[0; 2], payload].concat()
}

/// A long header (RFC 9000 section 17.2), its connection ID made of the content.
fn quic_long(recipe: &Recipe) -> Vec<u8> {
    let versions = [[0, 0, 0, 1], [0x6b, 0x33, 0x43, 0xcf], [0, 0, 0, 0], [0xff, 0, 0, 29]];
    let version = versions[usize::from(recipe.icmp[0] & 3)];
    let first = 0xc0 | recipe.icmp[1] & 0x3f;
    let length = [20, 8, 4, 0, 3, 19, 21, 255][usize::from(recipe.icmp[0] >> 2 & 7)];
    let connection = [&recipe.content[..], &[0; 8]].concat();
    let connection = &connection[..usize::from(length).min(20)];
    [&[first], &version[..], &[length], connection, &[4, 1, 2, 3, 4], &vec![0x5a; usize::from(recipe.length)]].concat()
}

/// A short header (RFC 9000 section 17.3).
fn quic_short(recipe: &Recipe) -> Vec<u8> {
    let first = 0x40 & !recipe.icmp[0] | recipe.icmp[1] & 0x3f;
    let short = usize::from(recipe.length);
    let bytes = [&[first], &recipe.content[..], &vec![0x5a; short]].concat();
    bytes[..if short < 16 { short.min(bytes.len()) } else { bytes.len() }].to_vec()
}

fn echo(recipe: &Recipe) -> Vec<u8> {
    let (request, reply) = if recipe.v4 { (8, 0) } else { (128, 129) };
    let kind = if recipe.icmp[0] & 7 == 7 { reply } else { request };
    [&[kind, recipe.icmp[1] & 1, 0, 0, 0, recipe.id, 0, 1], &payload(recipe)[..]].concat()
}

/// An error about a packet that a VIP sent to the source.
fn error(recipe: &Recipe) -> Vec<u8> {
    let kinds = if recipe.v4 { [3, 11, 12, 3, 5, 4, 3, 3] } else { [1, 2, 3, 4, 2, 2, 5, 1] };
    let kind = kinds[usize::from(recipe.icmp[0] & 7)];
    let code = if recipe.v4 && recipe.icmp[0] & 7 == 3 { 4 } else { recipe.icmp[1] & 7 };
    let mut quoted = recipe.quoted();
    // A flag of its own tells whether the quoted packet's other end is the one that the error came from.
    if recipe.icmp[0] & 0x40 != 0 {
        quoted.destination[15] ^= 1;
    }
    let (protocol, segment) = if recipe.icmp[0] & 0x80 == 0 {
        (TCP, tcp(&quoted))
    } else if recipe.icmp[0] & 0x20 == 0 {
        (UDP, udp(&quoted, &payload(&quoted)))
    } else {
        (if recipe.v4 { ICMP } else { ICMPV6 }, echo(&quoted))
    };
    let mut quote = ip::build(&quoted, protocol, &segment);
    let kept = match recipe.quote {
        0 => 28 + 20 * usize::from(!recipe.v4),
        1..=120 => usize::from(recipe.quote),
        _ => 548,
    };
    quote.truncate(kept);
    [&[kind, code, 0, 0, 0, 0, 5, 0x78], &quote[..]].concat()
}

impl Recipe {
    /// The packet in the other direction, as an error quotes it.
    fn quoted(&self) -> Self {
        let [from, to] = self.ports;
        Self {
            source: self.destination,
            destination: self.source,
            ports: [to, from],
            // Its own options and fragments, by other bits.
            extensions: self.quote.rotate_left(4) & self.extensions,
            fragment: if self.icmp[1] & 0xc0 == 0xc0 { self.fragment } else { 0 },
            length: 20,
            ..*self
        }
    }
}
