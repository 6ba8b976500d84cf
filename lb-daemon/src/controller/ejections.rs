//! What traffic tells of backends: their counters are looked at, and who is ejected for it is told to the judge.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Controller, engine::Engine, member, of_vip, tell, view, work::chain};
use crate::{
    health::{
        Member,
        passive::{Counted, Event, Group, Groups, Observer},
    },
    model::{Config, FlowTracking, Protocol, Vip},
    plan::{
        State,
        wanted::{key, takes_new_flows},
    },
};

/// What is looked at, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Listener {
    groups: Groups,
    observer: Observer,
    /// Counters could not be read.
    failing: bool,
}

impl Listener {
    /// Whether there is nothing to look at.
    pub(super) fn is_idle(&self) -> bool {
        self.observer.is_idle()
    }
}

impl<E: Engine> Controller<E> {
    /// Looks from now on at what the configuration in force asks for.
    pub(super) fn listen(&mut self) {
        let groups = groups(&self.config);
        if groups != self.listener.groups {
            self.listener.observer.set(&groups);
            self.listener.groups = groups;
            self.tell_ejections();
        }
    }

    /// Looks at the counters once.
    pub(super) fn look_at_traffic(&mut self) {
        let targets = targets(&self.listener.groups, &self.state);
        let numbers: Vec<u32> = targets.iter().map(|(id, _)| *id).collect();
        let counted = match self.engine.counted(&numbers) {
            Ok(counted) => counted,
            Err(problem) => {
                // Said once, and not eight times a second.
                if !self.listener.failing {
                    warn!(
                        error = chain(&problem),
                        "counters cannot be read: no backend is ejected by what traffic tells"
                    );
                }
                self.listener.failing = true;
                return;
            }
        };
        self.listener.failing = false;
        let seen = |(id, member): &(u32, Member)| {
            let counters = counted.get(id)?;
            Some((*member, Counted { target: *id, syns: counters.syns, handshakes: counters.handshakes }))
        };
        let counted: BTreeMap<Member, Counted> = targets.iter().filter_map(seen).collect();
        let view = self.wires.health.borrow().clone();
        let is_down = |member: &Member| view.get(member).is_none_or(|standing| !standing.takes_new_flows());
        let (now, wall) = (Instant::now().into_std(), SystemTime::now());
        let events = self.listener.observer.sample(&counted, is_down, now, wall);
        if !events.is_empty() {
            self.tell_ejections();
            for event in &events {
                self.note_ejection(event);
            }
        }
    }

    fn tell_ejections(&self) {
        tell(&self.wires.ejections, Arc::new(self.listener.observer.ejections()));
    }

    fn note_ejection(&mut self, event: &Event) {
        match event {
            Event::Began { member, lasts, number, reason } => {
                self.totals.ejected((member.service, member.backend));
                let (vip, backend) = names(&self.config, member);
                let seconds = lasts.as_secs();
                warn!(
                    vip,
                    backend, reason, seconds, number, "a backend is ejected: its clients' handshakes do not complete"
                );
            }
            Event::Ended { member } => {
                let (vip, backend) = names(&self.config, member);
                info!(vip, backend, "an ejected backend may serve again");
            }
        }
    }
}

/// The names of VIP and backend, or what they are known by if they have none any more.
fn names(config: &Config, member: &Member) -> (String, String) {
    let vip = config.vips.iter().find(|vip| vip.service == member.service);
    let backend = vip.and_then(|vip| of_vip(config, vip).find(|(_, _, backend)| backend.address == member.backend));
    (
        vip.map_or_else(|| member.service.to_string(), |vip| vip.name.clone()),
        backend.map_or_else(|| member.backend.to_string(), |(_, _, backend)| backend.name.clone()),
    )
}

/// Backends of each VIP that may take new flows, by the pool whose passive health is theirs: the first one that has such,
/// if several pools have them. Of UDP, and of flows that are not remembered, no handshake is seen.
pub(super) fn groups(config: &Config) -> Groups {
    let mut groups = Groups::new();
    if config.pools.values().all(|pool| pool.health.passive.is_none()) {
        return groups;
    }
    let heard = |vip: &&Vip| {
        vip.service.protocol == Protocol::Tcp && vip.flow_tracking == FlowTracking::Always && !vip.disabled
    };
    for vip in config.vips.iter().filter(heard) {
        let mut seen = BTreeSet::new();
        for (vip, pool, backend) in of_vip(config, vip) {
            let Some(rule) = pool.health.passive.filter(|_| seen.insert(backend.address)) else { continue };
            if takes_new_flows(backend) {
                let group = groups.entry((vip.service, pool.name.clone()));
                group.or_insert_with(|| Group { rule, members: BTreeSet::new() }).members.insert(member(vip, backend));
            }
        }
    }
    groups
}

/// The numbers of the groups' backends, by the tables.
fn targets(groups: &Groups, state: &State) -> Vec<(u32, Member)> {
    let mut found = Vec::new();
    for ((service, _), group) in groups {
        let Some(vip) = state.vips.get(&key(service)) else { continue };
        let members = view::each_target(vip, state)
            .map(|(backend, (id, _))| (id, Member { service: *service, backend }))
            .filter(|(_, member)| group.members.contains(member));
        found.extend(members);
    }
    found
}
