//! ICMP errors, and the packets that they quote.

use super::{Content, Frame, Hashed, address};

impl Frame {
    /// An ICMP message of any type, with a right checksum; `payload` follows its first 8 bytes.
    pub fn icmp(from: &str, to: &str, [kind, code]: [u8; 2], rest: [u8; 4], payload: &[u8]) -> Self {
        let content = Content::Icmp { kind, code, rest };
        Self::new((address(from), 0).into(), (address(to), 0).into(), content).payload(payload)
    }

    /// The error that a router or the client sends about a packet from a VIP, quoting its first `quoted` bytes. It belongs
    /// to the flow whose packets go the other way.
    pub fn error(router: &str, kind_and_code: [u8; 2], rest: [u8; 4], about: &Self, quoted: usize) -> Self {
        let packet = about.packet();
        let quote = &packet[..quoted.min(packet.len())];
        Self::icmp(router, &about.from.ip().to_string(), kind_and_code, rest, quote).about(&about.reversed())
    }

    /// The same, about the flow of this frame from a client.
    #[must_use]
    pub fn about(self, flow: &Self) -> Self {
        Self { hashed: Hashed::As(Box::new(flow.clone())), ..self }
    }

    /// The packet-too-big message that the VIP sends about this packet, quoting its first `quoted` bytes.
    #[must_use]
    pub fn too_big(&self, mtu: u32, quoted: usize) -> Self {
        let packet = self.packet();
        let (kind_and_code, rest) = match u16::try_from(mtu) {
            Ok(mtu) if self.is_v4() => {
                let [a, b] = mtu.to_be_bytes();
                ([3, 4], [0, 0, a, b])
            }
            _ => ([2, 0], mtu.to_be_bytes()),
        };
        let (vip, sender) = (self.to.ip().to_string(), self.from.ip().to_string());
        let message = Self::icmp(&vip, &sender, kind_and_code, rest, &packet[..quoted.min(packet.len())]);
        let [from, to] = self.macs;
        Self { macs: [to, from], tags: self.tags.clone(), ttl: 64, ..message }
    }
}
