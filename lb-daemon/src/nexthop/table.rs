//! What is known of the kernel's routes, links and neighbours, and what follows from it. No I/O, no clock.
//!
//! A neighbour that has been resolved once is trusted longer than the kernel does. Packets forwarded in XDP do not confirm
//! a neighbour, so the kernel lets entries of busy backends go stale and collects them as unused. Thus:
//!
//! * an entry that **disappears** or is asked for again keeps its last MAC address, and is solicited;
//! * an entry that **fails** (nobody answered the kernel's solicitations) keeps it for [`SILENCE`] from the first failure
//!   on, then the address is unreachable. An ARP storm, a gateway's failover or a switch's reboot should not empty the
//!   rings; a dead backend is the health check's business, and it is faster;
//! * a **link that goes down**, or one below it, ends this trust at once: whatever answers when it returns may be something
//!   else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{NextHop, Snapshot, Unreachable};

mod links;

pub use links::{Kind, Link};

/// How long a neighbour that stopped answering keeps its last MAC address.
pub const SILENCE: Duration = Duration::from_secs(30);

/// First and longest wait between two solicitations. One takes the kernel 3 s until it gives up.
const SOLICIT_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));

/// A neighbour: the interface it is on, and its address.
pub type Place = (u32, IpAddr);

/// The kernel's answer to «how is this address reached».
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through a neighbour: a gateway, or the address itself.
    Via {
        /// Where it is.
        place: Place,
        /// MTU of the route, when it has one of its own.
        mtu: Option<u32>,
    },
    /// Not at all.
    Unreachable(Unreachable),
}

/// What the kernel says of a neighbour; one that it does not know has no fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Its MAC address is known; `stale` when the kernel has not verified it lately.
    Resolved {
        /// Its MAC address.
        mac: [u8; 6],
        /// Whether a solicitation would refresh it.
        stale: bool,
    },
    /// It is being solicited.
    Incomplete,
    /// It did not answer.
    Failed,
}

/// What we remember of a neighbour that some route needs.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    last_mac: Option<[u8; 6]>,
    silent_since: Option<Instant>,
    attempts: u32,
    next_attempt: Option<Instant>,
}

/// The facts, and what follows from them.
#[derive(Debug, Default)]
pub struct Table {
    routes: BTreeMap<IpAddr, Route>,
    links: BTreeMap<u32, Link>,
    neighbours: BTreeMap<Place, Neighbour>,
    ways: BTreeMap<Place, Way>,
}

impl Table {
    /// Replaces all links.
    pub fn set_links(&mut self, links: BTreeMap<u32, Link>, now: Instant) {
        self.links = links;
        self.settle(now);
    }

    /// Inserts, replaces or (with `None`) removes a link. Tells whether that changed anything.
    pub fn set_link(&mut self, ifindex: u32, link: Option<Link>, now: Instant) -> bool {
        let changed = self.links.get(&ifindex) != link.as_ref();
        match link {
            Some(link) => self.links.insert(ifindex, link),
            None => self.links.remove(&ifindex),
        };
        if changed {
            self.settle(now);
        }
        changed
    }

    /// Replaces all neighbours.
    pub fn set_neighbours(&mut self, neighbours: BTreeMap<Place, Neighbour>, now: Instant) {
        self.neighbours = neighbours;
        self.settle(now);
    }

    /// Inserts, replaces or (with `None`) removes a neighbour. Tells whether some route needs it.
    pub fn set_neighbour(&mut self, place: Place, neighbour: Option<Neighbour>, now: Instant) -> bool {
        match neighbour {
            Some(neighbour) => self.neighbours.insert(place, neighbour),
            None => self.neighbours.remove(&place),
        };
        let needed = self.ways.contains_key(&place);
        if needed {
            self.settle_way(place, now);
        }
        needed
    }

    /// Replaces all routes. The addresses are those that [`snapshot`](Self::snapshot) answers for.
    pub fn set_routes(&mut self, routes: BTreeMap<IpAddr, Route>, now: Instant) {
        self.routes = routes;
        let needed: BTreeSet<Place> = self.routes.values().filter_map(Route::place).collect();
        self.ways.retain(|place, _| needed.contains(place));
        for place in needed {
            self.ways.entry(place).or_default();
        }
        self.settle(now);
    }

