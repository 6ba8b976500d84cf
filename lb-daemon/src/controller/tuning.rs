//! The program's parameters, and which of its features a configuration needs.

use lb_common::{
    layout::{flow::TIME_SHIFT, limit::SOURCE_WAYS},
    maps::{Tuning, feature},
};

use super::members;
use crate::{
    model::{Config, DaemonLoss, Encap, FlowTracking, HashMode, NextHopConfig, Quic, Vip},
    nexthop::Snapshot,
};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// Sources of a line of `SOURCES`.
const WAYS: u32 = 2;
const _: () = assert!(WAYS as usize == SOURCE_WAYS);
/// Features that read [`Tuning::gue_port`].
const USES_GUE_PORT: u32 = feature::GUE | feature::TUNNELS;

/// The program's parameters by a configuration. What the kernel's tables decide is for [`crate::dataplane::kernel::Kernel`]
/// to fill in. Parameters of features that are not needed stay as they are by default, so that a change of them is none.
pub fn tuning(config: &Config) -> Tuning {
    let settings = &config.dataplane;
    let features = features(config);
    // Rounded up: a flow may be remembered for longer than the file says, never for less.
    let idle = settings.udp_idle_timeout.as_nanos().div_ceil(1 << TIME_SHIFT);
    let mut tuning = Tuning {
        hash_seed: settings.hash_seed,
        features,
        udp_idle: u32::try_from(idle).unwrap_or(u32::MAX).max(1),
        source_v4: settings.tunnel_source_v4.network().octets(),
        source_v4_mask: settings.tunnel_source_v4.hostmask().octets(),
        source_v6: settings.tunnel_source_v6.network().octets(),
        ..Tuning::default()
    };
    if features & USES_GUE_PORT != 0 {
        tuning.gue_port = settings.gue_port.to_be_bytes();
    }
    match &settings.source_limit {
        Some(limit) if features & feature::SOURCE_LIMIT != 0 => Tuning {
            source_packet_ns: limit.packets_per_second.map_or(0, pause),
            source_flow_ns: limit.new_flows_per_second.map_or(0, pause),
            source_line_mask: (limit.entries / WAYS).saturating_sub(1),
            limited_v4_mask: v4_mask(limit.prefix_v4),
            limited_v6_mask: v6_mask(limit.prefix_v6),
            ..tuning
        },
        _ => tuning,
    }
}

/// The same, with what the interfaces that there are ask for.
pub fn needed(config: &Config, hops: &Snapshot) -> Tuning {
    let tuning = tuning(config);
    // By a fixed gateway packets leave by the interface that they came in by, bond or not.
    let bonds = config.dataplane.next_hop == NextHopConfig::Auto && !hops.bonds.is_empty();
    Tuning { features: tuning.features | sum([(bonds, feature::BONDS)]), ..tuning }
}

/// Parameters with which the tables of either are read rightly: those of `after`, with the features of both, and for a
/// feature of `before` alone its parameters.
pub fn either(before: &Tuning, after: &Tuning) -> Tuning {
    let mut either = Tuning { features: before.features | after.features, ..*after };
    if after.features & USES_GUE_PORT == 0 {
        either.gue_port = before.gue_port;
    }
    if after.features & feature::SOURCE_LIMIT == 0 {
        either = Tuning {
            source_packet_ns: before.source_packet_ns,
            source_flow_ns: before.source_flow_ns,
            source_line_mask: before.source_line_mask,
            limited_v4_mask: before.limited_v4_mask,
            limited_v6_mask: before.limited_v6_mask,
            ..either
        };
    }
    either
}

/// The features that a configuration needs, as far as it alone tells.
fn features(config: &Config) -> u32 {
    let settings = &config.dataplane;
    let limit = settings.source_limit.as_ref();
    let limited = limit.is_some_and(|limit| (limit.packets_per_second, limit.new_flows_per_second) != (None, None));
    let local = members(config).any(|(_, _, backend)| backend.local);
    let of_all = [
        (!settings.access.is_empty(), feature::ACL),
        (limited, feature::SOURCE_LIMIT),
        (!settings.tunnels.addresses.is_empty(), feature::TUNNELS),
        (local, feature::UNWRAPPED),
        (config.daemon.on_loss == DaemonLoss::Withdraw, feature::WITHDRAW),
    ];
    config.vips.iter().map(of_vip).fold(sum(of_all), |all, one| all | one)
}

