//! The checksums of a frame and of what is tunnelled in it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, Ethernet2Slice, IpNumber, IpSlice, SlicedPacket, TransportSlice, checksum::Sum16BitWords};

/// UDP port of GUE in labs that use it: not the default, so that it shows if somebody does not pass it on.
pub const GUE_PORT: u16 = 6099;

/// Verifies all sums of a frame: IPv4 header, TCP, UDP, ICMP and `ICMPv6`, tunnelled packets included. What is not IP
/// has none, and the sum of a fragment's payload cannot be known.
///
/// # Errors
/// The first thing that is wrong, in words.
pub fn frame(bytes: &[u8]) -> Result<(), String> {
    let frame = Ethernet2Slice::from_slice_without_fcs(bytes).map_err(|error| error.to_string())?;
    match frame.ether_type() {
        EtherType::IPV4 | EtherType::IPV6 => packet(frame.payload_slice()),
        _ => Ok(()),
    }
}

/// Whether the innermost packet of a frame came from this address and port.
pub fn is_from(bytes: &[u8], source: SocketAddr) -> bool {
    let Ok(frame) = Ethernet2Slice::from_slice_without_fcs(bytes) else { return false };
    let mut rest = frame.payload_slice();
    loop {
        let Ok(ip) = IpSlice::from_slice(rest) else { return false };
        if is_tunnel(ip.payload_ip_number()) {
            rest = ip.payload().payload;
            continue;
        }
        if let Some(inner) = behind_gue(ip.payload_ip_number(), ip.payload().payload) {
            rest = inner;
            continue;
        }
        let Ok(sliced) = SlicedPacket::from_ip(rest) else { return false };
        let port = match sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => tcp.source_port(),
            Some(TransportSlice::Udp(udp)) => udp.source_port(),
            _ => return false,
        };
        return SocketAddr::new(ip.source_addr(), port) == source;
    }
}

fn is_tunnel(number: IpNumber) -> bool {
    // IPv4 in something (RFC 2003), IPv6 in something (RFC 2473).
    number == IpNumber::IPV4 || number == IpNumber::IPV6
}

fn packet(bytes: &[u8]) -> Result<(), String> {
    let ip = IpSlice::from_slice(bytes).map_err(|error| error.to_string())?;
    if let IpSlice::Ipv4(v4) = &ip
        && sum(Sum16BitWords::new(), v4.header().slice()) != 0
    {
        return Err(format!("wrong IPv4 header checksum, {} -> {}", ip.source_addr(), ip.destination_addr()));
    }
    if ip.is_fragmenting_payload() {
        return Ok(());
    }
    let number = ip.payload_ip_number();
    let payload = ip.payload().payload;
    if is_tunnel(number) {
        return packet(payload).map_err(|error| format!("tunnelled: {error}"));
    }
    let pseudo = match number {
        IpNumber::ICMP => Sum16BitWords::new(),
        IpNumber::TCP | IpNumber::UDP | IpNumber::IPV6_ICMP => pseudo_header(&ip, number, payload.len()),
        _ => return Ok(()),
    };
    // A UDP sum of zero says that there is none (RFC 768); over IPv6 that is not allowed.
    let unsummed = number == IpNumber::UDP && payload.get(6..8) == Some(&[0, 0]) && ip.ipv4().is_some();
    if !unsummed && sum(pseudo, payload) != 0 {
        let (from, to) = (ip.source_addr(), ip.destination_addr());
        return Err(format!("wrong {} checksum, {from} -> {to}", number.keyword_str().unwrap_or("transport")));
    }
    match behind_gue(number, payload) {
        Some(inner) => packet(inner).map_err(|error| format!("tunnelled: {error}")),
        None => Ok(()),
    }
}

/// The packet in a UDP datagram to the port of GUE, variant 1.
fn behind_gue(number: IpNumber, payload: &[u8]) -> Option<&[u8]> {
    let (header, inner) = payload.split_at_checked(8)?;
    let is_gue = number == IpNumber::UDP && header[2..4] == GUE_PORT.to_be_bytes();
    (is_gue && matches!(inner.first()? >> 4, 4 | 6)).then_some(inner)
}

fn pseudo_header(ip: &IpSlice<'_>, number: IpNumber, length: usize) -> Sum16BitWords {
    let mut sum = Sum16BitWords::new();
    for address in [ip.source_addr(), ip.destination_addr()] {
        sum = match address {
            IpAddr::V4(v4) => sum.add_4bytes(v4.octets()),
            IpAddr::V6(v6) => sum.add_16bytes(v6.octets()),
        };
    }
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    sum.add_4bytes(length.to_be_bytes()).add_2bytes([0, number.0])
}

/// 0 if the bytes and the sum in them agree.
fn sum(begun: Sum16BitWords, bytes: &[u8]) -> u16 {
    begun.add_slice(bytes).ones_complement()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    #[derive(Clone, Copy, Debug)]
    enum Outer {
        None,
        Ipip,
        Gue,
    }

    fn built(outer: Outer) -> Vec<u8> {
        let mut inner = Vec::new();
        PacketBuilder::ipv4([198, 51, 100, 7], [192, 0, 2, 10], 64)
            .tcp(40_000, 80, 7, 1000)
            .write(&mut inner, b"hello")
            .expect("a vector takes all");
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let tunnel = PacketBuilder::ipv4([172, 16, 0, 1], [10, 1, 1, 2], 64);
        let done = match outer {
            Outer::None => {
                bytes.extend(inner);
                return bytes;
            }
            Outer::Ipip => tunnel.write(&mut bytes, IpNumber::IPV4, &inner),
            Outer::Gue => tunnel.udp(50_000, GUE_PORT).write(&mut bytes, &inner),
        };
        done.expect("a vector takes all");
        bytes
    }

    #[test]
    fn right_sums_are_accepted() {
        for outer in [Outer::None, Outer::Ipip, Outer::Gue] {
            assert_eq!(frame(&built(outer)), Ok(()), "{outer:?}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_tunnelled_packet_is_noticed() {
        for outer in [Outer::Ipip, Outer::Gue] {
            let right = built(outer);
            for at in 14..right.len() {
                let mut wrong = right.clone();
                wrong[at] ^= 0x10;
                assert!(frame(&wrong).is_err(), "{outer:?}, byte {at}");
            }
        }
    }

    #[test]
    fn the_innermost_source_counts() {
        let source = |port| SocketAddr::from(([198, 51, 100, 7], port));
        for outer in [Outer::None, Outer::Ipip, Outer::Gue] {
            assert!(is_from(&built(outer), source(40_000)), "{outer:?}");
        }
        assert!(!is_from(&built(Outer::Ipip), source(40_001)));
    }
}
