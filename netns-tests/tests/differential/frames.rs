//! Random frames, damaged now and then, of a few flows, so that they are met again.

use netns_tests::packet::{
    Frame,
    frame::{
        Kind, Sum,
        flags::{ACK, FIN, PSH, RST, SYN},
        payload::{Long, QUIC_V1, QUIC_V2, katran_id, quic_lb_id, quic_long, quic_short, server_option, stable_header},
    },
};

use crate::{
    random::Random,
    world::{SERVICES, TUNNELS},
};

const CLIENTS: [&str; 3] = ["198.51.100.7", "203.0.113.9", "203.0.113.8"];
const CLIENTS_V6: [&str; 2] = ["2001:db8:c::7", "2001:db8:f::9"];
/// IPv6 extension headers that are walked, and one that is not.
const EXTENSIONS: [u8; 6] = [0, 43, 60, 60, 44, 51];

/// A packet of a client to one of the services, as it was sent.
pub(crate) fn packet(random: &mut Random) -> Frame {
    let to = random.of(&SERVICES);
    let v6 = to.starts_with('[');
    let client = if v6 { random.of(&CLIENTS_V6) } else { random.of(&CLIENTS) };
    let from = if v6 { format!("[{client}]:0") } else { format!("{client}:0") };
    let host = to.rsplit_once(':').map_or(to, |(host, _)| host.trim_matches(['[', ']']));
    let port = 1024 + random.below(400) as u16;
    let flags = random.of(&[SYN, SYN, ACK, ACK, PSH | ACK, FIN | ACK, RST, SYN | ACK, SYN | FIN, 0]);
    let datagrams = (to.ends_with(":53") || to == SERVICES[9] && random.one_in(2)) != random.one_in(12);
    let frame = match random.below(16) {
        0 => Frame::echo(client, host, port),
        1 => Frame::raw(client, host, random.next() as u8, b"of any protocol"),
        _ if datagrams => Frame::udp(&from, to).port(port).payload(&datagram(random)),
        _ => Frame::tcp(&from, to, flags).port(port).payload(&filling(random)),
    };
    let frame = if random.one_in(6) { frame.tcp_options(&server_option(random.below(6) as u32)) } else { frame };
    headers(frame, v6, random)
}

fn filling(random: &mut Random) -> Vec<u8> {
    vec![0x5a; random.of(&[0, 1, 12, 12, 12, 100, 1400])]
}

/// What a datagram carries: QUIC, a stable-routing header, or anything.
fn datagram(random: &mut Random) -> Vec<u8> {
    let server = random.below(6) as u32;
    let id = match random.below(3) {
        0 => quic_lb_id(random.below(8) as u8, &server.to_be_bytes()),
        1 => quic_lb_id(1, &[server as u8]),
        _ => katran_id(random.below(4) as u8, server).to_vec(),
    };
    let kind = random.of(&[Long::Initial, Long::ZeroRtt, Long::Handshake, Long::Retry]);
    let mut payload = match random.below(6) {
        0 | 1 => quic_short(&id),
        2 | 3 => quic_long(random.of(&[QUIC_V1, QUIC_V2, 0]), kind, &id),
        4 => stable_header(server),
        _ => filling(random),
    };
    if random.one_in(8) {
        payload.truncate(random.below(12));
    }
    payload
}

/// IP headers of all kinds.
fn headers(frame: Frame, v6: bool, random: &mut Random) -> Frame {
    let mut frame = frame.class(random.next() as u8).ttl(random.of(&[64, 63, 2, 1]));
    if random.one_in(12) {
        frame = frame.sum(random.of(&[Sum::Zero, Sum::Wrong]));
    }
    if random.one_in(4) {
        frame = frame.may_fragment();
    }
    if !v6 && random.one_in(8) {
        frame = frame.options(&vec![1; 4 * random.below(11)]);
    }
    if v6 && random.one_in(4) {
        for _ in 0..=random.below(6) {
            frame = frame.extension(random.of(&EXTENSIONS), &[1, 4, 0, 0, 0, 0]);
        }
    }
    frame
}

/// A frame that comes in: a packet, a piece of one, an error about one, or any of these in a tunnel.
pub(crate) fn frame(random: &mut Random) -> Vec<u8> {
    let frame = whole(random);
    if random.one_in(3) { damage(frame, random) } else { frame }
}

/// The same without damage.
pub(crate) fn whole(random: &mut Random) -> Vec<u8> {
    let packet = packet(random);
    let v6 = !packet.is_v4();
    let mut frame = match random.below(12) {
        0 => error(&packet, random),
        1 | 2 => {
            let pieces = packet.identification(random.below(40) as u32).fragments(24);
            pieces[random.below(pieces.len())].clone()
        }
        _ => packet,
    };
    if random.one_in(8) {
        let over_v6 = random.one_in(2);
        let to = TUNNELS[usize::from(over_v6)];
        let from = if over_v6 { random.of(&["100::5", "100:1::5"]) } else { random.of(&["172.16.9.9", "10.9.9.9"]) };
        let class = random.next() as u8;
        let ttl = random.of(&[64, 64, 9, 2, 1, 0]);
        frame = frame.tunnelled(random.of(&[Kind::Ipip, Kind::Gue]), from, to, ttl).class(class);
    }
    let tags: &[(u16, u16)] = match random.below(12) {
        0 => &[(0x8100, 5)],
        1 => &[(0x88a8, 5), (0x8100, 6)],
        2 if v6 => &[(0x8100, 5), (0x8100, 6), (0x8100, 7)],
        _ => &[],
    };
    frame.tagged(tags).padded(random.of(&[0, 0, 0, 6, 46])).build()
}

/// An error about the answer to a packet.
fn error(packet: &Frame, random: &mut Random) -> Frame {
    let answer = packet.reversed();
    let whole = answer.packet().len();
    let part = random.below(whole);
    let quoted = random.of(&[28, 28, 48, 48, 48, whole, part]);
    let kinds = [[3, 1], [3, 4], [11, 0], [12, 0], [4, 0], [5, 1], [1, 4], [2, 0]];
    let router = if packet.is_v4() { "203.0.113.1" } else { "2001:db8:ff::1" };
    Frame::error(router, random.of(&kinds), [0, 0, 5, 0x14], &answer, quoted)
}

/// Some bytes of the headers changed, or the end cut off.
fn damage(mut frame: Vec<u8>, random: &mut Random) -> Vec<u8> {
    if random.one_in(5) {
        frame.truncate(14 + random.below(frame.len() - 13));
        return frame;
    }
    for _ in 0..=random.below(3) {
        let at = 12 + random.below(90);
        let byte = random.next() as u8;
        if let Some(place) = frame.get_mut(at) {
            *place = if random.one_in(2) { byte } else { *place ^ (1 << (byte & 7)) };
        }
    }
    frame
}
