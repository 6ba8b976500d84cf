//! Operators' overrides: taken, kept on disk, brought to the tables.
//!
//! They are kept before they have an effect, so that a daemon which dies in between does after its restart what was
//! ordered. Where they cannot be kept they have their effect all the same, and the status says so.

mod drains;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Controller, Snapshot, engine::Engine, work::chain};
use crate::{
    config::nearest,
    model::{
        Config,
        overrides::{BackendName, BackendOrder, Drain, Given, Order, Overrides},
    },
    state::{self, Folder},
};

/// Names that an error lists at most.
const LISTED: usize = 12;

/// The overrides in force, and where they are kept.
#[derive(Debug, Default)]
pub struct Keeper {
    overrides: Arc<Overrides>,
    folder: Option<Folder>,
    /// Why they are not on disk as they are.
    trouble: Option<String>,
    /// They are to be written again.
    unsaved: bool,
    /// When drains end at the latest, by the clock that nobody sets.
    until: BTreeMap<BackendName, Instant>,
    /// When flows are counted for drains next.
    next_count: Option<Instant>,
}

impl Keeper {
    /// Those that were kept in `folder`. If they cannot be read there are none, which is logged.
    pub fn restore(folder: Folder) -> Self {
        let (overrides, trouble) = match state::overrides::read(&folder) {
            Ok(overrides) => (overrides, None),
            Err(error) => {
                let error = chain(&error);
                warn!(error, "the operators' overrides cannot be read, so there are none");
                (Overrides::default(), Some(format!("the overrides of before are lost: {error}")))
            }
        };
        if !overrides.is_empty() {
            info!(overrides = overrides.len(), "operators' overrides are in force");
        }
        let mut keeper = Self { folder: Some(folder), trouble, ..Self::default() };
        keeper.hold(overrides);
        keeper
    }

    /// The overrides.
    pub(super) fn overrides(&self) -> &Arc<Overrides> {
        &self.overrides
    }

    /// Why they are not on disk as they are, if so.
    pub(super) fn trouble(&self) -> Option<&String> {
        self.trouble.as_ref()
    }

    /// The configuration in force when the file says `desired`.
    pub(super) fn effective(&self, desired: &Arc<Config>) -> Arc<Config> {
        if self.overrides.concern(desired) { Arc::new(self.overrides.apply(desired)) } else { Arc::clone(desired) }
    }

    /// Has these in the place of those of before, on disk first.
    fn keep(&mut self, overrides: Overrides) {
        self.write(&overrides);
        self.hold(overrides);
    }

    /// Writes what could not be written before.
    pub(super) fn save(&mut self) {
        if self.unsaved {
            self.write(&Arc::clone(&self.overrides));
        }
    }

    fn write(&mut self, overrides: &Overrides) {
        let written = self.folder.as_ref().map_or(Ok(()), |folder| state::overrides::write(folder, overrides));
        let failed = self.unsaved;
        self.unsaved = written.is_err();
        self.trouble = written.err().map(|error| {
            let error = chain(&error);
            if !failed {
                warn!(error, "overrides cannot be kept; they are in force until the daemon ends");
            }
            format!("overrides would not survive a restart: {error}")
        });
    }

    fn hold(&mut self, overrides: Overrides) {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let until = |(name, drain): (&BackendName, Drain)| {
            let left = drain.deadline?.duration_since(clock).unwrap_or_default();
            Some((name.clone(), now.checked_add(left)?))
        };
        let mut deadlines: BTreeMap<BackendName, Instant> = overrides.drains().filter_map(until).collect();
        for (name, drain) in overrides.drains() {
            // One that is known already is not moved by a clock that was set meanwhile.
            let known = self.overrides.drains().find(|(known, _)| *known == name);
            if known.is_some_and(|(_, known)| known.deadline == drain.deadline)
                && let Some(until) = self.until.get(name)
            {
                deadlines.insert(name.clone(), *until);
            }
        }
        self.until = deadlines;
        self.overrides = Arc::new(overrides);
    }
}

/// An order was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordered {
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// What could not be written to the tables yet and is tried again.
    pub pending: Option<String>,
}

/// Why an order was refused.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The controller has ended.
    #[error("the controller has ended")]
    Ended,
    /// There is no such pool.
    #[error("no pool {name}; {hint}")]
    NoPool {
        /// What was named.
        name: String,
        /// What there is.
        hint: String,
    },
    /// There is no such backend.
    #[error("no backend {name}; {hint}")]
    NoBackend {
        /// What was named.
        name: BackendName,
        /// What there is.
        hint: String,
    },
    /// There is no such VIP.
    #[error("no vip {name}; {hint}")]
    NoVip {
        /// What was named.
        name: String,
        /// What there is.
        hint: String,
    },
}

impl<E: Engine> Controller<E> {
    /// Puts a configuration in force as far as the overrides leave it.
    pub(super) fn desire(&mut self, desired: Arc<Config>) {
        self.config = self.keeper.effective(&desired);
        self.desired = desired;
    }

