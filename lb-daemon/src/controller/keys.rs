//! Between the model's names and the tables' keys.

use std::net::{IpAddr, Ipv6Addr};

use lb_common::layout::vip::{TCP, UDP, VipKey, mapped};

use crate::model::{Protocol, Service};

/// The key of a service.
pub(super) fn key(service: &Service) -> VipKey {
    let protocol = match service.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    VipKey::service(octets(service.address), service.port.to_be_bytes(), protocol)
}

/// The service of a key; `None` for the entry of an address.
pub(super) fn service(key: &VipKey) -> Option<Service> {
    let protocol = match key.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    Some(Service { address: address(key.address), port: u16::from_be_bytes(key.port), protocol })
}

/// An address as the tables keep it.
pub(super) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// An address that the tables hold.
pub(super) fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_services() {
        for (address, port, protocol) in [("192.0.2.1", 443, Protocol::Tcp), ("2001:db8::1", 0, Protocol::Udp)] {
            let named = Service { address: address.parse().unwrap(), port, protocol };
            assert_eq!(service(&key(&named)), Some(named));
        }
        assert_eq!(service(&VipKey::address([0; 16], 1)), None);
    }
}
