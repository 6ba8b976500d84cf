//! What must hold of any frame, whatever the tables. Everything is read here by etherparse or by hand, never by lb's code.

use etherparse::{Ethernet2Header, Ipv4Header, Ipv6Header, SlicedPacket, UdpHeader};
use lb_common::{
    layout::{
        target::{Encap, Target},
        vip::mapped,
    },
    verdict::{Action, Verdict},
};
use lb_xdp::{
    host::{HostFrame, HostTables},
    path::Exit,
};

use crate::{
    packet::{checksum, pseudo_header},
    scene::{INGRESS, Scene},
};

/// A frame that was sent through.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What came in.
    pub before: Vec<u8>,
    /// What it became.
    pub after: Vec<u8>,
    /// How it left.
    pub exit: Exit,
    /// The target that it was counted at.
    pub target: Option<u32>,
}

impl Sent {
    /// Sends a frame through the code on the host.
    pub fn through(tables: &HostTables, frame: &[u8]) -> Self {
        let packets = || -> Vec<u64> { tables.target_counters.borrow().iter().map(|one| one.packets).collect() };
        let before = packets();
        let mut copy = HostFrame::new(frame, INGRESS);
        let exit = tables.run(&mut copy);
        let target = (0..).zip(before.iter().zip(packets())).find(|(_, (before, after))| *before != after);
        Self { before: frame.to_vec(), after: copy.bytes().to_vec(), exit, target: target.map(|(id, _)| id) }
    }
}

/// Says what is wrong, if anything is.
///
/// # Errors
/// One sentence.
pub fn demand(scene: &Scene, tables: &HostTables, sent: &Sent) -> Result<(), String> {
    let verdict = sent.exit.verdict;
    let read = Read::new(&sent.before);
    let ours = read.as_ref().is_some_and(|read| scene.is_ours(read.destination));
    let tunnelled = read.as_ref().is_some_and(|read| scene.is_tunnel(read.destination));
    if !ours && verdict.action() != Action::Pass {
        return Err(format!("{verdict:?} of a frame to no VIP"));
    }
    if verdict == Verdict::Inconsistent && scene.is_sound() {
        return Err("inconsistent, with sound tables".to_owned());
    }
    if verdict == Verdict::NoHeadroom {
        return Err("no headroom, and there was enough".to_owned());
    }
    match (verdict, read) {
        (Verdict::Forwarded, Some(read)) => {
            let id = sent.target.ok_or("forwarded, and counted at no target")?;
            forwarded(&read, tables, &tables.targets[id as usize], sent, tunnelled)
        }
        (Verdict::EchoReplied, Some(read)) if !tunnelled => echo(&read, sent),
        (Verdict::TooBigAnswered, Some(read)) if !tunnelled => too_big(&read, sent),
        (Verdict::EchoReplied | Verdict::TooBigAnswered, _) => parses(&sent.after),
        _ if verdict.action() == Action::Pass && !tunnelled && sent.before != sent.after => {
            Err(format!("{verdict:?}, and the frame was changed"))
        }
        _ => Ok(()),
    }
}

/// A frame as far as it can be read without judging it.
struct Read<'f> {
    /// Everything between the MAC addresses and the last `EtherType`.
    tags: &'f [u8],
    /// From the IP header on, with what pads the frame.
    packet: &'f [u8],
    v4: bool,
    source: [u8; 16],
    destination: [u8; 16],
}

impl<'f> Read<'f> {
    fn new(frame: &'f [u8]) -> Option<Self> {
        let mut at = 12;
        while [&[0x81, 0][..], &[0x88, 0xa8]].contains(&frame.get(at..at + 2)?) {
            at += 4;
        }
        let packet = frame.get(at + 2..)?;
        let tags = frame.get(12..at)?;
        let v4 = match frame.get(at..at + 2)? {
            [0x08, 0x00] => true,
            [0x86, 0xdd] => false,
            _ => return None,
        };
        let (source, destination) = if v4 {
            let at = |at| packet.get(at..).and_then(<[u8]>::first_chunk::<4>);
            (mapped(*at(12)?), mapped(*at(16)?))
        } else {
            let at = |at| packet.get(at..).and_then(<[u8]>::first_chunk::<16>);
            (*at(8)?, *at(24)?)
        };
        Some(Self { tags, packet, v4, source, destination })
    }

    /// The packet without what pads the frame, if its header tells its length.
    fn exact(&self) -> Option<&'f [u8]> {
        let at = if self.v4 { 2 } else { 4 };
        let length = usize::from(u16::from_be_bytes(*self.packet.get(at..)?.first_chunk()?));
        self.packet.get(..length + if self.v4 { 0 } else { 40 })
    }
}

fn parses(frame: &[u8]) -> Result<(), String> {
    SlicedPacket::from_ethernet(frame).map(|_| ()).map_err(|error| format!("etherparse cannot read it: {error}"))
}

fn equal<T: Copy + PartialEq + std::fmt::Debug>(what: &str, is: T, should_be: T) -> Result<(), String> {
    if is == should_be { Ok(()) } else { Err(format!("{what}: {is:02x?}, not {should_be:02x?}")) }
}

