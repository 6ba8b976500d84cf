//! The IP packet: header, options, extension headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader};

use super::Frame;

impl Frame {
    /// The bytes of the IP packet, without what pads the frame.
    pub fn packet(&self) -> Vec<u8> {
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.packet_v4(from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => self.packet_v6(from, to),
            _ => panic!("two families: {self:?}"),
        }
    }

    fn packet_v4(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let content = self.content();
        let length = u16::try_from(content.len()).expect("a short payload");
        let mut header =
            Ipv4Header::new(length, self.ttl, self.protocol(), from.octets(), to.octets()).expect("a length");
        header.options = self.options[..].try_into().expect("IPv4 options");
        header.total_len = length + u16::try_from(header.header_len()).expect("at most 60");
        header.dscp = (self.class >> 2).try_into().expect("6 bits");
        header.ecn = (self.class & 3).try_into().expect("2 bits");
        header.identification = u16::try_from(self.identification).expect("16 bits");
        header.dont_fragment = !self.may_fragment;
        if let Some((offset, more)) = self.fragment {
            header.fragment_offset = IpFragOffset::try_new(offset).expect("13 bits");
            (header.more_fragments, header.dont_fragment) = (more, false);
        }
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], &content].concat()
    }

    fn packet_v6(&self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        let mut rest = self.content();
        let mut next = self.protocol();
        if let Some((offset, more)) = self.fragment {
            let offset = IpFragOffset::try_new(offset).expect("13 bits");
            let fragment = Ipv6FragmentHeader::new(next, offset, more, self.identification);
            next = IpNumber::IPV6_FRAGMENTATION_HEADER;
            rest = [&fragment.to_bytes()[..], &rest].concat();
        }
        for (number, body) in self.extensions.iter().rev() {
            let header = Ipv6RawExtHeader::new_raw(next, body).expect("6 bytes and whole double words");
            next = IpNumber(*number);
            rest = [&header.to_bytes()[..], &rest].concat();
        }
        let header = Ipv6Header {
            traffic_class: self.class,
            payload_length: u16::try_from(rest.len()).expect("a short payload"),
            next_header: next,
            hop_limit: self.ttl,
            source: from.octets(),
            destination: to.octets(),
            ..Ipv6Header::default()
        };
        [&header.to_bytes()[..], &rest].concat()
    }
}
