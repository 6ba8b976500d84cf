//! Numbers for VIPs and targets. Whatever has one keeps it: flows and counters go by numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_common::layout::{
    target::Target,
    vip::{Vip, VipKey},
};

use super::{
    State,
    diff::PlanError,
    draft::target_range,
    space::Space,
    target::{address_bytes, address_of},
    wanted::{Wanted, WantedVip, service},
};

/// Places of the smallest range.
const SMALLEST_RANGE: u32 = 8;
/// Places of the largest range: a ring's slots are `u16`.
const LARGEST_RANGE: u32 = 1 << u16::BITS;

/// Places of a new range for that many backends: half as many more may be added before the VIP has to move.
pub(super) fn range_size(backends: u32) -> u32 {
    let with_head_room = backends.saturating_add(backends / 2).max(SMALLEST_RANGE);
    with_head_room.checked_next_power_of_two().unwrap_or(LARGEST_RANGE).min(LARGEST_RANGE)
}

/// A wanted VIP and its numbers.
pub(super) struct Placed<'a> {
    pub(super) key: VipKey,
    pub(super) wanted: &'a WantedVip,
    /// Number of the VIP.
    pub(super) id: u32,
    /// First target of its range.
    pub(super) base: u32,
    /// Places of its range.
    pub(super) count: u32,
    /// Place of each wanted backend.
    pub(super) places: BTreeMap<IpAddr, u16>,
    /// First target and places of the range in force: another one if the VIP moves. Kept places stay the same.
    pub(super) range_before: (u32, u32),
}

impl Placed<'_> {
    /// The target of a backend at `place`.
    pub(super) fn target(&self, place: u16) -> u32 {
        self.base + u32::from(place)
    }

    /// The target in force of a backend at `place`, if it has one.
    pub(super) fn target_before<'s>(&self, state: &'s State, backend: IpAddr, place: u16) -> Option<&'s Target> {
        let target = state.targets.get(&(self.range_before.0 + u32::from(place)));
        target.filter(|target| target.outer_destination == address_bytes(backend))
    }
}

/// Numbers for all that is wanted, in the free space of `state`.
///
/// # Errors
/// When targets don't suffice.
pub(super) fn place<'a>(state: &State, wanted: &'a Wanted) -> Result<Vec<Placed<'a>>, PlanError> {
    let mut numbers = Numbers::new(state);
    wanted.vips.iter().map(|(key, vip)| numbers.place(state, *key, vip)).collect()
}

/// Which place each backend of a VIP has in its range. One that was on its way out, when a plan was cut short, still has
/// its place: should it be wanted again, its flows are still there.
pub(super) fn places(state: &State, vip: &Vip) -> BTreeMap<IpAddr, u16> {
    let own = state.targets.range(target_range(vip)).filter(|(_, target)| target.vip == vip.id);
    own.filter_map(|(id, target)| {
        let place = u16::try_from(id - vip.target_base).ok()?;
        Some((address_of(target.outer_destination), place))
    })
    .collect()
}

/// What is free.
struct Numbers {
    targets: Space,
    vips_in_use: BTreeSet<u32>,
    /// All numbers of VIPs below are in use.
    next_id: u32,
}

impl Numbers {
    fn new(state: &State) -> Self {
        let mut targets = Space::new(1..state.capacity.targets.max(1));
        for vip in state.vips.values() {
            targets.reserve(target_range(vip));
        }
        for &id in state.targets.keys() {
            targets.reserve(id..id + 1);
        }
        let of_targets = state.targets.values().map(|target| target.vip);
        let vips_in_use = state.vips.values().map(|vip| vip.id).chain(of_targets).collect();
        Self { targets, vips_in_use, next_id: 1 }
    }

    fn place<'a>(&mut self, state: &State, key: VipKey, wanted: &'a WantedVip) -> Result<Placed<'a>, PlanError> {
        let Some(vip) = state.vips.get(&key) else {
            let places = fill(&wanted.backends, BTreeMap::new(), &BTreeSet::new());
            let (base, count) = self.take_range(state, &key, wanted, 0)?;
            return Ok(Placed { key, wanted, id: self.take_id(), base, count, places, range_before: (base, count) });
        };
        let mut kept = places(state, vip);
        kept.retain(|address, _| wanted.backends.contains_key(address));
        let taken = state.targets.range(target_range(vip)).map(|(id, _)| id - vip.target_base).collect();
        let places = fill(&wanted.backends, kept.clone(), &taken);
        let stays = Placed {
            key,
            wanted,
            id: vip.id,
            base: vip.target_base,
            count: vip.target_count,
            places,
            range_before: (vip.target_base, vip.target_count),
        };
        let fits = stays.places.len() == wanted.backends.len()
            && stays.places.values().all(|&place| u32::from(place) < vip.target_count);
        if fits {
            return Ok(stays);
        }
        // In a new range the places of backends that leave are free at once.
        let places = fill(&wanted.backends, kept, &BTreeSet::new());
        let least = places.values().max().map_or(0, |&place| u32::from(place) + 1);
        let (base, count) = self.take_range(state, &key, wanted, least)?;
        Ok(Placed { base, count, places, ..stays })
    }

    /// A free range with places for `wanted` and at least `least` places; without head-room if there is no room for it.
    fn take_range(
        &mut self,
        state: &State,
        key: &VipKey,
        wanted: &WantedVip,
        least: u32,
    ) -> Result<(u32, u32), PlanError> {
        let service = || service(key).map(|service| service.to_string()).unwrap_or_default();
        let backends = u32::try_from(wanted.backends.len()).unwrap_or(u32::MAX);
        if backends > LARGEST_RANGE {
            return Err(PlanError::TooManyBackends { service: service(), backends, limit: LARGEST_RANGE });
        }
        let (tight, roomy) = (backends.max(least).max(1), range_size(backends).max(least));
        for count in [roomy, tight] {
            if let Some(base) = self.targets.take(count) {
                return Ok((base, count));
            }
        }
        let (free, longest) = self.targets.free();
        Err(PlanError::TooManyTargets {
            service: service(),
            needed: tight,
            longest,
            free,
            places: state.capacity.targets.saturating_sub(1),
        })
    }

    /// The lowest number that no VIP and no target bears.
    fn take_id(&mut self) -> u32 {
        while !self.vips_in_use.insert(self.next_id) {
            self.next_id += 1;
        }
        self.next_id
    }
}

/// Gives each backend without a place the lowest one that is neither in `taken` nor another's. Backends for which no
/// place is left below [`LARGEST_RANGE`] get none.
fn fill<T>(
    backends: &BTreeMap<IpAddr, T>,
    mut places: BTreeMap<IpAddr, u16>,
    taken: &BTreeSet<u32>,
) -> BTreeMap<IpAddr, u16> {
    let others: BTreeSet<u16> = places.values().copied().collect();
    let mut free = (0..=u16::MAX).filter(|place| !others.contains(place) && !taken.contains(&u32::from(*place)));
    for address in backends.keys() {
        if !places.contains_key(address)
            && let Some(place) = free.next()
        {
            places.insert(*address, place);
        }
    }
    places
}
