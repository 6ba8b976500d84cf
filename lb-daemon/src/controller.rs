//! The one owner of configuration, health, plan and dataplane.
//!
//! It observes the tables, works out what they should hold, plans the difference and applies it in order: at the start,
//! upon each change of configuration, health or next hops, and every minute, because what was written once may have been
//! changed by others. Others know it by its [`Handle`]: an inbox of commands, and the newest [`Snapshot`].

pub(crate) mod apply;
pub mod beliefs;
pub mod change;
mod clock;
mod commands;
mod concerned;
mod ejections;
mod ended;
pub mod engine;
pub(crate) mod features;
mod former;
mod governor;
mod heartbeat;
mod hindered;
pub mod history;
pub mod overrides;
pub mod preview;
mod probing;
mod program;
mod publish;
pub mod reloader;
pub mod snapshot;
pub mod totals;
pub mod tuning;
pub(crate) mod view;
mod work;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io, iter,
    net::IpAddr,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

pub use self::governor::{UnderWay, Waits};
pub use self::program::grows;
pub(crate) use self::work::chain;
pub use self::{
    apply::{Asked, By, Terms},
    commands::{AskError, Handle, NotConfirmed, Refusal, ReloadError, Reloaded},
    engine::{Attached, Engine, InstallError},
    snapshot::Snapshot,
};
use self::{
    clock::Clock, commands::Command, concerned::Inputs, ejections::Listener, former::Former, governor::Governor,
    heartbeat::Heartbeat, history::History, overrides::Keeper, totals::Totals,
};
use crate::{
    dataplane::{self, settle::Trackers},
    health::{Checks, Ejections, HealthView, Hindered, Member, Ways, passive},
    model::{AdminState, Backend, Config, NextHopConfig, Pool, RouteTo, Vip},
    nexthop,
    plan::{RingCache, Room, State, diff, lists::Lists, room},
};

/// Commands that may wait: a scrape, a reload and some people at their terminals; who comes later waits as a sender.
const INBOX: usize = 16;
/// How often it is looked whether the program still runs where it should.
const LOOK: Duration = Duration::from_secs(1);

/// What connects the controller with the health checks and the next hops.
pub struct Wires {
    /// Which checks are to run.
    pub checks: watch::Sender<Arc<Checks>>,
    /// By which ways those are to be made that go to the VIP.
    pub ways: watch::Sender<Arc<Ways>>,
    /// What they found.
    pub health: watch::Receiver<Arc<HealthView>>,
    /// Which of them cannot be made for long; without a sender that stays as it is.
    pub hindered: watch::Receiver<Arc<Hindered>>,
    /// What traffic tells against backends.
    pub ejections: watch::Sender<Arc<Ejections>>,
    /// To which addresses next hops are to be known.
    pub hop_targets: watch::Sender<BTreeSet<IpAddr>>,
    /// What is known of them.
    pub hops: watch::Receiver<Arc<nexthop::Snapshot>>,
    /// Whether there is a process that runs programs.
    pub has_runner: bool,
    /// Whether it is gone meanwhile; without a sender that stays as it is.
    pub runner_gone: watch::Receiver<bool>,
}

/// What health checks and next hops reported.
#[derive(Clone, Debug)]
struct Reports {
    health: Arc<HealthView>,
    hops: Arc<nexthop::Snapshot>,
}

