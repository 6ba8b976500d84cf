//! Wanted states of VIPs that go by more than the ring.

use super::*;
use crate::plan::{
    prefixes::{Prefix, Prefixes},
    wanted::WantedGroup,
};

/// A list of few prefixes, of which some are longer than others.
fn any_list(numbers: u32) -> impl Strategy<Value = std::sync::Arc<Prefixes>> {
    let entry = (0_u8..4, 0..numbers).prop_map(|(bits, number)| (Prefix { address: [0; 16], bits }, number));
    prop::collection::vec(entry, 0..4).prop_map(|entries| Prefixes::new(entries).into())
}

/// What a VIP goes by, given that it has these backends.
fn any_choice(vip: WantedVip) -> impl Strategy<Value = WantedVip> {
    let backends: Vec<IpAddr> = vip.backends.keys().copied().collect();
    let some = prop::sample::subsequence(backends.clone(), 0..=backends.len());
    let group =
        (prop::sample::select(vec![1_u32, 7, 31]), some.clone(), 1_u32..3).prop_map(|(ring_size, some, weight)| {
            WantedGroup { identity: 0, ring_size, members: some.into_iter().map(|address| (address, weight)).collect() }
        });
    let groups = prop::collection::btree_map(1_u64..4, group, 0..3).prop_map(|groups| {
        let identified = groups.into_iter().map(|(identity, group)| WantedGroup { identity, ..group });
        identified.collect::<Vec<_>>()
    });
    let servers = (some, any::<bool>()).prop_map(|(some, reversed)| {
        let ids = (0_u128..).zip(some);
        ids.map(|(id, backend)| (if reversed { 20 - id } else { id }, backend)).collect()
    });
    (groups, any_list(4), any_list(3), servers).prop_map(move |(groups, routes, access, servers)| {
        // An adaptive VIP goes by its own ring alone.
        let (groups, servers) =
            if vip.flags & Vip::ADAPTIVE == 0 { (groups, servers) } else { (Vec::new(), BTreeMap::new()) };
        let routes = if groups.is_empty() { std::sync::Arc::default() } else { routes };
        let flag = |list: &Prefixes, flag| if list.is_empty() { 0 } else { flag };
        let flags = vip.flags | flag(&routes, Vip::SOURCE_ROUTES) | flag(&access, Vip::ACL);
        WantedVip { flags, access, routes, groups, servers, ..vip.clone() }
    })
}

/// As [`super::any_wanted`], and of all else that a configuration may ask for.
pub(super) fn any_wanted() -> impl Strategy<Value = Wanted> {
    let own = (any_list(3), any_list(2), prop::collection::btree_set(0_u8..4, 0..3), 0_u32..3);
    (super::any_wanted(), own).prop_flat_map(|(wanted, (access, tunnel_sources, tunnels, members))| {
        let vips: Vec<_> = wanted.vips.into_iter().map(|(key, vip)| (Just(key), any_choice(vip))).collect();
        vips.prop_map(move |vips| {
            let global = if access.is_empty() { 0 } else { Vip::ACL_GLOBAL };
            let vips = vips.into_iter().map(|(key, vip)| (key, WantedVip { flags: vip.flags | global, ..vip }));
            Wanted {
                vips: vips.collect(),
                address_flags: global,
                access: access.clone(),
                tunnels: tunnels.iter().map(|byte| [*byte; 16]).collect(),
                tunnel_sources: tunnel_sources.clone(),
                bonds: (0..members).map(|member| (member, 9)).collect(),
            }
        })
    })
}
