//! What a failure shows: the frames decoded side by side, and a pcap.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use etherparse::{EtherType, Ethernet2Header, Icmpv4Header, Icmpv6Header, IpHeaders, IpNumber, TcpHeader, UdpHeader};

use crate::pcap;

/// Width of a column.
const WIDTH: usize = 62;

/// Prints faults and frames of a case, and writes the frames to a pcap: the one that came in, the expected one, then each
/// side's.
pub fn print(name: &str, faults: &[String], input: &[u8], expected: &[u8], sides: &[(&str, &[u8])]) {
    let mut text = format!("\n== {name}\n");
    for fault in faults {
        let _ = writeln!(text, "  {fault}");
    }
    for (side, frame) in sides.iter().filter(|(_, frame)| *frame != expected) {
        let _ =
            write!(text, "{}", side_by_side(&format!("expected ({} bytes)", expected.len()), expected, side, frame));
    }
    let frames: Vec<&[u8]> = [input, expected].into_iter().chain(sides.iter().map(|(_, frame)| *frame)).collect();
    match write_pcap(name, &frames) {
        Ok(file) => _ = writeln!(text, "  all frames: {}", file.display()),
        Err(error) => _ = writeln!(text, "  no pcap could be written: {error}"),
    }
    eprintln!("{text}");
}

/// Both frames decoded, line by line; lines that differ are marked.
fn side_by_side(left: &str, expected: &[u8], right: &str, found: &[u8]) -> String {
    let (a, b) = (decode(expected), decode(found));
    let mut text = format!("    {left:WIDTH$}   {right}\n");
    for line in 0..a.len().max(b.len()) {
        let (a, b) = (a.get(line).map_or("", String::as_str), b.get(line).map_or("", String::as_str));
        let mark = if a == b { ' ' } else { '≠' };
        let _ = writeln!(text, "    {a:WIDTH$} {mark} {b}");
    }
    text
}

/// A frame in words, one field or 16 bytes a line.
pub fn decode(frame: &[u8]) -> Vec<String> {
    let Ok((ethernet, rest)) = Ethernet2Header::from_slice(frame) else { return dump(frame) };
    let mut lines = vec![format!("ethernet {} to {}", mac(ethernet.source), mac(ethernet.destination))];
    let (mut ether_type, mut rest) = (ethernet.ether_type, rest);
    while let (EtherType(0x8100 | 0x88a8), [high, low, a, b, behind @ ..]) = (ether_type, rest) {
        lines.push(format!("  tag {:#06x} {}", ether_type.0, u16::from_be_bytes([*high, *low])));
        (ether_type, rest) = (EtherType(u16::from_be_bytes([*a, *b])), behind);
    }
    lines.push(format!("  type {:#06x}", ether_type.0));
    if matches!(ether_type, EtherType::IPV4 | EtherType::IPV6) {
        lines.extend(decode_ip(rest));
    } else {
        lines.extend(dump(rest));
    }
    lines
}

fn decode_ip(bytes: &[u8]) -> Vec<String> {
    let Ok((header, payload)) = IpHeaders::from_slice_lax(bytes).map(|(header, payload, _)| (header, payload)) else {
        return dump(bytes);
    };
    let mut lines = match &header {
        IpHeaders::Ipv4(ip, _) => {
            let sum = ip.calc_header_checksum();
            let verdict = if sum == ip.header_checksum { "right".to_owned() } else { format!("wrong, {sum:#06x}") };
            vec![
                format!("ipv4 {} to {}", std::net::Ipv4Addr::from(ip.source), std::net::Ipv4Addr::from(ip.destination)),
                format!("  dscp {} ecn {} length {}", ip.dscp.value(), ip.ecn.value(), ip.total_len),
                format!(
                    "  id {} df {} mf {} at {}",
                    ip.identification,
                    ip.dont_fragment,
                    ip.more_fragments,
                    ip.fragment_offset.value()
                ),
                format!(
                    "  ttl {} protocol {} sum {:#06x} ({verdict})",
                    ip.time_to_live, ip.protocol.0, ip.header_checksum
                ),
                format!("  options {:02x?}", ip.options.as_slice()),
            ]
        }
        IpHeaders::Ipv6(ip, _) => vec![
            format!("ipv6 {}", std::net::Ipv6Addr::from(ip.source)),
            format!("  to {}", std::net::Ipv6Addr::from(ip.destination)),
            format!(
                "  class {:#04x} label {:#07x} length {}",
                ip.traffic_class,
                ip.flow_label.value(),
                ip.payload_length
            ),
            format!("  hop limit {} next header {}", ip.hop_limit, ip.next_header.0),
        ],
    };
    lines.extend(decode_content(payload.ip_number, payload.payload));
    lines
}

fn decode_content(protocol: IpNumber, bytes: &[u8]) -> Vec<String> {
    let decoded = match protocol {
        IpNumber::IPV4 | IpNumber::IPV6 => return decode_ip(bytes),
        IpNumber::TCP => TcpHeader::from_slice(bytes).ok().map(|(tcp, rest)| {
            let flags = [("fin", tcp.fin), ("syn", tcp.syn), ("rst", tcp.rst), ("psh", tcp.psh), ("ack", tcp.ack)];
            let flags: Vec<&str> = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
            let ports = format!("tcp {} to {}", tcp.source_port, tcp.destination_port);
            (vec![ports, format!("  {} sum {:#06x}", flags.join(" "), tcp.checksum)], rest)
        }),
        IpNumber::UDP => UdpHeader::from_slice(bytes).ok().map(|(udp, rest)| {
            let ports = format!("udp {} to {}", udp.source_port, udp.destination_port);
            (vec![ports, format!("  length {} sum {:#06x}", udp.length, udp.checksum)], rest)
        }),
        IpNumber::ICMP => Icmpv4Header::from_slice(bytes)
            .ok()
            .map(|(icmp, rest)| (vec![format!("icmp {:?} sum {:#06x}", icmp.icmp_type, icmp.checksum)], rest)),
        IpNumber::IPV6_ICMP => Icmpv6Header::from_slice(bytes)
            .ok()
            .map(|(icmp, rest)| (vec![format!("icmpv6 {:?} sum {:#06x}", icmp.icmp_type, icmp.checksum)], rest)),
        _ => None,
    };
    let (mut lines, rest) = decoded.unwrap_or((vec![], bytes));
    lines.extend(dump(rest));
    lines
}

fn dump(bytes: &[u8]) -> Vec<String> {
    bytes
        .chunks(16)
        .map(|chunk| format!("  {}", chunk.iter().copied().map(hex).collect::<Vec<_>>().join(" ")))
        .collect()
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(hex).join(":")
}

/// Writes frames to `target/packets/NAME.pcap`.
fn write_pcap(name: &str, frames: &[&[u8]]) -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/packets");
    fs::create_dir_all(&folder)?;
    let plain: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let file = folder.join(format!("{plain}.pcap"));
    let timed = (0..).zip(frames).map(|(second, frame)| (Duration::from_secs(second), *frame));
    pcap::write(&file, timed)?;
    Ok(file.canonicalize().unwrap_or(file))
}