/// Why a controller could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The tables could not be read.
    #[error("cannot read the tables that are in place")]
    Observe(#[source] dataplane::Error),
    /// The configuration does not fit the tables.
    #[error("no tables can hold what the configuration asks for")]
    Plan(#[source] diff::PlanError),
    /// The system gave no thread.
    #[error("cannot start the controller's thread")]
    Thread(#[source] io::Error),
}

/// The owner of all state. It lives in one task, on a thread of its own, since writes to the tables are system calls.
pub struct Controller<E> {
    engine: E,
    /// What the file says.
    desired: Arc<Config>,
    /// What is in force: the same, as far as overrides leave it.
    config: Arc<Config>,
    keeper: Keeper,
    /// Those of `config`.
    lists: Arc<Lists>,
    attached: Vec<Attached>,
    /// Interfaces that the program was lost from, at the last look.
    lost: BTreeMap<String, u32>,
    wires: Wires,
    inbox: mpsc::Receiver<Command>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    clock: Clock,
    rings: RingCache,
    totals: Totals,
    /// What the tables held after the last write.
    state: State,
    history: History,
    /// Plans that changed the tables.
    applied: u64,
    /// What the latest plan was made of. Newer reports are shown only once they are planned for.
    reports: Reports,
    /// What the tables were last brought to whole, if no attempt failed since.
    reached: Option<Inputs>,
    /// Until when first results are waited for; `None` once they are in.
    settling: Option<Instant>,
    /// The tables were empty at the start, and first results are not in yet.
    fresh: bool,
    /// What serves on until then, although it is not configured any more.
    former: Former,
    /// How far rings have come to what health asks for.
    governor: Governor,
    /// What went wrong at the last attempt, if it did.
    failing: Option<snapshot::Failing>,
    last_reload: snapshot::LastReload,
    /// The part of the flow table that is swept next.
    part: u32,
    /// Since when the slots of adaptive VIPs are as they are.
    trackers: Trackers,
    /// When to look next which of them nobody needs tracked any more.
    settle_at: Instant,
    /// Whether the flow table lately had no room for a flow that it must remember for that.
    loses_strays: bool,
    heartbeat: Heartbeat,
    listener: Listener,
    /// What carries probes is in place, or none is needed; else why not. `None` before it was tried.
    carrying: Option<Result<(), String>>,
    /// When to try that again.
    carry_again: Option<Instant>,
}

impl<E: Engine> Controller<E> {
    /// Reads the tables, and asks for the configuration's checks and next hops. Nothing is written before
    /// [`Controller::run`]. `history` tells where the configuration comes from, `attached` where the program is in force,
    /// `keeper` what operators want beyond the configuration.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn new(
        mut engine: E,
        config: Config,
        history: History,
        attached: Vec<Attached>,
        keeper: Keeper,
        wires: Wires,
    ) -> Result<(Self, Handle), StartError> {
        let lists = Lists::of(&config);
        let state = engine.observe().map_err(StartError::Observe)?;
        let now = Instant::now();
        let mut totals = Totals::default();
        totals.learn(&state);
        let desired = Arc::new(config);
        let config = keeper.effective(&desired);
        let first =
            Snapshot::starting(&desired, &keeper, &lists, &history, &attached, features::tuning(&engine), &state);
        let last_reload = first.last_reload.clone();
        let (snapshots, newest) = watch::channel(Arc::new(first));
        let (sender, inbox) = mpsc::channel(INBOX);
        let settling = Some(now + beliefs::patience(&config));
        let fresh = state.vips.is_empty();
        let reports = Reports { health: wires.health.borrow().clone(), hops: wires.hops.borrow().clone() };
        let (health, hindered) = (wires.health.clone(), wires.hindered.clone());
        let mut controller = Self {
            engine,
            desired,
            config,
            keeper,
            lists: Arc::new(lists),
            attached,
            lost: BTreeMap::new(),
            wires,
            inbox,
            snapshots,
            clock: Clock::new(now),
            rings: RingCache::default(),
            totals,
            state,
            history,
            applied: 0,
            reports,
            reached: None,
            settling,
            fresh,
            former: Former::default(),
            governor: Governor::new(now),
            failing: None,
            last_reload,
            part: 0,
            trackers: Trackers::default(),
            settle_at: now,
            loses_strays: false,
            heartbeat: Heartbeat::default(),
            listener: Listener::default(),
            carrying: None,
            carry_again: None,
        };
        controller.ask_for_inputs();
        Ok((controller, Handle::new(sender, newest, health, hindered)))
    }

    /// Starts a thread that runs the controller, with the timers of `runtime`. The receiver hears of its end, by a message
    /// or, should it panic, by the sender's; the engine is let go then.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn(self, runtime: runtime::Handle) -> Result<oneshot::Receiver<()>, StartError>
    where
        E: 'static,
    {
        let (done, ended) = oneshot::channel();
        let body = move || {
            runtime.block_on(self.run());
            // Whoever waited may have given up.
            let _ = done.send(());
        };
        thread::Builder::new().name("controller".into()).spawn(body).map_err(StartError::Thread)?;
        Ok(ended)
    }

    /// Works until it is told to stop or nobody holds a [`Handle`] any more. Forwarding goes on afterwards.
    pub async fn run(mut self) {
        self.history.commence();
        self.reconcile();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listen = interval(passive::SAMPLE);
        listen.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = self.wake();
            let deadline = self.history.until();
            tokio::select! {
                command = self.inbox.recv() => {
                    let Some(command) = command else { return };
                    if self.obey(command).is_break() {
                        return;
                    }
                }
                // A sender that is gone disables its arm: the last view stays in force.
                Ok(()) = self.wires.health.changed() => self.clock.changed(Instant::now()),
                Ok(()) = self.wires.hops.changed() => self.clock.changed(Instant::now()),
                Ok(()) = self.wires.runner_gone.changed() => self.publish(),
                Ok(()) = self.wires.hindered.changed() => self.publish(),
                () = tokio::time::sleep_until(wake) => self.reconcile(),
                // Not looked at without a deadline; the time then means nothing.
                () = tokio::time::sleep_until(deadline.unwrap_or(wake)), if deadline.is_some() => self.expire(),
                _ = listen.tick(), if !self.listener.is_idle() => self.look_at_traffic(),
                _ = look.tick() => {
                    self.beat();
                    self.forget_ended();
                    self.settle_slots();
                    self.watch_drains();
                    // A loss that cannot be mended is tried again by the clock.
                    if self.engine.lost(&self.config.dataplane) != self.lost || self.carries_otherwise() {
                        self.reconcile();
                    }
                }
            }
        }
    }

    /// When to plan next, if nothing is reported before.
    fn wake(&self) -> Instant {
        let sooner = [self.settling, self.governor.next(), self.carry_again];
        sooner.into_iter().flatten().fold(self.clock.next(), Instant::min)
    }

    /// Tells health checks and next hops what the configuration needs of them.
    fn ask_for_inputs(&mut self) {
        self.listen();
        tell(&self.wires.checks, Arc::new(checks(&self.config)));
        tell(&self.wires.hop_targets, hop_targets(&self.config));
    }
}