fn of_vip(vip: &Vip) -> u32 {
    sum([
        (vip.service.wildcard_bits != 0, feature::PREFIX_VIPS),
        (vip.service.wildcard_bits == 0 && vip.service.port == 0, feature::ANY_PORT),
        (vip.drops_unknown_port, feature::UNKNOWN_PORT),
        (vip.hash != HashMode::FiveTuple || vip.flow_tracking == FlowTracking::Off, feature::HASHES),
        (vip.is_adaptive(), feature::ADAPTIVE),
        (vip.quic != Quic::Off, feature::QUIC),
        (vip.tcp_server_id || vip.udp_stable, feature::SERVER_IDS),
        (!vip.source_routes.is_empty(), feature::SOURCE_ROUTES),
        (!vip.access.is_empty(), feature::ACL),
        (vip.max_new_flows_per_second.is_some(), feature::NEW_FLOW_LIMIT),
        (vip.encap == Encap::Gue, feature::GUE),
        (vip.encap == Encap::L2, feature::UNWRAPPED),
    ])
}

fn sum(features: impl IntoIterator<Item = (bool, u32)>) -> u32 {
    features.into_iter().filter(|(needed, _)| *needed).fold(0, |all, (_, one)| all | one)
}

/// Nanoseconds between two of so many in a second.
fn pause(per_second: u32) -> u64 {
    let per_second = u64::from(per_second.max(1));
    ((SECOND + per_second / 2) / per_second).max(1)
}

fn v4_mask(bits: u8) -> [u8; 4] {
    let rest = 32_u32.saturating_sub(bits.into());
    u32::MAX.checked_shl(rest).unwrap_or(0).to_be_bytes()
}

