//! `lb run`: the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use prometheus::Registry;
use tokio::{
    net::{TcpListener, UnixListener},
    runtime,
    sync::watch,
    task::JoinSet,
};
use tracing::{info, warn};

use self::{
    announce::announce,
    follow::follow,
    signals::{Reloads, Signals},
    start::Places,
    tidy::tidy,
};
use super::{Exit, Global, Misuse, load_traced};
use crate::{
    api::{self, Facts},
    client,
    config::Traces,
    controller::{
        Attached, Controller, Handle, Wires, engine::grip, history::History, overrides::Keeper, reloader::Reloader,
    },
    dataplane::kernel::{Grip, Kernel, share_one_heap},
    health::{self, CheckId, Kept},
    hook, http, metrics,
    model::Config,
    nexthop,
    notify::{self, Notifier},
    privileges,
    runner::{self, Runner},
    state::Folder,
    telemetry,
};

mod announce;
mod follow;
mod remember;
mod signals;
mod start;
mod tidy;

/// Threads that serve checks, the API and scrapes. They mostly wait; the tables are written by a thread of their own.
const WORKERS: usize = 2;
/// Threads for what blocks: reading the configuration file and looking up names.
const BLOCKING: usize = 4;
/// This program, wherever it lies and even if its file was replaced.
const OWN_BINARY: &str = "/proc/self/exe";
/// Longest wait at the end for those.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Balance, until told to stop
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// When stopped, take forwarding down; without this it goes on, with flows and all
    #[arg(long)]
    detach_on_exit: bool,
}

/// Runs the daemon until SIGTERM or SIGINT. SIGHUP reads the file again.
///
/// # Errors
/// When the daemon cannot start. What was in force before then still is.
pub fn run(args: &Args, global: &Global) -> Result<Exit, anyhow::Error> {
    let started = Instant::now();
    // Before there are threads.
    share_one_heap();
    telemetry::start(global.verbose)?;
    let (bundle, config, traces) = load_traced(&args.config, global)?;
    if let Some(given) = global.api.clone().filter(|given| *given != config.api_socket) {
        return Err(Misuse::OtherSocket { configured: config.api_socket, given }.into());
    }
    // Without them something else may fail first, such as a folder for the socket, and the reason would stay hidden.
    let missing = privileges::missing();
    if !missing.is_empty() {
        return Err(anyhow!("this process lacks {}; run it as root or with these capabilities", missing.join(", ")));
    }
    let notifier = Notifier::from_environment()?;
    let (signals, places) = start::places(&config)?;
    // A daemon that ended a moment ago kept its places until it had written its last.
    let state_dir = config.daemon.state_dir.clone();
    let (history, config) = History::begin(&state_dir, &global.pin_path, &bundle, config);
    let (kernel, attached) = start::open(&config, &global.pin_path)?;
    let adopted = kernel.adopted();
    // A process that is not confined like this one does what this one then cannot.
    let start = |_| runner::start(Path::new(OWN_BINARY), client::system_file().as_deref());
    let runner = config.needs_runner().map(start).transpose().context("cannot start the process that runs programs")?;
    // What follows is done by threads that start confined.
    let confinement = privileges::confine(&start::files(&bundle, &config, &global.pin_path))?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        // Whoever starts them.
        .on_thread_start(privileges::end_loading)
        .enable_all()
        .build()
        .context("cannot start the daemon's threads")?;
    let facts = Facts { config: args.config.clone(), pin_path: global.pin_path.clone(), started, confinement };
    let parts = Parts { config, history, kernel, attached, places, facts, notifier, traces, runner };
    let outcome = runtime.block_on(parts.work(signals));
    // The controller has ended, and with it its hold on the pins.
    let ended = outcome.and_then(|left| last_words(&left, adopted, args.detach_on_exit, &global.pin_path));
    // Who still reads a file may never come back.
    runtime.shutdown_timeout(LAST_WAIT);
    ended?;
    Ok(Exit::Done)
}

/// What the daemon leaves behind.
struct Left {
    /// The tables serve something.
    served: bool,
    /// Who kept the program on its interfaces.
    grip: Grip,
}

/// What becomes of forwarding when the daemon ends.
fn last_words(left: &Left, adopted: bool, detach: bool, pin_path: &Path) -> Result<(), anyhow::Error> {
    if detach {
        Kernel::unload(pin_path).context("cannot take forwarding down")?;
        info!("stopped; forwarding is taken down");
    } else if left.served || adopted {
        info!("stopped; {}, `lb unload` removes what is pinned", afterwards(left.grip));
    } else {
        start::take_back(pin_path);
        info!("stopped before anything was served; what was set up is taken down again");
    }
    Ok(())
}

/// Who keeps the program on its interfaces when the daemon ends now.
fn left_by(controller: &Handle) -> Grip {
    grip(&controller.snapshot().config.daemon)
}

/// What becomes of packets without the daemon.
fn afterwards(grip: Grip) -> &'static str {
    match grip {
        Grip::Pins => "forwarding goes on",
        Grip::Process => "packets pass to this host",
    }
}

/// What the daemon is made of.
struct Parts {
    config: Config,
    history: History,
    kernel: Kernel,
    attached: Vec<Attached>,
    places: Places,
    facts: Facts,
    notifier: Notifier,
    traces: Traces,
    /// Socket of the process that runs programs.
    runner: Option<UnixStream>,
}

