//! What the tables' contents ask of the program that reads them.

use lb_common::{
    layout::{target::Encap, vip::Vip},
    maps::feature,
};

use crate::plan::State;

/// Flags of VIPs and addresses, and the feature that each needs.
const BY_FLAG: [(u32, u32); 11] = [
    (Vip::HASH_MASK | Vip::UNTRACKED, feature::HASHES),
    (Vip::QUIC_LB, feature::QUIC),
    (Vip::QUIC_KATRAN, feature::QUIC),
    (Vip::TCP_SERVER_ID, feature::SERVER_IDS),
    (Vip::UDP_SERVER_ID, feature::SERVER_IDS),
    (Vip::SOURCE_ROUTES, feature::SOURCE_ROUTES),
    (Vip::ACL_GLOBAL | Vip::ACL, feature::ACL),
    (Vip::LIMIT_NEW, feature::NEW_FLOW_LIMIT),
    (Vip::LIMIT_SOURCES, feature::SOURCE_LIMIT),
    (Vip::DROP_UNKNOWN_PORT, feature::UNKNOWN_PORT),
    (Vip::ADAPTIVE, feature::ADAPTIVE),
];

/// Bits of [`feature`] without which a program would treat packets otherwise than the tables say.
pub fn features(state: &State) -> u32 {
    let vips = state.vips.iter().map(|(key, vip)| {
        let flagged = BY_FLAG.iter().filter(|(flags, _)| vip.flags & flags != 0);
        let of_key = match key {
            key if key.is_prefix() => feature::PREFIX_VIPS,
            key if key.port == [0; 2] && !key.is_address() => feature::ANY_PORT,
            _ => 0,
        };
        flagged.fold(of_key, |features, (_, feature)| features | feature)
    });
    let targets = state.targets.values().map(|target| match Encap::try_from(target.encap) {
        Ok(Encap::GueV4 | Encap::GueV6) => feature::GUE,
        Ok(Encap::L2 | Encap::Local) => feature::UNWRAPPED,
        Ok(Encap::IpipV4 | Encap::IpipV6) | Err(_) => 0,
    });
    let tunnels = if state.tunnels.is_empty() { 0 } else { feature::TUNNELS };
    let bonds = if state.bonds.is_empty() { 0 } else { feature::BONDS };
    vips.chain(targets).fold(tunnels | bonds, |all, one| all | one)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use lb_common::layout::{
        target::Target,
        vip::{TCP, VipKey, mapped},
    };

    use super::*;

    fn with(key: VipKey, flags: u32, encap: Encap) -> u32 {
        let target = Target { vip: 1, encap: encap as u32, ..Target::default() };
        features(&State {
            vips: BTreeMap::from([(key, Vip { id: 1, flags, ..Vip::default() })]),
            targets: BTreeMap::from([(1, target)]),
            ..State::default()
        })
    }

    #[test]
    fn each_flag_prefix_and_encapsulation_asks_for_its_feature() {
        let key = VipKey::service(mapped([192, 0, 2, 0]), [0, 80], TCP);
        assert_eq!(with(key, 0, Encap::IpipV4), 0, "the plain way needs nothing");
        assert_eq!(with(key.prefix(8), 0, Encap::IpipV6), feature::PREFIX_VIPS);
        for (flags, wanted) in [
            (Vip::HASH_SOURCE, feature::HASHES),
            (Vip::HASH_SOURCE_PORT, feature::HASHES),
            (Vip::HASH_PORT | Vip::UNTRACKED, feature::HASHES),
            (Vip::QUIC_LB, feature::QUIC),
            (Vip::QUIC_KATRAN, feature::QUIC),
            (Vip::TCP_SERVER_ID | Vip::UDP_SERVER_ID, feature::SERVER_IDS),
            (Vip::SOURCE_ROUTES, feature::SOURCE_ROUTES),
            (Vip::ACL_GLOBAL, feature::ACL),
            (Vip::ACL | Vip::LIMIT_NEW, feature::ACL | feature::NEW_FLOW_LIMIT),
            (Vip::LIMIT_SOURCES, feature::SOURCE_LIMIT),
            (Vip::DROP_UNKNOWN_PORT, feature::UNKNOWN_PORT),
            (Vip::ADAPTIVE | Vip::HISTORY, feature::ADAPTIVE),
        ] {
            assert_eq!(with(key, flags, Encap::IpipV4), wanted, "{flags:#x}");
        }
        for (encap, wanted) in [
            (Encap::GueV4, feature::GUE),
            (Encap::GueV6, feature::GUE),
            (Encap::L2, feature::UNWRAPPED),
            (Encap::Local, feature::UNWRAPPED),
        ] {
            assert_eq!(with(key, 0, encap), wanted);
        }
        let tunnels = BTreeSet::from([mapped([10, 0, 0, 1])]);
        assert_eq!(features(&State { tunnels, ..State::default() }), feature::TUNNELS);
        assert_eq!(features(&State { bonds: BTreeMap::from([(4, 9)]), ..State::default() }), feature::BONDS);
    }
}
