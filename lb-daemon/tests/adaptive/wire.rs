//! What clients send.

use std::net::{IpAddr, Ipv4Addr};

use lb_common::layout::vip::{TCP, VipKey, mapped};

pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;
pub(super) const FIN: u8 = 0x01;
pub(super) const RST: u8 = 0x04;

/// The VIPs, by number.
pub(super) const KEYS: [VipKey; 2] = [key(443), key(444)];

const fn key(port: u16) -> VipKey {
    VipKey::service(mapped([192, 0, 2, 10]), port.to_be_bytes(), TCP)
}

/// The number of the VIP that a flow is to.
pub(super) const fn vip_of(flow: u16) -> u8 {
    (flow % 2) as u8
}

/// A backend of a VIP.
pub(super) fn backend(vip: u8, number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, vip, number).into()
}

/// The number of the VIP whose backend this is.
pub(super) fn vip_with(backend: IpAddr) -> u8 {
    let IpAddr::V4(address) = backend else { panic!("{backend} is no backend") };
    address.octets()[2]
}

/// A segment of a flow: Ethernet, IPv4, TCP.
pub(super) fn frame(flow: u16, flags: u8) -> Vec<u8> {
    let [high, low] = (flow * 977 + 1024).to_be_bytes();
    let [port_high, port_low] = KEYS[usize::from(vip_of(flow))].port;
    let mut frame = vec![0x02, 0, 0, 0, 0xaa, 1, 0x02, 0, 0, 0, 0xcc, 1, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0, 198, 51, 100, 7, 192, 0, 2, 10]);
    frame.extend([high, low, port_high, port_low, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 16, 0, 0, 0, 0, 0]);
    frame
}