    /// Drains a backend, within this time if one is given.
    pub(super) fn drain(
        &mut self,
        name: BackendName,
        within: Option<Duration>,
        uid: Option<u32>,
    ) -> Result<Ordered, OrderError> {
        let since = SystemTime::now();
        let deadline = within.and_then(|within| since.checked_add(within));
        let flows = self.left(&BTreeSet::from([&name])).get(&name).map_or(0, |left| left.flows);
        self.order(&Order::Backend(name, BackendOrder::Drain(Drain { since, deadline, flows })), uid)
    }

    /// Carries out an order, or refuses it without effect.
    pub(super) fn order(&mut self, order: &Order, uid: Option<u32>) -> Result<Ordered, OrderError> {
        self.knows(order)?;
        let mut overrides = Overrides::clone(self.keeper.overrides());
        overrides.take(order, &self.desired, Given { at: SystemTime::now(), uid });
        info!(order = %Told(order), uid, "ordered by an operator");
        let before = self.snapshots.borrow().clone();
        self.keeper.keep(overrides);
        let pending = self.override_anew();
        let mut warnings = emptied(&before, &self.snapshots.borrow());
        if let Order::Backend(name, BackendOrder::Drain(Drain { deadline: None, .. })) = order {
            let endless = self.closed_vips(name).into_iter().map(|vip| {
                format!(
                    "vip {vip} is adaptive and has no backend for new flows: the drain of {name} ends only by an order"
                )
            });
            warnings.extend(endless);
        }
        for warning in &warnings {
            warn!(order = %Told(order), warning, "an order leaves a vip without backends");
        }
        Ok(Ordered { warnings, pending })
    }

    /// Brings the tables to the configuration with the overrides that are kept now. Tells what went wrong.
    fn override_anew(&mut self) -> Option<String> {
        self.config = self.keeper.effective(&self.desired);
        // A drain is given time to have an effect.
        self.keeper.next_count = None;
        self.ask_for_inputs();
        self.bring_now().err()
    }

    /// Refuses orders of what there is not. What an override is for already may be ordered, so that it can be taken back.
    fn knows(&self, order: &Order) -> Result<(), OrderError> {
        let overrides = self.keeper.overrides();
        match order {
            Order::Backend(name, _) if overrides.backends.contains_key(name) => Ok(()),
            Order::Backend(name, _) => {
                let pools = &self.desired.pools;
                let pool = pools.get(&name.pool).ok_or_else(|| OrderError::NoPool {
                    name: name.pool.clone(),
                    hint: hint(&name.pool, pools.keys().map(String::as_str)),
                })?;
                let backends = || pool.backends.iter().map(|backend| backend.name.as_str());
                if backends().any(|known| known == name.name) {
                    return Ok(());
                }
                Err(OrderError::NoBackend { name: name.clone(), hint: hint(&name.name, backends()) })
            }
            Order::DisableVip(name) | Order::EnableVip(name) => {
                let vips = || self.desired.vips.iter().map(|vip| vip.name.as_str());
                if overrides.vips.contains_key(name) || vips().any(|known| known == name) {
                    return Ok(());
                }
                Err(OrderError::NoVip { name: name.clone(), hint: hint(name, vips()) })
            }
        }
    }
}

/// What may have been meant, or what there is.
fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, known.clone()) {
        return format!("did you mean {near}?");
    }
    let listed: Vec<&str> = known.clone().take(LISTED).collect();
    match (listed.is_empty(), known.skip(LISTED).count()) {
        (true, _) => "there are none".into(),
        (false, 0) => format!("there are: {}", listed.join(", ")),
        (false, more) => format!("there are: {} and {more} more", listed.join(", ")),
    }
}

/// VIPs that lost their last backend for new flows, but for those that are disabled.
fn emptied(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let served: BTreeSet<&str> =
        before.vips.iter().filter(|vip| vip.serving() > 0).map(|vip| vip.name.as_str()).collect();
    let emptied = after.without_backend().filter(|vip| served.contains(vip.name.as_str()));
    emptied.map(|vip| format!("vip {} has no serving backend left; its new flows are dropped", vip.name)).collect()
}

/// An order in a few words, for the log.
struct Told<'a>(&'a Order);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Order::Backend(name, BackendOrder::Drain(_)) => write!(f, "drain backend {name}"),
            Order::Backend(name, BackendOrder::Enable) => write!(f, "enable backend {name}"),
            Order::Backend(name, BackendOrder::Disable) => write!(f, "disable backend {name}"),
            Order::Backend(name, BackendOrder::Weigh(Some(weight))) => write!(f, "weigh backend {name} {weight}"),
            Order::Backend(name, BackendOrder::Weigh(None)) => write!(f, "weigh backend {name} as the file says"),
            Order::DisableVip(name) => write!(f, "disable vip {name}"),
            Order::EnableVip(name) => write!(f, "enable vip {name}"),
        }
    }
}
