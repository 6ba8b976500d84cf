//! The checksums of a frame and of what is tunnelled in it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, Ethernet2Slice, IpNumber, IpSlice, SlicedPacket, TransportSlice, checksum::Sum16BitWords};

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
    Ok(())
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

    fn built(encapsulate: bool) -> Vec<u8> {
        let mut inner = Vec::new();
        PacketBuilder::ipv4([198, 51, 100, 7], [192, 0, 2, 10], 64)
            .tcp(40_000, 80, 7, 1000)
            .write(&mut inner, b"hello")
            .expect("a vector takes all");
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        if encapsulate {
            let mut outer = etherparse::Ipv4Header::new(
                u16::try_from(inner.len()).expect("small"),
                64,
                IpNumber::IPV4,
                [172, 16, 0, 1],
                [10, 1, 1, 2],
            )
            .expect("small");
            outer.header_checksum = outer.calc_header_checksum();
            bytes.extend(outer.to_bytes());
        }
        bytes.extend(inner);
        bytes
    }

    #[test]
    fn right_sums_are_accepted() {
        assert_eq!(frame(&built(false)), Ok(()));
        assert_eq!(frame(&built(true)), Ok(()));
    }

    #[test]
    fn every_flipped_bit_of_a_tunnelled_packet_is_noticed() {
        let right = built(true);
        for at in 14..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 0x10;
            assert!(frame(&wrong).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_innermost_source_counts() {
        let source = |port| SocketAddr::from(([198, 51, 100, 7], port));
        assert!(is_from(&built(true), source(40_000)));
        assert!(is_from(&built(false), source(40_000)));
        assert!(!is_from(&built(true), source(40_001)));
    }
}
