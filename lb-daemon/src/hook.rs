//! Tells a program or a web server of the operator's that a backend or a VIP changed: `[daemon.on_change]`.
//!
//! Events come from the log's announcements and wait in a bounded queue, so that a slow receiver holds up nobody. What came
//! meanwhile goes out together, in the order in which it happened; a delivery that fails is tried again, then given up. The
//! runner makes the deliveries, since the daemon is confined.

use std::{
    collections::BTreeMap,
    mem,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::sleep,
};
use tracing::{debug, warn};

use crate::{
    model::OnChange,
    runner::{Ended, How, Outcome, Post, Program, Runner, Task},
};

mod stats;

use self::stats::Counters;
pub use self::stats::Stats;

/// Events that may wait for each receiver, some MiB; more are dropped, and the log says so.
const WAITING: usize = 16_384;
/// Most events of one delivery.
const BATCH: usize = 256;
/// Events within this time of each other go out together.
const GATHER: Duration = Duration::from_millis(100);
/// Time until the first repetition; each further one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it was seen, in UTC by RFC 3339.
    pub time: String,
    /// What happened.
    pub event: What,
    /// Name of the VIP.
    pub vip: String,
    /// What it serves, as in `192.0.2.10:443 tcp`.
    pub service: String,
    /// The backend; absent if it is about the VIP as a whole.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Who>,
    /// Why, where that is not plain.
    pub reason: Option<String>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Its pool.
    pub pool: String,
    /// Its name.
    pub backend: String,
    /// Its address.
    pub address: IpAddr,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A backend takes new flows.
    BackendServing,
    /// A backend keeps its flows and takes no new ones.
    BackendDraining,
    /// A backend takes nothing.
    BackendDown,
    /// A VIP has lost its last serving backend.
    VipWithoutBackend,
    /// A VIP has a serving backend again.
    VipServing,
    /// Fewer of a VIP's backends are healthy than its `min_healthy`.
    VipDown,
    /// Enough of them are again.
    VipUp,
    /// So few of a VIP's backends are healthy that all are used: `panic_threshold`.
    VipInPanic,
    /// Enough of them are again.
    VipOutOfPanic,
}

impl Event {
    /// The moment as events have it.
    pub fn stamp(now: SystemTime) -> String {
        humantime::format_rfc3339_millis(now).to_string()
    }
}

/// Where events are handed in. Work that was begun ends with it.
#[derive(Debug)]
pub struct Hook {
    on_change: watch::Sender<Option<Arc<OnChange>>>,
    lanes: [Lane; 2],
}

/// Whom events go to. Each receiver has a queue of its own: one that fails does not hold up the other, and the other is not
/// told again what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    Program,
    Webhook,
}

#[derive(Debug)]
struct Lane {
    to: Receiver,
    queue: mpsc::Sender<Event>,
    /// Events that there was no room for.
    lost: usize,
    counters: Counters,
}

/// A hook that has its receivers told by `runner` and counts that, and that work.
pub fn hook(runner: Option<Runner>, stats: Stats) -> (Hook, impl Future<Output = ()> + Send + 'static) {
    delivered_by(move |task| deliver(runner.clone(), task), stats)
}

/// The same, with tasks done by whoever.
fn delivered_by<D, F>(deliver: D, stats: Stats) -> (Hook, impl Future<Output = ()> + Send + 'static)
where
    D: Fn(Task) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let (on_change, known) = watch::channel(None);
    let (programs, of_programs) = mpsc::channel(WAITING);
    let (webhooks, of_webhooks) = mpsc::channel(WAITING);
    let lane = |to, queue| Lane { to, queue, lost: 0, counters: stats.of(to).clone() };
    let lanes = [lane(Receiver::Program, programs), lane(Receiver::Webhook, webhooks)];
    let work = async move {
        let counted = |to| (to, stats.of(to));
        let program = tell_all(counted(Receiver::Program), of_programs, known.clone(), &deliver);
        let webhook = tell_all(counted(Receiver::Webhook), of_webhooks, known, &deliver);
        tokio::join!(program, webhook);
    };
    (Hook { on_change, lanes }, work)
}