    /// The way to each address, or why there is none.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let mut snapshot = Snapshot { bonds: links::bonds(&self.links), ..Snapshot::default() };
        for (&address, route) in &self.routes {
            let way = match route {
                Route::Unreachable(reason) => Err(reason.clone()),
                Route::Via { place, mtu } => self.resolve(*place, place.1 == address, *mtu, now),
            };
            snapshot.hops.insert(address, way.as_ref().ok().copied());
            if let Err(reason) = way {
                snapshot.reasons.insert(address, reason);
            }
        }
        snapshot
    }

    /// Neighbours that are due for a solicitation; each is taken as done and becomes due again after a growing wait.
    pub fn solicit(&mut self, now: Instant) -> Vec<Place> {
        let mut due = Vec::new();
        for (&place, way) in &mut self.ways {
            if way.next_attempt.is_some_and(|at| at <= now) {
                let (first, longest) = SOLICIT_WAIT;
                way.next_attempt = Some(now + first.saturating_mul(1 << way.attempts.min(8)).min(longest));
                way.attempts += 1;
                due.push(place);
            }
        }
        due
    }

    /// Needed neighbours that the kernel has not verified lately. To solicit them now and then keeps their entries, and
    /// finds out about neighbours that are gone.
    pub fn stale(&self) -> Vec<Place> {
        let stale =
            |place: &&Place| matches!(self.neighbours.get(place), Some(Neighbour::Resolved { stale: true, .. }));
        self.ways.keys().filter(stale).copied().collect()
    }

    /// When [`solicit`](Self::solicit) or [`snapshot`](Self::snapshot) will have something new to say.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let attempts = self.ways.values().filter_map(|way| way.next_attempt);
        let silences = self.ways.values().filter_map(|way| way.silent_since).map(|since| since + SILENCE);
        attempts.chain(silences.filter(|&at| at > now)).min()
    }

    /// Whether an answer may still come for some address that has no way yet.
    pub fn is_resolving(&self) -> bool {
        self.ways.values().any(|way| way.next_attempt.is_some() && way.last_mac.is_none())
    }

    /// Takes the present facts into what is remembered of each way.
    fn settle(&mut self, now: Instant) {
        let places: Vec<Place> = self.ways.keys().copied().collect();
        for place in places {
            self.settle_way(place, now);
        }
    }

    fn settle_way(&mut self, place: Place, now: Instant) {
        let usable = links::exit(&self.links, place.0).is_ok();
        let Some(way) = self.ways.get_mut(&place) else { return };
        if !usable {
            *way = Way::default();
            return;
        }
        match self.neighbours.get(&place) {
            Some(&Neighbour::Resolved { mac, .. }) => *way = Way { last_mac: Some(mac), ..Way::default() },
            Some(Neighbour::Failed) => {
                way.silent_since.get_or_insert(now);
                way.next_attempt.get_or_insert(now);
            }
            Some(Neighbour::Incomplete) | None => {
                way.next_attempt.get_or_insert(now);
            }
        }
    }

    fn resolve(&self, place: Place, on_link: bool, mtu: Option<u32>, now: Instant) -> Result<NextHop, Unreachable> {
        let (ifindex, neighbour) = place;
        let exit = links::exit(&self.links, ifindex)?;
        let way = self.ways.get(&place).copied().unwrap_or_default();
        let silent = way.silent_since.is_some_and(|since| now.duration_since(since) >= SILENCE);
        match way.last_mac {
            Some(mac) if !silent => Ok(NextHop {
                ifindex: exit.ifindex,
                source_mac: exit.source_mac,
                mac,
                mtu: mtu.unwrap_or(exit.mtu).min(exit.mtu),
                tags: exit.tags,
                on_link,
            }),
            _ if way.silent_since.is_some() => Err(Unreachable::Silent { neighbour, interface: exit.interface }),
            _ => Err(Unreachable::Unresolved { neighbour, interface: exit.interface }),
        }
    }
}

impl Route {
    fn place(&self) -> Option<Place> {
        match self {
            Self::Via { place, .. } => Some(*place),
            Self::Unreachable(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
