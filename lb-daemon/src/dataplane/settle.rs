//! Slots of adaptive VIPs that nobody needs tracked any more.

use std::collections::BTreeMap;

use lb_common::layout::{
    flow::FlowEntry,
    ring::UNTRACKED,
    vip::{Vip, VipKey},
};

use super::{Dataplane, Error};
use crate::plan::{
    Op,
    history::tracker::{Hold, Survey, Tracker},
};

/// VIPs that are looked at together: each takes a copy of its ring and its history meanwhile.
const TOGETHER: usize = 64;

/// Since when the slots of all VIPs are as they are. After a restart of the daemon that begins anew.
#[derive(Clone, Debug, Default)]
pub struct Trackers {
    of: BTreeMap<VipKey, Tracker>,
    /// The VIP that was looked at last.
    last: Option<VipKey>,
    /// When the last look was, in units, and the strays that were lost until then; before the first one since when there is
    /// something to look at.
    looked: Option<(u32, Option<u64>)>,
    /// How often all waiting began anew since strays were lost.
    begun_anew: u64,
}

/// Units (14 min) without a look after which nobody may have swept the flow table either.
const GAP: u32 = 200;

impl Trackers {
    /// How often all waiting began anew since the flow table had no room for a flow that it must remember.
    pub fn begun_anew(&self) -> u64 {
        self.begun_anew
    }

    /// A VIP is about to get this value. `now` is the program's clock, in units.
    pub fn set_vip(&mut self, tables: &dyn Dataplane, key: &VipKey, before: Option<&Vip>, vip: &Vip, now: u32) {
        // Packets that still go by the old value may write the next unit into their entries.
        let now = now.wrapping_add(1);
        if !vip.has_history() {
            self.of.remove(key);
            return;
        }
        match (self.of.get_mut(key), before) {
            (Some(_), Some(before)) if before.ring_base == vip.ring_base => {}
            (Some(tracker), Some(before)) => {
                tracker.changed(&tables.ring_in_force(before), &tables.ring_in_force(vip), now);
            }
            _ => drop(self.of.insert(*key, Tracker::new(now))),
        }
        self.looked.get_or_insert((now, None));
    }

    /// Untracks slots of some of the VIPs that have a history, of the next ones at the next call; tells how many.
    ///
    /// # Errors
    /// When the tables cannot be read or written.
    pub fn settle(
        &mut self,
        tables: &mut dyn Dataplane,
        vips: &BTreeMap<VipKey, Vip>,
        now: u32,
        hold: Hold,
    ) -> Result<usize, Error> {
        let has_history = |key: &VipKey| vips.get(key).is_some_and(Vip::has_history);
        self.of.retain(|key, _| has_history(key));
        for key in vips.keys().filter(|key| has_history(key)) {
            self.of.entry(*key).or_insert_with(|| Tracker::new(now));
        }
        if self.of.is_empty() {
            self.looked = None;
            return Ok(0);
        }
        let lost = tables.strays_lost()?;
        let before = self.looked.replace((now, Some(lost)));
        let has_lost = before.and_then(|(_, sum)| sum).is_some_and(|sum| sum != lost);
        self.begun_anew += u64::from(has_lost);
        if has_lost || before.is_some_and(|(then, _)| now.saturating_sub(then) > GAP) {
            for tracker in self.of.values_mut() {
                *tracker = Tracker::new(now);
            }
        }
        let after = |key: &VipKey| self.last.is_some_and(|last| *key > last);
        let mut keys: Vec<VipKey> = self.of.keys().filter(|key| after(key)).take(TOGETHER).copied().collect();
        if keys.is_empty() {
            keys = self.of.keys().take(TOGETHER).copied().collect();
        }
        self.last = keys.last().copied();
        let chosen = self.of.iter_mut().filter(|(key, _)| keys.binary_search(key).is_ok());
        let mut chosen: Vec<Tracked> = chosen.filter_map(|(key, tracker)| Some((*vips.get(key)?, tracker))).collect();
        settle(tables, &mut chosen, now, hold, lost)
    }
}

/// A VIP in force, and since when its slots are as they are.
type Tracked<'a> = (Vip, &'a mut Tracker);

/// Untracks those slots of these VIPs that waited for long enough, and all of whose flows are where the ring says. So many
/// strays were `lost` before.
fn settle(tables: &mut dyn Dataplane, vips: &mut [Tracked], now: u32, hold: Hold, lost: u64) -> Result<usize, Error> {
    let mut looks: Vec<Look> = Vec::new();
    for (at, (vip, tracker)) in vips.iter().enumerate() {
        let (ring, history) = (tables.ring_in_force(vip), tables.history(vip));
        let range = (vip.target_base, vip.target_count);
        if let Some(survey) = Survey::begin(tracker, range, ring, history, now, hold) {
            looks.push(Look { at, survey, found: Vec::new() });
        }
    }
    if looks.is_empty() {
        return Ok(0);
    }
    // By the ranges of targets, which do not overlap.
    looks.sort_by_key(|look| vips[look.at].0.target_base);
    tables.walk_flows(&mut |entry| meet(&mut looks, vips, entry));
    if tables.strays_lost()? != lost {
        // It may be of a slot that would be untracked now. The next look begins all waiting anew.
        return Ok(0);
    }
    for look in &mut looks {
        look.found = look.survey.found().collect();
        let untracked: Vec<(u32, u16)> = look.found.iter().map(|(slot, _)| (*slot, UNTRACKED)).collect();
        tables.write_slots(vips[look.at].0.history_base, &untracked)?;
    }
    // A packet that still read the history may remember its flow where that said. A stray that is lost from here on is no
    // reason to take all back: of the flows that began meanwhile nobody knows, and they are where the ring says.
    tables.apply(&Op::Grace)?;
    tables.walk_flows(&mut |entry| meet(&mut looks, vips, entry));
    let mut settled = 0;
    for look in looks {
        let (vip, tracker) = &mut vips[look.at];
        let again = look.survey.verified(&look.found, tracker);
        settled += look.found.len() - again.len();
        tables.write_slots(vip.history_base, &again)?;
    }
    Ok(settled)
}

struct Look {
    /// Which of the VIPs.
    at: usize,
    survey: Survey,
    found: Vec<(u32, u16)>,
}

/// Shows an entry to the VIP whose it is; `false` if it is to be emptied.
fn meet(looks: &mut [Look], vips: &[Tracked], entry: FlowEntry) -> bool {
    let behind = looks.partition_point(|look| vips[look.at].0.target_base <= entry.target());
    let Some(look) = behind.checked_sub(1).and_then(|at| looks.get_mut(at)) else { return true };
    look.survey.meet(entry, vips[look.at].1)
}
