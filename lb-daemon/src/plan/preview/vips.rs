//! VIP by VIP: what changes, and for which backends.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use lb_common::layout::{
    prefix::Group,
    vip::{Vip as Value, VipKey},
};

use super::{
    Side,
    after::Tables,
    backends::{Compared, compared},
    report::{Change, Moved, RouteChange, Setting, VipChange},
    rings::{moved, shares},
    settings,
};
use crate::{
    model::{RouteTo, Vip},
    plan::wanted::service,
};

/// Both moments, and what is known of them.
pub(super) struct Vips<'a> {
    pub(super) before: &'a Tables<'a>,
    pub(super) after: &'a Tables<'a>,
    /// Live flows by number of the VIP and by backend.
    pub(super) flows: &'a BTreeMap<u32, BTreeMap<IpAddr, Moved>>,
    pub(super) old: Option<Side<'a>>,
    pub(super) new: Side<'a>,
}

/// A VIP at both moments.
struct Pair<'a> {
    key: VipKey,
    /// Its values in the tables.
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    /// What the configurations say of it.
    old: Option<(Side<'a>, &'a Vip)>,
    new: Option<(Side<'a>, &'a Vip)>,
}

impl Vips<'_> {
    /// The VIPs that come, go or change, by name.
    pub(super) fn changes(&self) -> Vec<VipChange> {
        let (old, new) = (self.old.map(Side::vips).unwrap_or_default(), self.new.vips());
        let (before, after) = (&self.before.state.vips, &self.after.state.vips);
        let keys: BTreeSet<&VipKey> = before.keys().chain(after.keys()).filter(|key| !key.is_address()).collect();
        let pair = |key: &VipKey| Pair {
            key: *key,
            before: before.get(key),
            after: after.get(key),
            old: self.old.zip(old.get(key).copied()),
            new: new.get(key).map(|vip| (self.new, *vip)),
        };
        let mut changes: Vec<VipChange> = keys.into_iter().filter_map(|key| self.change(&pair(key))).collect();
        changes.sort_by(|a, b| (&a.name, &a.service).cmp(&(&b.name, &b.service)));
        changes
    }

    /// What becomes of a VIP; `None` if it stays as it is.
    fn change(&self, pair: &Pair) -> Option<VipChange> {
        let (settings, routes, backends) = (pair.settings(), self.routes(pair), self.backends(pair));
        let flows = backends.iter().fold(Moved::default(), |sum, one| sum.and(one.change.flows));
        let is_same = settings.is_empty()
            && routes.is_empty()
            && flows.moved == 0
            && backends.iter().all(|one| one.change.change == Change::Unchanged);
        let change = match (pair.before, pair.after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ if is_same && !self.may_move(pair) => return None,
            _ => Change::Changed,
        };
        let ring = |tables: &Tables, vip: Option<&Value>| vip.map(|vip| tables.ring(vip)).unwrap_or_default();
        let (before, after) = (ring(self.before, pair.before), ring(self.after, pair.after));
        let own = moved(&before, &after);
        if change == Change::Changed && is_same && before == after {
            // The ring lies elsewhere, or its places are numbered anew.
            return None;
        }
        let shares = [shares(&before), shares(&after)];
        let slots = routes.iter().fold(own, |sum, route| sum.and(route.slots));
        let backends = backends.into_iter().map(|one| one.shared(&shares)).collect();
        let (name, service) = (pair.name(), pair.service());
        Some(VipChange { name, service, change, settings, slots, flows, backends, routes })
    }

    /// Whether the ring may lead elsewhere: rings in force are long to read.
    fn may_move(&self, pair: &Pair) -> bool {
        let (Some(before), Some(after)) = (pair.before, pair.after) else { return true };
        let place = |vip: &Value| (vip.ring_base, vip.open_slots(), vip.target_base);
        place(before) != place(after) || self.after.wrote(after.ring_base)
    }

    /// The backends of a VIP of before and after, by pool and name.
    fn backends(&self, pair: &Pair) -> Vec<Compared> {
        let found = |tables: &Tables, vip: Option<&Value>| vip.map(|vip| tables.backends(vip)).unwrap_or_default();
        let states = [found(self.before, pair.before), found(self.after, pair.after)];
        let none = BTreeMap::new();
        let flows = pair.before.and_then(|vip| self.flows.get(&vip.id)).unwrap_or(&none);
        let configured = [pair.old, pair.new].map(|side| side.map(|(side, vip)| side.members(vip)).unwrap_or_default());
        compared(configured, &states, flows)
    }

    /// The groups of a VIP whose rings come, go or lead elsewhere.
    fn routes(&self, pair: &Pair) -> Vec<RouteChange> {
        let groups = |tables: &Tables, vip: Option<&Value>| -> BTreeMap<u64, Group> {
            let own = tables.state.groups.values().filter(|group| vip.is_some_and(|vip| vip.id == group.vip));
            own.map(|group| (group.identity, *group)).collect()
        };
        let (old, new) = (groups(self.before, pair.before), groups(self.after, pair.after));
        let identities: BTreeSet<u64> = old.keys().chain(new.keys()).copied().collect();
        if identities.is_empty() {
            return Vec::new();
        }
        let leads = |tables: &Tables, vip: Option<&Value>| vip.map(|vip| tables.leads(vip));
        let same_leads = leads(self.before, pair.before) == leads(self.after, pair.after);
        // Each ring is as long as the VIP's own, and of most plans all stay as they are.
        let stays = |from: &Group, to: &Group| {
            let place = |group: &Group| (group.ring_base, group.ring_slots);
            same_leads && place(from) == place(to) && !self.after.wrote(to.ring_base)
        };
        let slots = |tables: &Tables, vip: Option<&Value>, group: Option<&Group>| {
            vip.zip(group).map(|(vip, group)| tables.group_ring(vip, group)).unwrap_or_default()
        };
        let route = |identity: u64| {
            let (from, to) = (old.get(&identity), new.get(&identity));
            if from.zip(to).is_some_and(|(from, to)| stays(from, to)) {
                return None;
            }
            let (change, then) = match (from, to) {
                (None, _) => (Change::Added, slots(self.after, pair.after, to)),
                // Its sources go by the VIP's own ring then.
                (_, None) => (Change::Removed, pair.after.map(|vip| self.after.ring(vip)).unwrap_or_default()),
                _ => (Change::Changed, slots(self.after, pair.after, to)),
            };
            let slots = moved(&slots(self.before, pair.before, from), &then);
            let is_same = change == Change::Changed && slots.moved == 0;
            (!is_same).then(|| RouteChange { to: pair.leads_to(identity), change, slots })
        };
        identities.into_iter().filter_map(route).collect()
    }
}

impl Pair<'_> {
    fn name(&self) -> String {
        let known = self.new.or(self.old).map(|(_, vip)| vip.name.clone());
        known.unwrap_or_else(|| self.service())
    }

    fn service(&self) -> String {
        service(&self.key).map(|service| service.to_string()).unwrap_or_default()
    }

    /// What is set otherwise.
    fn settings(&self) -> Vec<Setting> {
        match (self.old, self.new, self.before, self.after) {
            (Some((_, old)), Some((_, new)), ..) => settings::of_vip(old, new),
            (_, _, Some(before), Some(after)) => settings::of_value(before, after),
            _ => Vec::new(),
        }
    }

    /// Where the group of this identity leads, as the file would say it.
    fn leads_to(&self, identity: u64) -> String {
        let groups = |(side, _): (Side, &Vip)| side.lists.vips.get(&self.key).map(|lists| lists.groups.clone());
        let mut all = [self.new, self.old].into_iter().flatten().filter_map(groups).flatten();
        let found = all.find(|(known, _)| *known == identity);
        match found {
            Some((_, RouteTo::Pool(name))) => format!("pool {name}"),
            Some((_, RouteTo::Backend(name))) => format!("backend {name}"),
            None => format!("group {identity:016x}"),
        }
    }
}
