//! How the limits stand that are for a packet.

use lb_common::{
    layout::{
        limit::{BURST_NS, TOO_BIG_NS, TOO_BIG_WORDS},
        vip::Vip,
    },
    maps::feature,
};
use lb_xdp::{limit, parse::Family, path::Tables};

use super::{reading::Reading, recorder::Recorder, steering::Found, tuple::words};
use crate::{dataplane::lookups::Lookups, plan::target::address_bytes};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Packets of the source.
    SourcePackets,
    /// New flows of the source.
    SourceFlows,
    /// New flows of the VIP.
    VipFlows,
    /// Packet-too-big messages to the source.
    TooBig,
}

/// A limit at the moment that the packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What of.
    pub kind: LimitKind,
    /// Nanoseconds that one more costs.
    pub price_ns: u64,
    /// Nanoseconds that are used up, of [`BURST_NS`].
    pub used_ns: u64,
}

impl Limit {
    /// Whether one more is within it.
    pub const fn passes(&self) -> bool {
        self.used_ns.saturating_add(self.price_ns) <= BURST_NS
    }
}

/// All that are for a packet, whether it came to be counted by them or not.
pub(super) fn of<L: Lookups>(reading: &Reading, found: &Found, tables: &Recorder<L>) -> Vec<Limit> {
    let mut limits = Vec::new();
    let now = tables.now_ns();
    let used = |word: u64| word.saturating_sub(now);
    if let Found::Vip(_, vip) = found {
        if vip.flags & Vip::LIMIT_SOURCES != 0 && tables.has(feature::SOURCE_LIMIT) {
            let [packets, flows] = source(reading, tables).unwrap_or_default();
            let tuning = tables.tuning();
            let all = [
                (LimitKind::SourcePackets, tuning.source_packet_ns, packets),
                (LimitKind::SourceFlows, tuning.source_flow_ns, flows),
            ];
            let set = all.into_iter().filter(|(_, price, _)| *price != 0);
            limits.extend(set.map(|(kind, price_ns, word)| Limit { kind, price_ns, used_ns: used(word) }));
        }
        if vip.flags & Vip::LIMIT_NEW != 0 && tables.has(feature::NEW_FLOW_LIMIT) {
            let held = tables.vip_limits.iter().next().and_then(|(_, held)| held.as_ref()).map(|held| held.before);
            let word = held.or_else(|| tables.live().vip_limit(vip.id)).unwrap_or_default();
            let price_ns = vip.new_flow_ns.into();
            limits.push(Limit { kind: LimitKind::VipFlows, price_ns, used_ns: used(word) });
        }
    }
    if let Some((index, Some(held))) = tables.too_big_limits.iter().next()
        && *index < TOO_BIG_WORDS
    {
        limits.push(Limit { kind: LimitKind::TooBig, price_ns: TOO_BIG_NS, used_ns: used(held.before) });
    }
    limits
}

/// What the packet's source took: its packets, its new flows.
fn source<L: Lookups>(reading: &Reading, tables: &Recorder<L>) -> Option<[u64; 2]> {
    let tuning = tables.tuning();
    let tuple = reading.tuple.as_ref()?;
    let address = u128::from_be_bytes(address_bytes(tuple.source.ip()));
    let mask = match reading.packet()?.family {
        Family::V4 => u128::MAX << u32::BITS | u128::from(u32::from_be_bytes(tuning.limited_v4_mask)),
        Family::V6 => u128::from_be_bytes(tuning.limited_v6_mask),
    };
    let masked = words(crate::plan::target::address_of((address & mask).to_be_bytes()));
    let hash = limit::hash_of(masked, tuning.hash_seed);
    let index = (hash >> 32) as u32 & tuning.source_line_mask;
    let held = tables.sources.iter().find(|(at, _)| **at == index).and_then(|(_, held)| held.as_ref());
    let line = held.map(|held| held.before).or_else(|| tables.live().source_line(index))?;
    let [one, two] = [[line[0], line[1], line[2]], [line[4], line[5], line[6]]];
    [one, two].into_iter().find(|[tag, ..]| *tag == hash | 1).map(|[_, packets, flows]| [packets, flows])
}