impl Parts {
    /// Starts all parts, waits for the end, ends all parts. Tells what is left then.
    async fn work(self, mut signals: Signals) -> Result<Left, anyhow::Error> {
        let Self { config, history, kernel, attached, places, facts, notifier, traces, runner } = self;
        let socket = config.api_socket.clone();
        let mut parts = JoinSet::new();
        let Counters { checks, told, all } = Counters::new().context("cannot count")?;
        let folder = Folder::of(&config.daemon.state_dir, &facts.pin_path);
        let runner = runner.map(Runner::at).transpose().context("cannot run programs")?;
        let wires = wires(&mut parts, checks, remember::recall(&folder), runner.clone());
        let memory = remember::Memory::new(folder.clone(), wires.health.clone());
        part(&mut parts, "the memory of health", memory.clone().remember());
        let keeper = Keeper::restore(folder);
        let (controller, handle) = Controller::new(kernel, config, history, attached, keeper, wires)?;
        let mut ended = controller.spawn(runtime::Handle::current())?;
        // The controller's thread alone may do so from now on.
        privileges::end_loading();
        let reloader = Arc::new(Reloader::new(facts.config.clone(), handle.clone()));
        reloader.saw(traces);
        let router = api::router(handle.clone(), Arc::clone(&reloader), facts);
        let looking = places.read_only.map(|place| (place, api::read_only(router.clone(), &socket)));
        let mut sockets = Vec::new();
        for (place, router) in looking.into_iter().chain([(places.api, router)]) {
            let listener = UnixListener::from_std(place.listener).context("cannot serve the API")?;
            part(&mut parts, "the API", http::serve(listener, router, api::body::LARGEST));
            sockets.push(place.socket);
        }
        if let Some(listener) = places.scrapes {
            let listener = TcpListener::from_std(listener).context("cannot serve metrics")?;
            let exporter = metrics::Exporter::new(handle.clone(), all);
            part(&mut parts, "the metrics", http::serve(listener, metrics::router(exporter), 0));
        }
        let (hook, deliveries) = hook::hook(runner, told);
        part(&mut parts, "the announcements", announce(handle.snapshots(), hook));
        part(&mut parts, "the deliveries of on_change", deliveries);
        part(&mut parts, "the care for memory", tidy(handle.snapshots()));
        part(&mut parts, "the notices", notify::states(notifier.clone(), handle.snapshots()));
        part(&mut parts, "the watch over the files", follow(Arc::clone(&reloader), handle.clone(), notifier.clone()));
        if let Some(every) = notifier.watchdog_interval() {
            part(&mut parts, "the watchdog", notify::watchdog(notifier.clone(), every, handle.clone()));
        }
        let reloads = Reloads { reloader: &reloader, controller: &handle, notifier: &notifier };
        let outcome = tokio::select! {
            () = signals.until_stopped(&reloads) => Ok(()),
            _ = &mut ended => return Err(anyhow!("the controller ended unexpectedly; {}", afterwards(left_by(&handle)))),
            Some(part) = parts.join_next() => Err(anyhow!("{} ended unexpectedly; {}", part?, afterwards(left_by(&handle)))),
        };
        notifier.stopping();
        tokio::spawn(signals.end_at_once());
        handle.stop().await;
        // An error only says that it has ended already.
        let _ = ended.await;
        drop(sockets);
        if let Err(error) = memory.keep().await {
            warn!(error = format!("{error:#}"), "what is known of health checks cannot be kept for the next daemon");
        }
        let last = handle.snapshot();
        // Tables that were there before serve from the start.
        let served = !last.fresh && (last.applied > 0 || last.used.vips > 0);
        outcome.map(|()| Left { served, grip: left_by(&handle) })
    }
}

/// What parts of the daemon count of themselves.
struct Counters {
    checks: health::Stats,
    told: hook::Stats,
    /// All of these, for the metrics.
    all: Registry,
}

impl Counters {
    fn new() -> Result<Self, prometheus::Error> {
        let (checks, told, all) = (health::Stats::new()?, hook::Stats::new()?, Registry::new());
        checks.register(&all)?;
        told.register(&all)?;
        Ok(Self { checks, told, all })
    }
}

/// Starts the health checks and the search for next hops.
fn wires(
    parts: &mut JoinSet<&'static str>,
    stats: health::Stats,
    kept: BTreeMap<CheckId, Kept>,
    runner: Option<Runner>,
) -> Wires {
    let (checks, asked) = watch::channel(Arc::new(health::Checks::new()));
    let (ejections, told) = watch::channel(Arc::default());
    let (ways, known) = watch::channel(Arc::default());
    let has_runner = runner.is_some();
    let runner_gone = runner.as_ref().map_or_else(|| watch::channel(false).1, Runner::gone);
    let (hindered_in, hindered) = watch::channel(Arc::default());
    let inputs =
        health::driver::Inputs { checks: asked, ways: known, ejections: told, hindered: hindered_in, runner, kept };
    let (health, checker) = health::driver::spawn(inputs, stats);
    let (hop_targets, asked) = watch::channel(BTreeSet::new());
    let (hops, follower) = nexthop::watcher::spawn(asked);
    part(parts, "the health checks", async { drop(checker.await) });
    part(parts, "the search for next hops", async { drop(follower.await) });
    Wires { checks, ways, health, hindered, ejections, hop_targets, hops, has_runner, runner_gone }
}

/// Runs a part of the daemon that is not meant to end; its name comes out if it does.
fn part(parts: &mut JoinSet<&'static str>, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    parts.spawn(async move {
        work.await;
        name
    });
}
