//! What a configuration would change, by what is known now. Nothing is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use lb_common::{
    layout::vip::{Vip, VipKey},
    maps::feature,
};

use super::{
    Controller, Reports,
    beliefs::{self, Assumed},
    change::{Fixed, fixed},
    commands::Refusal,
    concerned::{Inputs, concerned, part},
    engine::Engine,
    features::names,
    governor::{UnderWay, put},
    members,
    tuning::needed,
};
use crate::{
    dataplane::{self, cpus},
    health::HealthView,
    model::{
        self, Config,
        overrides::{BackendName, BackendOverride, Overrides},
    },
    nexthop::Snapshot,
    plan::{
        Op, RingCache, Room, State,
        diff::{self, PlanError},
        lists::Lists,
        patch,
        preview::{
            Against, Change, Input, Moved, Outline, Preview, ReadRing, Restart, Setting, Side, TableGrowth, VipChange,
            moves_flows, pools_differ, preview, slots,
        },
        room,
        wanted::{self, Wanted},
    },
};

/// How many of several are told by name.
pub(super) const NAMED: usize = 5;
/// Backends of all VIPs that a whole preview takes some tens of milliseconds for.
const QUICK: usize = 5000;

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
    /// Rings that are on their way to what health asks for.
    pub under_way: &'a UnderWay,
    /// Whether there is a process that runs programs.
    pub has_runner: bool,
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
        let (mut wanted, mut assumed) = beliefs::expected(config, lists, self.state, reports, running);
        assumed.whole = self.go_on(&mut wanted, Side { config, lists });
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
        let restart: Vec<Restart> =
            running.map(|running| restart(running, config, self.has_runner)).unwrap_or_default();
        let features = |features: u32| names(features).into_iter().map(str::to_owned).collect();
        Ok(Preview {
            differs: told.differs || before != after || !restart.is_empty() || !tables.is_empty(),
            against: if old.is_some() { Against::Daemon } else { Against::Tables },
            features_added: features(after & !before),
            features_removed: features(before & !after),
            memory_bytes: tables.iter().map(|table| table.bytes).sum(),
            tables,
            restart,
            assumptions: assumptions(config, &assumed).into_iter().chain(self.uncounted(&told)).collect(),
            ..told
        })
    }

    /// That flows of adaptive VIPs whose backends change are counted only as far as they are remembered.
    fn uncounted(&self, told: &Preview) -> Option<String> {
        let adaptive = self.state.vips.iter().filter(|(_, vip)| vip.flags & Vip::ADAPTIVE != 0);
        let adaptive: BTreeSet<String> =
            adaptive.filter_map(|(key, _)| Some(wanted::service(key)?.to_string())).collect();
        let changes = |vip: &&VipChange| vip.backends.iter().any(|backend| backend.change != Change::Unchanged);
        let concerned = told.vips.iter().filter(|vip| adaptive.contains(&vip.service)).filter(changes);
        let names: Vec<&str> = concerned.map(|vip| vip.name.as_str()).collect();
        (!names.is_empty()).then(|| {
            format!(
                "{}: adaptive, so flows are counted only where they are remembered; there may be more",
                first(&names)
            )
        })
    }

    /// Lets rings that are on their way be where they are, unless their VIPs are configured otherwise: of these it is told
    /// what they come to in the end. Returns backends that this takes for granted of.
    fn go_on(&self, wanted: &mut Wanted, new: Side) -> BTreeSet<IpAddr> {
        let same = |vip: &&model::Vip| {
            self.running.is_some_and(|old| {
                let mut before = old.config.vips.iter();
                before.any(|other| other == *vip)
                    && old.lists.pools(old.config, vip) == new.lists.pools(new.config, vip)
            })
        };
        let unchanged: BTreeSet<VipKey> =
            new.config.vips.iter().filter(same).map(|vip| wanted::key(&vip.service)).collect();
        let mut ends = BTreeSet::new();
        for ((key, which), ring) in self.under_way {
            match wanted.vips.get_mut(key) {
                Some(vip) if unchanged.contains(key) => put(vip, *which, &ring.weights),
                Some(_) => ends.extend(&ring.held),
                None => {}
            }
        }
        ends
    }
}

/// Tables that are made anew.
fn grown(from: &Room, to: &Room) -> Vec<TableGrowth> {
    cpus::growth(from, to).into_iter().map(|(table, bytes)| TableGrowth { table: table.into(), bytes }).collect()
}

/// Settings that need more than a reload.
fn restart(running: &Config, asked: &Config, has_runner: bool) -> Vec<Restart> {
    let told = |Fixed { key, running, asked, remedy }: Fixed| Restart {
        setting: Setting { key: key.into(), from: running, to: asked },
        remedy: remedy.into(),
    };
    fixed(running, asked, has_runner).into_iter().map(told).collect()
}

/// Overrides that concern a configuration, in words.
pub(crate) fn overrides(overrides: &Overrides, config: &Config) -> Vec<String> {
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
        (&assumed.whole, "taken to have what their slow start or the ring's budget will come to"),
    ];
    all.into_iter().filter_map(tell).collect()
}

