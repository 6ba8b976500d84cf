//! Room for what is wanted: which tables must become larger, how large, and what memory that takes.

use std::collections::BTreeMap;

use lb_common::{
    layout::{
        counter::TargetCounters,
        flow::{FlowEntry, MAX_TARGETS},
        prefix::Group,
        ring::RingBlock,
        target::Target,
        traffic::{Traffic, values},
        vips::{self, Record},
    },
    maps,
};

use super::{Capacity, RingCache, State, diff, diff::PlanError, wanted::Wanted};

/// Sizes of all tables that can change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Of all but the flow table.
    pub capacity: Capacity,
    /// Entries of the flow table, a power of two.
    pub flow_entries: u32,
}

/// The sizes with which there is a plan from `observed` to `wanted`: those of `observed`, and for each table that is too
/// small at least twice that, so that growing is rare.
///
/// # Errors
/// When larger tables would not help.
pub fn enough(observed: &State, wanted: &Wanted, rings: &mut RingCache) -> Result<Capacity, PlanError> {
    rings.leave_blank(true);
    let outcome = search(observed, wanted, rings);
    rings.leave_blank(false);
    outcome
}

fn search(observed: &State, wanted: &Wanted, rings: &mut RingCache) -> Result<Capacity, PlanError> {
    let Err(first) = diff::plan(observed, wanted, rings) else { return Ok(observed.capacity) };
    let needs = diff::needs(wanted);
    let mut state = observed.clone();
    let mut short = first;
    loop {
        state.capacity = enlarged(state.capacity, &needs, &short).ok_or(short)?;
        match diff::plan(&state, wanted, rings) {
            Ok(_) => return Ok(state.capacity),
            Err(error) => short = error,
        }
    }
}

/// The sizes with more room where `short` says that there is too little, or `None` if it cannot be had.
fn enlarged(capacity: Capacity, needs: &Capacity, short: &PlanError) -> Option<Capacity> {
    let more = |has: u32, needs: u32, most: u32| {
        let size = has.saturating_mul(2).max(needs).min(most);
        (size > has).then_some(size)
    };
    let Capacity { vips, targets, ring_blocks, groups, servers, prefixes, tunnel_sources, own } = capacity;
    Some(match short {
        PlanError::TooManyBackends { .. } => return None,
        PlanError::TooManyVips { .. } => Capacity { vips: more(vips, needs.vips, u32::MAX)?, ..capacity },
        PlanError::TooManyTargets { .. } => {
            // Number 0 is never used, and doubling it too would make each size odd.
            let targets = more(targets.saturating_sub(1), needs.targets.saturating_sub(1), MAX_TARGETS - 1)? + 1;
            Capacity { targets, ..capacity }
        }
        PlanError::RingSpace { .. } | PlanError::HistorySpace { .. } => {
            Capacity { ring_blocks: more(ring_blocks, needs.ring_blocks, u32::MAX)?, ..capacity }
        }
        PlanError::TooManyGroups { .. } => Capacity { groups: more(groups, needs.groups, u32::MAX)?, ..capacity },
        PlanError::TooManyServers { .. } => Capacity { servers: more(servers, needs.servers, u32::MAX)?, ..capacity },
        PlanError::TooManyPrefixes { table, .. } if *table == maps::TUNNEL_SOURCES => {
            Capacity { tunnel_sources: more(tunnel_sources, needs.tunnel_sources, u32::MAX)?, ..capacity }
        }
        PlanError::TooManyPrefixes { .. } => {
            Capacity { prefixes: more(prefixes, needs.prefixes, u32::MAX)?, ..capacity }
        }
        PlanError::TooManyTunnels { .. } => Capacity { own: more(own, needs.own, u32::MAX)?, ..capacity },
    })
}

/// Bytes that the new tables take on a machine with so many CPUs, by table, when they get these sizes; tables that stay
/// are absent. Those that take memory only as they fill count 0. The old ones' memory is free again once packets go by
/// the new ones. `to` is as [`enough`] gives it: but for the flow table, no table becomes smaller.
pub fn growth(from: &Room, to: &Room, cpus: u32) -> BTreeMap<&'static str, u64> {
    let (old, new) = (&from.capacity, &to.capacity);
    let targets = u64::from(cpus) * bytes::<TargetCounters>();
    let hash = |key: u64, value: u64| HASH_ELEMENT + key + value + HASH_BUCKET;
    let tables = [
        (maps::VIPS, vips::cells(old.vips), vips::cells(new.vips), bytes::<Record>()),
        (maps::PREFIX_VIPS, old.vips, new.vips, 0),
        (maps::VIP_LIMITS, old.vips, new.vips, bytes::<u64>()),
        (maps::TARGETS, old.targets, new.targets, bytes::<Target>()),
        (maps::TARGET_COUNTERS, old.targets, new.targets, targets),
        (maps::TRAFFIC, values(old.targets, cpus), values(new.targets, cpus), bytes::<Traffic>()),
        (maps::RINGS, old.ring_blocks, new.ring_blocks, bytes::<RingBlock>()),
        (maps::GROUPS, old.groups, new.groups, bytes::<Group>()),
        (maps::SERVER_IDS, old.servers, new.servers, HASH_BUCKET),
        (maps::ACL, old.prefixes, new.prefixes, 0),
        (maps::SOURCE_ROUTES, old.prefixes, new.prefixes, 0),
        (maps::TUNNEL_SOURCES, old.tunnel_sources, new.tunnel_sources, 0),
        (maps::TUNNEL_ADDRESSES, old.own, new.own, hash(16, bytes::<u64>())),
        (maps::BONDS, old.own, new.own, hash(bytes::<u64>(), bytes::<u64>())),
        (maps::FLOWS, from.flow_entries, to.flow_entries, bytes::<FlowEntry>()),
    ];
    let changed = tables.into_iter().filter(|(_, old, new, _)| old != new);
    changed.map(|(name, _, entries, each)| (name, u64::from(entries) * each)).collect()
}

