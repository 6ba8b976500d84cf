//! The [`Table`] kept in step with the kernel: subscribe first, then read everything, then follow the changes.
//!
//! Changes come by one socket and questions go by another, so that a burst of changes cannot push out an answer. If
//! changes are lost, the kernel says so and everything is read anew; it is anyway every minute.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::BoxStream};
use rtnetlink::{
    Handle, MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::{
    task::JoinSet,
    time::{sleep_until, timeout_at},
};
use tracing::warn;

use super::{
    Error, Snapshot, netlink,
    table::{Place, Table},
};

/// The first change of a burst is answered after the first of these; further ones at most once in the second.
const COALESCE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// Everything is read anew after this time, against changes that the kernel does not announce (a learned path MTU, say).
const RESYNC: Duration = Duration::from_mins(1);

/// Rests this many times as long as the look-ups took, so that they never take more than a tenth of the time, however
/// fast routes change (on a router with full tables, say).
const LOOKUP_REST: u32 = 9;

/// Longest wait for solicited neighbours. The kernel repeats a solicitation after 1 s: a later answer would be one to a
/// second try.
const RESOLVE_WAIT: Duration = Duration::from_secs(1);

const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
];

/// The table, the sockets that feed it, and what of it is out of date.
pub(super) struct Follower {
    table: Table,
    addresses: BTreeSet<IpAddr>,
    sockets: Sockets,
    /// When the changes so far are to be settled.
    due: Option<Instant>,
    settled_at: Instant,
    routes_changed: bool,
    lookups_rest_until: Instant,
    resync_at: Instant,
}

struct Sockets {
    /// Asks.
    handle: Handle,
    /// Brings changes. Its queue has no bound of its own, but is emptied in microseconds.
    changes: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
    /// Drive both sockets, and end with them.
    _tasks: JoinSet<()>,
}

impl Sockets {
    fn open() -> Result<Self, Error> {
        let mut tasks = JoinSet::new();
        let (connection, _, changes) = rtnetlink::new_multicast_connection(&GROUPS).map_err(Error::Open)?;
        tasks.spawn(connection);
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        tasks.spawn(connection);
        Ok(Self { handle, changes: changes.map(|(message, _)| message).boxed(), _tasks: tasks })
    }
}

impl Follower {
    /// Subscribes to changes. The table stays empty until [`sync`](Self::sync).
    pub(super) fn open() -> Result<Self, Error> {
        let now = clock();
        Ok(Self {
            table: Table::default(),
            addresses: BTreeSet::new(),
            sockets: Sockets::open()?,
            due: None,
            settled_at: now,
            routes_changed: false,
            lookups_rest_until: now,
            resync_at: now,
        })
    }

