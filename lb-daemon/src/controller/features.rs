//! Names of the program's features, for people and metrics.

use lb_common::maps::{Tuning, feature};

use super::engine::Engine;

/// Names by bit.
const NAMES: [(u32, &str); 17] = [
    (feature::PREFIX_VIPS, "prefix_vips"),
    (feature::UNKNOWN_PORT, "unknown_port"),
    (feature::HASHES, "hash_modes"),
    (feature::QUIC, "quic"),
    (feature::SERVER_IDS, "server_ids"),
    (feature::SOURCE_ROUTES, "source_routes"),
    (feature::ACL, "access_lists"),
    (feature::NEW_FLOW_LIMIT, "new_flow_limit"),
    (feature::SOURCE_LIMIT, "source_limit"),
    (feature::GUE, "gue"),
    (feature::UNWRAPPED, "l2_or_local"),
    (feature::TUNNELS, "tunnels"),
    (feature::BONDS, "bonds"),
    (feature::MULTI_BUFFER, "multi_buffer"),
    (feature::WITHDRAW, "withdraw"),
    (feature::ADAPTIVE, "adaptive"),
    (feature::ANY_PORT, "any_port"),
];

/// The features of the program in force.
pub(super) fn of(engine: &impl Engine) -> u32 {
    let buffers = if engine.takes_multi_buffer() { feature::MULTI_BUFFER } else { 0 };
    engine.tuning().features | buffers
}

/// The parameters of the program in force, with all its features.
pub(super) fn tuning(engine: &impl Engine) -> Tuning {
    Tuning { features: of(engine), ..engine.tuning() }
}

/// Each feature's name, and whether it is among `features`.
pub(crate) fn all(features: u32) -> impl Iterator<Item = (&'static str, bool)> {
    NAMES.into_iter().map(move |(bit, name)| (name, features & bit != 0))
}

/// Names of these features.
pub(crate) fn names(features: u32) -> Vec<&'static str> {
    all(features).filter_map(|(name, on)| on.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_name_of_its_own() {
        assert_eq!(names(0), [""; 0]);
        assert_eq!(names(feature::GUE | feature::QUIC), ["quic", "gue"]);
        assert_eq!(NAMES.iter().fold(0, |bits, (bit, _)| bits | bit), feature::ALL);
        let mut all = names(feature::ALL);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), NAMES.len());
    }
}