fn v6_mask(bits: u8) -> [u8; 16] {
    let rest = 128_u32.saturating_sub(bits.into());
    u128::MAX.checked_shl(rest).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use super::*;
    use crate::{
        controller::tests::rig::{TEXT, config},
        model::{RouteTo, ServerId, SourceLimit, SourceRoute},
    };

    fn changed(change: impl FnOnce(&mut Config)) -> Tuning {
        let mut config = config(TEXT);
        change(&mut config);
        tuning(&config)
    }

    #[test]
    fn a_flow_is_never_forgotten_before_its_time() {
        for (text, units) in [("1s", 1), ("4s", 1), ("5s", 2), ("30s", 7), ("1h", 839)] {
            let config = config(&format!("[dataplane]\ninterfaces = [\"eth0\"]\nudp_idle_timeout = \"{text}\"\n"));
            assert_eq!(tuning(&config).udp_idle, units, "{text}");
        }
    }

    #[test]
    fn a_plain_configuration_needs_no_feature() {
        assert_eq!(tuning(&config(TEXT)).features, 0);
        assert_eq!(
            changed(|config| config.dataplane.gue_port = 7000),
            tuning(&config(TEXT)),
            "a port that nobody uses"
        );
    }

    /// A change of the plain configuration.
    type Edit = fn(&mut Config);

    #[test]
    fn each_setting_asks_for_its_feature_and_no_other() {
        let net = "203.0.113.0/24".parse().unwrap();
        let cases: [(Edit, u32); 23] = [
            (|config| config.vips[0].service.wildcard_bits = 4, feature::PREFIX_VIPS),
            (|config| config.vips[0].service.port = 0, feature::ANY_PORT),
            (|config| config.vips[2].drops_unknown_port = true, feature::UNKNOWN_PORT),
            (|config| config.vips[0].hash = HashMode::SourceIp, feature::HASHES),
            (|config| config.vips[0].flow_tracking = FlowTracking::Off, feature::HASHES),
            (|config| config.vips[0].flow_tracking = FlowTracking::Adaptive, feature::ADAPTIVE),
            (|config| config.vips[2].quic = Quic::Katran, feature::QUIC),
            (|config| config.vips[2].quic = Quic::QuicLb([4; 7]), feature::QUIC),
            (|config| config.vips[0].tcp_server_id = true, feature::SERVER_IDS),
            (|config| config.vips[2].udp_stable = true, feature::SERVER_IDS),
            (|config| config.vips[0].max_new_flows_per_second = Some(1), feature::NEW_FLOW_LIMIT),
            (|config| config.vips[0].encap = Encap::Gue, feature::GUE),
            (|config| config.vips[1].encap = Encap::L2, feature::UNWRAPPED),
            (|config| config.pools.get_mut("dns").unwrap().backends[0].local = true, feature::UNWRAPPED),
            (|config| config.dataplane.access.deny = vec!["::/0".parse().unwrap()], feature::ACL),
            (|config| config.vips[0].access.allow = vec!["::/0".parse().unwrap()], feature::ACL),
            (|config| config.dataplane.tunnels.addresses = vec![IpAddr::from([10, 0, 0, 1])], feature::TUNNELS),
            (|config| config.dataplane.tunnels.sources = vec!["::/0".parse().unwrap()], 0),
            (|config| config.dataplane.source_limit = Some(limit(Some(5), None)), feature::SOURCE_LIMIT),
            (|config| config.dataplane.source_limit = Some(limit(None, None)), 0),
            (|config| config.daemon.on_loss = DaemonLoss::Withdraw, feature::WITHDRAW),
            (|config| config.daemon.on_loss = DaemonLoss::Pass, 0),
            (
                |config| {
                    let id = ServerId { value: 1, len: None };
                    config.pools.get_mut("web").unwrap().backends[0].server_id = Some(id);
                },
                0,
            ),
        ];
        for (number, (change, needed)) in cases.into_iter().enumerate() {
            assert_eq!(changed(change).features, needed, "case {number}");
        }
        let to = RouteTo::Pool("dns".into());
        let routed = changed(|config| config.vips[0].source_routes = vec![SourceRoute { source: net, to }]);
        assert_eq!(routed.features, feature::SOURCE_ROUTES);
    }

    #[test]
    fn a_local_backend_counts_where_a_source_route_leads_to_it() {
        let local = |config: &mut Config| {
            config.pools.get_mut("dns").unwrap().backends[0].local = true;
            config.vips.retain(|vip| vip.pool != "dns");
        };
        assert_eq!(changed(local).features, 0, "no packet gets there");
        let routed = changed(|config| {
            local(config);
            let to = RouteTo::Pool("dns".into());
            config.vips[0].source_routes = vec![SourceRoute { source: "::/0".parse().unwrap(), to }];
        });
        assert_eq!(routed.features, feature::SOURCE_ROUTES | feature::UNWRAPPED);
    }

    fn limit(packets_per_second: Option<u32>, new_flows_per_second: Option<u32>) -> SourceLimit {
        SourceLimit { packets_per_second, new_flows_per_second, prefix_v4: 20, prefix_v6: 0, entries: 1024 }
    }

    #[test]
    fn members_of_bonds_matter_where_packets_may_leave_by_the_bond() {
        let hops = Snapshot { bonds: BTreeMap::from([(4, 9)]), ..Snapshot::default() };
        let auto = config(TEXT);
        assert_eq!(needed(&auto, &Snapshot::default()), tuning(&auto));
        assert_eq!(needed(&auto, &hops).features, feature::BONDS);
        let gateway = TEXT.replace("[dataplane]\n", "[dataplane]\nnext_hop = \"02:00:00:00:00:07\"\n");
        assert_eq!(needed(&config(&gateway), &hops).features, 0);
    }

    #[test]
    fn limits_become_pauses_and_prefixes_masks() {
        let limited = |packets, flows| changed(|config| config.dataplane.source_limit = Some(limit(packets, flows)));
        let tuning = limited(Some(3), None);
        assert_eq!((tuning.source_packet_ns, tuning.source_flow_ns), (333_333_333, 0));
        assert_eq!(tuning.source_line_mask, 511);
        assert_eq!((tuning.limited_v4_mask, tuning.limited_v6_mask), ([0xff, 0xff, 0xf0, 0], [0; 16]));
        assert_eq!(limited(None, Some(u32::MAX)).source_flow_ns, 1, "never 0, which is no limit");
        assert_eq!((v4_mask(32), v6_mask(64)), ([0xff; 4], Tuning::default().limited_v6_mask));
    }

    #[test]
    fn a_program_between_two_configurations_reads_the_tables_of_both() {
        let gue = changed(|config| {
            config.vips[0].encap = Encap::Gue;
            config.dataplane.gue_port = 7000;
        });
        let limited = changed(|config| {
            config.dataplane.source_limit = Some(limit(Some(5), None));
            config.dataplane.hash_seed = 9;
        });
        let between = either(&gue, &limited);
        assert_eq!(
            between,
            Tuning { features: feature::GUE | feature::SOURCE_LIMIT, gue_port: gue.gue_port, ..limited }
        );
        let between = either(&limited, &gue);
        assert_eq!((between.source_line_mask, between.hash_seed), (limited.source_line_mask, gue.hash_seed));
        assert_eq!(either(&gue, &gue), gue);
    }
}
