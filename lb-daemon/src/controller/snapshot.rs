//! What the controller shows of itself: the newest state that it applied, and how it is with each backend.

mod told;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::SystemTime};

use lb_common::maps::Tuning;
use tokio::time::Instant;

use self::told::{told_as_empty, told_as_few, told_as_hindered};
use super::{
    Reports,
    engine::Attached,
    governor::{Governor, Waits},
    history::History,
    overrides::Keeper,
    view,
};
#[cfg(doc)]
use crate::health;
use crate::{
    model::{
        AdminState, Config, Least, Service,
        overrides::{BackendOverride, Given, Overrides},
    },
    plan::{
        Capacity, State,
        lists::Lists,
        wanted::{Disposition, Few},
    },
    state::{About, Pending},
};

/// What follows from that, where the configuration names programs or webhooks.
const RUNNER_GONE: &str =
    "the process that runs programs is gone: checks of type exec stay as they are, on_change tells nobody; restart lb";

/// What follows from flows for which there is no room though they must be remembered.
pub(super) const LOSES_STRAYS: &str =
    "the flow table is too small, so slots of adaptive VIPs stay tracked: flow_table_entries";

/// The controller's state at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which configuration that is.
    pub in_force: InForce,
    /// Plans that changed the tables; 0 before the first.
    pub applied: u64,
    /// First results are still waited for.
    pub settling: bool,
    /// They are, and nobody served before: nobody serves yet.
    pub fresh: bool,
    /// What the file says.
    pub desired: Arc<Config>,
    /// The configuration in force: the same, as far as overrides leave it.
    pub config: Arc<Config>,
    /// What operators want beyond the file.
    pub overrides: Arc<Overrides>,
    /// Why overrides are not on disk as they are, if so.
    pub trouble: Option<String>,
    /// VIPs in the order of the file.
    pub vips: Vec<VipView>,
    /// What the program in force can do: bits of [`lb_common::maps::feature`].
    pub features: u32,
    /// Its parameters, but for masks, which follow from the tables.
    pub tuning: Tuning,
    /// Where the program is attached.
    pub attached: Vec<Attached>,
    /// Places of the tables in use.
    pub used: Capacity,
    /// Places of the tables.
    pub capacity: Capacity,
    /// Why probes to VIPs find no answer, as far as that is this host's fault.
    pub unanswered: Vec<String>,
    /// Pools with checks that cannot be made.
    pub hindered: Vec<HinderedPool>,
    /// What the flow table lately had no room for, if it had not.
    pub crowded: Option<&'static str>,
    /// Whether the process that ran programs is gone.
    pub runner_gone: bool,
    /// What went wrong at the last attempt to apply, if it did.
    pub failing: Option<Failing>,
    /// How the last change of configuration ended.
    pub last_reload: LastReload,
}

/// The generation in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// What there is to say about it.
    pub about: About,
    /// Whether the daemon's file said something else when it was last read.
    pub differs_from_file: bool,
    /// What waits for confirmation.
    pub pending: Option<Pending>,
    /// What is wrong with what is kept on disk, or with going back.
    pub problems: Vec<String>,
}

/// A VIP as it is in the tables.
#[derive(Clone, Debug, PartialEq)]
pub struct VipView {
    /// Its name.
    pub name: String,
    /// What it serves.
    pub service: Service,
    /// Its pool.
    pub pool: String,
    /// Since when an operator has it disabled, and who, if so.
    pub disabled: Option<Given>,
    /// Whether first results of some of its backends are waited for; who served before a change serves on meanwhile.
    pub settling: bool,
    /// How many of its backends are healthy.
    pub healthy: Headcount,
    /// Slots of its ring; 0 while no backend takes new flows.
    pub ring_slots: u32,
    /// Slots of an adaptive VIP's ring whose flows are remembered; `None` of other VIPs.
    pub tracked_slots: Option<u32>,
    /// Digest of its ring.
    pub ring_digest: Option<u64>,
    /// Its backends, in the order of the file.
    pub backends: Vec<BackendView>,
}

/// How many of a VIP's backends are healthy, of those of its own pool that are to take new flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headcount {
    /// Those whose checks pass, or that were found serving and have no result yet, and that can be reached.
    pub usable: usize,
    /// All.
    pub of: usize,
    /// So few are up that all are used of which something is known: `panic_threshold`.
    pub panic: Option<Few>,
    /// What `min_healthy` asks for, if fewer are usable.
    pub lacks: Option<Least>,
}

/// A backend of a VIP as it is in the tables.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendView {
    /// Its pool; not the VIP's if a source route leads to it.
    pub pool: String,
    /// Its name, unique in its pool.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its number in the tables.
    pub target: Option<u32>,
    /// What it may take, by the tables.
    pub effect: Disposition,
    /// Why it is not serving, or why it is although its check fails.
    pub reason: Option<String>,
    /// Why it has less of the ring, or more, than health alone would give it.
    pub waits: Option<Waits>,
    /// What is wanted of it: by the override if there is one, else by the file.
    pub admin: AdminState,
    /// Its weight: the override's if there is one, else the file's.
    pub weight: u32,
    /// What an operator wants beyond the file.
    pub overridden: Option<BackendOverride>,
    /// Its share of new flows, 0 to 1: its weight in force over that of all that serve.
    pub share: f64,
    /// Whether its check is passed; `None` before the first result.
    pub up: Option<bool>,
    /// The last result in words.
    pub last_check: String,
    /// The part of its weight that its agent wants, of [`health::WHOLE`].
    pub permille: u16,
    /// What its agent wants, if that is not all that it may have: `agent: 75%`.
    pub advice: Option<String>,
    /// Whether it has an agent that is not reached, or not understood.
    pub silent: bool,
    /// MAC address of its next hop, if the tables have one.
    pub next_hop: Option<[u8; 6]>,
    /// Interface to leave by; 0 is the one a packet came in by.
    pub ifindex: u32,
}

