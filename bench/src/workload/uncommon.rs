//! Packets that are not plain, and packets to VIPs that ask for more than plain ones do.

use std::net::Ipv4Addr;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};

use super::{
    Action, Case, LARGE, OUTER4, OUTER6, SMALL, VIP4, VIP4_TO_6, VIP6, Verdict, Workload, four,
    frame::{ETHERNET, Frame, SERVICE_PORT, SOURCE_PORT, Transport, fold, sum},
    six,
};
use crate::balancer::Wish;

/// An address of the prefix VIP that [`PREFIX_VIP`] adds.
const IN_PREFIX: Ipv4Addr = Ipv4Addr::new(10, 202, 7, 1);
const PREFIX_VIP: &str =
    "[[vip]]\nname = \"prefix\"\naddress = \"10.202.0.0/16\"\nport = 80\nprotocol = \"udp\"\npool = \"v4\"";
/// VIPs beside the plain ones that ask for nearly all that there is.
const NEIGHBOURS: &str = r#"[dataplane.tunnels]
addresses = ["198.51.100.1"]

[[vip]]
name = "neighbour-prefix"
address = "10.202.0.0/16"
port = 80
protocol = "udp"
pool = "v4"
encap = "gue"
hash = "source-ip"
max_new_flows_per_second = 1_000_000
deny = ["192.0.2.0/24"]
source_routes = [{ source = "198.51.100.0/24", pool = "v6" }]
unknown_port = "drop"

[[vip]]
name = "neighbour-quic"
address = "10.203.0.1"
port = 443
protocol = "udp"
pool = "v4"
quic = "quic-lb"

[[vip]]
name = "neighbour-server-id"
address = "10.203.0.1"
port = 443
protocol = "tcp"
pool = "v4"
tcp_server_id = true
"#;
const SOURCE_LIMIT: &str =
    "[dataplane.source_limit]\npackets_per_second = 1_000_000_000\nnew_flows_per_second = 1_000_000_000";
/// The UDP header of GUE.
const UDP: u32 = 8;
/// First byte of a QUIC packet with a short header, and configuration 0 of its connection ID.
const QUIC_SHORT: [u8; 2] = [0x40, 0];
/// Server ID 1 as connection IDs have it, and in a TCP option.
const QUIC_ID: [u8; 4] = [0, 0, 0, 1];
const TCP_ID: [u8; 6] = [0xb7, 6, 1, 0, 0, 0];

/// What comes to plain VIPs but is not plain, beside one that is.
pub(super) fn packets() -> Vec<Workload> {
    let plain = Wish::default();
    let (udp4, udp6) = (udp(VIP4), Frame::build(six(VIP6), Transport::Udp, SMALL).bytes().to_vec());
    let first = fragment(&udp4, 0x2000);
    let later = row(Case::Packets, "frag-later", fragment(&udp4, 4), plain, OUTER4);
    vec![
        row(Case::Packets, "udp4", udp4.clone(), plain, OUTER4),
        row(Case::Packets, "udp4-vlan", tagged(&udp4, &[0x8100]), plain, OUTER4),
        row(Case::Packets, "udp4-qinq", tagged(&udp4, &[0x88a8, 0x8100]), plain, OUTER4),
        row(Case::Packets, "udp4-options", with_options(&udp4), plain, OUTER4),
        Workload {
            frame: Frame::fixed(with_extension(&udp6), true),
            ..row(Case::Packets, "udp6-ext", Vec::new(), plain, OUTER6)
        },
        row(Case::Packets, "frag-first", first.clone(), plain, OUTER4),
        Workload { before: Some(Frame::fixed(first, false)), ..later },
        row(Case::Packets, "icmp4-error", icmp_error(&udp4), plain, OUTER4),
    ]
}

/// What comes to VIPs that ask for more, one thing at a time, beside a plain one.
pub(super) fn vips() -> Vec<Workload> {
    let udp4 = udp(VIP4);
    let large = Frame::build(four(VIP4_TO_6), Transport::Udp, LARGE).bytes().to_vec();
    let gue = Wish { pool: "encap = \"gue\"", ..Wish::default() };
    let vip = |lines| Wish { vip: ("4-to-4-udp", lines), ..Wish::default() };
    let more = |more| Wish { more, ..Wish::default() };
    let ids = |name, lines| Wish { vip: (name, lines), server_ids: true, ..Wish::default() };
    let (l2, prefix) = (Wish { pool: "encap = \"l2\"", on_link: true, ..Wish::default() }, more(PREFIX_VIP));
    let quic = udp_with(&quic_payload());
    vec![
        row(Case::Vips, "udp4", udp4.clone(), Wish::default(), OUTER4),
        row(Case::Vips, "neighbours", udp4.clone(), Wish { server_ids: true, ..more(NEIGHBOURS) }, OUTER4),
        row(Case::Vips, "gue4", udp4.clone(), gue, OUTER4 + UDP),
        row(Case::Vips, "gue6", udp(VIP4_TO_6), gue, OUTER6 + UDP),
        row(Case::Vips, "gue6-1400B", large, gue, OUTER6 + UDP),
        row(Case::Vips, "l2", udp4.clone(), l2, 0),
        row(Case::Vips, "prefix-vip", udp(IN_PREFIX), prefix, OUTER4),
        row(Case::Vips, "hash-source", udp4.clone(), vip("hash = \"source-ip\""), OUTER4),
        row(Case::Vips, "untracked", udp4.clone(), vip("flow_tracking = \"off\""), OUTER4),
        row(Case::Vips, "quic-lb", quic, ids("4-to-4-udp", "quic = \"quic-lb\""), OUTER4),
        row(Case::Vips, "tcp-id", tcp_with_id(), ids("4-to-4-tcp", "tcp_server_id = true"), OUTER4),
        row(Case::Vips, "acl-100k", udp4.clone(), vip("deny_file = \"deny.txt\""), OUTER4),
        row(Case::Vips, "routes-1M", udp4.clone(), vip("source_routes_file = \"routes.txt\""), OUTER4),
        row(Case::Vips, "source-limit", udp4, more(SOURCE_LIMIT), OUTER4),
    ]
}

