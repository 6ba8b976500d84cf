//! What operators want beyond the file: backends drained, enabled, disabled or weighed by hand, and VIPs disabled.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::SystemTime,
};

use super::{AdminState, Backend, Config};

/// All overrides. One whose backend or VIP is not configured has no effect, and waits for it to return.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Those of backends, each with a state, a weight or both.
    pub backends: BTreeMap<BackendName, BackendOverride>,
    /// VIPs that are disabled, by name.
    pub vips: BTreeMap<String, Given>,
}

/// A backend, as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendName {
    /// Its pool.
    pub pool: String,
    /// Its name in there.
    pub name: String,
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.name)
    }
}

/// When an override was given, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// When.
    pub at: SystemTime,
    /// The user, where it is known.
    pub uid: Option<u32>,
}

/// What is wanted of a backend beyond the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendOverride {
    /// When it was last changed, and by whom.
    pub given: Given,
    /// In place of the file's state.
    pub state: Option<StateOverride>,
    /// In place of the file's weight.
    pub weight: Option<u32>,
}

/// What a backend is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateOverride {
    /// Serve, although the file says otherwise.
    Active,
    /// Take no new flows, until no flow is left.
    Draining(Drain),
    /// Take nothing: its drain has ended.
    Drained,
    /// Take nothing.
    Disabled,
}

/// A drain under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When it began.
    pub since: SystemTime,
    /// When it ends, whatever is left then.
    pub deadline: Option<SystemTime>,
    /// Live flows at its begin.
    pub flows: u64,
}

impl StateOverride {
    /// In listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining(_) => "draining",
            Self::Drained => "drained",
            Self::Disabled => "disabled",
        }
    }

    /// The state that the backend is given.
    pub const fn admin(self) -> AdminState {
        match self {
            Self::Active => AdminState::Active,
            Self::Draining(_) => AdminState::Drain,
            Self::Drained | Self::Disabled => AdminState::Disabled,
        }
    }
}

/// What an operator orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Of a backend.
    Backend(BackendName, BackendOrder),
    /// Serve a VIP no more.
    DisableVip(String),
    /// Serve it as the file says.
    EnableVip(String),
}

/// What an operator orders of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendOrder {
    /// Take no new flows, and nothing once none is left or the deadline has come.
    Drain(Drain),
    /// Serve.
    Enable,
    /// Take nothing.
    Disable,
    /// Take this share of new flows, or the file's.
    Weigh(Option<u32>),
}

impl Overrides {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.vips.is_empty()
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.backends.len() + self.vips.len()
    }

    /// What is in force when `config` is what the file says.
    #[must_use]
    pub fn apply(&self, config: &Config) -> Config {
        let mut effective = config.clone();
        for (name, given) in &self.backends {
            let pool = effective.pools.get_mut(&name.pool);
            if let Some(backend) = pool.and_then(|pool| pool.backends.iter_mut().find(|one| one.name == name.name)) {
                backend.state = given.state.map_or(backend.state, StateOverride::admin);
                backend.weight = given.weight.unwrap_or(backend.weight);
            }
        }
        for vip in effective.vips.iter_mut().filter(|vip| self.vips.contains_key(&vip.name)) {
            vip.disabled = true;
        }
        effective
    }

    /// Whether any of them has an effect on `config`.
    pub fn concern(&self, config: &Config) -> bool {
        self.backends.keys().any(|name| find(config, name).is_some())
            || config.vips.iter().any(|vip| self.vips.contains_key(&vip.name))
    }

    /// Overrides of backends and of VIPs that `config` does not have.
    pub fn unmatched<'a>(&'a self, config: &Config) -> (Vec<&'a BackendName>, Vec<&'a str>) {
        let known: BTreeSet<&str> = config.vips.iter().map(|vip| vip.name.as_str()).collect();
        let vips = self.vips.keys().map(String::as_str).filter(|name| !known.contains(name));
        (self.backends.keys().filter(|name| find(config, name).is_none()).collect(), vips.collect())
    }

    /// Those of one pool, by backend.
    pub fn of_pool(&self, pool: &str) -> BTreeMap<&str, BackendOverride> {
        let of_pool = self.backends.iter().filter(|(name, _)| name.pool == pool);
        of_pool.map(|(name, given)| (name.name.as_str(), *given)).collect()
    }

    /// Drains under way.
    pub fn drains(&self) -> impl Iterator<Item = (&BackendName, Drain)> {
        self.backends.iter().filter_map(|(name, given)| match given.state {
            Some(StateOverride::Draining(drain)) => Some((name, drain)),
            _ => None,
        })
    }

    /// Takes an order. `config` is what the file says: what it says already needs no override. Orders of what it does not
    /// name are for the caller to refuse.
    pub fn take(&mut self, order: &Order, config: &Config, given: Given) {
        match order {
            Order::Backend(name, order) => self.take_of_backend(name, *order, config, given),
            Order::DisableVip(name) => _ = self.vips.insert(name.clone(), given),
            Order::EnableVip(name) => _ = self.vips.remove(name),
        }
    }

    fn take_of_backend(&mut self, name: &BackendName, order: BackendOrder, config: &Config, given: Given) {
        let before = self.backends.get(name).copied();
        let (mut state, mut weight) = before.map_or((None, None), |before| (before.state, before.weight));
        match order {
            BackendOrder::Drain(mut drain) => {
                if let Some(StateOverride::Draining(begun)) = state {
                    // It goes on, perhaps with another deadline.
                    drain = Drain { deadline: drain.deadline, ..begun };
                }
                state = Some(StateOverride::Draining(drain));
            }
            BackendOrder::Enable => {
                let serves = find(config, name).is_none_or(|backend| backend.state == AdminState::Active);
                state = if serves { None } else { Some(StateOverride::Active) };
            }
            BackendOrder::Disable => state = Some(StateOverride::Disabled),
            BackendOrder::Weigh(asked) => weight = asked,
        }
        if (state, weight) == (None, None) {
            self.backends.remove(name);
        } else {
            self.backends.insert(name.clone(), BackendOverride { given, state, weight });
        }
    }

    /// A drain has ended: the backend is to take nothing until it is enabled.
    pub fn end_drain(&mut self, name: &BackendName) {
        if let Some(given) = self.backends.get_mut(name)
            && matches!(given.state, Some(StateOverride::Draining(_)))
        {
            given.state = Some(StateOverride::Drained);
        }
    }
}

fn find<'c>(config: &'c Config, name: &BackendName) -> Option<&'c Backend> {
    config.pools.get(&name.pool)?.backends.iter().find(|backend| backend.name == name.name)
}

#[cfg(test)]
mod tests;
