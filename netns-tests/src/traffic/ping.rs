//! Echo requests by raw sockets; the sums of the replies are verified.

use std::{
    io::Read as _,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, checksum::Sum16BitWords};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Namespace;

/// Longest wait for a reply; long enough for a machine that is busy.
const LIMIT: Duration = Duration::from_secs(1);
/// Bytes after the echo header: those of `ping`.
const PAYLOAD: [u8; 56] = [0x5a; 56];

/// Sends `number` echo requests, one after the other, and returns how many were answered rightly.
///
/// # Errors
/// When no raw socket can be had or the way is known not to exist.
pub fn ping(namespace: &Namespace, to: IpAddr, number: u16) -> Result<u16> {
    namespace.enter(|| {
        let socket = match to {
            IpAddr::V4(_) => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)),
            IpAddr::V6(_) => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)),
        }
        .context("cannot open a raw socket")?;
        socket.connect(&SocketAddr::new(to, 0).into())?;
        let mut answered = 0;
        // Another ping of this host may run beside: the identifier tells whose reply it is.
        let id = u16::from_be_bytes([b'L', rand_byte()]);
        for seq in 0..number {
            socket.send(&request(to, IcmpEchoHeader { id, seq })).context("cannot send")?;
            answered += u16::from(reply(&socket, to, IcmpEchoHeader { id, seq })?);
        }
        Ok(answered)
    })
}

/// The lowest byte of the clock.
fn rand_byte() -> u8 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.subsec_micros().to_le_bytes()[0]
}

fn request(to: IpAddr, echo: IcmpEchoHeader) -> Vec<u8> {
    let header = match to {
        IpAddr::V4(_) => Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &PAYLOAD).to_bytes().to_vec(),
        // The kernel fills in the sum of raw ICMPv6 sockets (RFC 3542 section 3.1).
        IpAddr::V6(_) => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
    };
    [&header[..], &PAYLOAD].concat()
}

fn reply(socket: &Socket, to: IpAddr, echo: IcmpEchoHeader) -> Result<bool> {
    let start = Instant::now();
    let mut buffer = [0; 2048];
    loop {
        let Some(rest) = LIMIT.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero()) else { return Ok(false) };
        socket.set_read_timeout(Some(rest))?;
        let Ok(length) = (&*socket).read(&mut buffer) else { continue };
        let packet = &buffer[..length];
        let right = match to {
            IpAddr::V4(_) => is_reply_v4(packet, echo),
            IpAddr::V6(_) => is_reply_v6(packet, echo),
        };
        if right {
            return Ok(true);
        }
    }
}

/// A raw IPv4 socket gives the IP header as well, and nobody has looked at the ICMP sum yet.
fn is_reply_v4(packet: &[u8], echo: IcmpEchoHeader) -> bool {
    let Some(message) = packet.first().and_then(|first| packet.get(usize::from(first & 15) * 4..)) else {
        return false;
    };
    let sum = Sum16BitWords::new().add_slice(message).ones_complement();
    let Ok((header, payload)) = Icmpv4Header::from_slice(message) else { return false };
    header.icmp_type == Icmpv4Type::EchoReply(echo) && sum == 0 && payload == PAYLOAD
}

/// The kernel has verified the sum before the packet comes here.
fn is_reply_v6(message: &[u8], echo: IcmpEchoHeader) -> bool {
    let Ok((header, payload)) = Icmpv6Header::from_slice(message) else { return false };
    header.icmp_type == Icmpv6Type::EchoReply(echo) && payload == PAYLOAD
}