    /// Opens new sockets after an error; what is known stays until the next [`sync`](Self::sync).
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        self.sockets = Sockets::open()?;
        Ok(())
    }

    /// Takes these addresses from now on, and reads everything.
    pub(super) async fn sync(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), Error> {
        self.addresses.clone_from(addresses);
        let links = netlink::links(&self.sockets.handle).await?;
        let neighbours = netlink::neighbours(&self.sockets.handle).await?;
        let now = clock();
        self.table.set_links(links, now);
        self.table.set_neighbours(neighbours, now);
        self.look_up().await?;
        let stale = self.table.stale();
        self.solicit(stale).await;
        self.resync_at = clock() + RESYNC;
        self.finish().await;
        Ok(())
    }

    /// Waits a moment for neighbours that were never resolved, so that the first snapshot is not full of gaps.
    pub(super) async fn resolve(&mut self) -> Result<(), Error> {
        let deadline = clock() + RESOLVE_WAIT;
        while self.table.is_resolving() {
            let Ok(changed) = timeout_at(deadline.into(), self.wait()).await else { break };
            changed?;
            self.settle().await?;
        }
        Ok(())
    }

    /// Waits until there is something for [`settle`](Self::settle) to do. May be dropped and called again.
    pub(super) async fn wait(&mut self) -> Result<(), Error> {
        loop {
            let wake = [self.due, self.lookup_due(), self.table.next_deadline(clock())];
            let wake = wake.into_iter().flatten().fold(self.resync_at, Instant::min);
            tokio::select! {
                () = sleep_until(wake.into()) => return Ok(()),
                change = self.sockets.changes.next() => self.take(change.ok_or(Error::Closed)?),
            }
        }
    }

    /// Brings the table up to date with the changes so far, and solicits what is due.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let now = clock();
        if self.resync_at <= now {
            return self.sync(&self.addresses.clone()).await;
        }
        if self.lookup_due().is_some_and(|at| at <= now) {
            self.look_up().await?;
        }
        self.finish().await;
        Ok(())
    }

    /// The present state of all addresses.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.table.snapshot(clock())
    }

    fn take(&mut self, change: NetlinkMessage<RouteNetlinkMessage>) {
        let now = clock();
        let relevant = match change.payload {
            NetlinkPayload::InnerMessage(message) => self.take_change(&message, now),
            NetlinkPayload::Overrun(_) => {
                self.resync_at = now;
                true
            }
            _ => false,
        };
        if relevant {
            let (first, further) = COALESCE;
            self.due.get_or_insert((now + first).max(self.settled_at + further));
        }
    }

    /// Tells whether a snapshot may differ now.
    fn take_change(&mut self, change: &RouteNetlinkMessage, now: Instant) -> bool {
        match change {
            RouteNetlinkMessage::NewNeighbour(message) => netlink::neighbour(message)
                .is_some_and(|(place, neighbour)| self.table.set_neighbour(place, neighbour, now)),
            RouteNetlinkMessage::DelNeighbour(message) => {
                netlink::neighbour(message).is_some_and(|(place, _)| self.table.set_neighbour(place, None, now))
            }
            // A link takes IPv4 routes down with it without a word about them.
            RouteNetlinkMessage::NewLink(message) => {
                let changed = netlink::link_event(message)
                    .is_some_and(|link| self.table.set_link(message.header.index, Some(link), now));
                self.routes_changed |= changed;
                changed
            }
            RouteNetlinkMessage::DelLink(message) => {
                let changed = netlink::is_link(message) && self.table.set_link(message.header.index, None, now);
                self.routes_changed |= changed;
                changed
            }
            RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_)
            | RouteNetlinkMessage::NewRoute(_)
            | RouteNetlinkMessage::DelRoute(_)
            | RouteNetlinkMessage::NewRule(_)
            | RouteNetlinkMessage::DelRule(_) => {
                self.routes_changed = true;
                // `lookup_due` wakes us.
                false
            }
            _ => false,
        }
    }

    fn lookup_due(&self) -> Option<Instant> {
        self.routes_changed.then(|| self.lookups_rest_until.max(self.settled_at + COALESCE.1))
    }

    async fn look_up(&mut self) -> Result<(), Error> {
        let start = clock();
        self.routes_changed = false;
        let routes = netlink::routes(&self.sockets.handle, self.addresses.iter().copied()).await?;
        let end = clock();
        self.table.set_routes(routes, end);
        self.lookups_rest_until = end + end.duration_since(start) * LOOKUP_REST;
        Ok(())
    }

    async fn finish(&mut self) {
        let due = self.table.solicit(clock());
        self.solicit(due).await;
        self.due = None;
        self.settled_at = clock();
    }

    async fn solicit(&mut self, places: Vec<Place>) {
        let mut failures = 0_usize;
        let mut first = None;
        for place in places {
            if let Err(error) = netlink::solicit(&self.sockets.handle, place).await {
                failures += 1;
                first.get_or_insert(error);
            }
        }
        if let Some(error) = first {
            let error = anyhow::Error::from(error);
            warn!(failures, error = format!("{error:#}"), "neighbours cannot be solicited");
        }
    }
}

/// The present, by the runtime's clock.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}
