//! Numbers for VIPs and targets. Whatever has one keeps it: flows and counters go by numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_common::layout::{
    ring::UNTRACKED,
    target::Target,
    vip::{Vip, VipKey},
};

use super::{
    State,
    draft::target_range,
    error::PlanError,
    pack::pack,
    space::Space,
    target::{address_bytes, address_of},
    wanted::{Wanted, WantedVip, service},
};

/// Places of the smallest range.
const SMALLEST_RANGE: u32 = 8;
/// Places of the largest range: a ring's slots are `u16`, of which one number stands for no place.
const LARGEST_RANGE: u32 = UNTRACKED as u32;

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
    /// Number of each wanted group.
    pub(super) groups: Vec<u32>,
    /// Whether packets reach the VIP already.
    pub(super) is_in_force: bool,
}

impl Placed<'_> {
    /// Whether the VIP gets another range of targets than the one in force.
    pub(super) fn moves(&self) -> bool {
        self.range_before.0 != self.base
    }

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

/// Numbers for all that is wanted, in the free space of `state`; no new VIP gets one of `leaving`.
///
/// # Errors
/// When targets or groups don't suffice.
pub(super) fn place<'a>(
    state: &State,
    leaving: &BTreeSet<u32>,
    wanted: &'a Wanted,
) -> Result<Vec<Placed<'a>>, PlanError> {
    let mut numbers = Numbers::new(state, leaving);
    let outlines = wanted.vips.iter().map(|(key, vip)| numbers.outline(state, *key, vip));
    let outlines: Vec<Outline<'a>> = outlines.collect::<Result<_, _>>()?;
    let packed = numbers.targets.clone();
    let ranges = match numbers.first_fit(state, &outlines) {
        // The head-room of one VIP, or a choice of the wrong hole, may have left too little for another.
        Err(refusal) => tightest_fit(&packed, &outlines).ok_or(refusal)?,
        Ok(ranges) => ranges,
    };
    let placed = |(outline, (base, count)): (Outline<'a>, (u32, u32))| {
        let Outline { key, wanted, id, places, before, groups, .. } = outline;
        let (range_before, is_in_force) = (before.unwrap_or((base, count)), before.is_some());
        Placed { key, wanted, id, base, count, places, range_before, groups, is_in_force }
    };
    Ok(outlines.into_iter().zip(ranges).map(placed).collect())
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

/// What a VIP gets, but for a range that has to be found for it.
struct Outline<'a> {
    key: VipKey,
    wanted: &'a WantedVip,
    id: u32,
    places: BTreeMap<IpAddr, u16>,
    /// The range in force, if it has one.
    before: Option<(u32, u32)>,
    range: Range,
    groups: Vec<u32>,
}

/// Where a VIP's targets go.
enum Range {
    /// Where they are: first target and places.
    InForce(u32, u32),
    New(NewRange),
}

/// Places that a new range should have.
struct NewRange {
    /// At least.
    tight: u32,
    /// With head-room.
    roomy: u32,
}

impl NewRange {
    /// A range for so many backends, with at least `least` places.
    fn new(key: &VipKey, backends: u32, least: u32) -> Result<Self, PlanError> {
        if backends > LARGEST_RANGE {
            return Err(PlanError::TooManyBackends { service: name(key), backends, limit: LARGEST_RANGE });
        }
        Ok(Self { tight: backends.max(least).max(1), roomy: range_size(backends).max(least) })
    }
}

/// What is free.
struct Numbers {
    targets: Space,
    groups: Space,
    vips_in_use: BTreeSet<u32>,
    /// All numbers of VIPs below are in use.
    next_id: u32,
}

impl Numbers {
    fn new(state: &State, leaving: &BTreeSet<u32>) -> Self {
        let mut targets = Space::new(1..state.capacity.targets.max(1));
        for vip in state.vips.values() {
            targets.reserve(target_range(vip));
        }
        for &id in state.targets.keys() {
            targets.reserve(id..id + 1);
        }
        let mut groups = Space::new(1..state.capacity.groups.max(1));
        for &id in state.groups.keys() {
            groups.reserve(id..id + 1);
        }
        // What is left of VIPs that are gone keeps their numbers in use.
        let of_targets = state.targets.values().map(|target| target.vip);
        let left = of_targets.chain(state.groups.values().map(|group| group.vip)).chain(leaving.iter().copied());
        let vips_in_use = state.vips.values().map(|vip| vip.id).chain(left);
        Self { targets, groups, vips_in_use: vips_in_use.collect(), next_id: 1 }
    }