/// What the kernel takes for an element of a hash table besides key and value, and for its place in the table: there are
/// as many places as the next power of two of the elements.
const HASH_ELEMENT: u64 = 48;
const HASH_BUCKET: u64 = 16;

/// Size of a key or value, which the kernel rounds up to 8 bytes.
const fn bytes<T>() -> u64 {
    size_of::<T>().next_multiple_of(8) as u64
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use lb_common::layout::vip::{TCP, VipKey, mapped};

    use super::*;
    use crate::{
        model::Encap,
        plan::wanted::{Disposition, WantedTarget, WantedVip},
    };

    const SMALL: Capacity =
        Capacity { vips: 4, targets: 9, ring_blocks: 4, groups: 2, servers: 2, prefixes: 4, tunnel_sources: 2, own: 2 };

    const LOCAL: WantedTarget =
        WantedTarget { weight: 1, disposition: Disposition::Down, next_hop: None, encap: Encap::Ipip, local: true };

    fn wanted(vips: u8, backends: u16) -> Wanted {
        let backends = (0..backends).map(|number| {
            let [high, low] = number.to_be_bytes();
            (IpAddr::from(Ipv4Addr::new(10, 0, high, low)), LOCAL)
        });
        let vip = WantedVip { ring_size: 31, backends: backends.collect(), ..WantedVip::default() };
        let key = |number| VipKey::service(mapped([192, 0, 2, number]), [0, 80], TCP);
        Wanted { vips: (0..vips).map(|number| (key(number), vip.clone())).collect(), ..Wanted::default() }
    }

    fn room(capacity: Capacity, wanted: &Wanted) -> Result<Capacity, PlanError> {
        enough(&State { capacity, ..State::default() }, wanted, &mut RingCache::default())
    }

    #[test]
    fn what_fits_asks_for_no_more() {
        assert_eq!(room(SMALL, &wanted(2, 2)), Ok(SMALL));
    }

    #[test]
    fn only_what_is_too_small_grows_to_twice_or_to_what_new_tables_would_have() {
        let needs = diff::needs(&wanted(3, 2));
        assert_eq!(room(SMALL, &wanted(3, 2)), Ok(Capacity { vips: needs.vips, ..SMALL }));
        let grown = room(SMALL, &wanted(3, 3)).unwrap();
        assert_eq!(grown, Capacity { vips: needs.vips, targets: needs.targets, ..SMALL });
        let large = Capacity { targets: 100_001, ..grown };
        let crowded = room(large, &wanted(4, 30_000)).unwrap();
        let needed = diff::needs(&wanted(4, 30_000)).targets;
        assert!(needed > 200_001);
        assert_eq!(crowded, Capacity { targets: needed, ..large });
    }

    #[test]
    fn what_larger_tables_do_not_mend_is_refused() {
        let crowded = wanted(1, u16::MAX);
        let mut more = crowded.clone();
        for vip in more.vips.values_mut() {
            vip.backends.insert(Ipv4Addr::new(10, 1, 0, 0).into(), LOCAL);
            vip.backends.insert(Ipv4Addr::new(10, 1, 0, 1).into(), LOCAL);
        }
        assert!(matches!(room(SMALL, &more), Err(PlanError::TooManyBackends { .. })));
        // 17 times 65,535 places are more than an entry of the flow table can name.
        assert!(matches!(room(SMALL, &wanted(17, u16::MAX)), Err(PlanError::TooManyTargets { .. })));
    }

    #[test]
    fn memory_is_told_for_what_grows_alone() {
        let from = Room { capacity: SMALL, flow_entries: 4096 };
        assert_eq!(growth(&from, &from, 8), BTreeMap::new());
        let to = Room { capacity: Capacity { targets: 4097, ..SMALL }, flow_entries: 8192 };
        let expected = [
            (maps::FLOWS, 65_536),
            (maps::TARGETS, 4097 * 64),
            (maps::TARGET_COUNTERS, 4097 * 72 * 8),
            (maps::TRAFFIC, 4100 * 16 * 9),
        ];
        assert_eq!(growth(&from, &to, 8), expected.into());
        let lists = Room { capacity: Capacity { prefixes: 1 << 23, ..SMALL }, ..from };
        assert_eq!(growth(&from, &lists, 8), [(maps::ACL, 0), (maps::SOURCE_ROUTES, 0)].into());
    }
}