/// A frame that goes to a target.
fn forwarded(read: &Read, tables: &HostTables, target: &Target, sent: &Sent, tunnelled: bool) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (ethernet, _) = Ethernet2Header::from_slice(&sent.after).map_err(|error| text(&error))?;
    equal("the next hop", ethernet.destination, target.next_hop)?;
    let same_way = sent.exit.ifindex == 0;
    equal("the source", ethernet.source.as_slice(), if same_way { &sent.before[..6] } else { &target.source_mac })?;
    let out = Read::new(&sent.after).ok_or("it cannot be read")?;
    let own: Vec<u8> = target.tags.concat().chunks(4).filter(|tag| *tag != [0; 4]).flatten().copied().collect();
    equal("the tags", out.tags, if target.flags & Target::KEEPS_TAGS == 0 { &own } else { read.tags })?;
    let Ok(encap) = Encap::try_from(target.encap) else { return Err(format!("encapsulation {}", target.encap)) };
    let carried = match encap {
        Encap::L2 => out.exact().ok_or("its length is wrong")?,
        Encap::Local => return Err("forwarded to this host".to_owned()),
        _ => {
            parses(&sent.after)?;
            inside(&out, encap, tables, target)?
        }
    };
    if target.mtu != Target::NO_LIMIT && carried.len() > target.mtu as usize {
        return Err(format!("{} bytes, and {} at most fit", carried.len(), target.mtu));
    }
    if tunnelled {
        return Ok(());
    }
    equal("what is carried", carried, read.exact().ok_or("the packet's length is wrong, and it was forwarded")?)
}

/// What an outer header carries, once it is known to be right.
fn inside<'f>(out: &Read<'f>, encap: Encap, tables: &HostTables, target: &Target) -> Result<&'f [u8], String> {
    let v4 = matches!(encap, Encap::IpipV4 | Encap::GueV4);
    equal("the outer header is IPv4", out.v4, v4)?;
    equal("the outer destination", out.destination, target.outer_destination)?;
    let packet = out.exact().ok_or("the outer length is wrong")?;
    let (protocol, rest) = if v4 {
        let (header, rest) = Ipv4Header::from_slice(packet).map_err(|error| error.to_string())?;
        equal("the outer sum", header.header_checksum, header.calc_header_checksum())?;
        equal("DF and the fragment", (header.dont_fragment, header.is_fragmenting_payload()), (true, false))?;
        (header.protocol.0, rest)
    } else {
        let (header, rest) = Ipv6Header::from_slice(packet).map_err(|error| error.to_string())?;
        (header.next_header.0, rest)
    };
    if matches!(encap, Encap::IpipV4 | Encap::IpipV6) {
        let inner = rest.first().map_or(0, |byte| byte >> 4);
        equal("the outer protocol", (protocol, inner), if inner == 4 { (4, 4) } else { (41, 6) })?;
        return Ok(rest);
    }
    equal("the outer protocol", protocol, 17)?;
    let (udp, inner) = UdpHeader::from_slice(rest).map_err(|error| error.to_string())?;
    equal("the GUE port", udp.destination_port.to_be_bytes(), tables.tuning.gue_port)?;
    equal("the outer UDP length", usize::from(udp.length), rest.len())?;
    if udp.checksum != 0 {
        equal("the outer UDP sum", transport_sum(out, 17, rest), 0)?;
    } else if !v4 {
        return Err("no UDP sum over IPv6".to_owned());
    }
    Ok(inner)
}

/// 0 if the sum of what the packet carries is right.
fn transport_sum(read: &Read, protocol: u8, bytes: &[u8]) -> u16 {
    let from = if read.v4 { 12 } else { 0 };
    let (source, destination) = (&read.source[from..], &read.destination[from..]);
    checksum(pseudo_header(source, destination, protocol, bytes.len()), bytes)
}

/// Where ICMP begins, and whether its sum and the IP header's are right, if etherparse finds any.
fn icmp<'f>(read: &Read<'f>) -> Option<(&'f [u8], bool)> {
    let packet = read.exact()?;
    let length = if read.v4 { 4 * usize::from(packet.first()? & 15) } else { 40 };
    let message = packet.get(length..)?;
    let sum = if read.v4 { checksum(0, message) } else { transport_sum(read, 58, message) };
    let header = !read.v4 || checksum(0, packet.get(..length)?) == 0;
    Some((message, sum == 0 && header))
}

fn echo(read: &Read, sent: &Sent) -> Result<(), String> {
    let out = Read::new(&sent.after).ok_or("it cannot be read")?;
    equal("the addresses", (out.source, out.destination), (read.destination, read.source))?;
    equal("the MAC address", &sent.after[..6], &sent.before[6..12])?;
    equal("the length", sent.after.len(), sent.before.len())?;
    let was_right = icmp(read).is_some_and(|(_, right)| right);
    let is_right = icmp(&out).is_some_and(|(_, right)| right);
    // Behind extension headers this function doesn't find the message.
    if was_right && !is_right { Err("the sums were right".to_owned()) } else { Ok(()) }
}

fn too_big(read: &Read, sent: &Sent) -> Result<(), String> {
    parses(&sent.after)?;
    let out = Read::new(&sent.after).ok_or("it cannot be read")?;
    equal("the addresses", (out.source, out.destination), (read.destination, read.source))?;
    equal("the MAC address", &sent.after[..6], &sent.before[6..12])?;
    equal("the tags", out.tags, read.tags)?;
    let (message, right) = icmp(&out).ok_or("it has no ICMP message")?;
    equal("the sums are right", right, true)?;
    equal("type and code", &message[..2], if read.v4 { &[3, 4] } else { &[2, 0] })?;
    let quote = message.get(8..).unwrap_or_default();
    if quote.is_empty() || !read.packet.starts_with(quote) {
        return Err("it quotes another packet".to_owned());
    }
    let mtu = u32::from_be_bytes([if read.v4 { 0 } else { message[4] }, message[5], message[6], message[7]]);
    let len = read.exact().map_or(0, <[u8]>::len);
    if mtu as usize >= len { Err(format!("a packet of {len} bytes is not too big for {mtu}")) } else { Ok(()) }
}
