//! What an IP packet carries: segments, datagrams, echo messages, with their checksums.

use std::net::IpAddr;

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, Ipv6Header, TcpHeader, UdpHeader,
};

use super::{Content, Frame, Sum, flags};

impl Frame {
    /// The bytes behind the IP header.
    pub(super) fn content(&self) -> Vec<u8> {
        let payload = &self.payload;
        match self.content {
            Content::Tcp(flags) => [&self.segment(flags).to_bytes()[..], payload].concat(),
            Content::Udp => [&self.datagram().to_bytes()[..], payload].concat(),
            Content::Raw(_) => payload.clone(),
            Content::Icmp { kind, code, rest } => [&self.message(kind, code, rest)[..], payload].concat(),
            Content::Echo { reply, id } => {
                let echo = IcmpEchoHeader { id, seq: 1 };
                if let (IpAddr::V6(from), IpAddr::V6(to)) = (self.from.ip(), self.to.ip()) {
                    let kind = if reply { Icmpv6Type::EchoReply(echo) } else { Icmpv6Type::EchoRequest(echo) };
                    let header = Icmpv6Header::with_checksum(kind, from.octets(), to.octets(), payload);
                    return [&header.expect("a short payload").to_bytes()[..], payload].concat();
                }
                let kind = if reply { Icmpv4Type::EchoReply(echo) } else { Icmpv4Type::EchoRequest(echo) };
                [&Icmpv4Header::with_checksum(kind, payload).to_bytes()[..], payload].concat()
            }
        }
    }

    fn message(&self, kind: u8, code: u8, rest: [u8; 4]) -> Vec<u8> {
        let payload = &self.payload;
        if let (IpAddr::V6(from), IpAddr::V6(to)) = (self.from.ip(), self.to.ip()) {
            let kind = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
            let mut header =
                Icmpv6Header::with_checksum(kind, from.octets(), to.octets(), payload).expect("a short payload");
            header.checksum = self.summed(header.checksum);
            return header.to_bytes().to_vec();
        }
        let kind = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
        let mut header = Icmpv4Header::with_checksum(kind, payload);
        header.checksum = self.summed(header.checksum);
        header.to_bytes().to_vec()
    }

    /// What is put in the place of this right checksum.
    fn summed(&self, right: u16) -> u16 {
        match self.sum {
            Sum::Right => right,
            Sum::Zero => 0,
            Sum::Wrong => right ^ 0x0101,
        }
    }

    fn segment(&self, flags: u8) -> TcpHeader {
        let mut header = TcpHeader::new(self.from.port(), self.to.port(), 1000, 4096);
        header.fin = flags & flags::FIN != 0;
        header.syn = flags & flags::SYN != 0;
        header.rst = flags & flags::RST != 0;
        header.psh = flags & flags::PSH != 0;
        header.ack = flags & flags::ACK != 0;
        header.set_options_raw(&self.tcp_options).expect("TCP options");
        let sum = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &self.payload)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &self.payload)
            }
            _ => panic!("two families: {self:?}"),
        };
        header.checksum = self.summed(sum.expect("a short payload"));
        header
    }

    fn datagram(&self) -> UdpHeader {
        let (from, to) = (self.from.port(), self.to.port());
        let header = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let bare = UdpHeader::without_ipv4_checksum(from, to, self.payload.len());
                bare.and_then(|mut header| {
                    header.checksum =
                        header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), &self.payload)?;
                    Ok(header)
                })
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let ends =
                    Ipv6Header { source: source.octets(), destination: destination.octets(), ..Ipv6Header::default() };
                UdpHeader::with_ipv6_checksum(from, to, &ends, &self.payload)
            }
            _ => panic!("two families: {self:?}"),
        };
        let mut header = header.expect("a short payload");
        header.checksum = self.summed(header.checksum);
        header
    }
}