    /// What a VIP gets: its number, its backends' places, and whether it needs a new range.
    fn outline<'a>(&mut self, state: &State, key: VipKey, wanted: &'a WantedVip) -> Result<Outline<'a>, PlanError> {
        let backends = u32::try_from(wanted.backends.len()).unwrap_or(u32::MAX);
        let Some(vip) = state.vips.get(&key) else {
            let places = fill(&wanted.backends, BTreeMap::new(), &BTreeSet::new());
            let range = Range::New(NewRange::new(&key, backends, 0)?);
            let id = self.take_id();
            let groups = self.groups(state, key, id, wanted)?;
            return Ok(Outline { key, wanted, id, places, before: None, range, groups });
        };
        let groups = self.groups(state, key, vip.id, wanted)?;
        let mut kept = places(state, vip);
        kept.retain(|address, _| wanted.backends.contains_key(address));
        let taken = state.targets.range(target_range(vip)).map(|(id, _)| id - vip.target_base).collect();
        let places = fill(&wanted.backends, kept.clone(), &taken);
        let before = Some((vip.target_base, vip.target_count));
        let fits =
            places.len() == wanted.backends.len() && places.values().all(|&place| u32::from(place) < vip.target_count);
        if fits {
            let range = Range::InForce(vip.target_base, vip.target_count);
            return Ok(Outline { key, wanted, id: vip.id, places, before, range, groups });
        }
        // In a new range the places of backends that leave are free at once.
        let places = fill(&wanted.backends, kept, &BTreeSet::new());
        let least = places.values().max().map_or(0, |&place| u32::from(place) + 1);
        let range = Range::New(NewRange::new(&key, backends, least)?);
        Ok(Outline { key, wanted, id: vip.id, places, before, range, groups })
    }

    /// The numbers of a VIP's groups.
    fn groups(&mut self, state: &State, key: VipKey, id: u32, wanted: &WantedVip) -> Result<Vec<u32>, PlanError> {
        if wanted.groups.is_empty() {
            return Ok(Vec::new());
        }
        let own = state.groups.iter().filter(|(_, group)| group.vip == id);
        let known: BTreeMap<u64, u32> = own.map(|(number, group)| (group.identity, *number)).collect();
        let (free, _) = self.groups.free();
        let numbers = wanted.groups.iter().map(|group| match known.get(&group.identity) {
            Some(number) => Some(*number),
            None => self.groups.take(1),
        });
        numbers.collect::<Option<Vec<u32>>>().ok_or_else(|| {
            let new = wanted.groups.iter().filter(|group| !known.contains_key(&group.identity)).count();
            let (needed, places) = (u32::try_from(new).unwrap_or(u32::MAX), state.capacity.groups.saturating_sub(1));
            PlanError::TooManyGroups { service: name(&key), needed, free, places }
        })
    }

    /// The range of each VIP, new ones the lowest that are free: with head-room if there is room for it.
    fn first_fit(&mut self, state: &State, outlines: &[Outline]) -> Result<Vec<(u32, u32)>, PlanError> {
        let mut take = |outline: &Outline| {
            let range = match &outline.range {
                Range::InForce(base, count) => return Ok((*base, *count)),
                Range::New(range) => range,
            };
            let mut fits = [range.roomy, range.tight].into_iter();
            fits.find_map(|count| Some((self.targets.take(count)?, count))).ok_or_else(|| {
                let (free, longest) = self.targets.free();
                let service = name(&outline.key);
                let places = state.capacity.targets.saturating_sub(1);
                PlanError::TooManyTargets { service, needed: range.tight, longest, free, places }
            })
        };
        outlines.iter().map(&mut take).collect()
    }

    /// The lowest number that no VIP and no target bears.
    fn take_id(&mut self) -> u32 {
        while !self.vips_in_use.insert(self.next_id) {
            self.next_id += 1;
        }
        self.next_id
    }
}

/// The range of each VIP, new ones without head-room; `None` if they cannot be fitted into `free` even so.
fn tightest_fit(free: &Space, outlines: &[Outline]) -> Option<Vec<(u32, u32)>> {
    let tight = |outline: &Outline| match &outline.range {
        Range::InForce(..) => None,
        Range::New(range) => Some(range.tight),
    };
    let counts: Vec<u32> = outlines.iter().filter_map(tight).collect();
    let mut bases = pack(free.runs(), &counts)?.into_iter();
    let range = |outline: &Outline| match &outline.range {
        Range::InForce(base, count) => Some((*base, *count)),
        Range::New(range) => Some((bases.next()?, range.tight)),
    };
    outlines.iter().map(range).collect()
}

fn name(key: &VipKey) -> String {
    service(key).map(|service| service.to_string()).unwrap_or_default()
}

/// Gives each backend without a place the lowest one that is neither in `taken` nor another's. Backends for which no
/// place is left below [`LARGEST_RANGE`] get none.
fn fill<T>(
    backends: &BTreeMap<IpAddr, T>,
    mut places: BTreeMap<IpAddr, u16>,
    taken: &BTreeSet<u32>,
) -> BTreeMap<IpAddr, u16> {
    let others: BTreeSet<u16> = places.values().copied().collect();
    let mut free = (0..UNTRACKED).filter(|place| !others.contains(place) && !taken.contains(&u32::from(*place)));
    for address in backends.keys() {
        if !places.contains_key(address)
            && let Some(place) = free.next()
        {
            places.insert(*address, place);
        }
    }
    places
}