/// Of those, what many flows are asked of.
pub(super) fn many_flows() -> Vec<Workload> {
    let gue = Wish { pool: "encap = \"gue\"", ..Wish::default() };
    let quic = Wish { vip: ("4-to-4-udp", "quic = \"quic-lb\""), server_ids: true, ..Wish::default() };
    let known = |frame| Workload { frame, ..row(Case::Rotate, "gue4", Vec::new(), gue, OUTER4 + UDP) };
    let routed = |frame| Workload { frame, ..row(Case::Rotate, "quic-lb", Vec::new(), quic, OUTER4) };
    let adaptive = Wish { vip: ("4-to-4-tcp", "flow_tracking = \"adaptive\""), ..Wish::default() };
    vec![
        Workload {
            frame: Frame::build(four(VIP4), Transport::TcpAck, SMALL),
            ..row(Case::Rotate, "tcp4-adaptive", Vec::new(), adaptive, OUTER4)
        },
        known(Frame::build(four(VIP4), Transport::Udp, SMALL)),
        routed(Frame::carrying(four(VIP4), Transport::Udp, &quic_payload())),
    ]
}

/// A QUIC packet with a short header and a connection ID.
fn quic_payload() -> Vec<u8> {
    [&QUIC_SHORT[..], &QUIC_ID, &[0; 12]].concat()
}

fn row(case: Case, packet: &'static str, frame: Vec<u8>, wish: Wish, grown: u32) -> Workload {
    let expected = Verdict { action: Action::Tx, grown };
    Workload { case, packet, frame: Frame::fixed(frame, false), before: None, wish, expected }
}

fn udp(destination: Ipv4Addr) -> Vec<u8> {
    Frame::build(four(destination), Transport::Udp, SMALL).bytes().to_vec()
}

/// A packet from the first client to [`VIP4`].
fn from_client() -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4([10, 1, 0, 1], VIP4.octets(), 64)
}

/// A datagram.
fn udp_with(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let result = from_client().udp(SOURCE_PORT, SERVICE_PORT).write(&mut bytes, payload);
    result.expect("memory takes any number of bytes");
    bytes
}

/// A TCP segment with a server ID among its options.
fn tcp_with_id() -> Vec<u8> {
    let options = [&[1; 2][..], &TCP_ID].concat();
    let tcp = from_client().tcp(SOURCE_PORT, SERVICE_PORT, 1, 0xffff).ack(1);
    let mut bytes = Vec::new();
    let result = tcp.options_raw(&options).expect("8 bytes of options").write(&mut bytes, &[0; 2]);
    result.expect("memory takes any number of bytes");
    bytes
}

/// A frame with these VLAN tags.
fn tagged(frame: &[u8], kinds: &[u16]) -> Vec<u8> {
    let tags: Vec<u8> = kinds.iter().flat_map(|kind| [kind.to_be_bytes(), [0, 100]].concat()).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

/// An IPv4 frame with four bytes of options, that say nothing.
fn with_options(frame: &[u8]) -> Vec<u8> {
    let (header, rest) = frame.split_at(ETHERNET + 20);
    let mut frame = [header, &[1; 4], rest].concat();
    frame[ETHERNET] = 0x46;
    grow(&mut frame, ETHERNET + 2, 4);
    with_ip_sum(frame, 24)
}

/// One fragment of an IPv4 frame; `place` is the field of flags and offset.
fn fragment(frame: &[u8], place: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&place.to_be_bytes());
    with_ip_sum(frame, 20)
}

/// An IPv6 frame with destination options that say nothing.
fn with_extension(frame: &[u8]) -> Vec<u8> {
    let (header, rest) = frame.split_at(ETHERNET + 40);
    let mut frame = [header, &[frame[ETHERNET + 6], 0, 1, 4, 0, 0, 0, 0], rest].concat();
    frame[ETHERNET + 6] = 60;
    grow(&mut frame, ETHERNET + 4, 8);
    frame
}

/// A client's word, by ICMP, that the answer to this packet did not get through to it.
fn icmp_error(frame: &[u8]) -> Vec<u8> {
    let mut quoted = frame.to_vec();
    // The answer: from the VIP to the client.
    quoted[ETHERNET + 12..ETHERNET + 20].rotate_left(4);
    quoted[ETHERNET + 20..ETHERNET + 24].rotate_left(2);
    let quoted = with_ip_sum(quoted, 20);
    let mut bytes = Vec::new();
    let result = from_client().icmpv4_raw(3, 3, [0; 4]).write(&mut bytes, &quoted[ETHERNET..ETHERNET + 28]);
    result.expect("memory takes any number of bytes");
    bytes
}

/// Adds to a 16-bit length.
fn grow(frame: &mut [u8], at: usize, by: u16) {
    let length = u16::from_be_bytes([frame[at], frame[at + 1]]) + by;
    frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

/// The frame with the right checksum in its IPv4 header of `len` bytes.
fn with_ip_sum(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    let header = &mut frame[ETHERNET..ETHERNET + len];
    header[10..12].fill(0);
    let folded = fold(fold(sum(header)));
    #[expect(clippy::cast_possible_truncation, reason = "folded twice, it has 16 bits")]
    let sum = !(folded as u16);
    header[10..12].copy_from_slice(&sum.to_ne_bytes());
    frame
}
