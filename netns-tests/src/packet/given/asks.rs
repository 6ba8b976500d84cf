//! What VIPs may ask for beyond their ring, and what else the program knows.

use lb_common::{
    layout::{
        flow::{FRAGMENT_BUCKETS, FlowState},
        prefix::{AclRule, SourceKey},
        ring::UNTRACKED,
        server::ServerKey,
        target::Target,
        vip::Vip,
    },
    maps::Tuning,
};

use super::{Given, Members, SLOTS, Service, known, octets, place, prefix};
use crate::packet::frame::{Frame, address};

impl Given {
    /// Parameters of the program.
    #[must_use]
    pub fn tuned(mut self, change: impl FnOnce(&mut Tuning)) -> Self {
        change(&mut self.tuning);
        self
    }

    /// The program has these features only.
    #[must_use]
    pub fn features(self, features: u32) -> Self {
        self.tuned(|tuning| tuning.features = features)
    }

    /// Changes what a VIP asks for.
    #[must_use]
    pub fn asks(mut self, vip: u32, change: impl FnOnce(&mut Vip)) -> Self {
        change(&mut self.vips[vip as usize - 1].vip);
        self
    }

    /// Sets bits of a VIP's flags.
    #[must_use]
    pub fn flags(self, vip: u32, flags: u32) -> Self {
        self.asks(vip, |vip| vip.flags |= flags)
    }

    /// The VIP is adaptive, and its slots had this target when they were last untracked; without one they are so now.
    #[must_use]
    pub fn history(mut self, vip: u32, previous: Option<u32>) -> Self {
        let Service { vip, history, .. } = &mut self.vips[vip as usize - 1];
        vip.flags |= Vip::ADAPTIVE | Vip::HISTORY;
        *history = vec![previous.map_or(UNTRACKED, |target| place(vip, target)); SLOTS.into()];
        self
    }

    /// Packets to ports of this VIP's address that nobody serves are dropped.
    #[must_use]
    pub fn drops_unknown_ports(mut self, vip: u32) -> Self {
        self.vips[vip as usize - 1].drops_unknown_ports = true;
        self
    }

    /// Adds a group of a VIP's targets, which share its ring evenly.
    #[must_use]
    pub fn group(mut self, vip: u32, targets: &[u32]) -> Self {
        let range = &self.vips[vip as usize - 1].vip;
        let places: Vec<u16> = targets.iter().map(|target| place(range, *target)).collect();
        let ring = places.iter().cycle().take(if places.is_empty() { 0 } else { SLOTS.into() }).copied().collect();
        self.groups.push(Members { vip, ring });
        self
    }

    /// New flows of a VIP from this prefix go to a group.
    #[must_use]
    pub fn source_route(mut self, vip: u32, source: &str, group: u32) -> Self {
        self.source_routes.push((source_key(vip, source), group));
        self.flags(vip, Vip::SOURCE_ROUTES)
    }

    /// A rule of a VIP's access list.
    #[must_use]
    pub fn rule(mut self, vip: u32, source: &str, rule: AclRule) -> Self {
        self.acl.push((source_key(vip, source), rule));
        self.flags(vip, Vip::ACL)
    }

    /// A rule of the access list for all VIPs.
    #[must_use]
    pub fn rule_for_all(mut self, source: &str, rule: AclRule) -> Self {
        self.acl.push((source_key(0, source), rule));
        self.vips.iter_mut().for_each(|service| service.vip.flags |= Vip::ACL_GLOBAL);
        self
    }

    /// A target of a VIP has this server ID.
    #[must_use]
    pub fn server(mut self, vip: u32, id: u128, target: u32) -> Self {
        self.servers.push((ServerKey::new(vip, id), target));
        self
    }

    /// The limit of a VIP's new flows: nanoseconds between two, and how far it is ahead of now.
    #[must_use]
    pub fn new_flow_limit(mut self, vip: u32, interval_ns: u32, ahead_ns: u64) -> Self {
        self.vip_limits.push((vip, ahead_ns));
        self.asks(vip, |vip| (vip.new_flow_ns, vip.flags) = (interval_ns, vip.flags | Vip::LIMIT_NEW))
    }

    /// Limits by source, of all VIPs: nanoseconds between two packets and between two new flows; 0 is no limit.
    #[must_use]
    pub fn source_limit(mut self, packet_ns: u64, flow_ns: u64) -> Self {
        self.vips.iter_mut().for_each(|service| service.vip.flags |= Vip::LIMIT_SOURCES);
        self.tuned(|tuning| (tuning.source_packet_ns, tuning.source_flow_ns) = (packet_ns, flow_ns))
    }

    /// Every sender was told so often that packets are too big that it is this far ahead of now.
    #[must_use]
    pub fn told_too_big(mut self, ahead_ns: u64) -> Self {
        self.too_big_limits = ahead_ns;
        self
    }

    /// The daemon has shown no sign of life for so long.
    #[must_use]
    pub fn silent_for(mut self, silence_ns: u64) -> Self {
        self.silence = silence_ns;
        self
    }

    /// Whether moments later a packet may meet something else: a limit that forgives, or a silence that has become too long.
    pub(in crate::packet) fn has_limits(&self) -> bool {
        let too_big = self.targets.iter().any(|target| target.mtu != Target::NO_LIMIT);
        let sources = self.tuning.source_packet_ns | self.tuning.source_flow_ns;
        too_big || sources != 0 || !self.vip_limits.is_empty() || self.silence > 0
    }

    /// An interface is a member of a bond.
    #[must_use]
    pub fn bond(mut self, member: u32, bond: u32) -> Self {
        self.bonds.push((member, bond));
        self
    }

    /// An address at which tunnel packets of other lbs are taken.
    #[must_use]
    pub fn tunnel_address(mut self, tunnel: &str) -> Self {
        self.tunnel_addresses.push(octets(address(tunnel)).0);
        self
    }

    /// Where such packets may come from.
    #[must_use]
    pub fn tunnel_source(mut self, source: &str) -> Self {
        self.tunnel_sources.push((source_key(0, source), 1));
        self
    }

    /// Where they may not come from, though a shorter prefix says so.
    #[must_use]
    pub fn no_tunnel_source(mut self, source: &str) -> Self {
        self.tunnel_sources.push((source_key(0, source), 0));
        self
    }

    /// Remembers a fragment's datagram: the target of its first fragment, or that there was none yet.
    #[must_use]
    pub fn datagram(mut self, of: &Frame, target: u32, age: u32, state: FlowState) -> Self {
        let hash = of.datagram_hash(self.tuning.hash_seed);
        self.fragments.push(known(hash, FRAGMENT_BUCKETS, 0, (target, age, state)));
        self
    }
}

fn source_key(vip: u32, source: &str) -> SourceKey {
    let (address, bits) = prefix(source);
    SourceKey::new(vip, address, bits)
}
