//! The task that runs all probes: one for thousands of them, with a queue of deadlines.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::watch, task::JoinHandle, time::sleep_until};
use tracing::{debug, warn};

use super::{
    CheckId, Checks, Ejections, HealthView, Hindered, Kept, Member, Standing, Stats, Ways,
    machine::Transition,
    probe::{self, Outcome, Verdict},
    roster::{Due, Effect, Judged, Number, Roster},
};
use crate::{client::Clients, model::Ask, runner::Runner};

/// Changes of state within this time of each other are published together.
const COALESCE: Duration = Duration::from_millis(20);

/// Latencies and counts are brought up to date this often, without waking those who wait for changes.
const REFRESH: Duration = Duration::from_secs(1);

/// Probes start no more often than this, and then together: so is what they wait for, and thousands of them wake the thread
/// some hundred times a second.
const GRAIN: Duration = Duration::from_millis(5);

/// Skipped probes are complained about at most this often.
const COMPLAIN: Duration = Duration::from_mins(1);

/// How often it is looked at least which checks could not be made for long.
const LOOK: Duration = Duration::from_secs(5);

/// Probes under way at once: at most this many, and never more than half of the descriptors that the process may open.
const MOST_PROBES: usize = 4096;

/// What the driver goes by.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// What is to be checked, and how.
    pub checks: watch::Receiver<Arc<Checks>>,
    /// By which ways those are to be made that go to the VIP; without a sender they stay as they are.
    pub ways: watch::Receiver<Arc<Ways>>,
    /// What traffic tells against backends; without a sender it stays as it is.
    pub ejections: watch::Receiver<Arc<Ejections>>,
    /// Is told which checks cannot be made.
    pub hindered: watch::Sender<Arc<Hindered>>,
    /// Runs programs, if any are to be run.
    pub runner: Option<Runner>,
    /// What was known of checks when the daemon ended.
    pub kept: BTreeMap<CheckId, Kept>,
}

/// Runs the checks that `inputs` names, in a task of its own.
///
/// The receiver is woken when a backend goes up or down, when the reason changes, or when backends come and go. The task
/// ends when `checks` has no sender or the view no receiver any more, or when it is aborted; probes under way end with it.
pub fn spawn(mut inputs: Inputs, stats: Stats) -> (watch::Receiver<Arc<HealthView>>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(Arc::default());
    let kept = std::mem::take(&mut inputs.kept);
    (receiver, tokio::spawn(Driver::new(kept, sender, stats).run(inputs)))
}

struct Driver {
    roster: Roster,
    running: FuturesUnordered<BoxFuture<'static, (Number, Outcome)>>,
    /// Most of these at once.
    most: usize,
    /// Programs that run or wait for that. They take no descriptors here, and the runner limits them: those that hang hold up
    /// no other probes.
    programs: FuturesUnordered<BoxFuture<'static, (Number, Outcome)>>,
    sender: watch::Sender<Arc<HealthView>>,
    /// What is not published yet: how it is with some backends, `None` if that is not known any more.
    fresh: BTreeMap<Member, Option<Standing>>,
    /// Whether those who wait for changes should know.
    visible: bool,
    /// When the next ones may start.
    start_at: Instant,
    /// When to publish.
    publish_at: Option<Instant>,
    complain_at: Instant,
    look_at: Instant,
    stats: Stats,
    ways: Arc<Ways>,
    /// For the checks as they are; made anew with them, so that a reload reads the system's certificates again.
    clients: Arc<Clients>,
    runner: Option<Runner>,
}

impl Driver {
    fn new(kept: BTreeMap<CheckId, Kept>, sender: watch::Sender<Arc<HealthView>>, stats: Stats) -> Self {
        Self {
            roster: Roster::new(kept, RandomState::new().hash_one(0)),
            running: FuturesUnordered::new(),
            most: most_probes(),
            programs: FuturesUnordered::new(),
            sender,
            fresh: BTreeMap::new(),
            visible: false,
            start_at: clock(),
            publish_at: None,
            complain_at: clock(),
            look_at: clock(),
            stats,
            ways: Arc::default(),
            clients: Arc::default(),
            runner: None,
        }
    }

