//! Checksums, recomputed by the definition (RFC 1071) and by nobody's encoder: whatever headers a frame has, outer and
//! inner, each sum in it is looked at.

/// What is wrong with the checksums of a frame: header by header, from the outermost.
pub fn wrong(frame: &[u8]) -> Vec<String> {
    let mut found = vec![];
    let mut at = 12;
    while matches!(word(frame, at), Some(0x8100 | 0x88a8)) {
        at += 4;
    }
    match word(frame, at) {
        Some(0x0800) => ipv4(frame.get(at + 2..).unwrap_or_default(), 0, &mut found),
        Some(0x86dd) => ipv6(frame.get(at + 2..).unwrap_or_default(), 0, &mut found),
        _ => {}
    }
    found
}

/// One's-complement sum of 16-bit words, an odd byte at the end counting as the upper half of one.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let total: u64 = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = total % 0xffff;
    // 0 and 0xffff are the same number; a sum over anything but zeros is never 0.
    if folded == 0 && total != 0 { 0xffff } else { u16::try_from(folded).unwrap_or(0) }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn ipv4(bytes: &[u8], depth: usize, found: &mut Vec<String>) {
    let header_len = usize::from(bytes.first().unwrap_or(&0) & 15) * 4;
    let (Some(length), Some(fragment)) = (word(bytes, 2), word(bytes, 6)) else { return };
    let (Some(header), Some(packet)) = (bytes.get(..header_len), bytes.get(..length.into())) else { return };
    if header_len < 20 || bytes[0] >> 4 != 4 || packet.len() < header_len {
        return;
    }
    if sum(&[header]) != 0xffff {
        found.push(format!("{depth}: IPv4 header"));
    }
    let is_whole = fragment << 2 == 0;
    if is_whole {
        content(header[9], &packet[header_len..], &header[12..20], depth, found);
    }
}

fn ipv6(bytes: &[u8], depth: usize, found: &mut Vec<String>) {
    let Some(length) = word(bytes, 4) else { return };
    let Some(packet) = bytes.get(..40 + usize::from(length)) else { return };
    let (mut next, mut at) = (packet[6], 40);
    while let 0 | 43 | 44 | 60 = next {
        let Some(extension) = packet.get(at..at + 8) else { return };
        let offset_and_more = u16::from_be_bytes([extension[2], extension[3]]) & 0xfff9;
        if next == 44 && offset_and_more != 0 {
            return;
        }
        at += if next == 44 { 8 } else { 8 + 8 * usize::from(extension[1]) };
        next = extension[0];
    }
    content(next, packet.get(at..).unwrap_or_default(), &packet[8..40], depth, found);
}

/// Looks at what an IP packet between these addresses carries.
fn content(protocol: u8, bytes: &[u8], addresses: &[u8], depth: usize, found: &mut Vec<String>) {
    let length = u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
    let pseudo = [addresses, &length[..], &[0, 0, 0, protocol][..]].concat();
    let name = match protocol {
        4 => return ipv4(bytes, depth + 1, found),
        41 => return ipv6(bytes, depth + 1, found),
        6 if bytes.len() >= 20 && sum(&[&pseudo, bytes]) != 0xffff => "TCP",
        17 if bytes.len() >= 8 => {
            return datagram(bytes, &pseudo, addresses.len() == 32, depth, found);
        }
        1 if bytes.len() >= 8 && sum(&[bytes]) != 0xffff => "ICMP",
        58 if bytes.len() >= 8 && sum(&[&pseudo, bytes]) != 0xffff => "ICMPv6",
        _ => return,
    };
    found.push(format!("{depth}: {name}"));
}

fn datagram(bytes: &[u8], pseudo: &[u8], is_v6: bool, depth: usize, found: &mut Vec<String>) {
    let made = word(bytes, 6) != Some(0);
    // IPv6 has no "none was made" (RFC 8200 section 8.1).
    if (made && sum(&[pseudo, bytes]) != 0xffff) || (!made && is_v6) {
        found.push(format!("{depth}: UDP"));
    }
    // GUE variant 1: an IP packet follows at once.
    if word(bytes, 2) == Some(super::frame::GUE_PORT) {
        match bytes.get(8).map(|byte| byte >> 4) {
            Some(4) => ipv4(&bytes[8..], depth + 1, found),
            Some(6) => ipv6(&bytes[8..], depth + 1, found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::wrong;
    use crate::packet::{
        Frame,
        frame::{Sum, flags::ACK},
    };

    #[test]
    fn right_sums_are_found_right_and_wrong_ones_wrong() {
        let v4 = Frame::tcp("198.51.100.7:51000", "192.0.2.10:443", ACK);
        let v6 =
            Frame::udp("[2001:db8:c::7]:51000", "[2001:db8::10]:53").payload(b"odd").extension(60, &[1, 4, 0, 0, 0, 0]);
        let echo = Frame::echo("198.51.100.7", "192.0.2.10", 7).tagged(&[(0x88a8, 5), (0x8100, 6)]);
        for frame in [&v4, &v6, &echo] {
            assert_eq!(wrong(&frame.build()), [""; 0], "{frame:?}");
        }
        assert_eq!(wrong(&v4.clone().sum(Sum::Wrong).build()), ["0: TCP"]);
        assert_eq!(wrong(&v6.clone().sum(Sum::Zero).build()), ["0: UDP"]);
        let mut changed = echo.build();
        changed[30] ^= 1;
        assert_eq!(wrong(&changed), ["0: IPv4 header"]);
        let tunnel = Frame::raw("10.0.0.1", "10.0.0.2", 41, &v6.sum(Sum::Wrong).packet());
        assert_eq!(wrong(&tunnel.build()), ["1: UDP"]);
    }
}