/// Names of some backends, and how many more there are.
fn listed(config: &Config, backends: &BTreeSet<IpAddr>) -> String {
    let mut seen = BTreeSet::new();
    let new = members(config).filter(|(_, _, backend)| backends.contains(&backend.address));
    let new = new.filter(|(_, _, backend)| seen.insert(backend.address));
    first(&new.map(|(_, _, backend)| backend.name.as_str()).collect::<Vec<_>>())
}

/// The first of some names, and how many more there are.
pub(super) fn first(names: &[&str]) -> String {
    match names.split_at_checked(NAMED) {
        Some((first, rest)) if !rest.is_empty() => format!("{} and {} more", first.join(", "), rest.len()),
        _ => names.join(", "),
    }
}

impl<E: Engine> Controller<E> {
    /// What `asked` would change.
    pub(super) fn preview(&mut self, asked: &Arc<Config>) -> Result<Preview, Refusal> {
        self.require_interfaces(asked)?;
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
            under_way: &self.governor.under_way(),
            has_runner: self.wires.has_runner,
        };
        // Of the plan's own cache, which must not forget what is in force.
        let told = present.foresee(&asked, &mut self.rings.clone()).map_err(Refusal::Plan)?;
        Ok(Preview { overrides: overrides(self.keeper.overrides(), &asked), ..told })
    }

    /// The same in numbers: of a few VIPs alone if it concerns no others. `lists` are those of `asked`, on which overrides have
    /// no bearing.
    pub(super) fn outline(&mut self, asked: &Arc<Config>, lists: &Arc<Lists>) -> Result<Outline, Refusal> {
        match self.outline_part(asked, lists) {
            Some(outline) => outline.map_err(Refusal::Observe),
            None => self.preview(asked).map(|told| told.outline()),
        }
    }

    /// The same where it takes no more than a moment: nobody asked for it.
    pub(super) fn quick_outline(&mut self, asked: &Arc<Config>, lists: &Arc<Lists>) -> Option<Outline> {
        let is_small = [asked, &self.config].into_iter().all(|config| members(config).nth(QUICK).is_none());
        if is_small { self.outline(asked, lists).ok() } else { self.outline_part(asked, lists)?.ok() }
    }

    /// What `asked` would change of those VIPs that it concerns, by what was observed last. `None` if the whole is to be
    /// looked at.
    fn outline_part(&mut self, asked: &Arc<Config>, lists: &Arc<Lists>) -> Option<Result<Outline, dataplane::Error>> {
        let few = self.few(asked, lists)?;
        let mut flows = None;
        if moves_flows(&few.input(&|_, _| Vec::new(), &BTreeMap::new())) {
            match self.count_flows() {
                Ok(count) => flows = Some(count.live_by_target),
                Err(error) => return Some(Err(error)),
            }
        }
        let ring = |ring_base, ring_slots| self.engine.ring(&Vip { ring_base, ring_slots, ..Vip::default() });
        let told = preview(&few.input(&ring, flows.as_ref().unwrap_or(&BTreeMap::new())));
        Some(Ok(Outline {
            differs: told.differs || pools_differ(&few.before.config, &few.after.config),
            slots: Moved::new(told.slots.moved, slots(&self.state)),
            flows: flows.map(|flows| Moved::new(told.flows.moved, self.of_targets(&flows))),
            ..told.outline()
        }))
    }

    /// What `asked` makes of a few VIPs, if it concerns no others and these have all the places that they need.
    fn few(&mut self, asked: &Arc<Config>, lists: &Arc<Lists>) -> Option<Few> {
        let reports = Reports { health: self.wires.health.borrow().clone(), hops: self.wires.hops.borrow().clone() };
        let config = self.keeper.effective(asked);
        let after = Inputs { config, lists: Arc::clone(lists), reports };
        let before = Inputs { config: Arc::clone(&self.config), lists: Arc::clone(&self.lists), ..after.clone() };
        // What was observed is what is there only while all that was wanted is in force.
        let services = self.reached.as_ref().and_then(|_| concerned(&before, &after))?;
        let [old, new] = [&before, &after].map(|inputs| part(&inputs.config, &inputs.lists, &services));
        let keys: Vec<VipKey> = services.iter().map(wanted::key).collect();
        let state = patch::part(&self.state, keys.iter())?;
        let reports = (&*after.reports.health, &*after.reports.hops);
        let (wanted, _) = beliefs::expected(&new, &after.lists, &state, reports, Some(&old));
        let ops = patch::patch(&self.state, &wanted, &mut self.rings)?;
        Some(Few { state, ops, old, new, before, after })
    }

    /// How many of these flows are those of targets that there are.
    fn of_targets(&self, flows: &BTreeMap<u32, u64>) -> u64 {
        flows.iter().filter(|(id, _)| self.state.targets.contains_key(id)).map(|(_, flows)| flows).sum()
    }
}

/// What is to become of a few VIPs.
struct Few {
    /// What the tables hold of them.
    state: State,
    ops: Vec<Op>,
    /// Their configuration, and the new one.
    old: Config,
    new: Config,
    /// The whole of both.
    before: Inputs,
    after: Inputs,
}

impl Few {
    fn input<'a>(&'a self, ring: ReadRing<'a>, flows: &'a BTreeMap<u32, u64>) -> Input<'a> {
        let old = Side { config: &self.old, lists: &self.before.lists };
        let new = Side { config: &self.new, lists: &self.after.lists };
        Input { state: &self.state, ops: &self.ops, ring, flows, old: Some(old), new }
    }
}