    async fn run(mut self, inputs: Inputs) {
        let Inputs { mut checks, mut ways, mut ejections, hindered, runner, kept: _ } = inputs;
        self.runner = runner;
        self.set_ways(&mut ways);
        let wanted = checks.borrow_and_update().clone();
        let _ = self.roster.eject(ejections.borrow_and_update().clone(), clock(), SystemTime::now());
        self.set(&wanted);
        loop {
            self.start_due();
            let wake = self.wake().map_or(self.look_at, |at| at.min(self.look_at));
            tokio::select! {
                changed = checks.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = checks.borrow_and_update().clone();
                    self.set(&wanted);
                }
                // A sender that is gone disables its arm.
                Ok(()) = ejections.changed() => {
                    let ejections = ejections.borrow_and_update().clone();
                    let now = clock();
                    let effect = self.roster.eject(ejections, now, SystemTime::now());
                    self.note(effect, now);
                }
                Ok(()) = ways.changed() => self.set_ways(&mut ways),
                Some((number, outcome)) = self.running.next() => self.take(number, outcome),
                Some((number, outcome)) = self.programs.next() => self.take(number, outcome),
                () = sleep_until(wake.into()) => {}
                () = self.sender.closed() => return,
            }
            let now = clock();
            if self.roster.next_session().is_some_and(|at| at <= now) {
                let effect = self.roster.hold_session(now, SystemTime::now());
                self.note(effect, now);
            }
            if self.publish_at.is_some_and(|at| at <= now) {
                self.publish();
            }
            if self.look_at <= now {
                self.look_at = now + LOOK;
                let found = self.roster.hindered(now);
                hindered.send_if_modified(|told| {
                    let differs = **told != found;
                    *told = Arc::new(found);
                    differs
                });
            }
        }
    }

    fn set(&mut self, wanted: &Checks) {
        self.roster.set(wanted, clock(), SystemTime::now());
        self.clients = Arc::default();
        (self.visible, self.publish_at) = (false, None);
        self.fresh.clear();
        let view = self.roster.view();
        self.sender.send_if_modified(|published| {
            let visible = !alike(published, &view);
            *published = Arc::new(view);
            visible
        });
    }

    fn set_ways(&mut self, ways: &mut watch::Receiver<Arc<Ways>>) {
        self.ways = ways.borrow_and_update().clone();
        self.roster.set_ways(Arc::clone(&self.ways), clock());
    }

    fn start_due(&mut self) {
        let now = clock();
        if now < self.start_at {
            return;
        }
        loop {
            let due = if self.is_full() { self.roster.start_program(now) } else { self.roster.start_next(now) };
            let Some(Due { number, probe, way, at }) = due else { break };
            self.start_at = now + GRAIN;
            self.stats.count_start(now.duration_since(at));
            let (ways, clients, runner) = (Arc::clone(&self.ways), Arc::clone(&self.clients), self.runner.clone());
            let kind = if matches!(probe.ask, Ask::Exec(_)) { &self.programs } else { &self.running };
            let made = async move { (number, probe::run(&probe, (way, &ways.taken), &clients, runner.as_ref()).await) };
            kind.push(Box::pin(made));
        }
    }

    /// Whether there is no room but for programs.
    fn is_full(&self) -> bool {
        self.running.len() >= self.most
    }

    /// When there is something to do but to look, if nothing happens before.
    fn wake(&self) -> Option<Instant> {
        let next = if self.is_full() { self.roster.next_program() } else { self.roster.next_deadline() };
        let next = next.map(|at| at.max(self.start_at));
        self.publish_at.into_iter().chain(next).chain(self.roster.next_session()).min()
    }

    /// Hands a probe's outcome to the roster. What hinders probes as such is told here: no backend is down for it.
    fn take(&mut self, number: Number, outcome: Outcome) {
        let now = clock();
        self.stats.count(&outcome);
        if matches!(outcome.result, Verdict::Skipped | Verdict::Impossible) && now >= self.complain_at {
            warn!(reason = outcome.text, "health checks cannot be made");
            self.complain_at = now + COMPLAIN;
        }
        if outcome.result == Verdict::Impossible {
            self.look_at = self.look_at.min(now + REFRESH);
        }
        let effect = self.roster.on_outcome(number, outcome, now, SystemTime::now());
        self.note(effect, now);
    }

    /// Takes note of what is to be published.
    fn note(&mut self, effect: Effect, now: Instant) {
        if effect.results.is_empty() {
            return;
        }
        let mut matters = false;
        for Judged { member, standing, transition } in effect.results {
            let before = self.sender.borrow().get(&member).map(Standing::counts);
            matters |= before != standing.as_ref().map(Standing::counts);
            if let (Some(transition), Some(standing)) = (transition, &standing) {
                self.stats.count_transition(transition);
                log(member, &standing.reason, transition);
            }
            self.fresh.insert(member, standing);
        }
        self.visible |= effect.visible;
        // Some servers and programs say something else each time: mere words can wait.
        let at = now + if matters { COALESCE } else { REFRESH };
        self.publish_at = Some(self.publish_at.map_or(at, |before| before.min(at)));
    }

    fn publish(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        let visible = std::mem::take(&mut self.visible);
        self.publish_at = None;
        self.sender.send_if_modified(|published| {
            // Copies the view only if somebody still reads the last one.
            let published = Arc::make_mut(published);
            for (member, standing) in fresh {
                match standing {
                    Some(standing) => drop(published.insert(member, standing)),
                    None => drop(published.remove(&member)),
                }
            }
            visible
        });
    }
}

/// The present, by the runtime's clock.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Whether two views differ in nothing that those who wait for changes should know.
fn alike(one: &HealthView, other: &HealthView) -> bool {
    let same = |((member, one), (another, other)): ((&Member, &Standing), (&Member, &Standing))| {
        member == another && one.is_alike(other)
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

/// The controller's states tell operators, by name, what comes of it.
fn log(member: Member, reason: &str, transition: Transition) {
    let Member { service: vip, backend } = member;
    debug!(%vip, %backend, reason, up = transition.up, first = transition.first, "health has another result");
}

fn most_probes() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = descriptors.map_or(MOST_PROBES, |limit| usize::try_from(limit / 2).unwrap_or(MOST_PROBES));
    half.clamp(1, MOST_PROBES)
}

#[cfg(test)]
mod tests;