/// Wakes who listens if there is something else to hear.
fn tell<T: PartialEq>(listeners: &watch::Sender<T>, now: T) {
    listeners.send_if_modified(|told| {
        let differs = *told != now;
        if differs {
            *told = now;
        }
        differs
    });
}

/// The sizes of tables that hold `state` with which they can take all that `config` may come to need; those that they have,
/// where these do. `lists` are those of `config`.
///
/// # Errors
/// When no tables could.
pub fn room(state: &State, config: &Config, lists: &Lists) -> Result<Room, StartError> {
    let wanted = beliefs::best_case(config, lists);
    let capacity = room::enough(state, &wanted, &mut RingCache::default()).map_err(StartError::Plan)?;
    Ok(Room { capacity, flow_entries: config.dataplane.flow_table_entries })
}

/// The checks that `config` asks for: those of disabled backends are not run. A backend of several pools is checked as the
/// first of them says that checks it.
pub fn checks(config: &Config) -> Checks {
    let mut checks = Checks::new();
    for (vip, pool, backend) in by_pool(config) {
        if pool.health.is_watched() && backend.state != AdminState::Disabled {
            checks.entry(member(vip, backend)).or_insert_with(|| Arc::clone(&pool.health));
        }
    }
    checks
}

/// Each backend of each VIP once, with the first pool that has it.
fn members(config: &Config) -> impl Iterator<Item = (&Vip, &Pool, &Backend)> {
    config.vips.iter().flat_map(|vip| {
        // Within a pool each address is there once.
        let (several, mut seen) = (!vip.source_routes.is_empty(), BTreeSet::new());
        of_vip(config, vip).filter(move |(_, _, backend)| !several || seen.insert(backend.address))
    })
}

/// Each backend of each VIP, with each pool that has it.
fn by_pool(config: &Config) -> impl Iterator<Item = (&Vip, &Pool, &Backend)> {
    config.vips.iter().flat_map(|vip| of_vip(config, vip))
}

/// The backends of a VIP's pool, then those of other pools that its source routes lead to.
fn of_vip<'c>(config: &'c Config, vip: &'c Vip) -> impl Iterator<Item = (&'c Vip, &'c Pool, &'c Backend)> {
    // Of a million routes, those in a row mostly lead to the same pool.
    let mut last = vip.pool.as_str();
    let mut routed: BTreeSet<&str> = BTreeSet::new();
    for route in &vip.source_routes {
        if let RouteTo::Pool(name) = &route.to
            && name != last
        {
            last = name;
            routed.insert(name);
        }
    }
    routed.remove(vip.pool.as_str());
    let pools = iter::once(vip.pool.as_str()).chain(routed).filter_map(|name| config.pools.get(name));
    pools.flat_map(move |pool| pool.backends.iter().map(move |backend| (vip, pool, backend)))
}

fn member(vip: &Vip, backend: &Backend) -> Member {
    Member { service: vip.service, backend: backend.address }
}

/// The addresses whose next hops `config` needs to know: none with a fixed gateway.
pub fn hop_targets(config: &Config) -> BTreeSet<IpAddr> {
    match config.dataplane.next_hop {
        NextHopConfig::Gateway(_) => BTreeSet::new(),
        NextHopConfig::Auto => {
            let elsewhere = members(config).filter(|(_, _, backend)| !backend.local);
            elsewhere.map(|(_, _, backend)| backend.address).collect()
        }
    }
}
