//! What a configuration would change, by what is known now. Nothing is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    thread,
};

use lb_common::{layout::vip::Vip, maps::feature};

use super::{
    Controller,
    beliefs::{self, Assumed},
    change::{Fixed, fixed},
    commands::Refusal,
    engine::Engine,
    features::names,
    members,
    tuning::needed,
};
use crate::{
    health::HealthView,
    model::{
        Config,
        overrides::{BackendName, BackendOverride, Overrides},
    },
    nexthop::Snapshot,
    plan::{
        RingCache, Room, State,
        diff::{self, PlanError},
        lists::Lists,
        preview::{Against, Input, Preview, ReadRing, Restart, Setting, Side, TableGrowth, preview},
        room,
    },
};

/// Backends that are told by name.
const NAMED: usize = 5;

/// What there is to compare a configuration with.
pub struct Present<'a> {
    /// What the tables hold.
    pub state: &'a State,
    /// Reads a ring.
    pub ring: ReadRing<'a>,
    /// Live flows by target number.
    pub flows: &'a BTreeMap<u32, u64>,
    /// Entries of the flow table.
    pub flow_entries: u32,
    /// What health checks found.
    pub health: &'a HealthView,
    /// What is known of next hops.
    pub hops: &'a Snapshot,
    /// The configuration in force; absent without a daemon.
    pub running: Option<Side<'a>>,
    /// Features of the program in force; absent without a daemon.
    pub features: Option<u32>,
}

impl Present<'_> {
    /// What `config` would change. `rings` only saves work.
    ///
    /// # Errors
    /// When no tables could take it, however large.
    pub fn foresee(&self, config: &Config, rings: &mut RingCache) -> Result<Preview, PlanError> {
        let lists = &Lists::of(config);
        let reports = (self.health, self.hops);
        let running = self.running.map(|side| side.config);
        let (wanted, assumed) = beliefs::expected(config, lists, self.state, reports, running);
        let &Self { state, ring, flows, running: old, .. } = self;
        let capacity = room::enough(state, &beliefs::best_case(config, lists), rings)?;
        let roomy = State { capacity, ..state.clone() };
        let ops = diff::plan(&roomy, &wanted, rings)?;
        let (has, needs) = (
            Room { capacity: state.capacity, flow_entries: self.flow_entries },
            Room { capacity, flow_entries: config.dataplane.flow_table_entries },
        );
        let tables = grown(&has, &needs);
        let input = Input { state, ops: &ops, ring, flows, old, new: Side { config, lists } };
        let told = preview(&input);
        let after = needed(config, self.hops).features;
        let before = self.features.map_or(after, |features| features & !feature::MULTI_BUFFER);
        let restart: Vec<Restart> = running.map(|running| restart(running, config)).unwrap_or_default();
        let features = |features: u32| names(features).into_iter().map(str::to_owned).collect();
        Ok(Preview {
            differs: told.differs || before != after || !restart.is_empty() || !tables.is_empty(),
            against: if old.is_some() { Against::Daemon } else { Against::Tables },
            features_added: features(after & !before),
            features_removed: features(before & !after),
            memory_bytes: tables.iter().map(|table| table.bytes).sum(),
            tables,
            restart,
            assumptions: assumptions(config, &assumed),
            ..told
        })
    }
}

/// Tables that are made anew.
fn grown(from: &Room, to: &Room) -> Vec<TableGrowth> {
    let cpus = thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    let grown = room::growth(from, to, cpus).into_iter();
    grown.map(|(table, bytes)| TableGrowth { table: table.into(), bytes }).collect()
}

/// Settings that need more than a reload.
fn restart(running: &Config, asked: &Config) -> Vec<Restart> {
    let told = |Fixed { key, running, asked, remedy }: Fixed| Restart {
        setting: Setting { key: key.into(), from: running, to: asked },
        remedy: remedy.into(),
    };
    fixed(running, asked).into_iter().map(told).collect()
}

/// Overrides that concern a configuration, in words.
fn overrides(overrides: &Overrides, config: &Config) -> Vec<String> {
    let has = |name: &BackendName| {
        config.pools.get(&name.pool).is_some_and(|pool| pool.backends.iter().any(|one| one.name == name.name))
    };
    let told = |(name, given): (&BackendName, &BackendOverride)| {
        let state = given.state.map(|state| state.name().to_owned());
        let weight = given.weight.map(|weight| format!("weight {weight}"));
        format!("backend {name}: {}", state.into_iter().chain(weight).collect::<Vec<_>>().join(", "))
    };
    let backends = overrides.backends.iter().filter(|(name, _)| has(name)).map(told);
    let vips = overrides.vips.keys().filter(|name| config.vips.iter().any(|vip| vip.name == **name));
    backends.chain(vips.map(|name| format!("vip {name}: disabled"))).collect()
}

/// What was taken for granted, in words.
fn assumptions(config: &Config, assumed: &Assumed) -> Vec<String> {
    let tell = |(backends, what): (&BTreeSet<IpAddr>, &str)| {
        (!backends.is_empty()).then(|| format!("{}: {what}", listed(config, backends)))
    };
    let all = [
        (&assumed.up, "taken to pass their checks, which have not been run yet"),
        (&assumed.reachable, "taken to be reachable, which has not been tried yet"),
    ];
    all.into_iter().filter_map(tell).collect()
}

/// Names of some backends, and how many more there are.
fn listed(config: &Config, backends: &BTreeSet<IpAddr>) -> String {
    let mut seen = BTreeSet::new();
    let new = members(config).filter(|(_, _, backend)| backends.contains(&backend.address));
    let new = new.filter(|(_, _, backend)| seen.insert(backend.address));
    let names: Vec<&str> = new.map(|(_, _, backend)| backend.name.as_str()).collect();
    match names.split_at_checked(NAMED) {
        Some((first, rest)) if !rest.is_empty() => format!("{} and {} more", first.join(", "), rest.len()),
        _ => names.join(", "),
    }
}

impl<E: Engine> Controller<E> {
    /// What `asked` would change.
    pub(super) fn preview(&mut self, asked: &Arc<Config>) -> Result<Preview, Refusal> {
        let asked = self.keeper.effective(asked);
        let state = self.engine.observe().map_err(Refusal::Observe)?;
        let flows = self.count_flows().map_err(Refusal::Observe)?.live_by_target;
        // The newest, without taking them: they are planned for in their own turn.
        let (health, hops) = (self.wires.health.borrow().clone(), self.wires.hops.borrow().clone());
        let ring = |ring_base, ring_slots| self.engine.ring(&Vip { ring_base, ring_slots, ..Vip::default() });
        let present = Present {
            state: &state,
            ring: &ring,
            flows: &flows,
            flow_entries: self.engine.room().flow_entries,
            health: &health,
            hops: &hops,
            running: Some(Side { config: &self.config, lists: &self.lists }),
            features: Some(self.engine.tuning().features),
        };
        // Of the plan's own cache, which must not forget what is in force.
        let told = present.foresee(&asked, &mut self.rings.clone()).map_err(Refusal::Plan)?;
        Ok(Preview { overrides: overrides(self.keeper.overrides(), &asked), ..told })
    }
}
