//! The task that runs all probes: one for thousands of them, with a queue of deadlines.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::watch, task::JoinHandle, time::sleep_until};
use tracing::{debug, warn};

use super::{
    Checks, HealthView, Member, Standing, Stats,
    machine::Transition,
    probe::{self, Outcome, Verdict},
    roster::{Judged, Number, Roster},
};

/// Changes of state within this time of each other are published together.
const COALESCE: Duration = Duration::from_millis(20);

/// Latencies and counts are brought up to date this often, without waking those who wait for changes.
const REFRESH: Duration = Duration::from_secs(1);

/// Skipped probes are complained about at most this often.
const COMPLAIN: Duration = Duration::from_mins(1);

/// Probes under way at once: at most this many, and never more than half of the descriptors that the process may open.
const MOST_PROBES: usize = 4096;

/// Runs the checks that `checks` names, in a task of its own.
///
/// The receiver is woken when a backend goes up or down, when the reason changes, or when backends come and go. The task ends when `checks` has no sender or the view no receiver any more, or when it is aborted; probes under
/// way end with it.
pub fn spawn(checks: watch::Receiver<Arc<Checks>>, stats: Stats) -> (watch::Receiver<Arc<HealthView>>, JoinHandle<()>) {
    let (sender, receiver) = watch::channel(Arc::default());
    (receiver, tokio::spawn(Driver::new(sender, stats).run(checks)))
}

struct Driver {
    roster: Roster,
    running: FuturesUnordered<BoxFuture<'static, (Number, Outcome)>>,
    most: usize,
    sender: watch::Sender<Arc<HealthView>>,
    /// Results that are not published yet.
    fresh: HealthView,
    /// Whether those who wait for changes should know.
    visible: bool,
    /// When to publish.
    publish_at: Option<Instant>,
    complain_at: Instant,
    stats: Stats,
}

impl Driver {
    fn new(sender: watch::Sender<Arc<HealthView>>, stats: Stats) -> Self {
        Self {
            roster: Roster::new(RandomState::new().hash_one(0)),
            running: FuturesUnordered::new(),
            most: most_probes(),
            sender,
            fresh: HealthView::new(),
            visible: false,
            publish_at: None,
            complain_at: clock(),
            stats,
        }
    }

    async fn run(mut self, mut checks: watch::Receiver<Arc<Checks>>) {
        let wanted = checks.borrow_and_update().clone();
        self.set(&wanted);
        loop {
            self.start_due();
            let wake = self.wake();
            tokio::select! {
                changed = checks.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = checks.borrow_and_update().clone();
                    self.set(&wanted);
                }
                Some((number, outcome)) = self.running.next() => self.take(number, outcome),
                () = sleep_until(wake.unwrap_or_else(clock).into()), if wake.is_some() => {}
                () = self.sender.closed() => return,
            }
            if self.publish_at.is_some_and(|at| at <= clock()) {
                self.publish();
            }
        }
    }

    fn set(&mut self, wanted: &Checks) {
        self.roster.set(wanted, clock(), SystemTime::now());
        (self.visible, self.publish_at) = (false, None);
        self.fresh.clear();
        let view = self.roster.view();
        self.sender.send_if_modified(|published| {
            let visible = !alike(published, &view);
            *published = Arc::new(view);
            visible
        });
    }

    fn start_due(&mut self) {
        let now = clock();
        while self.running.len() < self.most {
            let Some((number, probe)) = self.roster.start_next(now) else { break };
            self.running.push(Box::pin(async move { (number, probe::run(&probe).await) }));
        }
    }

    /// When there is something to do, if nothing happens before.
    fn wake(&self) -> Option<Instant> {
        let next = self.roster.next_deadline().filter(|_| self.running.len() < self.most);
        self.publish_at.into_iter().chain(next).min()
    }

    fn take(&mut self, number: Number, outcome: Outcome) {
        let now = clock();
        self.stats.count(&outcome);
        if outcome.result == Verdict::Skipped && now >= self.complain_at {
            warn!(reason = outcome.text, "health checks cannot be made");
            self.complain_at = now + COMPLAIN;
        }
        let effect = self.roster.on_outcome(number, outcome, now, SystemTime::now());
        if effect.results.is_empty() {
            return;
        }
        for Judged { member, standing, transition } in effect.results {
            if let Some(transition) = transition {
                self.stats.count_transition(transition);
                log(member, &standing.reason, transition);
            }
            self.fresh.insert(member, standing);
        }
        self.visible |= effect.visible;
        let at = now + if effect.visible { COALESCE } else { REFRESH };
        self.publish_at = Some(self.publish_at.map_or(at, |before| before.min(at)));
    }

    fn publish(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        let visible = std::mem::take(&mut self.visible);
        self.publish_at = None;
        self.sender.send_if_modified(|published| {
            // Copies the view only if somebody still reads the last one.
            Arc::make_mut(published).extend(fresh);
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
    let same = |(one, other): ((&Member, &Standing), (&Member, &Standing))| {
        one.0 == other.0 && one.1.up == other.1.up && one.1.reason == other.1.reason
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
