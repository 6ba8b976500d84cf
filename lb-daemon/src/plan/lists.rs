//! What a configuration says of VIPs at length: compiled once, since lists may have a million entries and plans are made
//! at every change of a backend's health.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lb_common::layout::{prefix::AclRule, vip::VipKey};

use super::{
    prefixes::{Prefix, Prefixes},
    wanted::key,
};
use crate::model::{Access, Config, Pool, RouteTo, Tunnels, Vip};

/// What a prefix stands for in [`Lists::tunnel_sources`]: tunnel packets may come from it.
const MAY_TUNNEL: u32 = 1;
/// They may not, although they may from a shorter prefix.
const MAY_NOT_TUNNEL: u32 = 0;

/// The lists of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Who may send to any VIP: [`AclRule`]s by number.
    pub access: Arc<Prefixes>,
    /// Where tunnel packets of other lbs may come from: `MAY_TUNNEL`, or `MAY_NOT_TUNNEL`.
    pub tunnel_sources: Arc<Prefixes>,
    /// By VIP.
    pub vips: BTreeMap<VipKey, VipLists>,
}

/// The lists of one VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipLists {
    /// Who may send to it, as [`Lists::access`].
    pub access: Arc<Prefixes>,
    /// Its source routes. Each number is a place in `groups`; one beyond the end leads nowhere special.
    pub routes: Arc<Prefixes>,
    /// Where its routes lead, each with a number that no other of this VIP has and that depends on its name alone.
    pub groups: Vec<(u64, RouteTo)>,
}

impl Lists {
    /// Those of `config`.
    pub fn of(config: &Config) -> Self {
        Self {
            access: Arc::new(access(&config.dataplane.access)),
            tunnel_sources: Arc::new(tunnel_sources(&config.dataplane.tunnels)),
            vips: config.vips.iter().map(|vip| (key(&vip.service), VipLists::of(vip))).collect(),
        }
    }

    /// The pools of a VIP: its own first, then those that its routes lead to.
    pub fn pools<'c>(&self, config: &'c Config, vip: &Vip) -> Vec<&'c Pool> {
        let groups = self.vips.get(&key(&vip.service)).map(|lists| lists.groups.as_slice()).unwrap_or_default();
        let routed = groups.iter().filter_map(|(_, to)| match to {
            RouteTo::Pool(name) => Some(name),
            RouteTo::Backend(_) => None,
        });
        let others = routed.filter(|name| **name != vip.pool);
        [&vip.pool].into_iter().chain(others).filter_map(|name| config.pools.get(name)).collect()
    }
}

impl VipLists {
    fn of(vip: &Vip) -> Self {
        let leads: BTreeSet<&RouteTo> = vip.source_routes.iter().map(|route| &route.to).collect();
        let place: BTreeMap<&RouteTo, u32> = leads.iter().copied().zip(0..).collect();
        let number = |to: &RouteTo| place.get(to).copied().unwrap_or(u32::MAX);
        let routes = vip.source_routes.iter().map(|route| (Prefix::of(&route.source), number(&route.to)));
        let mut taken = BTreeSet::new();
        let identified = leads.into_iter().map(|to| {
            let mut identity = identity(to);
            while !taken.insert(identity) {
                identity = identity.wrapping_add(1);
            }
            (identity, to.clone())
        });
        Self {
            groups: identified.collect(),
            access: Arc::new(access(&vip.access)),
            routes: Arc::new(Prefixes::new(apart(routes.collect(), u32::MAX))),
        }
    }
}

/// The rules that an access list makes: where something is let in, the rest is kept out.
fn access(access: &Access) -> Prefixes {
    let rules = [(&access.allow, AclRule::Allow), (&access.deny, AclRule::Deny)];
    let listed = rules.into_iter().flat_map(|(nets, rule)| nets.iter().map(move |net| (Prefix::of(net), rule as u32)));
    let rest = if access.allow.is_empty() { AclRule::Allow } else { AclRule::Deny };
    let mut entries = apart(listed.collect(), rest as u32);
    if rest == AclRule::Deny && entries.iter().all(|(prefix, _)| *prefix != Prefix::ALL) {
        entries.push((Prefix::ALL, rest as u32));
    }
    Prefixes::new(entries)
}

/// Where tunnel packets may come from: anywhere, if there are addresses for them and no list.
fn tunnel_sources(tunnels: &Tunnels) -> Prefixes {
    if tunnels.sources.is_empty() && !tunnels.addresses.is_empty() {
        return Prefixes::new(vec![(Prefix::ALL, MAY_TUNNEL)]);
    }
    let sources = tunnels.sources.iter().map(|net| (Prefix::of(net), MAY_TUNNEL));
    Prefixes::new(apart(sources.collect(), MAY_NOT_TUNNEL))
}

