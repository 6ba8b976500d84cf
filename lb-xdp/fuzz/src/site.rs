//! Addresses: what VIPs there are, where frames come from and go to.

use std::net::IpAddr;

use lb_common::layout::vip::{TCP, UDP, VipKey, mapped};

/// A VIP. Its number is its place in [`SERVICES`], from 1.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// First address, IPv4 mapped.
    pub address: [u8; 16],
    /// Port; 0 is any.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: u8,
    /// As [`VipKey::wildcard_bits`].
    pub wildcard_bits: u8,
}

impl Service {
    const fn new(address: [u8; 16], port: u16, protocol: u8, wildcard_bits: u8) -> Self {
        Self { address, port, protocol, wildcard_bits }
    }

    /// Its key in the tables.
    pub const fn key(&self) -> VipKey {
        VipKey::service(self.address, self.port.to_be_bytes(), self.protocol).prefix(self.wildcard_bits)
    }

    /// Whether an address (IPv4 mapped) is one of the VIP's.
    pub const fn covers(&self, address: [u8; 16]) -> bool {
        let differs = u128::from_be_bytes(address) ^ u128::from_be_bytes(self.address);
        differs >> self.wildcard_bits == 0
    }

    /// Whether the addresses are IPv4.
    pub const fn is_v4(&self) -> bool {
        u128::from_be_bytes(self.address) >> 32 == 0xffff
    }
}

const fn v6(segments: [u16; 8]) -> [u8; 16] {
    zerocopy::transmute!([
        segments[0].to_be(),
        segments[1].to_be(),
        segments[2].to_be(),
        segments[3].to_be(),
        segments[4].to_be(),
        segments[5].to_be(),
        segments[6].to_be(),
        segments[7].to_be(),
    ])
}

const WEB_V4: [u8; 16] = mapped([192, 0, 2, 10]);
const WEB_V6: [u8; 16] = v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10]);

/// All VIPs: single addresses and prefixes, one of them within another, with ports and without, of both families.
pub const SERVICES: [Service; 11] = [
    Service::new(WEB_V4, 443, TCP, 0),
    Service::new(WEB_V4, 443, UDP, 0),
    Service::new(WEB_V4, 53, UDP, 0),
    Service::new(mapped([192, 0, 2, 11]), 0, TCP, 0),
    Service::new(WEB_V6, 443, TCP, 0),
    Service::new(WEB_V6, 443, UDP, 0),
    Service::new(mapped([198, 18, 0, 0]), 0, UDP, 16),
    Service::new(mapped([198, 18, 7, 0]), 443, TCP, 8),
    Service::new(v6([0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0]), 443, TCP, 80),
    Service::new(v6([0x2001, 0xdb8, 0xf, 1, 0, 0, 0, 0]), 0, UDP, 64),
    Service::new(mapped([192, 0, 2, 12]), 443, TCP, 0),
];

/// Where frames go: to VIPs, to other ports of theirs, to addresses beside them, to this lb's tunnel addresses.
pub const DESTINATIONS: [([u8; 16], u16); 16] = [
    (WEB_V4, 443),
    (WEB_V4, 53),
    (mapped([192, 0, 2, 11]), 8080),
    (mapped([192, 0, 2, 12]), 443),
    (WEB_V4, 22),
    (mapped([192, 0, 2, 99]), 443),
    (mapped([198, 18, 7, 9]), 443),
    (mapped([198, 18, 8, 1]), 5000),
    (WEB_V6, 443),
    (WEB_V6, 53),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99]), 443),
    (v6([0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 5]), 443),
    (v6([0x2001, 0xdb8, 0xf, 1, 0, 0, 0, 9]), 777),
    (v6([0x2001, 0xdb8, 0xf, 2, 0, 0, 0, 9]), 443),
    (TUNNELS[0], 443),
    (TUNNELS[1], 443),
];

/// Addresses at which this lb takes tunnel packets, where the scene says so.
pub const TUNNELS: [[u8; 16]; 2] = [mapped([192, 0, 2, 200]), v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x200])];

/// Other lbs: of each family one from where tunnel packets may come, and one from where they may not.
pub const LBS: [[u8; 16]; 4] = [
    mapped([10, 0, 0, 3]),
    mapped([172, 31, 0, 3]),
    v6([0xfd00, 0, 0, 0, 0, 0, 0, 3]),
    v6([0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 3]),
];

/// Where IPv4 packets come from. The second is denied where lists are, the first alone allowed.
pub const CLIENTS_V4: [[u8; 4]; 4] = [[198, 51, 100, 7], [203, 0, 113, 9], [198, 51, 100, 200], [10, 9, 8, 7]];

/// Where IPv6 packets come from.
pub const CLIENTS_V6: [[u8; 16]; 4] = [
    v6([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7]),
    v6([0x2001, 0xdb8, 0xd, 0, 0, 0, 0, 9]),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 1]),
    // No such address belongs on a wire, and in the tables it means an IPv4 address.
    mapped([198, 51, 100, 7]),
];

/// An address as people read it.
pub fn readable(address: [u8; 16]) -> IpAddr {
    IpAddr::from(address).to_canonical()
}