/// Applying fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: SystemTime,
    /// Attempts that failed.
    pub attempts: u32,
    /// What went wrong, with its causes.
    pub message: String,
}

/// A pool with checks that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HinderedPool {
    /// Its name.
    pub pool: String,
    /// The names of the backends whose checks these are.
    pub backends: BTreeSet<String>,
    /// How many checks, agents among them, for all VIPs.
    pub checks: usize,
    /// Since when the first of them.
    pub since: SystemTime,
    /// Why that one.
    pub why: String,
}

/// How the last change of configuration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastReload {
    /// When it was tried.
    pub at: SystemTime,
    /// When one last succeeded.
    pub succeeded_at: SystemTime,
    /// Why it was refused, if it was; a reason on each line.
    pub refused: Option<String>,
}

impl LastReload {
    /// One that succeeds now.
    pub(super) fn succeeded() -> Self {
        let now = SystemTime::now();
        Self { at: now, succeeded_at: now, refused: None }
    }

    /// The next one, refused now.
    pub(super) fn refused(&self, why: String) -> Self {
        Self { at: SystemTime::now(), refused: Some(why), ..self.clone() }
    }
}

impl Snapshot {
    /// What can be said before anything was applied.
    pub(super) fn starting(
        desired: &Arc<Config>,
        keeper: &Keeper,
        lists: &Lists,
        history: &History,
        attached: &[Attached],
        tuning: Tuning,
        state: &State,
    ) -> Self {
        let config = keeper.effective(desired);
        let reports = Reports { health: Arc::default(), hops: Arc::default() };
        let overrides = keeper.overrides();
        let governor = &Governor::new(Instant::now());
        let known =
            view::Known { config: &config, lists, overrides, state, reports: &reports, governor, settling: true };
        Self {
            in_force: history.in_force(),
            applied: 0,
            settling: true,
            fresh: state.vips.is_empty(),
            desired: Arc::clone(desired),
            vips: view::views(&known),
            config,
            overrides: Arc::clone(keeper.overrides()),
            trouble: keeper.trouble().cloned(),
            features: tuning.features,
            tuning,
            attached: attached.to_vec(),
            used: view::used(state),
            capacity: state.capacity,
            unanswered: Vec::new(),
            hindered: Vec::new(),
            crowded: None,
            runner_gone: false,
            failing: None,
            last_reload: LastReload::succeeded(),
        }
    }

    /// Whether what the start brings is not in force yet.
    pub fn is_starting(&self) -> bool {
        self.settling && (self.applied == 0 || self.fresh)
    }

    /// VIPs without a backend that takes new flows, but for those that are disabled or wait for first results.
    pub fn without_backend(&self) -> impl Iterator<Item = &VipView> {
        self.vips.iter().filter(|vip| vip.disabled.is_none() && !vip.settling && vip.serving() == 0)
    }

    /// What an operator should look at; empty when all is well.
    pub fn problems(&self) -> Vec<String> {
        let empty = told_as_empty(&self.without_backend().map(|vip| vip.name.as_str()).collect::<Vec<_>>());
        let failing = self.failing.iter().map(|failing| format!("applying fails: {}", failing.message));
        let refused = self.last_reload.refused.iter().flat_map(|why| why.lines());
        let refused = refused.map(|why| format!("the last reload was refused: {why}"));
        let here = self.trouble.iter().chain(&self.in_force.problems).chain(&self.unanswered).cloned();
        let few = told_as_few(&self.vips);
        let stuck = self.runner_gone && self.config.needs_runner().is_some();
        let here = here.chain(stuck.then(|| RUNNER_GONE.to_owned()));
        let here = here.chain(self.crowded.map(str::to_owned));
        let here = here.chain(told_as_hindered(&self.hindered, SystemTime::now()));
        failing.chain(refused).chain(here).chain(empty).chain(few).collect()
    }
}

impl VipView {
    /// Whether it is as it should be: it has a backend that takes new flows, and not fewer healthy ones than it should have.
    pub fn is_up(&self) -> bool {
        let Headcount { usable, lacks, .. } = self.healthy;
        self.disabled.is_none() && self.serving() > 0 && usable > 0 && lacks.is_none()
    }

    /// Why it is told to be down although it may forward: `3 of 10 backends healthy, min_healthy is 50%`.
    pub fn lacks(&self) -> Option<String> {
        let Headcount { usable, of, lacks, .. } = self.healthy;
        let told = match lacks {
            Some(least) => format!("{usable} of {of} backends healthy, min_healthy is {least}"),
            None if usable == 0 && self.serving() > 0 => format!("none of {of} backends healthy"),
            None => return None,
        };
        self.counts().then_some(told)
    }

    /// Why backends serve that are not up: `panic: 1 of 10 backends up, all used`.
    pub fn panic(&self) -> Option<String> {
        let Few { up, of } = self.healthy.panic.filter(|_| self.counts())?;
        Some(format!("panic: {up} of {of} backends up, all used"))
    }

    /// Whether it means anything how many of its backends are healthy.
    fn counts(&self) -> bool {
        self.disabled.is_none() && !self.settling
    }

    /// Number of backends that take new flows.
    pub fn serving(&self) -> usize {
        self.backends.iter().filter(|backend| backend.effect == Disposition::Serving).count()
    }
}