async fn deliver(runner: Option<Runner>, task: Task) -> Result<(), String> {
    let runner = runner.ok_or("there is no process that tells; restart lb")?;
    let longest = task.timeout();
    match runner.tell(task).await.map_err(|lacking| lacking.to_string())? {
        Outcome::Ended(Ended { how: How::Code(0), .. }) => Ok(()),
        Outcome::Ended(ended) => Err(ended.words(longest)),
        Outcome::Posted(posted) => posted,
    }
}

impl Hook {
    /// Tells these receivers from now on, also what waits already.
    pub fn follow(&self, on_change: Option<&Arc<OnChange>>) {
        self.on_change.send_if_modified(|known| {
            let differs = known.as_ref() != on_change;
            *known = on_change.cloned();
            differs
        });
    }

    /// Hands in an event. Never waits.
    pub fn tell(&mut self, event: &Event) {
        let Some(on_change) = self.on_change.borrow().clone() else { return };
        for lane in self.lanes.iter_mut().filter(|lane| lane.to.is_in(&on_change)) {
            lane.take(event.clone());
        }
    }
}

impl Lane {
    fn take(&mut self, event: Event) {
        match self.queue.try_send(event) {
            Ok(()) if self.lost > 0 => {
                let events = mem::take(&mut self.lost);
                warn!(to = self.to.name(), events, "on_change was not told of these: too many waited");
            }
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                self.counters.lost.inc();
            }
        }
    }
}

impl Receiver {
    fn name(self) -> &'static str {
        match self {
            Self::Program => "exec",
            Self::Webhook => "webhook",
        }
    }

    fn is_in(self, on_change: &OnChange) -> bool {
        match self {
            Self::Program => !on_change.exec.is_empty(),
            Self::Webhook => on_change.webhook.is_some(),
        }
    }

    /// How this receiver is told; `None` if there is none.
    fn task(self, on_change: &OnChange, body: &str) -> Option<Task> {
        let OnChange { exec, webhook, timeout, .. } = on_change;
        let (body, timeout) = (body.to_owned(), *timeout);
        match self {
            Self::Program if exec.is_empty() => None,
            Self::Program => {
                let env = BTreeMap::new();
                Some(Task::Run(Program { argv: exec.clone(), env, input: Some(body), timeout }))
            }
            Self::Webhook => Some(Task::Post(Post { url: webhook.clone()?, body, timeout })),
        }
    }
}

/// Tells a receiver of all that waits and comes.
async fn tell_all<F: Future<Output = Result<(), String>>>(
    to: (Receiver, &Counters),
    mut waiting: mpsc::Receiver<Event>,
    mut known: watch::Receiver<Option<Arc<OnChange>>>,
    deliver: &(impl Fn(Task) -> F + Sync),
) {
    while let Some(first) = waiting.recv().await {
        sleep(GATHER).await;
        let mut events = vec![first];
        while events.len() < BATCH
            && let Ok(event) = waiting.try_recv()
        {
            events.push(event);
        }
        tell(to, &events, &mut known, deliver).await;
    }
}

/// Tells a receiver of these events together, again and again within the limit.
async fn tell<F: Future<Output = Result<(), String>>>(
    (to, counters): (Receiver, &Counters),
    events: &[Event],
    known: &mut watch::Receiver<Option<Arc<OnChange>>>,
    deliver: &(impl Fn(Task) -> F + Sync),
) {
    // Strings and addresses: nothing that JSON could not hold.
    let body = serde_json::json!({ "events": events }).to_string();
    let (to_name, events) = (to.name(), events.len());
    let mut pause = FIRST_PAUSE;
    for attempt in 1_u32.. {
        // As it is said by now: whoever corrects a URL is not to wait for what cannot succeed.
        let Some(on_change) = known.borrow_and_update().clone() else { return };
        let Some(task) = to.task(&on_change, &body) else { return };
        let Err(error) = deliver(task).await else {
            counters.success.inc();
            return debug!(to = to_name, events, attempt, "on_change was told");
        };
        counters.failure.inc();
        if attempt > on_change.retries {
            counters.lost.inc_by(events as u64);
            return warn!(
                to = to_name,
                error,
                attempts = attempt,
                events,
                "on_change could not be told; these events are given up"
            );
        }
        debug!(to = to_name, error, attempt, "on_change could not be told; it is tried again");
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            changed = known.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests;