/// Keeps families apart: an IPv6 prefix so short that it holds the mapped IPv4 addresses says nothing of these, for which
/// `rest` stands unless there is a prefix of all of them.
fn apart(mut entries: Vec<(Prefix, u32)>, rest: u32) -> Vec<(Prefix, u32)> {
    let short = entries.iter().any(|(prefix, _)| *prefix != Prefix::V4 && prefix.covers(&Prefix::V4));
    if short && entries.iter().all(|(prefix, _)| *prefix != Prefix::V4) {
        entries.push((Prefix::V4, rest));
    }
    entries
}

/// A number for where a route leads, by FNV-1a: the same after every restart.
fn identity(to: &RouteTo) -> u64 {
    let (kind, name) = match to {
        RouteTo::Pool(name) => (b'p', name),
        RouteTo::Backend(name) => (b'b', name),
    };
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    [kind].into_iter().chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, Service, SourceRoute};

    fn prefix(text: &str) -> Prefix {
        Prefix::of(&text.parse().unwrap())
    }

    fn rules(allow: &[&str], deny: &[&str]) -> Vec<(Prefix, u32)> {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        access(&Access { allow: nets(allow), deny: nets(deny) }).iter().collect()
    }

    const ALLOW: u32 = AclRule::Allow as u32;
    const DENY: u32 = AclRule::Deny as u32;

    #[test]
    fn whoever_is_in_no_list_is_let_in_unless_something_is() {
        assert_eq!(rules(&[], &[]), []);
        assert_eq!(rules(&[], &["10.0.0.0/8"]), [(prefix("10.0.0.0/8"), DENY)]);
        let only = [(Prefix::ALL, DENY), (prefix("10.0.0.0/8"), ALLOW)];
        assert_eq!(rules(&["10.0.0.0/8"], &[]), only);
        let all_v6 = [(Prefix::ALL, ALLOW), (Prefix::V4, DENY)];
        assert_eq!(rules(&["::/0"], &[]), all_v6, "a list that lets in IPv6 does not let in IPv4");
    }

    #[test]
    fn a_short_prefix_of_ipv6_says_nothing_of_ipv4() {
        assert_eq!(rules(&[], &["::/0"]), [(Prefix::ALL, DENY), (Prefix::V4, ALLOW)]);
        let both = [(Prefix::ALL, DENY), (Prefix::V4, DENY)];
        assert_eq!(rules(&[], &["::/0", "0.0.0.0/0"]), both);
    }

    #[test]
    fn tunnel_packets_of_ipv4_need_a_prefix_of_ipv4() {
        let sources = |texts: &[&str], addresses: &[&str]| -> Vec<(Prefix, u32)> {
            let sources = texts.iter().map(|text| text.parse().unwrap()).collect();
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            tunnel_sources(&Tunnels { addresses, sources }).iter().collect()
        };
        assert_eq!(sources(&[], &[]), [], "no tunnels");
        assert_eq!(sources(&[], &["198.51.100.1"]), [(Prefix::ALL, MAY_TUNNEL)], "from anywhere");
        let only_v6 = [(Prefix::ALL, MAY_TUNNEL), (Prefix::V4, MAY_NOT_TUNNEL)];
        assert_eq!(sources(&["::/0"], &["198.51.100.1"]), only_v6);
        let both = [(Prefix::ALL, MAY_TUNNEL), (Prefix::V4, MAY_TUNNEL)];
        assert_eq!(sources(&["::/0", "0.0.0.0/0"], &["198.51.100.1"]), both);
        assert_eq!(sources(&["10.0.0.0/8"], &["198.51.100.1"]), [(prefix("10.0.0.0/8"), MAY_TUNNEL)]);
    }

    #[test]
    fn routes_name_groups_that_keep_their_identity() {
        let vip = |routes: &[(&str, RouteTo)]| {
            let route =
                |(source, to): &(&str, RouteTo)| SourceRoute { source: source.parse().unwrap(), to: to.clone() };
            let service = Service::of([192, 0, 2, 1].into(), 80, Protocol::Tcp);
            Vip { source_routes: routes.iter().map(route).collect(), ..Vip::plain("web", service, "web", 31) }
        };
        let (pool, backend) = (RouteTo::Pool("a".into()), RouteTo::Backend("a".into()));
        let two = VipLists::of(&vip(&[
            ("10.0.0.0/8", backend.clone()),
            ("::/0", pool.clone()),
            ("10.1.0.0/16", pool.clone()),
        ]));
        let names: Vec<&RouteTo> = two.groups.iter().map(|(_, to)| to).collect();
        assert_eq!(names, [&pool, &backend]);
        let routes: Vec<(Prefix, u32)> = two.routes.iter().collect();
        let expected =
            [(Prefix::ALL, 0), (Prefix::V4, u32::MAX), (prefix("10.0.0.0/8"), 1), (prefix("10.1.0.0/16"), 0)];
        assert_eq!(routes, expected);
        let one = VipLists::of(&vip(&[("10.0.0.0/8", backend)]));
        assert_eq!(one.groups[0], two.groups[1]);
        assert_ne!(two.groups[0].0, two.groups[1].0);
    }
}
