//! What a plan would change, told before anything is written: by VIPs, backends, slots and flows.
//!
//! Everything is read off the plan's own ops, so that what is said is what would be done. Pure; the old rings are read by a
//! function of the caller's, as a default one is 131 KiB.

mod after;
mod backends;
mod report;
mod rings;
mod settings;
mod vips;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_common::layout::vip::VipKey;

pub use self::{
    after::ReadRing,
    report::{
        Against, BackendChange, Change, Moved, Outline, PoolChange, Preview, Restart, RouteChange, Setting,
        TableGrowth, VipChange,
    },
};
use self::{after::Tables, vips::Vips};
use super::{Op, State, lists::Lists, wanted::key};
use crate::model::{Backend, Config, Vip};

/// What a preview is made of.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// What the tables hold.
    pub state: &'a State,
    /// The plan.
    pub ops: &'a [Op],
    /// Reads a ring in force.
    pub ring: ReadRing<'a>,
    /// Live flows by target number.
    pub flows: &'a BTreeMap<u32, u64>,
    /// The configuration in force, if it is known.
    pub old: Option<Side<'a>>,
    /// The configuration that is asked for.
    pub new: Side<'a>,
}

/// A configuration and its lists.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Its lists.
    pub lists: &'a Lists,
}

impl<'a> Side<'a> {
    /// Its VIPs, by key.
    fn vips(self) -> BTreeMap<VipKey, &'a Vip> {
        self.config.vips.iter().map(|vip| (key(&vip.service), vip)).collect()
    }

    /// The backends of a VIP with the names of their pools; one of several pools is the first one's.
    fn members(self, vip: &Vip) -> Vec<(&'a str, &'a Backend)> {
        let mut seen = BTreeSet::new();
        let pools = self.lists.pools(self.config, vip).into_iter();
        let backends = pools.flat_map(|pool| pool.backends.iter().map(|backend| (pool.name.as_str(), backend)));
        backends.filter(|(_, backend)| seen.insert(backend.address.to_canonical())).collect()
    }
}

/// What the plan would change. What the plan does not know of is left empty: features, tables that grow, what needs a
/// restart, assumptions.
pub fn preview(input: &Input) -> Preview {
    let before = Tables::before(input.state, input.ring);
    let after = Tables::after(input.state, input.ring, input.ops);
    let flows = flows(input, &before, &after);
    let vips = Vips { before: &before, after: &after, flows: &flows, old: input.old, new: input.new }.changes();
    let count = |change: Change| vips.iter().filter(|vip| vip.change == change).count();
    let (pools, settings) = match input.old {
        Some(old) => (settings::of_pools(old.config, input.new.config), settings::of_all(old.config, input.new.config)),
        None => Default::default(),
    };
    let moved_slots = vips.iter().map(|vip| vip.slots.moved).sum();
    let all_flows = flows.values().flat_map(BTreeMap::values).fold(Moved::default(), |sum, one| sum.and(*one));
    Preview {
        differs: !(input.ops.is_empty() && vips.is_empty() && pools.is_empty() && settings.is_empty()),
        against: if input.old.is_some() { Against::Daemon } else { Against::Tables },
        vips_added: count(Change::Added),
        vips_removed: count(Change::Removed),
        vips_changed: count(Change::Changed),
        writes: input.ops.len(),
        slots: Moved::new(moved_slots, slots(input.state)),
        flows: all_flows,
        vips,
        pools,
        settings,
        ..Preview::default()
    }
}

/// Whether a flow may lose its backend by the plan. If not, there is no need to count any.
pub fn moves_flows(input: &Input) -> bool {
    let after = Tables::after(input.state, input.ring, input.ops);
    let mut serving = input.state.targets.iter().filter(|(_, target)| target.serves != 0);
    forgets_all(input) || serving.any(|(id, _)| !after.keeps_flows(*id))
}

/// A flow is found by its hash: by another seed none is.
fn forgets_all(input: &Input) -> bool {
    input.old.is_some_and(|old| old.config.dataplane.hash_seed != input.new.config.dataplane.hash_seed)
}

/// Whether pools come, go, or are checked otherwise.
pub fn pools_differ(old: &Config, new: &Config) -> bool {
    !settings::of_pools(old, new).is_empty()
}

/// Slots of all rings that new flows go by.
pub fn slots(state: &State) -> u64 {
    let of_vips = state.vips.values().map(|vip| u64::from(vip.open_slots()));
    of_vips.chain(state.groups.values().map(|group| u64::from(group.ring_slots))).sum()
}

/// Live flows by number of the VIP and by backend, and those that lose it.
fn flows(input: &Input, before: &Tables, after: &Tables) -> BTreeMap<u32, BTreeMap<IpAddr, Moved>> {
    let mut counted: BTreeMap<u32, BTreeMap<IpAddr, Moved>> = BTreeMap::new();
    let forgets_all = forgets_all(input);
    for (&id, &flows) in input.flows {
        let Some(target) = before.state.targets.get(&id) else { continue };
        // Those of a backend that is down have none to lose.
        let loses = target.serves != 0 && (forgets_all || !after.keeps_flows(id));
        let backend = super::target::address_of(target.outer_destination);
        let sum = counted.entry(target.vip).or_default().entry(backend).or_default();
        *sum = sum.and(Moved::new(if loses { flows } else { 0 }, flows));
    }
    counted
}
